//! What a QEMU command from another host may contain. A [`table`] lists the options, keys and values; files
//! must lie in the Nix store or be the moment's own images. Everything else is refused, and the refusal names
//! it.

mod required;
mod table;

use std::collections::BTreeSet;
use std::path::{Component, Path};

use super::command_line::CommandLine;
use super::foreign;
use super::properties::Properties;
use crate::qemu::cards;
use table::{Follows, Kind, LISTS, MACHINES, OPTIONS, SOUND, Value};

/// The folder of all store paths.
pub(super) const STORE: &str = "/nix/store";
/// The limit for the number of arguments.
const ARGUMENTS: usize = 2000;

/// Returns everything in `command` that is not allowed, quoted from the command. If everything is allowed,
/// returns what the command must have and lacks. `own` lists the indexes of arguments whose disk image is
/// replaced by one of the moment's own.
pub(super) fn refused(command: &CommandLine, own: &[usize]) -> Vec<String> {
    let mut refused = Vec::new();
    if command.arguments.len() > ARGUMENTS {
        return vec![format!("{} arguments", command.arguments.len())];
    }
    let mut at = 0;
    while let Some(argument) = command.arguments.get(at) {
        let value = command.arguments.get(at + 1);
        at += 1;
        let option = argument.strip_prefix("--").or(argument.strip_prefix('-')).unwrap_or_default();
        match (OPTIONS.iter().find(|(its, _)| *its == option), value) {
            (Some((_, Follows::Nothing)), _) => {}
            (Some((option, follows)), Some(value)) => {
                let own = own.contains(&at);
                // Code that reads pairs of option and value must not take this value for an option.
                if value.starts_with('-') || !is_allowed(option, *follows, value, own) {
                    refused.push(format!("{argument} {value}"));
                }
                at += 1;
            }
            // The next argument is most likely the option's value, so it is shown with it.
            (None, Some(value)) if argument.starts_with('-') && !value.starts_with('-') => {
                refused.push(format!("{argument} {value}"));
                at += 1;
            }
            (_, _) => refused.push(argument.clone()),
        }
    }
    // Something that is already refused is not reported a second time as missing.
    if refused.is_empty() { required::lacking(command) } else { refused }
}

fn is_allowed(option: &str, follows: Follows, value: &str, own: bool) -> bool {
    let properties = Properties::parse(value);
    match follows {
        Follows::Nothing => false,
        Follows::Whole(kind) => kind.takes(value, own),
        Follows::Keys { implied, keys } => {
            !says_twice(&properties, implied)
                && properties.pairs(implied).all(|(key, value)| takes(keys, key, value, own))
                && (option != "drive" || own || is_only_read(&properties))
        }
        Follows::Kinds { implied, kinds } => {
            let mut pairs = properties.pairs(Some(implied));
            // The kind must come first, and only once, because QEMU would use a later one.
            let Some((_, Some(name))) = pairs.next().filter(|(key, _)| *key == implied) else { return false };
            let Some(Kind { keys, .. }) = kinds.iter().find(|kind| kind.names.contains(&name)) else {
                return false;
            };
            !says_twice(&properties, Some(implied))
                && pairs.all(|(key, value)| takes(keys, key, value, own))
                // Without an audiodev, QEMU uses the sound of this host, including the user's microphone.
                && (option != "device" || !SOUND.contains(&name) || properties.get("audiodev").is_some())
        }
        Follows::Global(drivers) => value.split_once('.').is_some_and(|_| {
            let named = drivers.iter().find_map(|driver| value.strip_prefix(driver)?.strip_prefix('.'));
            named
                .and_then(|rest| rest.split_once('='))
                .is_some_and(|(key, value)| is_word(key) && is_word(value))
        }),
        Follows::Features => value.split(',').all(is_word),
    }
}

/// Whether a key appears twice although it is not a list. QEMU uses the first of some keys (`id`) and the
/// last of others.
fn says_twice(properties: &Properties, implied: Option<&'static str>) -> bool {
    let mut seen = BTreeSet::new();
    properties.pairs(implied).any(|(key, _)| !LISTS.contains(&key) && !seen.insert(key))
}

/// Whether a drive that is not one of the moment's own is empty, or read-only with a stated format. QEMU
/// would guess a missing format from the image's first bytes. Every user of this host may add to the store,
/// so the backing images of an image there must lie in the store, too.
fn is_only_read(drive: &Properties) -> bool {
    let Some(file) = drive.get("file") else { return true };
    drive.is_on("readonly")
        && match drive.get("format") {
            Some("raw") => true,
            Some("qcow2") => foreign::is_sound_in_store(Path::new(file)),
            _ => false,
        }
}

fn takes(keys: &[(&str, Value)], key: &str, value: Option<&str>, own: bool) -> bool {
    // A key without a value is a switch that is on.
    keys.iter().any(|(its, kind)| *its == key && kind.takes(value.unwrap_or("on"), own))
}

impl Value {
    fn takes(self, value: &str, own: bool) -> bool {
        match self {
            Self::Word => is_word(value),
            Self::Network => !value.starts_with('/') && value.split('/').all(is_word),
            Self::Size => {
                let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
                digits.parse::<u64>().is_ok() && value.len() - digits.len() <= 3
            }
            Self::Machine => MACHINES.iter().any(|its| {
                value
                    .strip_prefix(its)
                    .is_some_and(|rest| rest.is_empty() || (rest.starts_with('-') && is_word(rest)))
            }),
            Self::OneOf(words) => words.contains(&value),
            Self::StoreFile => is_in_store(Path::new(value)),
            // The image is replaced by one beside the command.
            Self::Image => own || is_in_store(Path::new(value)),
            Self::Forward => is_forward(value),
            Self::GuestText => !value.contains('\0'),
            Self::Entries => {
                !value.starts_with('/') && !value.contains("=/") && value.split([';', '/']).all(is_word)
            }
            Self::OwnBackend => cards::is_own_id(value),
        }
    }
}

fn is_word(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "._:+-=@%".contains(c))
}

/// Whether a value forwards a port between two internet addresses: `tcp:127.0.0.1:8080-10.0.2.15:80`.
fn is_forward(value: &str) -> bool {
    let rest = value.strip_prefix("tcp:").or(value.strip_prefix("udp:")).or(value.strip_prefix(':'));
    let Some((host, guest)) = rest.and_then(|rest| rest.split_once('-')) else { return false };
    [host, guest].iter().all(|end| {
        end.rsplit_once(':').is_some_and(|(address, port)| {
            let plain = |c: char| c.is_ascii_hexdigit() || c == '.' || c == ':' || c == '[' || c == ']';
            address.chars().all(plain) && port.parse::<u16>().is_ok()
        })
    })
}

/// Whether a path lies in the Nix store, both literally and, if it exists, after its links are followed.
pub(super) fn is_in_store(path: &Path) -> bool {
    let lies = |path: &Path| {
        let Ok(rest) = path.strip_prefix(STORE) else { return false };
        rest.components().next().is_some()
            && rest.components().all(|part| matches!(part, Component::Normal(_)))
    };
    // QEMU interprets commas and colons.
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-._?=/".contains(c);
    path.to_str().is_some_and(|text| text.chars().all(plain) && !text.contains("//"))
        && lies(path)
        && match path.canonicalize() {
            Ok(found) => lies(&found) && found.is_file(),
            // [`super::unfit`] reports a missing file.
            Err(error) => error.kind() == std::io::ErrorKind::NotFound && !path.is_symlink(),
        }
}

#[cfg(test)]
mod tests;
