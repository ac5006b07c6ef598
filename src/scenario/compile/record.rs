//! Records the inputs of a binary, to detect whether it is up to date.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::digest::hex;
use crate::environment;

use super::library::{self, Library};
use super::own_build::OwnBuild;
use super::workshop::Package;

/// The record of one build.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// The scenario's file.
    pub file: PathBuf,
    binary: PathBuf,
    /// Distinguishes the binary from one that was later compiled to the same path.
    stamp: Option<(u64, i64, i64)>,
    linked: Linking,
    library: String,
    toolchain: String,
    /// Every input file, with the hash of its content.
    files: Vec<(PathBuf, String)>,
    /// Every environment variable that the code read at compile time.
    variables: Vec<(String, Option<String>)>,
}

/// Which library a binary is linked with, if there are several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Linking {
    /// The library's location.
    place: String,
    /// cargo's target directory.
    pub target: PathBuf,
    /// Its profile, if it is the library that this program was built with.
    profile: Option<String>,
    features: Vec<String>,
}

impl Linking {
    pub fn of(library: &Library, own_build: Option<&OwnBuild>, target: PathBuf) -> Self {
        Self {
            place: library.place(),
            target,
            profile: own_build.map(|own| own.profile().to_owned()),
            features: own_build
                .map(|_| library::features())
                .into_iter()
                .flatten()
                .map(str::to_owned)
                .collect(),
        }
    }
}

/// The state at the start of a build.
#[derive(Debug)]
pub(super) struct Before {
    /// The scenario's file.
    pub text: String,
    library: String,
    toolchain: String,
}

impl Before {
    pub fn now(text: String, library: &Library) -> Self {
        Self { text, library: library.fingerprint(), toolchain: toolchain() }
    }
}

impl Record {
    /// Records a build that has succeeded.
    pub fn of(file: &Path, before: Before, binary: &Path, library: &Library, package: &Package) -> Self {
        let mut files = vec![(file.to_owned(), hash(before.text.as_bytes()))];
        for path in package.files_read(binary) {
            let of_the_library = library.folder().is_some_and(|folder| path.starts_with(folder));
            if !of_the_library
                && path != file
                && let Ok(content) = fs::read(&path)
            {
                files.push((path, hash(&content)));
            }
        }
        Self {
            file: file.to_owned(),
            binary: binary.to_owned(),
            stamp: stamp(binary),
            linked: package.linked().clone(),
            library: before.library,
            toolchain: before.toolchain,
            files,
            variables: package
                .variables_read()
                .into_iter()
                .map(|name| (value_of(&name), name))
                .map(|(v, n)| (n, v))
                .collect(),
        }
    }

    /// Returns every input file except the library's.
    pub fn inputs(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// Returns the binary, if all its inputs are unchanged, it is linked as `linked` says, it is the one that was
    /// compiled, and it is below the target directory. The last check matters, since the record names a program to run.
    pub fn fresh(&self, library: &Library, linked: &Linking) -> Option<PathBuf> {
        let files = self.files.iter().all(|(path, was)| fs::read(path).is_ok_and(|now| hash(&now) == *was));
        let variables = self.variables.iter().all(|(name, was)| value_of(name) == *was);
        let fresh = files
            && variables
            && self.linked == *linked
            && self.toolchain == toolchain()
            && self.library == library.fingerprint()
            && self.stamp.is_some()
            && self.stamp == stamp(&self.binary)
            && is_below(&self.binary, &linked.target);
        fresh.then(|| self.binary.clone())
    }
}

/// Returns size and time of a file.
fn stamp(file: &Path) -> Option<(u64, i64, i64)> {
    let about = fs::metadata(file).ok().filter(fs::Metadata::is_file)?;
    Some((about.len(), about.mtime(), about.mtime_nsec()))
}

/// Returns whether a file is below a folder, after following symbolic links.
pub(super) fn is_below(file: &Path, folder: &Path) -> bool {
    let (file, folder) = (file.canonicalize(), folder.canonicalize());
    file.is_ok_and(|file| folder.is_ok_and(|folder| file.starts_with(folder)))
}

/// Returns a variable as the compiler sees it: `option_env!` distinguishes an empty one from an unset one.
fn value_of(name: &str) -> Option<String> {
    environment::exact(name).map(|value| value.to_string_lossy().into_owned())
}

/// Returns a text that changes if another compiler would be used. Calling it for its version would take longer than
/// starting the scenario, so this uses what selects it: the path of cargo, rustup's settings and the state of its
/// toolchains, and the variables that affect them.
fn toolchain() -> String {
    let mut hash = Sha256::new();
    for name in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        hash.update(format!("{name}={:?}\n", environment::exact(name)));
    }
    let home = environment::path("HOME").unwrap_or_default();
    let rustup = environment::path("RUSTUP_HOME").unwrap_or_else(|| home.join(".rustup"));
    let mut places =
        vec![rustup.join("settings.toml"), rustup.join("update-hashes"), rustup.join("toolchains")];
    let compilers = environment::path_folders().into_iter().map(|folder| folder.join("rustc"));
    places.extend(compilers.into_iter().find(|rustc| rustc.is_file()));
    for place in places {
        let about = fs::metadata(&place).ok();
        let changed = about.and_then(|about| Some((about.len(), about.modified().ok()?)));
        hash.update(format!("{}={changed:?}\n", place.display()));
    }
    hex(&hash.finalize(), 16)
}

