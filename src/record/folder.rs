//! Where records of runs are, what they are called, and which of them stay.

use std::fs::{self, DirBuilder, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::file_lock::{self, MOMENT, Mode};
use crate::{Error, ErrorKind, Result, environment};

/// The variable that says where records are made.
pub const RUNS: &str = "NIXVM_RUNS";

/// The variable that names the folder of a record that several processes write to.
pub const RUN: &str = "NIXVM_RUN";

/// So many records stay; the oldest go.
const KEPT: usize = 20;

/// Locked (shared) as long as somebody writes to the record.
const LOCK: &str = ".lock";

/// The folder of one record.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Held by those who write to it.
    _lock: Option<File>,
}

impl Folder {
    /// Makes the folder for a run that begins now, or opens the one that this process shares with others: that of
    /// [`RUN`], or of the run of cargo-nextest. The oldest records are removed.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it can't be made.
    pub fn begin() -> Result<Self> {
        if let Some(given) = environment::path(RUN) {
            return Self::open_to_write(given);
        }
        let base = base()?;
        let name = match std::env::var("NEXTEST_RUN_ID") {
            Ok(id) if !id.is_empty() => format!("nextest-{}", in_a_path(&id)),
            _ => new_name(SystemTime::now()),
        };
        let folder = Self::open_to_write(base.join(name))?;
        prune(&base);
        Ok(folder)
    }

    fn open_to_write(path: PathBuf) -> Result<Self> {
        let open = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
            let lock = file_lock::open(&path.join(LOCK))?;
            // Held alone only while another process removes old records.
            file_lock::lock_blocking(&lock, Mode::Shared, MOMENT)?;
            io::Result::Ok(lock)
        };
        match open() {
            Ok(lock) => Ok(Self { path, _lock: Some(lock) }),
            Err(error) => Err(Error::io(format_args!("make the record {}", path.display()), &error)
                .next_step("set NIXVM_RUNS to a folder that you may write to")),
        }
    }

    /// The record that `named` means: a folder, the name of a record or the beginning of one, or `last`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when there is none, or more than one; the text names those there are.
    pub fn find(named: &str) -> Result<Self> {
        let path = Path::new(named);
        if path.join(super::EVENTS).is_file() {
            return Ok(Self { path: path.to_owned(), _lock: None });
        }
        let base = base()?;
        let mut all = records(&base);
        all.reverse();
        let meant: Vec<&PathBuf> = match named {
            "last" => all.first().into_iter().collect(),
            _ => all.iter().filter(|path| name(path).starts_with(named)).collect(),
        };
        if let [only] = meant[..] {
            return Ok(Self { path: only.clone(), _lock: None });
        }
        let error = match (meant.len(), named) {
            (0, "last") => format!("there is no record of a run in {}", base.display()),
            (0, _) => format!(
                "`{named}` is no folder with the record of a run, and none in {} begins so",
                base.display()
            ),
            (several, _) => format!("`{named}` is the beginning of {several} records"),
        };
        let shown = if meant.is_empty() { all.iter().collect() } else { meant };
        let names: Vec<String> = shown.iter().take(KEPT).map(|path| name(path)).collect();
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

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of a scenario in it, for its try number `attempt`. It may not be there.
    pub fn scenario(&self, scenario: &str, attempt: u32) -> PathBuf {
        let name = in_a_path(scenario);
        self.path.join(if attempt > 1 { format!("{name}.{attempt}") } else { name })
    }
}

/// A name as it may stand in a path: `.` for `::`, `_` for what is odd there.
///
/// ```
/// assert_eq!(nixvm_test::record::in_a_path("web::pages/ü"), "web.pages__");
/// ```
pub fn in_a_path(name: &str) -> String {
    let plain = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' | '.' => character,
        _ => '_',
    };
    let name: String = name.replace("::", ".").chars().map(plain).collect();
    // Neither hidden nor a way up.
    match name.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None => name,
    }
}

/// The folder with all records.
///
/// # Errors
/// [`ErrorKind::Host`] when nothing says where.
pub(crate) fn base() -> Result<PathBuf> {
    environment::path(RUNS).or_else(|| Some(environment::state_folder()?.join("runs"))).ok_or_else(|| {
        Error::new(
            ErrorKind::Host,
            "neither NIXVM_RUNS, XDG_STATE_HOME nor HOME says where records of runs belong",
        )
        .next_step("set NIXVM_RUNS to a folder of your choice")
    })
}

/// The time, and something that tells apart what began in the same second.
fn new_name(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let time = i64::try_from(seconds).ok().and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0));
    let time = time.map_or_else(|| seconds.to_string(), |time| time.format("%Y%m%d-%H%M%S").to_string());
    let random = RandomState::new().hash_one(std::process::id()) & 0xffff;
    format!("{time}-{random:04x}")
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// All records, that which was written to longest ago first.
fn records(base: &Path) -> Vec<PathBuf> {
    let written =
        |path: &Path| fs::metadata(path.join(super::EVENTS)).and_then(|found| found.modified()).ok();
    let entries = fs::read_dir(base).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut records: Vec<_> =
        entries.filter_map(|path| written(&path).map(|written| (written, path))).collect();
    records.sort();
    records.into_iter().map(|(_, path)| path).collect()
}

/// Removes the oldest records, but none that is written to.
fn prune(base: &Path) {
    let records = records(base);
    let surplus = records.len().saturating_sub(KEPT);
    for path in &records[..surplus] {
        let lock = file_lock::open_existing(&path.join(LOCK));
        // A folder without our lock is not ours to remove. It is locked until it is gone.
        let free =
            lock.as_ref().is_ok_and(|lock| matches!(file_lock::try_lock(lock, Mode::Exclusive), Ok(true)));
        if free && let Err(error) = fs::remove_dir_all(path) {
            tracing::debug!(path = %path.display(), %error, "an old record stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

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
                let folder = Folder::open_to_write(base.path().join(format!("run-{number:02}"))).unwrap();
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
