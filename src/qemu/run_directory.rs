//! The directory of a running machine, and how it is removed.
//!
//! Layout: `BASE/nixvm-UID/RUNNER.N/` with `BASE` = `$TMPDIR`, else /var/tmp (a disk; /tmp is memory on many
//! systems), else /tmp. RUNNER is a random word per process. By it the watchdog and the sweep can tell whose
//! directory it is. Process ids would not do, because they are reused and differ between containers. The path
//! is short on purpose: helpers of the run script put sockets below it, and a socket's path is limited to 107
//! bytes.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use super::{processes, watchdog};
use crate::beneath::{Beneath, leads_to_ours};
use crate::file_lock::{self, Mode};
use crate::presence::is_absent;
use crate::{Error, ErrorKind, Events, Result, environment};

/// The longest `BASE` that leaves room for `nixvm-UID/RUNNER.N/tmp/SOCKET` in a socket's path.
const LONGEST_BASE: usize = 48;
/// How many kept directories stay. The next sweep removes older ones.
const KEPT_AT_MOST: usize = 50;
/// What belongs to the run only, and is removed even from a kept directory.
const BULK: [&str; 4] = [DISK, TMP, GROUP, LOCK];
const DISK: &str = "disk.qcow2";
const TMP: &str = "tmp";
const LOCK: &str = "lock";
const KEEP: &str = "keep";
/// Holds the process group of the machine while it runs. The watchdog reads it.
pub(super) const GROUP: &str = "group";

/// The directory of one running machine: its disk image, the run script's TMPDIR, the transcript of its
/// console, and what QEMU wrote to stderr.
///
/// It is removed on drop. If this process is killed with SIGKILL, a watchdog removes it. At the latest the
/// next run does, which sweeps directories whose owner is gone. After [`RunDirectory::keep`] the transcript
/// and QEMU's stderr stay.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    /// Locked while this process lives, which tells sweeps of other processes that it is in use.
    _lock: File,
    keep: AtomicBool,
}

impl RunDirectory {
    /// Creates the directory for one machine. Once per process, it also sweeps what dead runs left.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] when no temporary folder is writable or `/bin/sh` can't be started,
    /// [`ErrorKind::Io`] when the directory can't be made.
    pub fn create() -> Result<Self> {
        static SWEPT: OnceLock<()> = OnceLock::new();
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let base = base()?;
        SWEPT.get_or_init(|| sweep(base));
        watchdog::ensure(base, runner())?;
        let path = base.join(format!("{}.{}", runner(), NEXT.fetch_add(1, Ordering::Relaxed)));
        Self::create_at(&path).map_err(|error| {
            Error::io(format_args!("make the run directory {}", path.display()), &error)
                .likely_cause("the disk is full, or the folder is read-only")
                .next_step("set TMPDIR to a folder with space")
        })
    }

    fn create_at(path: &Path) -> io::Result<Self> {
        // It is created under a name that no sweep examines, locked, and then renamed. So a sweep never sees
        // it without its lock.
        let unlocked =
            path.with_file_name(format!("new-{}", path.file_name().unwrap_or_default().to_string_lossy()));
        fs::DirBuilder::new().mode(0o700).create(&unlocked)?;
        let finish = || {
            fs::create_dir(unlocked.join(TMP))?;
            let mut lock =
                OpenOptions::new().create_new(true).write(true).mode(0o600).open(unlocked.join(LOCK))?;
            writeln!(lock, "{}", std::process::id())?;
            if !file_lock::try_lock(&lock, Mode::Exclusive)? {
                return Err(io::Error::other(format!("{} has locked it", file_lock::holders(&lock))));
            }
            fs::rename(&unlocked, path)?;
            Ok(lock)
        };
        match finish() {
            Ok(lock) => Ok(Self { path: path.to_owned(), _lock: lock, keep: AtomicBool::new(false) }),
            Err(error) => {
                let _ = fs::remove_dir_all(&unlocked);
                Err(error)
            }
        }
    }

    /// Notes, once per process, why the directories are not in TMPDIR.
    pub(crate) fn tell_of_fallback(events: &Events) {
        static TOLD: AtomicBool = AtomicBool::new(false);
        if let Some(Ok(Base { fallback: Some(why), .. })) = BASE.get()
            && !TOLD.swap(true, Ordering::Relaxed)
        {
            events.note(why);
        }
    }