fn hash(content: &[u8]) -> String {
    hex(&Sha256::digest(content), 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::compile::workshop::Workshop;

    #[test]
    fn a_binary_is_fresh_until_anything_that_went_into_it_is_another() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        let of_the_library = ["Cargo.toml", "Cargo.lock", "build.rs", "src/lib.rs", "macros/src/lib.rs"];
        for name in of_the_library {
            put(&format!("library/{name}"), "one");
        }
        let library = Library::at(root.path().join("library"));
        let workshop = Workshop::open(&root.path().join("cache"), &library, None).unwrap();
        let package = workshop.package(&put("a.rs", "one"));
        let target = workshop.target();
        let linked = package.linked();
        let in_target = target.strip_prefix(root.path()).unwrap().join("debug");
        let binary = put(in_target.join("a").to_str().unwrap(), "");
        put(
            in_target.join("a.d").to_str().unwrap(),
            &format!(
                "{}: {} {}\n",
                binary.display(),
                put("a.rs", "one").display(),
                put("b.txt", "one").display()
            ),
        );
        let before = || Before::now("one".to_owned(), &library);
        let record = || Record::of(&root.path().join("a.rs"), before(), &binary, &library, &package);

        let of_the_library = of_the_library.map(|name| format!("library/{name}"));
        for name in of_the_library.iter().map(String::as_str).chain(["a.rs", "b.txt"]) {
            let record = record();
            assert_eq!(record.fresh(&library, linked).as_ref(), Some(&binary), "{name}");
            put(name, "other");
            assert_eq!(record.fresh(&library, linked), None, "{name} was changed");
            put(name, "one");
        }
        let early = before();
        put("library/src/lib.rs", "saved while the library was compiled");
        let late = Record::of(&root.path().join("a.rs"), early, &binary, &library, &package);
        assert_eq!(late.fresh(&library, linked), None, "it may be the library of before");

        let record = record();
        assert_eq!(record.fresh(&library, linked).as_ref(), Some(&binary));
        for other in [
            Linking { place: "/another/checkout".into(), ..linked.clone() },
            Linking { target: root.path().join("cache"), ..linked.clone() },
            Linking { profile: Some("release".into()), ..linked.clone() },
            Linking { features: vec!["expectrl".into()], ..linked.clone() },
        ] {
            assert_eq!(record.fresh(&library, &other), None, "{other:?}");
        }
        let times = fs::metadata(&binary).unwrap().modified().unwrap();
        let set_time = |time| fs::File::open(&binary).unwrap().set_modified(time).unwrap();
        put(in_target.join("a").to_str().unwrap(), "linked by another checkout");
        set_time(times);
        assert_eq!(record.fresh(&library, linked), None, "another length");
        put(in_target.join("a").to_str().unwrap(), "");
        set_time(times + std::time::Duration::from_nanos(1));
        assert_eq!(record.fresh(&library, linked), None, "another time");
        set_time(times);
        assert_eq!(record.fresh(&library, linked).as_ref(), Some(&binary));
        let (elsewhere, link) = (put("elsewhere", ""), binary.with_extension("link"));
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        for other in [elsewhere, link] {
            let record = Record::of(&root.path().join("a.rs"), before(), &other, &library, &package);
            assert_eq!(record.fresh(&library, linked), None, "{}", other.display());
        }
        fs::remove_file(&binary).unwrap();
        assert_eq!(record.fresh(&library, linked), None);
    }
}
