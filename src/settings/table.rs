//! The table of settings. Each entry becomes a flag, a variable, a key of nixvm.toml, and a line of
//! `nixvm-test config` and of the reference.

use std::ffi::OsStr;

use super::value::{Form, mebibytes, time};
use super::{KeepState, Settings};
use crate::nix::Source;

/// A setting of a run.
#[derive(Debug)]
#[non_exhaustive]
pub struct Setting {
    /// Its name in nixvm.toml.
    pub key: &'static str,
    /// The environment variable.
    pub variable: &'static str,
    /// The long flag, without its dashes. A switch also has `--no-FLAG`.
    pub flag: &'static str,
    /// The short flag.
    pub short: Option<char>,
    /// For a switch that is on by default: what `--no-FLAG` does, which `--help` then shows. The other flag
    /// of a switch serves to override nixvm.toml.
    pub meaning_of_no: Option<&'static str>,
    /// Whether `-h` shows it. `--help` shows all settings.
    pub is_common: bool,
    /// The placeholder for the value in help texts.
    pub placeholder: &'static str,
    /// The syntax of its value.
    pub form: Form,
    /// What it does, in one line.
    pub meaning: &'static str,
    /// The default, in words.
    pub default: &'static str,
    /// Sets the value; `None` if it is invalid.
    pub(super) set: fn(&mut Settings, &OsStr) -> Option<()>,
}

