//! The key of a template.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::LazyLock;

use regex::Regex;

use crate::BuiltVm;
use crate::qemu::accelerator::{self, Choice};
use crate::{digest, environment};

/// The name of a template: a hash over everything that could change the state it holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(String);

/// Part of each key. Change the number with every change of a template's content or its seal, because
/// versions of this library between two releases share a cache.
const FORMAT: &str = "templates 6";

/// Variables that affect the run script and QEMU.
const VARIABLES: [&str; 7] = [
    "QEMU_OPTS",
    "QEMU_KERNEL_PARAMS",
    "QEMU_NET_OPTS",
    "SHARED_DIR",
    "NIX_EFI_VARS",
    "NIX_SWTPM_DIR",
    "NIX_SSL_CERT_FILE",
];

/// Variables that this program sets for run scripts, and PATH. The seal covers the programs that are found on
/// PATH.
const PER_RUN: [&str; 6] = ["TMPDIR", "USE_TMPDIR", "NIX_DISK_IMAGE", "PATH", "PWD", "OLDPWD"];

impl Key {
    /// Returns the key of a moment that the library itself can reach. `moment` names the moment and
    /// everything that determines it (user and password).
    pub fn new(vm: &BuiltVm, choice: &Choice, moment: &[&str]) -> Self {
        let mut parts: Vec<OsString> = vec![
            FORMAT.into(),
            env!("CARGO_PKG_VERSION").into(),
            vm.key().into(),
            choice.accelerator.to_string().into(),
            choice.cpu.unwrap_or_default().into(),
            accelerator::subject(vm).into(),
            crate::channel::guest::print().into(),
        ];
        parts.extend(VARIABLES.iter().map(|name| environment::variable(name).unwrap_or_default()));
        parts.extend(named_in(&std::fs::read_to_string(vm.script()).unwrap_or_default()));
        parts.extend(moment.iter().map(OsString::from));
        Self(digest::of_parts(parts.iter().map(|part| part.as_encoded_bytes())))
    }

    /// Returns the key of the moment that `step` reaches from this one.
    pub fn after(&self, step: &[&str]) -> Self {
        let mut parts = vec![self.0.clone()];
        parts.extend(step.iter().map(|part| (*part).to_owned()));
        Self::of(&parts)
    }

    pub(super) fn of(parts: &[String]) -> Self {
        Self(digest::of_parts(parts))
    }

    /// Returns the key as 32 hexadecimal digits.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// Returns the variables of this process that a script's text names, each with its value. A script can
/// distinguish an empty variable from an unset one.
fn named_in(script: &str) -> Vec<OsString> {
    static NAME: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)").ok());
    let found = NAME.iter().flat_map(|regex| regex.captures_iter(script)).filter_map(|found| found.get(1));
    let names: BTreeSet<&str> =
        found.map(|name| name.as_str()).filter(|name| !PER_RUN.contains(name)).collect();
    let with_value = |name: &&str| {
        let mut text = OsString::from(format!("{name}="));
        text.push(environment::exact(name)?);
        Some(text)
    };
    names.iter().filter_map(with_value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_the_script_names_are_part_of_it_and_those_of_each_run_are_not() {
        let named = named_in("cp ${HOME}/x $TMPDIR/y; echo $PATH $NO_SUCH_VARIABLE_HERE $(HOME)");
        let home = environment::text("HOME").map(|home| OsString::from(format!("HOME={home}")));
        assert_eq!(named, home.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_variable_that_is_empty_or_not_text_is_part_of_it() {
        let name = "template::key::tests::a_variable_that_is_empty_or_not_text_is_part_of_it";
        let variables: [(&str, &[u8]); 2] = [("EMPTY", b""), ("ODD", b"\xff")];
        if !environment::with_variables(name, &variables) {
            return;
        }
        let named = named_in("cp ${ODD}/x ${EMPTY-/y} ${NO_SUCH_VARIABLE_HERE}");
        let bytes: Vec<_> = named.iter().map(|part| part.as_encoded_bytes()).collect();
        assert_eq!(bytes, [&b"EMPTY="[..], b"ODD=\xff"]);
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
