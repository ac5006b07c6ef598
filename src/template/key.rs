//! What a template is known by.

use crate::build::BuiltVm;
use crate::digest;
use crate::qemu::{Accelerator, accelerator};

/// The name of a template: a hash over everything that could change the state it holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(String);

/// Another number for each change of what is in a template and how it is sealed: versions of this library between two
/// releases share a cache.
const FORMAT: &str = "templates 2";

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

impl Key {
    /// The key of a moment that the library itself knows how to reach: `moment` says which, with all that
    /// decides it (user and password).
    pub fn new(vm: &BuiltVm, accelerator: Accelerator, moment: &[&str]) -> Self {
        let mut parts = vec![
            FORMAT.to_owned(),
            env!("CARGO_PKG_VERSION").to_owned(),
            vm.key(),
            accelerator.to_string(),
            accelerator::subject(vm),
            crate::control::guest::print(),
        ];
        parts.extend(VARIABLES.iter().map(|name| std::env::var(name).unwrap_or_default()));
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

#[cfg(test)]
mod tests {
    use super::*;

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
