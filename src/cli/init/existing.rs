//! What a folder has already: its configuration, and who can log in there.

use std::fs;
use std::path::{Path, PathBuf};

use crate::nix::{ConfiguredUser, Source};
use crate::report::printable;
use crate::settings::Settings;
use crate::{Error, ErrorKind, Events, Result};

/// A configuration that is there, and what follows from it for the files that are made.
pub(super) struct Existing {
    /// The key and value of nixvm.toml that name it, where scenarios would not find it by themselves.
    pub(super) setting: Option<(&'static str, String)>,
    /// Who logs in, and with what password.
    pub(super) user: String,
    pub(super) password: String,
}

/// The configuration in `dir`, an absolute path, or the one that was asked for; none where there is none, with what
/// there is to say of that. Nix evaluates it.
///
/// # Errors
/// Nix's error when it does not evaluate; [`ErrorKind::Usage`] when nobody can log in with a password that is known.
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
                    // A link that leads nowhere is there, too: Nix says so.
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

/// A host's name that is the same in a flake reference, in TOML and to a shell.
fn is_plain(host: &str) -> bool {
    !host.is_empty()
        && !host.starts_with(['-', '.'])
        && host.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
}

/// Which host is taken: this machine's own, else the first one.
fn chosen<'a>(hosts: &'a [String], own: &str) -> Option<&'a str> {
    let mut plain = hosts.iter().map(String::as_str).filter(|host| is_plain(host));
    hosts.iter().map(String::as_str).find(|host| *host == own && is_plain(host)).or_else(|| plain.next())
}

fn others(hosts: &[String], taken: &str) -> String {
    let names: Vec<String> = hosts.iter().map(|host| printable(host)).collect();
    let other = hosts.iter().find(|host| *host != taken && is_plain(host));
    if hosts.len() == 1 {
        return format!("The host {taken} of flake.nix is what is tested.\n");
    }
    let names = names.join(", ");
    let another = other.map(|other| {
        format!(
            " For another one, remove nixvm.toml and scenarios/login.rs, and name it: nixvm-test --flake .#{other} init"
        )
    });
    format!("flake.nix has the hosts {names}: {taken} is what is tested.{}\n", another.unwrap_or_default())
}

fn no_host(hosts: &[String]) -> String {
    match hosts {
        [] => "flake.nix has no host: it has no nixosConfigurations, so it is left alone.\n".to_owned(),
        [first, ..] => format!(
            "flake.nix has no host with a name that can be written as .#HOST (the first one is {}), so it is left alone.\n",
            printable(first)
        ),
    }
}

/// What nixvm.toml has to say, so that scenarios in `dir` find `source`.
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
        Source::Built(_) => None,
    }
}

/// The first person whom a known password lets in, else root.
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
    let summary = format!("nobody can log in to {source} with a password that the configuration tells");
    let error = Error::new(ErrorKind::Usage, summary).section("its users", reasons.collect::<String>());
    let one = people().find(|user| !user.has_no_shell()).or_else(|| root().next());
    Err(match one {
        None => error.next_step("give it a user: users.users.NAME.isNormalUser = true;"),
        Some(user) => error
            .section(
                format!("this gives {} one in the VM alone", printable(&user.name)),
                user.gets_a_password(),
            )
            .next_step("add it to the configuration, and run `nixvm-test init` again: nothing was made"),
    })
}

/// Whether the nixvm.toml for what is in `dir` names what is tested already.
pub(super) fn names_a_source(file: &Path) -> bool {
    let table = fs::read_to_string(file).ok().and_then(|text| text.parse::<toml::Table>().ok());
    table.is_some_and(|table| ["configuration", "flake", "vm"].iter().any(|key| table.contains_key(*key)))
}
