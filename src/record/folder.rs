//! Manages the folders of records: where they are, their names, and which of them are kept.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::beneath::{Beneath, leads_to_ours};
use crate::file_lock::{self, MOMENT, Mode};
use crate::presence::is_absent;
use crate::text::line;
use crate::{Error, ErrorKind, Result, environment};

/// The variable that says where records are made.
pub const RUNS: &str = "NIXVM_RUNS";

/// The variable that names the folder of a record that several processes write to.
pub const RUN: &str = "NIXVM_RUN";

/// Maximum number of records that are kept; the oldest are removed.
const KEPT: usize = 20;

/// Locked (shared) while a process writes to the record.
const LOCK: &str = ".lock";

/// Maximum number of names that are read from the folder of all records.
const NAMES: usize = 1 << 16;

/// The opened folder of one record. Its files are opened beneath it, since a record may come from elsewhere.
#[derive(Debug)]
pub struct Folder {
    files: Arc<Beneath>,
    is_own: bool,
    /// Held by processes that write to it.
    _lock: Option<File>,
}

impl Folder {
    /// Creates the folder for a run that begins now, or opens the one that this process shares with others: that of
    /// `RUN`, or of the run of cargo-nextest. Removes the oldest records.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it can't be created, or it or a folder above it belongs to another user.
    pub fn begin() -> Result<Self> {
        if let Some(given) = environment::path(RUN) {
            return Self::open_to_write(&given);
        }
        let base = base()?;
        let name = match environment::text("NEXTEST_RUN_ID") {
            Some(id) => format!("nextest-{}", in_a_path(&id)),
            None => new_name(SystemTime::now()),
        };
        let folder = Self::open_to_write(&base.join(name))?;
        prune(&base);
        Ok(folder)
    }

    fn open_to_write(path: &Path) -> Result<Self> {
        let open = || {
            leads_to_ours(path.parent().unwrap_or(path))?;
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            let files = Beneath::open(path)?;
            // The folder's owner could read the record, and replace its files.
            if files.owner() != me() {
                let why = format!("the folder belongs to the user {}, and this is {}", files.owner(), me());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
            }
            let lock = files.open_or_create(LOCK, 0o600)?;
            // Another process holds it exclusively only while it removes old records.
            file_lock::lock_blocking(&lock, Mode::Shared, MOMENT)?;
            io::Result::Ok((files, lock))
        };
        match open() {
            Ok((files, lock)) => Ok(Self { files: Arc::new(files), is_own: true, _lock: Some(lock) }),
            Err(error) => Err(Error::io(format_args!("make the record {}", path.display()), &error)
                .next_step("set NIXVM_RUNS to a folder of your own, which no other user may write to")),
        }
    }

    /// Finds the record that `named` means: a folder, the name of a record or the start of one, or `last`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when there is none, or more than one; the text lists the existing ones. [`ErrorKind::Io`]
    /// when its events are not in a regular file.
    pub fn find(named: &str) -> Result<Self> {
        if let Some(found) = Self::at(Path::new(named))? {
            return Ok(found);
        }
        let base = base()?;
        let failed = |error| Error::io(format_args!("read the records in {}", base.display()), &error);
        let mut all = records(&base).map_err(failed)?;
        all.reverse();
        let meant: Vec<&String> = match named {
            "last" => all.first().into_iter().collect(),
            _ => all.iter().filter(|name| name.starts_with(named)).collect(),
        };
        if let [only] = meant[..]
            && let Some(found) = Self::at(&base.join(only))?
        {
            return Ok(found);
        }
        let error = match (meant.len(), named) {
            (0, "last") => format!("there is no record of a run in {}", base.display()),
            (0, _) => format!(
                "`{named}` is not a folder with the record of a run, and no record in {} begins with it",
                base.display()
            ),
            (several, _) => format!("`{named}` is the beginning of {several} records"),
        };
        let shown = if meant.is_empty() { all.iter().collect() } else { meant };
        let names: Vec<String> = shown.iter().take(KEPT).map(|name| line(name)).collect();
        let next = match names.is_empty() {
            true => {
                "run scenarios first, which makes one (`nixvm-test scenarios/`), or name the folder of a record"
            }
            false => "name one of them, its folder, or `last`",
        };
        Err(Error::new(ErrorKind::Usage, error)
            .section("records, the newest first", names.join("\n"))
            .next_step(next))
    }