/// Every setting, in the order in which they are shown.
pub const TABLE: &[Setting] = &[
    Setting {
        key: "nixpkgs",
        variable: "NIXVM_NIXPKGS",
        is_common: true,
        flag: "nixpkgs",
        placeholder: "NIXPKGS",
        form: Form::Nixpkgs,
        meaning: "the nixpkgs to build with: a channel (channel:nixos-26.05), a folder, <nixpkgs>, a URL, or standin",
        default: "<nixpkgs> from NIX_PATH or a channel, else the stand-in",
        set: |settings, value| set(&mut settings.nixpkgs, text(value)?.to_owned()),
        ..PLAIN
    },
    Setting {
        key: "configuration",
        variable: "NIXVM_CONFIGURATION",
        is_common: true,
        flag: "configuration",
        placeholder: "FILE.nix",
        form: Form::Path,
        meaning: "the configuration, for scenarios that name none",
        default: "configuration.nix beside or above the scenario",
        set: |settings, value| set(&mut settings.source, Source::Configuration(value.into())),
        ..PLAIN
    },
    Setting {
        key: "flake",
        variable: "NIXVM_FLAKE",
        is_common: true,
        flag: "flake",
        placeholder: "FLAKE#HOST",
        form: Form::Flake,
        meaning: "a flake's host instead of a configuration: its config.system.build.vm",
        default: "none",
        set: |settings, value| set(&mut settings.source, Source::Flake(text(value)?.to_owned())),
        ..PLAIN
    },
    Setting {
        key: "vm",
        variable: "NIXVM_VM",
        is_common: true,
        flag: "vm",
        placeholder: "RESULT",
        form: Form::Path,
        meaning: "a VM that is built already (./result of nix-build or nixos-rebuild build-vm)",
        default: "none",
        set: |settings, value| set(&mut settings.source, Source::Built(value.into())),
        ..PLAIN
    },
    Setting {
        key: "keep-state",
        variable: "NIXVM_KEEP_STATE",
        is_common: true,
        flag: "keep-state",
        placeholder: "HOW",
        form: Form::Switch { or: Some("strict") },
        meaning: "keep the VM's disk beside the configuration, from run to run; strict: refuse one of another \
                  configuration, instead of starting with a new one",
        default: "no",
        set: |settings, value| {
            settings.keep_state = match text(value)? {
                "strict" => KeepState::Strict,
                other if switch(other)? => KeepState::Keep,
                _ => KeepState::Fresh,
            };
            Some(())
        },
        ..PLAIN
    },
    Setting {
        key: "templates",
        variable: "NIXVM_TEMPLATES",
        flag: "template",
        meaning_of_no: Some("boot every machine for its scenario alone, instead of cloning a template"),
        form: Form::Switch { or: None },
        meaning: "machines are clones of templates where possible; else each is booted for its scenario \
                  alone",
        default: "yes",
        set: |settings, value| put(&mut settings.templates, switch(text(value)?)),
        ..PLAIN
    },
    Setting {
        key: "shuffle",
        variable: "NIXVM_SHUFFLE",
        flag: "shuffle",
        placeholder: "SEED",
        form: Form::Number { from: 0 },
        meaning: "run scenarios in a random order that depends on this number only",
        default: "the order of the source",
        set: |settings, value| set(&mut settings.shuffle, number(value, 0)?),
        ..PLAIN
    },
    Setting {
        key: "seed",
        variable: "NIXVM_SEED",
        flag: "seed",
        placeholder: "SEED",
        form: Form::Number { from: 0 },
        meaning: "the number that the random faults of networks depend on: the same one repeats them",
        default: "a new one for each run",
        set: |settings, value| set(&mut settings.seed, number(value, 0)?),
        ..PLAIN
    },
    Setting {
        key: "partition",
        variable: "NIXVM_PARTITION",
        flag: "partition",
        placeholder: "SHARE",
        form: Form::Share,
        meaning: "run only a share of the scenarios: hash:1/3 is the first of three, count:1/3 every third",
        default: "all",
        set: |settings, value| set(&mut settings.partition, text(value)?.parse().ok()?),
        ..PLAIN
    },
    Setting {
        key: "retries",
        variable: "NIXVM_RETRIES",
        is_common: true,
        flag: "retries",
        placeholder: "N",
        form: Form::Number { from: 0 },
        meaning: "retry failed scenarios up to N times; those that then pass are reported as flaky",
        default: "0",
        set: |settings, value| put(&mut settings.retries, number(value, 0)?.try_into().ok()),
        ..PLAIN
    },
    Setting {
        key: "fail-fast",
        variable: "NIXVM_FAIL_FAST",
        is_common: true,
        flag: "fail-fast",
        form: Form::Switch { or: None },
        meaning: "start no more scenarios once one has failed",
        default: "no",
        set: |settings, value| put(&mut settings.fail_fast, switch(text(value)?)),
        ..PLAIN
    },
    Setting {
        key: "jobs",
        variable: "NIXVM_JOBS",
        is_common: true,
        flag: "jobs",
        short: Some('j'),
        placeholder: "N",
        form: Form::Number { from: 1 },
        meaning: "run at most N machines at a time",
        default: "as many as this host has processors and memory for",
        set: |settings, value| set(&mut settings.jobs, number(value, 1)?),
        ..PLAIN
    },
    Setting {
        key: "report",
        variable: "NIXVM_REPORT",
        is_common: true,
        flag: "report",
        placeholder: "FORMAT=PATH,…",
        form: Form::Reports,
        meaning: "write reports in addition to those in the record: junit=FILE,html=FILE,jsonl=FILE,cast=DIR",
        default: "none",
        set: |settings, value| put(&mut settings.report, text(value)?.parse().ok()),
        ..PLAIN
    },
    Setting {
        key: "against",
        variable: "NIXVM_AGAINST",
        flag: "against",
        placeholder: "RUN",
        form: Form::Run,
        meaning: "boot no machine: replay the scenarios against the record of a run (its folder, its name, or last), to correct \
                  their expectations",
        default: "machines are booted",
        set: |settings, value| set(&mut settings.against, text(value)?.to_owned()),
        ..PLAIN
    },
    Setting {
        key: "run-timeout",
        variable: "NIXVM_RUN_TIMEOUT",
        is_common: true,
        flag: "run-timeout",
        placeholder: "TIME",
        form: Form::Time,
        meaning: "the time limit of the whole run: 90s, 45m, 2h; running scenarios are then ended, and the rest \
                  is not run",
        default: "no limit",
        set: |settings, value| set(&mut settings.run_limit, time(text(value)?)?),
        ..PLAIN
    },
    Setting {
        key: "build-timeout",
        variable: "NIXVM_BUILD_TIMEOUT",
        flag: "build-timeout",
        placeholder: "TIME",
        form: Form::Time,
        meaning: "the time limit of the build of a VM: 90s, 45m, 2h",
        default: "60m",
        set: |settings, value| set(&mut settings.build_limit, time(text(value)?)?),
        ..PLAIN
    },
    Setting {
        key: "host-cores",
        variable: "NIXVM_HOST_CORES",
        flag: "host-cores",
        placeholder: "N",
        form: Form::Number { from: 1 },
        meaning: "how many of this host's processors your machines may use together; if unset, the load of other users counts",
        default: "all",
        set: |settings, value| set(&mut settings.host_cores, number(value, 1)?),
        ..PLAIN
    },
    Setting {
        key: "host-memory",
        variable: "NIXVM_HOST_MEMORY",
        flag: "host-memory",
        placeholder: "SIZE",
        form: Form::Size,
        meaning: "how much of this host's memory they may use: 4G, 512M; if unset, no more than is available",
        default: "seven eighths",
        set: |settings, value| set(&mut settings.host_memory, mebibytes(text(value)?)?),
        ..PLAIN
    },
    Setting {
        key: "pause-on-failure",
        variable: "NIXVM_PAUSE_ON_FAILURE",
        flag: "pause-on-failure",
        form: Form::Switch { or: None },
        meaning: "stop where a scenario fails until Enter is pressed, and show how to attach to its machines",
        default: "no",
        set: |settings, value| put(&mut settings.pause_on_failure, switch(text(value)?)),
        ..PLAIN
    },
    Setting {
        key: "keep-failed",
        variable: "NIXVM_KEEP_FAILED",
        flag: "keep-failed",
        meaning_of_no: Some(
            "keep no machines of failed scenarios, so that `nixvm-test attach` has nothing to return to",
        ),
        form: Form::Switch { or: None },
        meaning: "keep the machines of failed scenarios in their present state, for `nixvm-test attach`",
        default: "yes",
        set: |settings, value| put(&mut settings.keep_failed, switch(text(value)?)),
        ..PLAIN
    },
    Setting {
        key: "capture-network",
        variable: "NIXVM_CAPTURE_NETWORK",
        flag: "capture-network",
        meaning_of_no: Some(
            "don't capture the packets of networks: no files of them in the record, and no `packets()`",
        ),
        form: Form::Switch { or: None },
        meaning: "keep the packets of each VLAN of a scenario, for the record and for `packets()`",
        default: "yes",
        set: |settings, value| put(&mut settings.capture_network, switch(text(value)?)),
        ..PLAIN
    },
    Setting {
        key: "capture-network-size",
        variable: "NIXVM_CAPTURE_NETWORK_SIZE",
        flag: "capture-network-size",
        placeholder: "SIZE",
        form: Form::Size,
        meaning: "how much of the packets of a VLAN is kept, at its beginning and again at its end: 8M, 1G",
        default: "8M",
        set: |settings, value| put(&mut settings.capture_network_size, mebibytes(text(value)?)),
        ..PLAIN
    },
    Setting {
        key: "console",
        variable: "NIXVM_CONSOLE",
        flag: "console",
        form: Form::Switch { or: None },
        meaning: "show the output of the machines' consoles as it comes, line by line, without escape sequences; -v \
                  does so too",
        default: "no",
        set: |settings, value| put(&mut settings.console, switch(text(value)?)),
        ..PLAIN
    },
    Setting {
        key: "quiet",
        variable: "NIXVM_QUIET",
        is_common: true,
        flag: "quiet",
        short: Some('q'),
        form: Form::Switch { or: None },
        meaning: "show only the results, and no progress",
        default: "no",
        set: |settings, value| put(&mut settings.quiet, switch(text(value)?)),
        ..PLAIN
    },
    Setting {
        key: "capture",
        variable: "NIXVM_CAPTURE",
        flag: "capture",
        meaning_of_no: Some(
            "show progress as plain lines even on a terminal, mixed with what scenarios print",
        ),
        form: Form::Switch { or: None },
        meaning: "on a terminal, show progress in a live display, below what scenarios print",
        default: "yes",
        set: |settings, value| put(&mut settings.capture, switch(text(value)?)),
        ..PLAIN
    },
    Setting {
        key: "skip",
        variable: "NIXVM_SKIP",
        flag: "skip-all",
        form: Form::Switch { or: None },
        meaning: "skip every scenario, and say so: for hosts without QEMU or Nix, where they would fail",
        default: "no",
        set: |settings, value| put(&mut settings.skip, switch(text(value)?)),
        ..PLAIN
    },
];

