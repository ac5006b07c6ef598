//! Finds the library that scenarios are compiled against: the [sources] of this program, or, if they no longer exist,
//! the same version from the registry.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::{environment, sources};

/// The variable that names another folder for the library, for packagers and tests.
const VARIABLE: &str = "NIXVM_LIBRARY";

/// Returns the features that this program was built with. With other features cargo would compile the library, and
/// crates that it needs, again.
pub(super) fn features() -> Vec<&'static str> {
    let all = [
        ("default", cfg!(feature = "default")),
        ("cli", cfg!(feature = "cli")),
        ("expectrl", cfg!(feature = "expectrl")),
        ("testing", cfg!(feature = "testing")),
    ];
    all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}

/// The library that scenarios use as `nixvm_test`.
#[derive(Debug, Clone)]
pub(super) struct Library {
    folder: Option<PathBuf>,
}

impl Library {
    /// Finds it: [`VARIABLE`], else this program's own sources if they still exist.
    pub fn find() -> Self {
        let folder = environment::path(VARIABLE).unwrap_or_else(sources::folder);
        Self::at(folder)
    }

    /// Returns the library in `folder`, if it is there.
    pub fn at(folder: PathBuf) -> Self {
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        Self { folder: folder.join("Cargo.toml").is_file().then_some(folder) }
    }

    /// Returns the folder that it is compiled from; `None` for the registry's.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Returns its lock file. Scenarios use it too, so that they get the same versions, which are already downloaded.
    pub fn lock_file(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join("Cargo.lock")).filter(|lock| lock.is_file())
    }

    /// Returns the dependency for cargo. With `as_built` it has the features of this program.
    pub fn dependency(&self, as_built: bool) -> toml::Table {
        let mut dependency = toml::Table::new();
        match &self.folder {
            Some(folder) => dependency.insert("path".into(), folder.display().to_string().into()),
            None => dependency.insert("version".into(), concat!("=", env!("CARGO_PKG_VERSION")).into()),
        };
        // Without the features that only the program needs.
        dependency.insert("default-features".into(), false.into());
        if as_built {
            dependency.insert("features".into(), features().into());
        }
        dependency
    }

    /// Returns the dependency for the user's own manifest, which stays valid when a newer version replaces this
    /// program.
    pub fn lasting_dependency(&self) -> toml::Table {
        let unpacked = |folder: &PathBuf| folder.join(".cargo-ok").exists();
        if self.folder.as_ref().is_some_and(unpacked) {
            // cargo unpacked this folder from the registry to compile this program, and may remove it.
            return toml::Table::from_iter([("version".to_owned(), env!("CARGO_PKG_VERSION").into())]);
        }
        let mut dependency = self.dependency(false);
        dependency.remove("default-features");
        if dependency.contains_key("version") {
            dependency.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        }
        dependency
    }

    /// Returns a text that identifies the location of the library.
    pub fn place(&self) -> String {
        match &self.folder {
            Some(folder) => folder.display().to_string(),
            None => concat!("registry ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// Returns a text that changes with any source file of the library. It uses size and time of each file, as cargo
    /// does: reading all files would take longer than starting the scenario.
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