    /// Opens the record in the folder at `path`; `None` when there is none.
    fn at(path: &Path) -> Result<Option<Self>> {
        let files = match Beneath::open(path) {
            Err(error) if is_absent(&error) => return Ok(None),
            opened => opened.map_err(|error| Error::io("open the record", &error))?,
        };
        match files.file(super::EVENTS) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open the record", &error)),
        }
        let is_own = is_own(&files);
        let found = Self { files: Arc::new(files), is_own, _lock: None };
        found.complete();
        Ok(Some(found))
    }

    /// Makes the files that a killed run could not make from its transcripts, unless a process writes to the record.
    fn complete(&self) {
        if !self.is_own || !self.may_be_written() {
            return;
        }
        let Ok((lock, _)) = self.files.file(LOCK) else { return };
        if matches!(file_lock::try_lock(&lock, Mode::Exclusive), Ok(true))
            && let Err(error) = super::complete(self, |_, _| true)
        {
            tracing::warn!(%error, "could not complete a record");
        }
    }

    /// Returns its files.
    pub fn files(&self) -> &Beneath {
        &self.files
    }

    pub(crate) fn shared_files(&self) -> Arc<Beneath> {
        Arc::clone(&self.files)
    }

    /// Returns whether this user's own runs wrote it: it is in their folder of records, or is the one that `RUN` names.
    /// What any other record says about files on this host is not trusted.
    pub fn is_own(&self) -> bool {
        self.is_own
    }

    /// Returns whether it may be written to: a record of another user may not.
    pub fn may_be_written(&self) -> bool {
        self.files.owner() == me()
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        self.files.path()
    }

    /// Returns the folder name of a scenario in it, for the try number `attempt`. The folder may not exist.
    pub fn scenario(&self, scenario: &str, attempt: u32) -> PathBuf {
        let name = in_a_path(scenario);
        PathBuf::from(if attempt > 1 { format!("{name}.{attempt}") } else { name })
    }
}

/// Returns a name that is safe in a path: `.` for `::`, `_` for special characters.
pub fn in_a_path(name: &str) -> String {
    let plain = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' | '.' => character,
        _ => '_',
    };
    let name: String = name.replace("::", ".").chars().map(plain).collect();
    // The name must be neither hidden nor `..`.
    match name.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None => name,
    }
}

/// Returns the folder with all records.
///
/// # Errors
/// [`ErrorKind::Host`] when no variable names it.
pub(crate) fn base() -> Result<PathBuf> {
    environment::path(RUNS).or_else(|| Some(environment::state_folder()?.join("runs"))).ok_or_else(|| {
        Error::new(ErrorKind::Host, "no folder for records: NIXVM_RUNS, XDG_STATE_HOME and HOME are not set")
            .next_step("set NIXVM_RUNS to a folder of your choice")
    })
}

/// Returns a name with the time, and a suffix that distinguishes runs of the same second.
fn new_name(now: SystemTime) -> String {
    let mut time = String::new();
    // The crate refuses years of five digits.
    time = match write!(time, "{}", humantime::format_rfc3339_seconds(now.max(UNIX_EPOCH))) {
        Ok(()) => time.trim_end_matches('Z').replace(['-', ':'], "").replace('T', "-"),
        Err(_) => now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string(),
    };
    let random = RandomState::new().hash_one(std::process::id()) & 0xffff;
    format!("{time}-{random:04x}")
}

