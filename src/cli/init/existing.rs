//! Inspects what a folder already has: its configuration, and who can log in.

use std::fs;
use std::path::{Path, PathBuf};

use crate::nix::{ConfiguredUser, Source};
use crate::report::printable;
use crate::settings::Settings;
use crate::{Error, ErrorKind, Events, Result};

/// An existing configuration, and what the new files need to know about it.
pub(super) struct Existing {
    /// The key and value of nixvm.toml that name it, if scenarios would not find it by themselves.
    pub(super) setting: Option<(&'static str, String)>,
    /// The user who logs in, and their password.
    pub(super) user: String,
    pub(super) password: String,
}

/// Finds the configuration in `dir`, an absolute path, or the one that the user named, and a message about it. Returns
/// `None` with a message if there is no configuration. Evaluates it with Nix.
///
/// # Errors
/// Nix's error when it does not evaluate; [`ErrorKind::Usage`] when no user can log in with a known password.
pub(super) async fn look(dir: &Path, settings: &Settings) -> Result<(Option<Existing>, String)> {
    let builder = settings.builder();
    let mut notes = String::new();
    let source = match &settings.source {
        Some(source) => source.clone(),
        None => {
            let hosts = match dir.join("flake.nix").is_file() {
                true => builder.hosts(dir).await?,
                false => Vec::new(),
            };
            let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
            match (chosen(&hosts, &own), dir.join("configuration.nix")) {
                (Some(host), _) => {
                    notes.push_str(&others(&hosts, host));
                    Source::Flake(format!("{}#{host}", dir.display()))
                }
                (None, file) => {
                    if dir.join("flake.nix").is_file() {
                        notes.push_str(&no_host(&hosts));
                    }
                    // A dangling link counts as existing: Nix reports the error.
                    if file.symlink_metadata().is_err() {
                        return Ok((None, notes));
                    }
                    Source::Configuration(file)
                }
            }
        }
    };
    let users = builder.users(&source, &Events::none()).await?;
    let (user, password) = who_logs_in(&source, &users)?;
    let setting = setting(dir, &source);
    Ok((Some(Existing { setting, user, password }), notes))
}

/// Returns whether a host's name needs no quotes in a flake reference, in TOML or in a shell.
fn is_plain(host: &str) -> bool {
    !host.is_empty()
        && !host.starts_with(['-', '.'])
        && host.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
}

/// Chooses a host: the one with this machine's name, else the first one.
fn chosen<'a>(hosts: &'a [String], own: &str) -> Option<&'a str> {
    let mut plain = hosts.iter().map(String::as_str).filter(|host| is_plain(host));
    hosts.iter().map(String::as_str).find(|host| *host == own && is_plain(host)).or_else(|| plain.next())
}

fn others(hosts: &[String], taken: &str) -> String {
    let names: Vec<String> = hosts.iter().map(|host| printable(host)).collect();
    let other = hosts.iter().find(|host| *host != taken && is_plain(host));
    if hosts.len() == 1 {
        return format!("The scenario tests the host {taken} of flake.nix.\n");
    }
    let names = names.join(", ");
    let another = other.map(|other| {
        format!(
            " To test another host, remove nixvm.toml and scenarios/login.rs, and run: nixvm-test --flake \
             .#{other} init"
        )
    });
    format!("flake.nix has the hosts {names}. The scenario tests {taken}.{}\n", another.unwrap_or_default())
}

fn no_host(hosts: &[String]) -> String {
    match hosts {
        [] => "flake.nix has no nixosConfigurations, so it is not used.\n".to_owned(),
        [first, ..] => format!(
            "flake.nix has no host with a name that can be written as .#HOST (the first one is {}), so it \
             is not used.\n",
            printable(first)
        ),
    }
}

/// Returns the setting of nixvm.toml that lets scenarios in `dir` find `source`.
fn setting(dir: &Path, source: &Source) -> Option<(&'static str, String)> {
    let below = |path: &Path| match path.strip_prefix(dir) {
        Ok(below) if below.as_os_str().is_empty() => PathBuf::from("."),
        Ok(below) => below.to_owned(),
        Err(_) => path.to_owned(),
    };
    match source {
        Source::Configuration(file) if *file == dir.join("configuration.nix") => None,
        Source::Configuration(file) => Some(("configuration", below(file).display().to_string())),
        Source::Flake(reference) => {
            let (flake, host) = reference.split_once('#').unwrap_or((reference, ""));
            let flake = match Path::new(flake) {
                path if path == dir => ".",
                _ => flake,
            };
            Some(("flake", format!("{flake}#{host}")))
        }
        Source::Built(_) | Source::Committed(_) => None,
    }
}

/// Returns the first normal user who can log in with a known password, else root.
fn who_logs_in(source: &Source, users: &[ConfiguredUser]) -> Result<(String, String)> {
    let types = |user: &&ConfiguredUser| !user.name.is_empty() && !user.name.chars().any(char::is_control);
    let people = || users.iter().filter(types).filter(|user| user.normal);
    let root = || users.iter().filter(|user| user.name == "root");
    let known = |user: &ConfiguredUser| Some((user.name.clone(), user.password().ok()?.to_owned()));
    if let Some(found) = people().chain(root()).find_map(known) {
        return Ok(found);
    }
    let reasons = people().chain(root()).map(|user| {
        let why = user.password().err().unwrap_or_default();
        format!("{}: {}\n", printable(&user.name), printable(&why))
    });
    let summary = format!("{source} has no user whose password is in the configuration");
    let error = Error::new(ErrorKind::Usage, summary).section("its users", reasons.collect::<String>());
    let one = people().find(|user| !user.has_no_shell()).or_else(|| root().next());
    Err(match one {
        None => error.next_step(
            "add a user with a password: users.users.NAME = { isNormalUser = true; \
            initialPassword = \"…\"; };",
        ),
        Some(user) => error
            .section(
                format!("this gives {} a password, only in the VM", printable(&user.name)),
                user.gets_a_password(),
            )
            .next_step("add it to the configuration, and run `nixvm-test init` again; no file was written"),
    })
}

/// Returns whether the nixvm.toml for `dir` already names what to test.
pub(super) fn names_a_source(file: &Path) -> bool {
    let table = fs::read_to_string(file).ok().and_then(|text| text.parse::<toml::Table>().ok());
    table.is_some_and(|table| ["configuration", "flake", "vm"].iter().any(|key| table.contains_key(*key)))
}
