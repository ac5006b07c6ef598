//! Remembers the result of a source's last build.
//!
//! The result is only a guess at the next one: only Nix knows what a configuration depends on. Callers use it to begin
//! work while Nix evaluates, and must be able to undo that work.

use std::path::{Path, PathBuf};

use super::source::Source;
use crate::BuiltVm;
use crate::{digest, environment};

/// The link to the last result of one source.
pub(super) struct PreviousBuild {
    link: PathBuf,
}

/// Variables that decide which nixpkgs is used, besides the user's value.
const VARIABLES: [&str; 2] = ["NIX_PATH", "NIXVM_STANDIN"];

impl PreviousBuild {
    /// Returns the link of `source`, built with the given nixpkgs and perhaps with the network module, in this folder of
    /// links.
    pub(super) fn of(source: &Source, nixpkgs: Option<&str>, networked: bool, folder: &Path) -> Option<Self> {
        let (kind, name) = match source {
            Source::Configuration(file) => ("configuration", std::path::absolute(file).ok()?),
            // The checkout's path has the commit in it.
            Source::Committed(committed) => ("commit", committed.file().ok()?),
            Source::Flake(reference) => ("flake", std::env::current_dir().ok()?.join(reference)),
            // A built VM needs no guess.
            Source::Built(_) => return None,
        };
        let mut parts = vec![kind.into(), name.into_os_string(), nixpkgs.unwrap_or_default().into()];
        if networked {
            parts.push("on networks".into());
        }
        parts.extend(VARIABLES.map(|name| environment::variable(name).unwrap_or_default()));
        let id = digest::of_parts(parts.iter().map(|part| part.as_encoded_bytes()));
        Some(Self { link: folder.join(id) })
    }

    /// Returns the VM, if it was built before and still exists.
    pub(super) fn read(&self) -> Option<BuiltVm> {
        BuiltVm::open(std::fs::read_link(&self.link).ok()?).ok()
    }

    /// Saves Nix's result. Errors are ignored: the next run then has no guess.
    pub(super) fn write(&self, result: &Path) {
        // Written under its own name first, since other processes may read and write the link.
        let part = self.link.with_extension(std::process::id().to_string());
        let _ = std::fs::remove_file(&part);
        let done =
            std::os::unix::fs::symlink(result, &part).and_then(|()| std::fs::rename(&part, &self.link));
        if let Err(error) = done {
            tracing::debug!(%error, link = %self.link.display(), "what was built is not noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_noted_is_found_for_the_same_source_and_nixpkgs_alone() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("vm/bin/run-nixos-vm");
        std::fs::create_dir_all(script.parent().unwrap()).unwrap();
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        let of = |source: &str, nixpkgs: Option<&str>| {
            PreviousBuild::of(&Source::Configuration(source.into()), nixpkgs, false, folder.path()).unwrap()
        };
        assert_eq!(of("/a.nix", None).read(), None);
        of("/a.nix", None).write(&folder.path().join("vm"));
        of("/a.nix", None).write(&folder.path().join("vm"));
        assert_eq!(of("/a.nix", None).read().unwrap().name(), "nixos");
        assert_eq!(of("/b.nix", None).read(), None);
        assert_eq!(of("/a.nix", Some("channel:nixos-26.05")).read(), None);
        std::fs::remove_dir_all(folder.path().join("vm")).unwrap();
        assert_eq!(of("/a.nix", None).read(), None);
    }
}
