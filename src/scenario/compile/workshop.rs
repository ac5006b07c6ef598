//! Manages the folder where scenarios are compiled, and limits its size.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use super::library::Library;
use super::own_build::OwnBuild;
use super::record::{Linking, Record};
use crate::presence::is_absent;
use crate::{Error, Result};

/// Maximum number of packages that are kept.
const PACKAGES: usize = 64;

/// Maximum number of workshops that are kept, one for each location of the library. Each has the library and its
/// dependencies, compiled.
const WORKSHOPS: usize = 6;

/// The folder for one location of the library.
#[derive(Debug)]
pub(super) struct Workshop {
    folder: PathBuf,
    /// The library that scenarios are linked with, and the target directory.
    linked: Linking,
}

impl Workshop {
    /// Opens the workshop of `library` in the cache folder, and creates it if it is missing.
    pub fn open(cache: &Path, library: &Library, own_build: Option<&OwnBuild>) -> Result<Self> {
        let folder = cache.join("scenarios").join(short_hash(&library.place()));
        fs::create_dir_all(folder.join("packages"))
            .map_err(|source| Error::io(format_args!("make {}", folder.display()), &source))?;
        let target = own_build.map_or_else(|| folder.join("target"), |own| own.target().to_owned());
        Ok(Self { linked: Linking::of(library, own_build, target), folder })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the target directory of all packages: that of this program, if its own build is used.
    pub fn target(&self) -> &Path {
        &self.linked.target
    }

    /// Returns the lock file: shared by processes that compile, exclusive for one that removes.
    pub fn lock_file(&self) -> PathBuf {
        self.folder.join("lock")
    }

    /// Returns the package of `file`, an absolute path.
    pub fn package(&self, file: &Path) -> Package {
        let id = short_hash(&file.display().to_string());
        let stem = file.file_stem().and_then(OsStr::to_str).unwrap_or_default();
        let stem: String = stem
            .chars()
            .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' })
            .take(40)
            .collect();
        let name = format!("nixvm-{stem}-{id}");
        Package { folder: self.folder.join("packages").join(&id), linked: self.linked.clone(), name }
    }

    /// Empties the target directory if another compiler filled it: its files are useless and would never be removed.
    /// The caller must hold the exclusive lock.
    pub fn made_for(&self, compiler: &str) -> Result {
        if self.is_made_for(compiler)? {
            return Ok(());
        }
        let stamp = self.folder.join("compiler");
        // Only our own folder: the target directory of this program's build belongs to the user.
        let _ = fs::remove_dir_all(self.folder.join("target"));
        fs::write(&stamp, compiler)
            .map_err(|source| Error::io(format_args!("write {}", stamp.display()), &source))
    }

    /// Returns whether [`Workshop::made_for`] has nothing to do.
    ///
    /// # Errors
    /// When the record of its compiler can't be read.
    pub fn is_made_for(&self, compiler: &str) -> Result<bool> {
        let stamp = self.folder.join("compiler");
        match fs::read(&stamp) {
            Ok(was) => Ok(was == compiler.as_bytes()),
            Err(source) if is_absent(&source) => Ok(false),
            Err(source) => Err(Error::io(format_args!("read {}", stamp.display()), &source)),
        }
    }

    /// Returns whether no library was compiled for scenarios yet.
    pub fn is_new(&self) -> bool {
        !self.target().is_dir()
    }

    /// Removes the least recently used packages and workshops. The caller must hold the exclusive lock.
    pub fn prune(&self) {
        for folder in oldest(&self.folder.join("packages"), PACKAGES) {
            remove_package(&folder, self.target());
        }
        let Some(all) = self.folder.parent() else { return };
        for folder in oldest(all, WORKSHOPS) {
            // Only if no other process uses it.
            if let Some(_alone) = super::lock::try_exclusive(&folder.join("lock")) {
                let _ = fs::remove_dir_all(&folder);
            }
        }
    }

    /// Records that the workshop is in use.
    pub fn touch(&self) {
        touch(&self.folder);
    }
}

/// The package of one file.
#[derive(Debug)]
pub(super) struct Package {
    folder: PathBuf,
    linked: Linking,
    name: String,
}

impl Package {
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the folder for the copy of a file with frontmatter, and the links to its neighbours.
    pub fn copy(&self) -> PathBuf {
        self.folder.join("source")
    }

    /// Returns what it is linked with, and the target directory.
    pub fn linked(&self) -> &Linking {
        &self.linked
    }

    /// Returns the name of the package and the binary and, with underscores, the crate.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn manifest(&self) -> PathBuf {
        self.folder.join("Cargo.toml")
    }

    /// Returns its lock file, held by the process that compiles it.
    pub fn lock_file(&self) -> PathBuf {
        self.folder.join("lock")
    }