/// Returns whether the record is where this user's runs create theirs, and no other user can have written to it.
fn is_own(files: &Beneath) -> bool {
    let stat = rustix::fs::fstat(files);
    if !stat.is_ok_and(|stat| stat.st_uid == me() && stat.st_mode & 0o022 == 0) {
        return false;
    }
    let in_base = || {
        let name = files.path().canonicalize().ok()?;
        Beneath::open(base().ok()?).ok()?.folder(name.file_name()?).ok()
    };
    let given = || Beneath::open(environment::path(RUN)?).ok();
    [in_base(), given()].iter().flatten().any(|known| is_same(known, files))
}

fn is_same(one: &Beneath, other: &Beneath) -> bool {
    let identity = |folder| rustix::fs::fstat(folder).ok().map(|stat| (stat.st_dev, stat.st_ino));
    identity(one).is_some() && identity(one) == identity(other)
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Returns the names of all records, least recently written first.
fn records(base: &Path) -> io::Result<Vec<String>> {
    let base = match Beneath::open(base) {
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        opened => opened?,
    };
    let written = |name: &OsString| {
        let (events, _) = base.folder(name).ok()?.file(super::EVENTS).ok()?;
        events.metadata().ok()?.modified().ok()
    };
    let names = base.names(NAMES)?.into_iter();
    let mut records: Vec<(SystemTime, String)> =
        names.filter_map(|name| Some((written(&name)?, name.into_string().ok()?))).collect();
    records.sort();
    Ok(records.into_iter().map(|(_, name)| name).collect())
}

/// Removes the oldest records, except those in use and those of other users.
fn prune(base: &Path) {
    let Ok(records) = records(base) else { return };
    let surplus = records.len().saturating_sub(KEPT);
    let Ok(base) = Beneath::open(base) else { return };
    for name in &records[..surplus] {
        let Ok(record) = base.folder(name) else { continue };
        let lock = record.file(LOCK);
        // A folder without our lock is not ours to remove. It stays locked until it is removed.
        let free = record.owner() == me()
            && lock
                .as_ref()
                .is_ok_and(|(lock, _)| matches!(file_lock::try_lock(lock, Mode::Exclusive), Ok(true)));
        // Follows no links, neither at `path` nor below it.
        if free && let Err(error) = fs::remove_dir_all(record.path()) {
            tracing::debug!(path = %record.path().display(), %error, "could not remove an old record");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_name_in_a_path_has_nothing_odd() {
        assert_eq!(in_a_path("web::pages/ü"), "web.pages__");
    }

    #[test]
    fn a_record_is_named_by_its_time() {
        let name = new_name(UNIX_EPOCH + Duration::from_secs(1_795_448_683));
        assert!(name.starts_with("20261123-"), "{name}");
        assert_eq!(name.len(), "20261123-161512-3f2a".len());
    }

    #[test]
    fn names_stay_within_their_folder() {
        assert_eq!(in_a_path("../../etc"), "_._.._etc");
        assert_eq!(in_a_path("web::a b"), "web.a_b");
    }

    #[test]
    fn the_oldest_records_go_and_one_that_is_written_to_stays() {
        let base = tempfile::tempdir().unwrap();
        let made: Vec<Folder> = (0..KEPT + 3)
            .map(|number| {
                let folder = Folder::open_to_write(&base.path().join(format!("run-{number:02}"))).unwrap();
                let file = File::create(folder.path().join(super::super::EVENTS)).unwrap();
                file.set_modified(UNIX_EPOCH + Duration::from_secs(number as u64)).unwrap();
                folder
            })
            .collect();
        let mut made = made.into_iter();
        let held = made.next().unwrap();
        drop(made);
        fs::create_dir(base.path().join("foreign")).unwrap();
        prune(base.path());
        assert!(held.path().exists());
        assert!(!base.path().join("run-01").exists());
        assert!(!base.path().join("run-02").exists());
        assert!(base.path().join("run-03").exists());
        assert!(base.path().join("foreign").exists());
    }
}