/// The defaults of an entry.
const PLAIN: Setting = Setting {
    key: "",
    variable: "",
    flag: "",
    short: None,
    meaning_of_no: None,
    is_common: false,
    placeholder: "",
    form: Form::Path,
    meaning: "",
    default: "",
    set: |_, _| None,
};

/// The keys that say what is booted. At most one of them is in effect.
pub const SOURCES: [&str; 3] = ["configuration", "flake", "vm"];

impl Setting {
    /// Returns the setting with this key.
    pub fn by_key(key: &str) -> Option<&'static Self> {
        TABLE.iter().find(|setting| setting.key == key)
    }

    /// Whether `value`, in the syntax of a variable, is valid.
    pub fn accepts(&self, value: &OsStr) -> bool {
        (self.set)(&mut Settings::default(), value).is_some()
    }
}

fn text(value: &OsStr) -> Option<&str> {
    value.to_str()
}

fn set<T>(place: &mut Option<T>, value: T) -> Option<()> {
    *place = Some(value);
    Some(())
}

fn put<T>(place: &mut T, value: Option<T>) -> Option<()> {
    *place = value?;
    Some(())
}

fn switch(text: &str) -> Option<bool> {
    match text {
        "1" => Some(true),
        "0" => Some(false),
        _ => None,
    }
}

fn number(value: &OsStr, from: u64) -> Option<u64> {
    text(value)?.parse().ok().filter(|number| *number >= from)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_settings_share_a_name_and_none_lacks_one() {
        for name in [|s: &Setting| s.key, |s: &Setting| s.variable, |s: &Setting| s.flag] {
            let names: BTreeSet<&str> = TABLE.iter().map(name).collect();
            assert_eq!(names.len(), TABLE.len());
            assert!(!names.contains(""));
        }
        for setting in TABLE {
            assert!(!setting.meaning.is_empty() && !setting.default.is_empty(), "{}", setting.key);
            let is_switch = matches!(setting.form, Form::Switch { or: None });
            assert_eq!(setting.placeholder.is_empty(), is_switch, "{}", setting.key);
        }
        assert!(SOURCES.iter().all(|key| Setting::by_key(key).is_some()));
    }
}