    /// Returns the binary, if none of its inputs has changed.
    pub fn fresh(&self, library: &Library) -> Option<PathBuf> {
        let binary = self.last()?.fresh(library, &self.linked)?;
        touch(&self.folder);
        Some(binary)
    }

    /// Returns the files that the last build used.
    pub fn inputs(&self) -> Vec<PathBuf> {
        self.last().map(|record| record.inputs().map(Path::to_owned).collect()).unwrap_or_default()
    }

    fn last(&self) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.record_file()).ok()?).ok()
    }

    /// Records a build.
    pub fn record(&self, record: &Record) -> Result {
        let path = self.record_file();
        let failed = |source: std::io::Error| Error::io(format_args!("write {}", path.display()), &source);
        let text = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        // Replaced in one step, since other processes read it without a lock.
        let part = self.folder.join("record.part");
        fs::write(&part, text).and_then(|()| fs::rename(&part, &path)).map_err(failed)?;
        touch(&self.folder);
        Ok(())
    }

    /// Returns the files that `binary` was compiled from, by cargo's list beside it (`binary: FILE FILE…`, spaces
    /// escaped).
    pub fn files_read(&self, binary: &Path) -> Vec<PathBuf> {
        let list = fs::read_to_string(binary.with_extension("d")).unwrap_or_default();
        let Some((_, files)) = list.split_once(": ") else { return Vec::new() };
        let files = files.trim_end().replace("\\ ", "\0");
        files.split(' ').map(|file| self.folder.join(file.replace('\0', " "))).collect()
    }

    /// Returns the variables that the code read, by the compiler's list (`# env-dep:NAME=VALUE`), without those that
    /// cargo itself sets.
    pub fn variables_read(&self) -> Vec<String> {
        let prefix = format!("{}-", self.name.replace('-', "_"));
        let lists = fs::read_dir(self.linked.target.join("debug/deps")).into_iter().flatten().flatten();
        let lists = lists.map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            name.starts_with(&prefix) && name.ends_with(".d")
        });
        let newest = lists.max_by_key(|path| fs::metadata(path).and_then(|about| about.modified()).ok());
        let list = newest.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let names = list.lines().filter_map(|line| line.strip_prefix("# env-dep:"));
        let names = names.map(|pair| pair.split('=').next().unwrap_or(pair).to_owned());
        names.filter(|name| !name.starts_with("CARGO")).collect()
    }

    fn record_file(&self) -> PathBuf {
        self.folder.join("record.json")
    }
}

fn short_hash(text: &str) -> String {
    crate::digest::hex(&Sha256::digest(text), 6)
}

fn touch(folder: &Path) {
    let now = SystemTime::now();
    let file = fs::File::create(folder.join("used"));
    // An error only affects the order of removal.
    let _ = file.and_then(|file| file.set_modified(now));
}

/// Returns all folders in `folder` except the `keep` most recently used ones. A folder whose time can't be read is
/// kept.
fn oldest(folder: &Path, keep: usize) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders: Vec<(Option<SystemTime>, PathBuf)> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .filter_map(|path| match fs::metadata(path.join("used")).and_then(|used| used.modified()) {
            Err(error) if !is_absent(&error) => None,
            used => Some((used.ok(), path)),
        })
        .collect();
    folders.sort();
    folders.truncate(folders.len().saturating_sub(keep));
    folders.into_iter().map(|(_, path)| path).collect()
}

/// Removes a package and everything that cargo built for it in the shared target directory, which may be the user's.
fn remove_package(folder: &Path, target: &Path) {
    let id = folder.file_name().and_then(OsStr::to_str).unwrap_or_default();
    for made in ["debug", "debug/deps", "debug/incremental", "debug/.fingerprint"] {
        for entry in fs::read_dir(target.join(made)).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| is_made_of(name, id)) {
                let path = entry.path();
                let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            }
        }
    }
    let _ = fs::remove_dir_all(folder);
}

