//! Which QEMU a kept machine goes on with: one of this host's, never a program that the moment's files name otherwise.

use std::path::{Component, Path, PathBuf};

use super::allowed;
use crate::environment;

/// The QEMU for a machine that ran on `named`: that very one if it is a QEMU in the Nix store, else the one of the same
/// name on PATH.
pub(super) fn resolved(named: &Path) -> Option<PathBuf> {
    let name = name_of(named)?;
    if is_in_a_store_path(named) && named.is_file() {
        return Some(named.to_owned());
    }
    on_path(name)
}

/// The name by which QEMU is called: `qemu-system-x86_64`, also of nixpkgs' `.qemu-system-x86_64-wrapped`.
pub(super) fn name_of(program: &Path) -> Option<&str> {
    let file = program.file_name()?.to_str()?;
    let name = file.strip_prefix('.').and_then(|rest| rest.strip_suffix("-wrapped")).unwrap_or(file);
    let architecture = name.strip_prefix("qemu-system-");
    let is_one = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    (name == "qemu-kvm" || architecture.is_some_and(is_one)).then_some(name)
}

/// The first program of this name on PATH. Folders that depend on the working directory are passed over.
fn on_path(name: &str) -> Option<PathBuf> {
    let mut folders = environment::path_folders().into_iter().filter(|folder| folder.is_absolute());
    folders.find_map(|folder| Some(folder.join(name)).filter(|file| file.is_file()))
}

/// `/nix/store/HASH-NAME/bin/PROGRAM`, by its words and where its links lead.
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
