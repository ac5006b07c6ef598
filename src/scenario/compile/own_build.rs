//! Uses the library that cargo built for this program: a scenario is linked with it, so that nothing is compiled twice.
//!
//! This needs the original build: a checkout, not a `cargo install` of a release. The target folder must be in the
//! checkout. If several checkouts share one, their libraries have the same names there, so a scenario could be linked
//! with the wrong one. cargo is asked for the build, so changed sources are compiled, and unchanged ones are named at
//! once. The scenario's package then has no dependencies, and the compiler gets the paths of the library and its
//! crates. (As a dependency in another workspace the library would be a different one to cargo, and be compiled again.)
//! A scenario with its own dependencies depends on the library as any package does; it shares the crates of this build,
//! and the library is compiled for it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::cargo::{Artifact, Call, Cargo};
use super::library::{Library, features};
use super::record::is_below;
use crate::{Events, Result};

/// The folder in which cargo built this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OwnBuild {
    /// The package that it was built from.
    package: PathBuf,
    target: PathBuf,
    profile: String,
}

/// What a scenario is linked with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Linked {
    library: PathBuf,
    /// The folders of the crates that it needs.
    folders: BTreeSet<PathBuf>,
    /// Identifies this build of the library.
    stamp: String,
}

impl OwnBuild {
    /// Finds the build of this program, if it still exists and is one of `library`.
    pub fn find(library: &Library) -> Option<Self> {
        let package = library.folder()?;
        let is_ours = package == Path::new(env!("CARGO_MANIFEST_DIR"));
        is_ours.then(|| Self::of(package, Path::new(env!("OUT_DIR"))))?
    }

    /// Returns the build of `package` whose build script wrote to `out`: `TARGET/[TRIPLE/]PROFILE/build/NAME/out`.
    fn of(package: &Path, out: &Path) -> Option<Self> {
        // Do not build in another user's folder. Root must not either, since the owner could not change root's files
        // there.
        let made = out.ancestors().nth(3)?;
        let is_ours = fs::metadata(made).ok()?.uid() == rustix::process::geteuid().as_raw();
        let can_write = rustix::fs::access(made, rustix::fs::Access::WRITE_OK).is_ok();
        (is_ours && can_write && out.is_dir()).then_some(())?;
        let above = made.parent()?;
        // cargo marks its target directory with CACHEDIR.TAG only if it created the directory itself.
        let target = if above.ends_with(env!("NIXVM_TARGET")) { above.parent()? } else { above };
        is_below(target, package).then_some(())?;
        let profile = match made.file_name()?.to_str()? {
            "debug" => "dev",
            other => other,
        };
        Some(Self { package: package.to_owned(), target: target.to_owned(), profile: profile.to_owned() })
    }

    /// Returns the package's folder. cargo runs there, so that toolchain and settings are those of the build.
    pub fn folder(&self) -> &Path {
        &self.package
    }

    /// Returns cargo's target directory.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Returns the name of the cargo profile with which this program was built.
    pub fn profile(&self) -> &str {
        &self.profile
    }

    /// Makes cargo bring the library up to date, offline: everything was downloaded when this program was built. The
    /// checkout's lock file is not changed: if it does not fit, cargo refuses.
    ///
    /// # Errors
    /// Those of [`Call::run`].
    pub async fn library(&self, colour: bool, own_group: bool, events: &Events) -> Result<Cargo> {
        Call::new("build", &self.manifest(), &self.package)
            .args(["--lib", "--offline", "--no-default-features", "--features", &features().join(",")])
            .args(["--locked", "--profile", &self.profile])
            .target(&self.target)
            .colour(colour)
            .own_group(own_group)
            .run(env!("CARGO_PKG_NAME"), events)
            .await
    }

    /// Returns what a scenario is linked with, from cargo's artifacts; `None` if the library is not among them.
    pub fn linked(&self, cargo: &Cargo) -> Option<Linked> {
        let ours = cargo.artifacts.iter().filter(|artifact| artifact.manifest == self.manifest());
        let library = ours.filter_map(file_of).next()?;
        let about = fs::metadata(&library).ok()?;
        let files = cargo.artifacts.iter().flat_map(|artifact| &artifact.files);
        Some(Linked {
            stamp: format!("{}.{}.{}", about.len(), about.mtime(), about.mtime_nsec()),
            folders: files.filter_map(|file| file.parent()).map(Path::to_owned).collect(),
            library,
        })
    }

    fn manifest(&self) -> PathBuf {
        self.package.join("Cargo.toml")
    }
}

/// Returns the file of a library. Its name in cargo's `deps` folder is unique for this build. The one beside the
/// program is from the last build, which may have had other features.
fn file_of(artifact: &Artifact) -> Option<PathBuf> {
    let named = |extension: &str| {
        artifact.files.iter().find(|file| file.extension().is_some_and(|its| its == extension))
    };
    let own = named("rmeta").map(|file| file.with_extension("rlib")).filter(|file| file.is_file());
    own.or_else(|| named("rlib").cloned())
}

