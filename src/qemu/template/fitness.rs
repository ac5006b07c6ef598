//! Whether a kept machine can be resumed on this host.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::resume::read;
use super::save::Description;
use super::{MACHINE_FILE, processor, program};
use crate::Result;
use crate::presence::is_known_absent;
use crate::qemu::Accelerator;
use crate::text;

const STORE: &str = "/nix/store/";

/// Returns why the machine in `folder` can't be resumed on this host, or `None` if no reason is known.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when its files can't be read.
pub(crate) fn unfit(folder: &Path) -> Result<Option<String>> {
    let description = read(&folder.join(MACHINE_FILE))?;
    let Some(program) = program::resolved(&description.command.program) else {
        let name = text::line(&description.command.program.to_string_lossy());
        return Ok(Some(format!("{name}, which it ran on, is not installed on this host")));
    };
    let (major, minor) = description.version;
    match version_of(&program) {
        Some(here) if here == description.version => {}
        Some((here, its)) => {
            return Ok(Some(format!(
                "it was saved by QEMU {major}.{minor}, and this host has QEMU {here}.{its}"
            )));
        }
        None => return Ok(Some(format!("the version of {} is not known", program.display()))),
    }
    if let Some(missing) = missing(&description).into_iter().next() {
        return Ok(Some(format!("{} is not in this host's Nix store", missing.display())));
    }
    if description.accelerator == Accelerator::Kvm {
        // KVM may fail although /dev/kvm opens, so this asks the QEMU that will run the machine.
        let here = match processor::here(&program) {
            Ok(here) => here,
            Err(why) => {
                return Ok(Some(format!("it ran under KVM, which does not work on this host: {why}")));
            }
        };
        if let Some(missing) = description.processor.and_then(|seen| seen.missing_on(&here)) {
            return Ok(Some(missing));
        }
    }
    Ok(None)
}

/// Returns the store paths that the machine's command names and that do not exist here.
fn missing(description: &Description) -> BTreeSet<PathBuf> {
    let arguments = description.command.arguments.iter();
    arguments.flat_map(|argument| store_paths(argument)).filter(|path| is_known_absent(path)).collect()
}

/// Returns the store paths in a text, each cut to `/nix/store/HASH-NAME`.
fn store_paths(text: &str) -> impl Iterator<Item = PathBuf> {
    text.match_indices(STORE).filter_map(|(at, _)| {
        let rest = &text[at + STORE.len()..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-._?=".contains(c)));
        let name = &rest[..end.unwrap_or(rest.len())];
        (!name.is_empty()).then(|| Path::new(STORE).join(name))
    })
}

/// Returns the first two numbers of the version that `program` prints, such as `QEMU emulator version 10.0.2
/// (…)`.
fn version_of(program: &Path) -> Option<(u64, u64)> {
    let mut command = Command::new(program);
    command.arg("--version");
    version_in(&processor::asked(command, "").ok()?.0)
}

fn version_in(text: &str) -> Option<(u64, u64)> {
    let (_, rest) = text.split_once("version ")?;
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_qemu_says_of_itself() {
        assert_eq!(version_in("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg)"), Some((7, 2)));
        assert_eq!(version_in("QEMU emulator version 10.0.2"), Some((10, 0)));
        assert_eq!(version_in("no such program"), None);
    }

    #[test]
    fn store_paths_are_found_wherever_they_stand() {
        let text = "init=/nix/store/abc-system-1.0/init regInfo=/nix/store/def-info,x /nix/store/";
        let found: Vec<_> = store_paths(text).collect();
        assert_eq!(found, [Path::new("/nix/store/abc-system-1.0"), Path::new("/nix/store/def-info")]);
    }
}