    /// Returns the directory of this name, if a machine of this user has it now.
    pub fn named(name: &str) -> Option<PathBuf> {
        let path = base().ok()?.join(name);
        (!name.contains('/') && name.contains('.') && path.is_dir()).then_some(path)
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the console's transcript. The console creates the file.
    pub fn transcript(&self) -> PathBuf {
        self.path.join("transcript")
    }

    /// Returns the path of the machine's answers, for a replay.
    pub(crate) fn answers(&self) -> PathBuf {
        self.path.join("answers")
    }

    /// Returns the path of what the run script and QEMU wrote to stdout and stderr: the first MiB of it.
    pub fn stderr(&self) -> PathBuf {
        self.path.join("stderr")
    }

    /// Returns the path of a fresh disk image. The run script creates it.
    pub fn disk(&self) -> PathBuf {
        self.path.join(DISK)
    }

    /// Returns the run script's TMPDIR and working directory.
    pub fn tmp(&self) -> PathBuf {
        self.path.join(TMP)
    }

    /// Keeps the transcript and stderr when this is dropped. The disk image and the rest are still removed.
    /// Nothing is kept if a signal is ending this process, because then the user ended the machine.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the mark for other processes can't be written.
    pub fn keep(&self) -> Result {
        if KEEP_NONE.load(Ordering::SeqCst) {
            return Ok(());
        }
        File::create(self.path.join(KEEP))
            .map_err(|error| Error::io(format_args!("keep {}", self.path.display()), &error))?;
        self.keep.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Removes the kept directory `path` of a machine of this process.
    pub(crate) fn forget(path: &Path) {
        let is_ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(runner()));
        if !is_ours || base().is_ok_and(|base| path.parent() != Some(base)) {
            return;
        }
        if let Err(error) = fs::remove_dir_all(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, path = %path.display(), "could not remove a run directory");
        }
    }

    /// Returns the mark that every process of this run has in its environment; see [`processes`].
    pub(super) fn mark(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes a run directory, or only the bulk of a kept one.
fn remove(path: &Path) {
    if path.join(KEEP).exists() {
        for name in BULK {
            let bulk = path.join(name);
            let _ = fs::remove_file(&bulk).or_else(|_| fs::remove_dir_all(&bulk));
        }
    } else if let Err(error) = fs::remove_dir_all(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        // A process that is just ending may have written a file in between.
        if let Err(error) = fs::remove_dir_all(path) {
            tracing::debug!(%error, path = %path.display(), "could not remove a run directory");
        }
    }
}

/// Whether a signal is ending the process.
static KEEP_NONE: AtomicBool = AtomicBool::new(false);

/// Makes [`RunDirectory::keep`] do nothing from now on, because a signal is about to end the process.
pub(crate) fn keep_none() {
    KEEP_NONE.store(true, Ordering::SeqCst);
}

/// Removes every run directory of this process. For a runner that is about to exit by a signal.
pub(crate) fn remove_all_of_this_process() {
    if let Some(Ok(base)) = BASE.get() {
        let prefix = format!("{}.", runner());
        for (name, path) in entries(&base.path) {
            if name.starts_with(&prefix) {
                remove(&path);
            }
        }
    }
}

/// Returns the random word that identifies this process in the names of run directories.
fn runner() -> &'static str {
    static RUNNER: OnceLock<String> = OnceLock::new();
    RUNNER.get_or_init(|| {
        // RandomState is seeded from the system's random numbers.
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u32(std::process::id());
        format!("{:08x}", hasher.finish() as u32)
    })
}

static BASE: OnceLock<Result<Base, String>> = OnceLock::new();

/// The folder of all run directories of this user.
#[derive(Debug)]
struct Base {
    path: PathBuf,
    /// Why it is not in TMPDIR, if it is elsewhere.
    fallback: Option<String>,
}

/// Returns the folder in `wished`, or else in the first of `others` that can be used. The error lists what was tried, one
/// line each.
fn choose(wished: Option<&Path>, others: &[&Path]) -> Result<Base, String> {
    let (mut tried, mut refused) = (String::new(), None);
    for candidate in wished.into_iter().chain(others.iter().copied()) {
        let length = candidate.as_os_str().len();
        // Nothing is made in a folder that is not used.
        let why = if !candidate.is_absolute() {
            "it is not an absolute path".to_owned()
        } else if length > LONGEST_BASE {
            format!(
                "its path has {length} bytes, and {LONGEST_BASE} at most leave room for the sockets in it"
            )
        } else {
            match private_folder(candidate) {
                Err(error) => error.to_string(),
                Ok(path) => {
                    let fallback = refused.map(|why| {
                        let used = path.display();
                        format!("TMPDIR is not used: {why}; the files of machines are in {used}")
                    });
                    return Ok(Base { path, fallback });
                }
            }
        };
        tried += &format!("{}: {why}\n", candidate.display());
        if Some(candidate) == wished {
            let shown = candidate.display();
            let is_named = why.starts_with(&shown.to_string());
            refused = Some(if is_named { why } else { format!("{shown}: {why}") });
        }
    }
    Err(tried)
}

/// Returns the folder of all run directories of this user, which is created if necessary.
pub(crate) fn base() -> Result<&'static Path> {
    let base = BASE.get_or_init(|| {
        let wished = environment::path("TMPDIR");
        choose(wished.as_deref(), &[Path::new("/var/tmp"), Path::new("/tmp")])
    });
    match base {
        Ok(base) => Ok(&base.path),
        Err(tried) => Err(Error::new(ErrorKind::Host, "no folder for the files of a running machine")
            .section("tried", tried.as_str())
            .next_step("set TMPDIR to a folder that you can write to")),
    }
}