impl Linked {
    /// Returns the arguments for the compiler.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut library = OsString::from("nixvm_test=");
        library.push(&self.library);
        let mut arguments = vec!["--extern".into(), library];
        for folder in &self.folders {
            let mut path = OsString::from("dependency=");
            path.push(folder);
            arguments.extend(["-L".into(), path]);
        }
        // cargo does not track the library file itself, but compiles again when an argument changes.
        arguments.extend(["-C".into(), format!("metadata={}", self.stamp).into()]);
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_of_a_program_is_known_by_the_folder_of_its_build_script() {
        let folder = tempfile::tempdir().unwrap();
        let (package, target) = (folder.path(), folder.path().join("target"));
        let of = |out: &str| OwnBuild::of(package, &target.join(out));
        let build = |profile: &str| {
            Some(OwnBuild { package: package.into(), target: target.clone(), profile: profile.to_owned() })
        };
        let named = concat!(env!("NIXVM_TARGET"), "/fast/build/x/out");
        for (out, profile) in
            [("debug/build/x/out", "dev"), ("release/build/x/out", "release"), (named, "fast")]
        {
            assert_eq!(of(out), None, "nothing was built");
            fs::create_dir_all(target.join(out)).unwrap();
            assert_eq!(of(out), build(profile));
        }
        assert_eq!(of("debug/build/y/out"), None, "cargo clean");
    }

    #[test]
    fn a_build_counts_only_in_the_folder_of_its_package() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let out = "debug/build/x/out";
        for target in ["one/target", "two/target", "shared", "one-more"] {
            fs::create_dir_all(at(target).join(out)).unwrap();
        }
        std::os::unix::fs::symlink(at("shared"), at("two/linked")).unwrap();
        std::os::unix::fs::symlink(at("one"), at("link")).unwrap();
        for (package, target, counts) in [
            ("one", "one/target", true),
            ("two", "two/target", true),
            ("link", "one/target", true),
            ("link", "link/target", true),
            ("one", "shared", false),
            ("two", "shared", false),
            ("one", "two/target", false),
            ("one", "one-more", false),
            ("one", "one/../shared", false),
            ("two", "two/linked", false),
        ] {
            let found = OwnBuild::of(&at(package), &at(target).join(out)).map(|own| own.target);
            assert_eq!(found, counts.then(|| at(target)), "{package} with {target}");
        }
    }

    #[test]
    fn a_build_of_another_user_is_not_built_in_by_root_either() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not root: no folder of another user can be made, so this is not tested");
            return;
        }
        let package = tempfile::tempdir().unwrap();
        let out = package.path().join("target/debug/build/x/out");
        fs::create_dir_all(&out).unwrap();
        assert!(OwnBuild::of(package.path(), &out).is_some());
        std::os::unix::fs::chown(package.path().join("target/debug"), Some(4242), None).unwrap();
        assert_eq!(OwnBuild::of(package.path(), &out), None);
    }

    #[test]
    fn the_program_of_this_test_has_a_build_and_another_library_has_none() {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let has_one = Path::new(env!("OUT_DIR")).starts_with(package);
        assert_eq!(OwnBuild::find(&Library::at(package.into())).is_some(), has_one);
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("Cargo.toml"), "").unwrap();
        assert_eq!(OwnBuild::find(&Library::at(other.path().to_owned())), None);
        assert_eq!(OwnBuild::find(&Library::at("/gone".into())), None);
    }

    #[test]
    fn the_library_is_that_of_this_build_and_another_one_has_another_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("deps")).unwrap();
        let own = OwnBuild { package: at(""), target: at("target"), profile: "dev".to_owned() };
        let artifact = |manifest: &str, files: &[&str]| Artifact {
            manifest: at(manifest),
            package: String::new(),
            executable: None,
            files: files.iter().map(|name| at(name)).collect(),
        };
        let cargo = Cargo {
            artifacts: vec![
                artifact("tokio/Cargo.toml", &["others/libtokio-1.rlib", "others/libtokio-1.rmeta"]),
                artifact("Cargo.toml", &["build/build-script-build"]),
                artifact("Cargo.toml", &["libnixvm_test.rlib", "deps/libnixvm_test-1.rmeta"]),
            ],
            ..Cargo::default()
        };
        assert_eq!(own.linked(&cargo), None, "there is no such file");
        fs::write(at("libnixvm_test.rlib"), "").unwrap();
        assert_eq!(own.linked(&cargo).unwrap().library, at("libnixvm_test.rlib"));
        fs::write(at("deps/libnixvm_test-1.rlib"), "").unwrap();
        let first = own.linked(&cargo).unwrap();
        assert_eq!(first.library, at("deps/libnixvm_test-1.rlib"));
        assert!(first.folders.contains(&at("others")) && first.folders.contains(&at("deps")), "{first:?}");
        fs::write(at("deps/libnixvm_test-1.rlib"), "other").unwrap();
        assert_ne!(first.arguments(), own.linked(&cargo).unwrap().arguments());
    }
}
