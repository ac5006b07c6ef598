//! Chooses the QEMU with which a kept machine is resumed. It is always one of this host's, and never another
//! program that the moment's files name.

use std::path::{Component, Path, PathBuf};

use super::allowed;
use crate::environment;

/// Returns the QEMU for a machine that ran on `named`. That is `named` itself if it is a QEMU in the Nix
/// store, and otherwise the program of the same name on PATH.
pub(super) fn resolved(named: &Path) -> Option<PathBuf> {
    let name = name_of(named)?;
    if is_in_a_store_path(named) && named.is_file() {
        return Some(named.to_owned());
    }
    on_path(name)
}

/// Returns the name of a QEMU, such as `qemu-system-x86_64`, also for nixpkgs' `.qemu-system-x86_64-wrapped`.
pub(super) fn name_of(program: &Path) -> Option<&str> {
    let file = program.file_name()?.to_str()?;
    let name = file.strip_prefix('.').and_then(|rest| rest.strip_suffix("-wrapped")).unwrap_or(file);
    let architecture = name.strip_prefix("qemu-system-");
    let is_one = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    (name == "qemu-kvm" || architecture.is_some_and(is_one)).then_some(name)
}

/// Returns the first program with this name on PATH. Relative folders are skipped, because they depend on the
/// working directory.
fn on_path(name: &str) -> Option<PathBuf> {
    let mut folders = environment::path_folders().into_iter().filter(|folder| folder.is_absolute());
    folders.find_map(|folder| Some(folder.join(name)).filter(|file| file.is_file()))
}

/// Whether a path has the form `/nix/store/HASH-NAME/bin/PROGRAM`, and stays in the store when its links are
/// followed.
fn is_in_a_store_path(program: &Path) -> bool {
    let Ok(rest) = program.strip_prefix(allowed::STORE) else { return false };
    let mut parts = rest.components();
    let named = |part: Option<Component<'_>>| matches!(part, Some(Component::Normal(_)));
    named(parts.next())
        && parts.next() == Some(Component::Normal("bin".as_ref()))
        && named(parts.next())
        && parts.next().is_none()
        && allowed::is_in_store(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_qemu_of_this_host_is_taken() {
        let here = on_path("qemu-system-x86_64").unwrap();
        for named in [
            "/usr/bin/qemu-system-x86_64",
            "/tmp/evil/qemu-system-x86_64",
            "qemu-system-x86_64",
            "/nix/store/gone-qemu/bin/qemu-system-x86_64",
            "/nix/store/gone-qemu/bin/.qemu-system-x86_64-wrapped",
            "/nix/store/../../tmp/qemu-system-x86_64",
        ] {
            assert_eq!(resolved(Path::new(named)).as_ref(), Some(&here), "{named}");
        }
        for named in [
            "/bin/sh",
            "sh",
            "",
            "/",
            "qemu-system-",
            "qemu-system-x86_64/..",
            "qemu-img",
            "qemu-system-x86_64 x",
        ] {
            assert_eq!(resolved(Path::new(named)), None, "{named}");
        }
    }
}
