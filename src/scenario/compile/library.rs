//! The library that scenarios are compiled against: the [sources] of this program, or, where those are
//! gone, the same version from the registry.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::{environment, sources};

/// Names another folder for the library, for packagers and tests.
const VARIABLE: &str = "NIXVM_LIBRARY";

/// The features that this program's library has: with others it would be another one, and so would crates that it needs.
pub(super) fn features() -> Vec<&'static str> {
    let all = [
        ("default", cfg!(feature = "default")),
        ("cli", cfg!(feature = "cli")),
        ("expectrl", cfg!(feature = "expectrl")),
        ("testing", cfg!(feature = "testing")),
    ];
    all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}

/// Where scenarios get `nixvm_test` from.
#[derive(Debug, Clone)]
pub(super) struct Library {
    folder: Option<PathBuf>,
}

impl Library {
    /// Finds it: [`VARIABLE`], else this program's own sources if they are still there.
    pub fn find() -> Self {
        let folder = environment::path(VARIABLE).unwrap_or_else(sources::folder);
        Self::at(folder)
    }

    /// The one in `folder`, if it is there.
    pub fn at(folder: PathBuf) -> Self {
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        Self { folder: folder.join("Cargo.toml").is_file().then_some(folder) }
    }

    /// The folder it is compiled from, if it is not the registry's.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Its lock file, which scenarios are built with too: the same versions, there already.
    pub fn lock_file(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join("Cargo.lock")).filter(|lock| lock.is_file())
    }

    /// What cargo is told about it. `as_built` has it with the features that this program has.
    pub fn dependency(&self, as_built: bool) -> toml::Table {
        let mut dependency = toml::Table::new();
        match &self.folder {
            Some(folder) => dependency.insert("path".into(), folder.display().to_string().into()),
            None => dependency.insert("version".into(), concat!("=", env!("CARGO_PKG_VERSION")).into()),
        };
        // Without what the program alone needs.
        dependency.insert("default-features".into(), false.into());
        if as_built {
            dependency.insert("features".into(), features().into());
        }
        dependency
    }

    /// What a manifest of the user's says about it, which stays when this program is replaced by a newer one.
    pub fn lasting_dependency(&self) -> toml::Table {
        let unpacked = |folder: &PathBuf| folder.join(".cargo-ok").exists();
        if self.folder.as_ref().is_some_and(unpacked) {
            // Cargo unpacked it from the registry to compile this program, and may remove it.
            return toml::Table::from_iter([("version".to_owned(), env!("CARGO_PKG_VERSION").into())]);
        }
        let mut dependency = self.dependency(false);
        dependency.remove("default-features");
        if dependency.contains_key("version") {
            dependency.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        }
        dependency
    }

    /// Tells one place of the library from any other.
    pub fn place(&self) -> String {
        match &self.folder {
            Some(folder) => folder.display().to_string(),
            None => concat!("registry ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// Changes when any source of the library does. By size and time of each file, as cargo does
    /// it: reading them all would take longer than starting the scenario.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.place());
        if let Some(folder) = &self.folder {
            for name in ["Cargo.toml", "Cargo.lock", "build.rs", "src", "macros"] {
                add(&mut hash, &folder.join(name));
            }
        }
        crate::digest::hex(&hash.finalize(), 16)
    }
}

/// Adds a file, or all files in a folder, in an order that does not depend on the file system.
fn add(hash: &mut Sha256, path: &Path) {
    let Ok(about) = fs::metadata(path) else { return };
    if about.is_dir() {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let mut entries: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        entries.sort();
        entries.iter().filter(|path| !path.ends_with("target")).for_each(|path| add(hash, path));
    } else {
        hash.update(path.as_os_str().as_encoded_bytes());
        hash.update(about.len().to_le_bytes());
        hash.update(about.mtime().to_le_bytes());
        hash.update(about.mtime_nsec().to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_names_the_checkout_or_else_the_version() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("Cargo.toml"), "").unwrap();
        let version = |library: Library| library.lasting_dependency().get("version").cloned();
        let checkout = Library::at(folder.path().to_owned());
        assert_eq!(checkout.lasting_dependency()["path"].as_str(), folder.path().to_str());
        assert_eq!(version(Library::at("/gone".into())), Some(env!("CARGO_PKG_VERSION").into()));
        fs::write(folder.path().join(".cargo-ok"), "").unwrap();
        assert_eq!(version(Library::at(folder.path().to_owned())), Some(env!("CARGO_PKG_VERSION").into()));
    }
}
