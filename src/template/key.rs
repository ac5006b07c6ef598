//! What a template is known by.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use crate::BuiltVm;
use crate::digest;
use crate::qemu::accelerator::{self, Choice};

/// The name of a template: a hash over everything that could change the state it holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(String);

/// Another number for each change of what is in a template and how it is sealed: versions of this library between two
/// releases share a cache.
const FORMAT: &str = "templates 5";

/// Variables that reach the run script and QEMU.
const VARIABLES: [&str; 7] = [
    "QEMU_OPTS",
    "QEMU_KERNEL_PARAMS",
    "QEMU_NET_OPTS",
    "SHARED_DIR",
    "NIX_EFI_VARS",
    "NIX_SWTPM_DIR",
    "NIX_SSL_CERT_FILE",
];

/// Variables that run scripts get from us, and PATH, of which the seal says which programs are found there.
const PER_RUN: [&str; 6] = ["TMPDIR", "USE_TMPDIR", "NIX_DISK_IMAGE", "PATH", "PWD", "OLDPWD"];

impl Key {
    /// The key of a moment that the library itself knows how to reach: `moment` says which, with all that
    /// decides it (user and password).
    pub fn new(vm: &BuiltVm, choice: &Choice, moment: &[&str]) -> Self {
        let mut parts = vec![
            FORMAT.to_owned(),
            env!("CARGO_PKG_VERSION").to_owned(),
            vm.key(),
            choice.accelerator.to_string(),
            choice.cpu.unwrap_or_default().to_owned(),
            accelerator::subject(vm),
            crate::channel::guest::print(),
        ];
        parts.extend(VARIABLES.iter().map(|name| std::env::var(name).unwrap_or_default()));
        parts.extend(named_in(&std::fs::read_to_string(vm.script()).unwrap_or_default()));
        parts.extend(moment.iter().map(|part| (*part).to_owned()));
        Self::of(&parts)
    }

    /// The key of what comes after this moment by `step`.
    pub fn after(&self, step: &[&str]) -> Self {
        let mut parts = vec![self.0.clone()];
        parts.extend(step.iter().map(|part| (*part).to_owned()));
        Self::of(&parts)
    }

    pub(super) fn of(parts: &[String]) -> Self {
        Self(digest::of_parts(parts))
    }

    /// 32 hexadecimal digits.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// The variables of this process that a script's text names, each with its value.
fn named_in(script: &str) -> Vec<String> {
    static NAME: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)").ok());
    let found = NAME.iter().flat_map(|regex| regex.captures_iter(script)).filter_map(|found| found.get(1));
    let names: BTreeSet<&str> =
        found.map(|name| name.as_str()).filter(|name| !PER_RUN.contains(name)).collect();
    names.iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_the_script_names_are_part_of_it_and_those_of_each_run_are_not() {
        let named = named_in("cp ${HOME}/x $TMPDIR/y; echo $PATH $NO_SUCH_VARIABLE_HERE $(HOME)");
        let home = std::env::var("HOME").ok().map(|home| format!("HOME={home}"));
        assert_eq!(named, home.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn parts_are_kept_apart_and_each_step_is_another_key() {
        let of = |parts: &[&str]| Key::of(&parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        assert_ne!(of(&["ab", ""]), of(&["a", "b"]));
        let key = of(&["a"]);
        assert_ne!(key.after(&["seeded"]), key);
        assert_ne!(key.after(&["seeded"]), key.after(&["seeded", ""]));
        assert_eq!(key.name().len(), 32);
    }
}