/// Returns `parent/nixvm-UID`, which must belong to this user alone: in a shared folder another user could
/// have created it.
fn private_folder(parent: &Path) -> io::Result<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    // A user who can change a folder above could replace ours while a machine runs.
    leads_to_ours(parent)?;
    let parent = parent.canonicalize()?;
    let path = parent.join(format!("nixvm-{user}"));
    let folder = Beneath::private(&path)?;
    // Checks that it is writable, because the file system may be read-only.
    let probe = format!(".{}", runner());
    drop(folder.create(&probe, 0o600)?);
    folder.remove_file(&probe)?;
    Ok(path)
}

/// Removes the directories of owners that are gone, and ends what is left of their processes.
fn sweep(base: &Path) {
    let mut kept = Vec::new();
    for (name, path) in entries(base) {
        if name.starts_with("new-") {
            // Its maker needs only milliseconds between creating and renaming it.
            if age(&path) > Duration::from_secs(60) {
                let _ = fs::remove_dir_all(&path);
            }
        } else if name.contains('.') && !name.starts_with('.') {
            let lock = file_lock::open_existing(&path.join(LOCK));
            // If the lock can't be opened for another reason than that it is gone, the owner may be alive.
            let owned = match &lock {
                Ok(lock) => !matches!(file_lock::try_lock(lock, Mode::Exclusive), Ok(true)),
                Err(error) => !is_absent(error),
            };
            if owned {
                continue;
            }
            if lock.is_ok() || !path.join(KEEP).exists() {
                tracing::debug!(path = %path.display(), "removing the files of a run that was killed");
                processes::kill_marked(&name, None);
                remove(&path);
            }
            if path.join(KEEP).exists() {
                kept.push((age(&path), path));
            }
        }
    }
    kept.sort();
    for (_, path) in kept.into_iter().skip(KEPT_AT_MOST) {
        let _ = fs::remove_dir_all(path);
    }
}

fn entries(base: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(base) else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().into_string().ok()?, entry.path()))
        })
        .collect()
}

