//! Defines which settings each subcommand takes. Its help lists those, and the flags of others are refused.

use crate::settings::{Form, Setting, TABLE};
use crate::{Error, ErrorKind, Result};
use clap::error::{ContextKind, ContextValue};

/// The keys of the settings for building a VM and for showing the build.
const BUILD: [&str; 6] = ["nixpkgs", "configuration", "flake", "build-timeout", "quiet", "capture"];

/// Returns the settings that `subcommand` takes, in the order of the table. A run of scenarios has no subcommand and
/// takes all of them.
pub fn settings(subcommand: &str) -> Vec<&'static Setting> {
    let more: &[&str] = match subcommand {
        "config" => return TABLE.iter().collect(),
        "build" => &[],
        "init" => return with(&["nixpkgs", "configuration", "flake", "build-timeout"]),
        "attach" => &["vm"],
        "doctor" => &["vm", "templates"],
        "shell" | "repl" => &["vm", "templates", "keep-state"],
        "rehearse" => {
            return with(&[
                "nixpkgs",
                "build-timeout",
                "quiet",
                "capture",
                "templates",
                "run-timeout",
                "report",
            ]);
        }
        "mutants" => {
            let run = ["templates", "retries", "jobs", "host-cores", "host-memory"];
            return with(
                &[&["nixpkgs", "configuration", "build-timeout", "quiet", "capture"], &run[..]].concat(),
            );
        }
        "list" => {
            return with(&["configuration", "flake", "vm", "partition", "retries", "quiet", "capture"]);
        }
        _ => return Vec::new(),
    };
    with(&[&BUILD, more].concat())
}

fn with(keys: &[&str]) -> Vec<&'static Setting> {
    TABLE.iter().filter(|setting| keys.contains(&setting.key)).collect()
}

/// # Errors
/// [`ErrorKind::Usage`] if `subcommand` does not take one of the settings that were `given`. The error lists those that
/// it takes.
pub fn check(subcommand: &str, mut given: impl Iterator<Item = &'static Setting>) -> Result {
    let takes = settings(subcommand);
    match given.find(|setting| !takes.iter().any(|its| its.key == setting.key)) {
        Some(other) => Err(refusal(subcommand, &flag(other))),
        None => Ok(()),
    }
}

/// Returns the error for a setting's flag after a subcommand that does not take it, and `None` for every other error.
pub fn refused(error: &clap::Error, words: impl Iterator<Item = String>) -> Option<Error> {
    let ContextValue::String(typed) = error.get(ContextKind::InvalidArg)? else { return None };
    let is_setting = |setting: &Setting| {
        let long = typed.strip_prefix("--").map(|flag| flag.strip_prefix("no-").unwrap_or(flag));
        let short =
            typed.strip_prefix('-').filter(|rest| rest.len() == 1).and_then(|rest| rest.chars().next());
        long == Some(setting.flag) || short.is_some() && short == setting.short
    };
    if error.kind() != clap::error::ErrorKind::UnknownArgument || !TABLE.iter().any(is_setting) {
        return None;
    }
    let command = <super::Cli as clap::CommandFactory>::command();
    let subcommand = words.skip(1).find(|word| command.find_subcommand(word).is_some())?;
    Some(refusal(&subcommand, typed))
}

fn refusal(subcommand: &str, flag: &str) -> Error {
    let error = Error::new(ErrorKind::Usage, format!("`nixvm-test {subcommand}` does not take {flag}"));
    let takes: Vec<String> = settings(subcommand).into_iter().map(self::flag).collect();
    error.next_step(match takes.as_slice() {
        [] => format!("leave it out: `nixvm-test {subcommand} --help` lists what it takes"),
        takes => format!("leave it out: the settings that it takes are {}", takes.join(", ")),
    })
}

/// Returns the flag that `--help` shows.
fn flag(setting: &'static Setting) -> String {
    let is_on = matches!(setting.form, Form::Switch { .. }) && setting.meaning_of_no.is_some();
    format!("--{}{}", if is_on { "no-" } else { "" }, setting.flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key that is missing from the table would be left out silently.
    #[test]
    fn every_key_here_is_a_settings() {
        let count = |subcommand: &str| settings(subcommand).len();
        assert_eq!([count("build"), count("attach"), count("doctor"), count("shell")], [6, 7, 8, 9]);
        assert_eq!((count("repl"), count("list"), count("init"), count("cache")), (9, 7, 4, 0));
        assert_eq!(count("rehearse"), 7);
        assert_eq!(count("config"), TABLE.len());
    }
}