/// Returns whether cargo gave this name to a file of the package with this id: `nixvm-login-ID`, `nixvm-login-ID.d`,
/// `nixvm_login_ID-HASH.d`, ….
fn is_made_of(name: &str, id: &str) -> bool {
    let is_id = id.len() == 12 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_id
        && ["-", "_"].into_iter().any(|between| {
            let rest = name.strip_prefix("nixvm").and_then(|rest| rest.strip_prefix(between));
            let Some((_, suffix)) = rest.and_then(|rest| rest.split_once(&format!("{between}{id}"))) else {
                return false;
            };
            let after_hash = suffix.strip_prefix('-').map(|suffix| {
                // cargo's hash has 16 digits, the compiler's 13; another id has 12.
                let hash = suffix.bytes().take_while(u8::is_ascii_alphanumeric).count();
                if hash > id.len() { &suffix[hash..] } else { suffix }
            });
            let rest = after_hash.unwrap_or(suffix);
            rest.is_empty() || rest.starts_with('.')
        })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_packages_used_last_are_kept_and_the_others_go_with_all_that_was_made_of_them() {
        let cache = tempfile::tempdir().unwrap();
        let workshop = Workshop::open(cache.path(), &Library::find(), None).unwrap();
        let deps = workshop.target().join("debug/deps");
        fs::create_dir_all(&deps).unwrap();
        for number in 0..PACKAGES + 2 {
            let package = workshop.package(&PathBuf::from(format!("/scenarios/{number}.rs")));
            fs::create_dir_all(package.folder()).unwrap();
            let used = fs::File::create(package.folder().join("used")).unwrap();
            // The first two were used long ago.
            let age = if number < 2 { 1_000 } else { 10 };
            used.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
            fs::write(deps.join(format!("{}-2ff78060cbdc8b4e", package.name().replace('-', "_"))), "")
                .unwrap();
        }
        workshop.prune();
        let left = |folder: &Path| fs::read_dir(folder).unwrap().count();
        assert_eq!(
            left(&cache.path().join("scenarios").join(workshop.folder.file_name().unwrap()).join("packages")),
            PACKAGES
        );
        assert_eq!(left(&deps), PACKAGES);
        assert!(!workshop.package(Path::new("/scenarios/0.rs")).folder().exists());
        assert!(workshop.package(Path::new("/scenarios/2.rs")).folder().exists());
    }

    #[test]
    fn what_is_removed_with_a_package_has_its_name_and_nothing_else_goes() {
        let id = "0123456789ab";
        let of_it = [
            "nixvm-a-0123456789ab",
            "nixvm-a-0123456789ab.d",
            "nixvm--0123456789ab",
            "nixvm_a_b_0123456789ab-2ff78060cbdc8b4e",
            "nixvm_a_b_0123456789ab-2ff78060cbdc8b4e.d",
            "nixvm_a_b_0123456789ab-2ff78060cbdc8b4e.0abc.rcgu.o",
            "nixvm_a_0123456789ab-0hqt4kad0le6c",
        ];
        let others = [
            "nixvm-test",
            "libnixvm_test-0123456789ab.rlib",
            "theirs-0123456789ab",
            "nixvm-a-0123456789abc",
            "nixvm-a0123456789ab",
            "nixvm-a-0123456789ab-ba9876543210",
            "nixvm_a_0123456789ab_ba9876543210-2ff78060cbdc8b4e",
            "notes-01234567",
            "naïve.txt",
        ];
        for (package, removed) in
            [(id, true), ("01234567", false), ("0123456789AB", false), ("a", false), ("nixvm-test", false)]
                .map(|(name, removed)| (OsStr::new(name), removed))
                .into_iter()
                .chain([(OsStr::from_bytes(b"\xff"), false)])
        {
            let root = tempfile::tempdir().unwrap();
            let (package, target) = (root.path().join(package), root.path().join("target"));
            fs::create_dir(&package).unwrap();
            for folder in ["debug/deps", "debug/incremental"] {
                fs::create_dir_all(target.join(folder)).unwrap();
                for name in of_it.iter().chain(&others) {
                    fs::write(target.join(folder).join(name), "").unwrap();
                }
            }
            remove_package(&package, &target);
            assert!(!package.exists());
            let is_there = |name: &str| target.join("debug/deps").join(name).exists();
            for name in of_it {
                assert_ne!(is_there(name), removed, "{name} with {}", package.display());
            }
            for name in others {
                assert!(is_there(name), "{name} with {}", package.display());
            }
        }
    }

    #[test]
    fn a_change_of_compiler_empties_the_target_directory_once() {
        let cache = tempfile::tempdir().unwrap();
        let workshop = Workshop::open(cache.path(), &Library::find(), None).unwrap();
        workshop.made_for("rustc 1").unwrap();
        fs::create_dir_all(workshop.target()).unwrap();
        workshop.made_for("rustc 1").unwrap();
        assert!(!workshop.is_new());
        workshop.made_for("rustc 2").unwrap();
        assert!(workshop.is_new());
    }

    #[test]
    fn a_target_directory_stays_while_it_can_not_be_read_which_compiler_filled_it() {
        let cache = tempfile::tempdir().unwrap();
        let workshop = Workshop::open(cache.path(), &Library::find(), None).unwrap();
        fs::create_dir_all(workshop.target()).unwrap();
        // A folder, so that not even root can read it as a file.
        fs::create_dir(workshop.folder.join("compiler")).unwrap();
        assert!(workshop.made_for("rustc 2").is_err());
        assert!(!workshop.is_new());
    }

    #[test]
    fn a_name_fit_for_cargo_is_made_of_any_file_name() {
        let cache = tempfile::tempdir().unwrap();
        let workshop = Workshop::open(cache.path(), &Library::find(), None).unwrap();
        let package = workshop.package(Path::new("/tmp/3 ways to Löck.rs"));
        assert!(package.name().starts_with("nixvm-3-ways-to-l-ck-"), "{}", package.name());
    }
}