fn age(path: &Path) -> Duration {
    let changed = fs::symlink_metadata(path).and_then(|found| found.modified());
    changed.ok().and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_can_not_be_used_is_named_with_what_is_used_instead() {
        let root = tempfile::tempdir_in("/tmp").unwrap();
        let other = root.path().join("other");
        fs::create_dir(&other).unwrap();
        let long = root.path().join("x".repeat(LONGEST_BASE));
        fs::create_dir(&long).unwrap();
        let used = other.canonicalize().unwrap().display().to_string();
        for (wished, why) in [
            (long.clone(), format!("and {LONGEST_BASE} at most leave room for the sockets")),
            (root.path().join("absent"), "No such file".to_owned()),
            (PathBuf::from("tmp"), "not an absolute path".to_owned()),
        ] {
            let base = choose(Some(&wished), &[&other]).unwrap();
            let told = base.fallback.unwrap();
            for part in [&why, &wished.display().to_string(), &used] {
                assert!(told.contains(part), "{told}");
            }
            assert!(choose(Some(&wished), &[]).unwrap_err().contains(&why));
        }
        assert_eq!(fs::read_dir(long).unwrap().count(), 0, "nothing is made where nothing is used");
        assert_eq!(choose(None, &[&other]).unwrap().fallback, None);
        assert_eq!(choose(Some(&other), &[]).unwrap().fallback, None);
    }

    #[test]
    fn a_dropped_run_directory_is_gone() {
        let run = RunDirectory::create().unwrap();
        fs::write(run.tmp().join("file"), "x").unwrap();
        let path = run.path().to_owned();
        assert!(path.join("tmp/file").exists());
        drop(run);
        assert!(!path.exists());
    }

    #[test]
    fn a_kept_run_directory_keeps_the_small_files_only() {
        let run = RunDirectory::create().unwrap();
        fs::write(run.transcript(), "boot").unwrap();
        fs::write(run.disk(), "large").unwrap();
        fs::write(run.tmp().join("file"), "x").unwrap();
        run.keep().unwrap();
        let path = run.path().to_owned();
        drop(run);
        let mut left: Vec<_> = entries(&path).into_iter().map(|(name, _)| name).collect();
        left.sort();
        assert_eq!(left, ["keep", "transcript"]);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_sweep_removes_what_nobody_locks_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let alive = RunDirectory::create_at(&base.path().join("aaaaaaaa.1")).unwrap();
        let dead = RunDirectory::create_at(&base.path().join("bbbbbbbb.1")).unwrap();
        let dead_path = dead.path().to_owned();
        // The owner died: its lock is released, but its files are still there.
        let lock = dead._lock.try_clone().unwrap();
        std::mem::forget(dead);
        lock.unlock().unwrap();
        fs::create_dir(base.path().join("new-cccccccc.1")).unwrap();
        fs::write(base.path().join("a file of somebody"), "").unwrap();

        sweep(base.path());

        assert!(alive.path().exists());
        assert!(!dead_path.exists());
        assert!(base.path().join("new-cccccccc.1").exists(), "it may be in the making");
        assert!(base.path().join("a file of somebody").exists());
    }

    /// As if this process had no descriptor left: the owner may be alive.
    #[test]
    fn a_sweep_leaves_a_directory_whose_lock_it_can_not_open() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("aaaaaaaa.1");
        fs::create_dir(&path).unwrap();
        std::os::unix::fs::symlink(path.join(LOCK), path.join(LOCK)).unwrap();
        sweep(base.path());
        assert!(path.exists());
    }

    #[test]
    fn a_sweep_leaves_the_small_files_of_a_kept_directory() {
        let base = tempfile::tempdir().unwrap();
        let run = RunDirectory::create_at(&base.path().join("aaaaaaaa.1")).unwrap();
        let path = run.path().to_owned();
        fs::write(run.transcript(), "boot").unwrap();
        fs::write(run.disk(), "large").unwrap();
        run.keep().unwrap();
        let lock = run._lock.try_clone().unwrap();
        std::mem::forget(run);
        lock.unlock().unwrap();

        sweep(base.path());
        sweep(base.path());

        assert!(path.join("transcript").exists());
        assert!(!path.join(DISK).exists());
    }

    #[test]
    fn kept_directories_do_not_pile_up() {
        let base = tempfile::tempdir().unwrap();
        for number in 0..KEPT_AT_MOST + 7 {
            let path = base.path().join(format!("aaaaaaaa.{number}"));
            fs::create_dir(&path).unwrap();
            fs::write(path.join(KEEP), "").unwrap();
            let at = SystemTime::now() - Duration::from_secs(60 * number as u64);
            File::open(&path).unwrap().set_modified(at).unwrap();
        }
        sweep(base.path());
        assert_eq!(entries(base.path()).len(), KEPT_AT_MOST);
        assert!(base.path().join("aaaaaaaa.0").exists(), "the newest stay");
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_not_used() {
        let parent = tempfile::tempdir().unwrap();
        let ours = private_folder(parent.path()).unwrap();
        assert_eq!(private_folder(parent.path()).unwrap(), ours);
        fs::set_permissions(&ours, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert!(private_folder(parent.path()).is_err());
        fs::set_permissions(&ours, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let below = parent.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        private_folder(&below).unwrap();
        fs::set_permissions(parent.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert!(private_folder(&below).is_err(), "a folder further up can be replaced");
    }
}
