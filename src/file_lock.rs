//! Locks files between processes, with a time limit, and names the holder of a lock.
//!
//! The locks are those of flock(2): the kernel releases them when their process ends, however it ends.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::text;
use crate::{Error, ErrorKind};

/// The pause between two attempts, because flock(2) has no wait with a limit.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);
/// The limit for a lock that is held for one small change of a file.
pub(crate) const MOMENT: Duration = Duration::from_secs(30);
/// After this time the caller is told who holds the lock.
const SAID: Duration = Duration::from_millis(500);
/// How many holders are named.
const NAMED: usize = 3;

/// The mode of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// By any number of holders at once.
    Shared,
    /// By a single holder.
    Exclusive,
}

/// Opens a lock file for reading and writing. It is created with mode 0600 if it is missing.
///
/// # Errors
/// Those of open(2); [`io::ErrorKind::InvalidInput`] if it is not a regular file. A symbolic link is not
/// followed, and a FIFO or a device does not block.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    regular(path, options().write(true).create(true).truncate(false).mode(0o600))
}

/// Opens an existing lock file for reading. It can be locked in both modes.
///
/// # Errors
/// Those of [`open`], and [`io::ErrorKind::NotFound`].
pub(crate) fn open_existing(path: &Path) -> io::Result<File> {
    regular(path, &mut options())
}

fn options() -> OpenOptions {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags.bits().cast_signed());
    options
}

fn regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.open(path).map_err(|error| match rustix::io::Errno::from_io_error(&error) {
        Some(rustix::io::Errno::LOOP) => invalid("a symbolic link"),
        Some(rustix::io::Errno::NXIO) => invalid("not a regular file"),
        _ => error,
    })?;
    if !file.metadata()?.is_file() {
        return Err(invalid("not a regular file"));
    }
    Ok(file)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, and a lock is a regular file"))
}

/// Tries to lock once. If `file` is locked already, its lock is changed to `mode`; if that fails, the lock is
/// lost.
///
/// # Errors
/// Those of flock(2). A lock that is held is not an error.
pub(crate) fn try_lock(file: &File, mode: Mode) -> io::Result<bool> {
    let tried = match mode {
        Mode::Shared => file.try_lock_shared(),
        Mode::Exclusive => file.try_lock(),
    };
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Locks `file`, and waits for at most `limit`. If that takes half a second, `waiting` is called once with
/// the holder.
///
/// # Errors
/// [`NotLocked`].
pub(crate) async fn lock(
    file: &File,
    mode: Mode,
    limit: Duration,
    mut waiting: impl FnMut(&str),
) -> Result<(), NotLocked> {
    let mut wait = Wait::new(limit);
    while !try_lock(file, mode)? {
        wait.again(file, &mut waiting)?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Does the same as [`lock`], on a thread that may block.
///
/// # Errors
/// [`NotLocked`].
pub(crate) fn lock_blocking(file: &File, mode: Mode, limit: Duration) -> Result<(), NotLocked> {
    let mut wait = Wait::new(limit);
    while !try_lock(file, mode)? {
        wait.again(file, |_| ())?;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// A wait for a lock, for a caller that does something else between two attempts.
#[derive(Debug)]
pub(crate) struct Wait {
    begun: Instant,
    limit: Duration,
    told: bool,
}

impl Wait {
    /// Starts a wait of at most `limit`.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { begun: Instant::now(), limit, told: false }
    }

    /// Records a failed attempt. `waiting` is called once with the holder of the lock.
    ///
    /// # Errors
    /// [`NotLocked::Held`] when the limit has passed.
    pub(crate) fn again(&mut self, file: &File, mut waiting: impl FnMut(&str)) -> Result<(), NotLocked> {
        let waited = self.begun.elapsed();
        // This comes first, because on a busy host there may be no attempt between this time and the limit.
        if waited >= SAID && !std::mem::replace(&mut self.told, true) {
            waiting(&holders(file));
        }
        if waited >= self.limit {
            return Err(NotLocked::Held { by: holders(file), waited, limit: self.limit });
        }
        Ok(())
    }
}

/// Why a file could not be locked.
#[derive(Debug)]
pub(crate) enum NotLocked {
    /// Another holder kept the lock for the whole wait.
    Held {
        /// The holder, in words.
        by: String,
        waited: Duration,
        limit: Duration,
    },
    Failed(io::Error),
}

impl NotLocked {
    /// Converts it to an error of this library. `doing` says what the lock was for, as in "lock FILE".
    #[track_caller]
    pub(crate) fn error(&self, doing: impl fmt::Display) -> Error {
        match self {
            Self::Failed(error) => Error::io(doing, error),
            Self::Held { by, waited, limit } => {
                Error::new(ErrorKind::Timeout, format!("could not {doing}: {by} holds the lock"))
                    .took(*waited, *limit)
                    .next_step("wait until that process is done, or end it, and try again")
            }
        }
    }
}

impl fmt::Display for NotLocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { by, waited, .. } => {
                write!(f, "{by} holds the lock, and has not released it for {:.1} s", waited.as_secs_f64())
            }
            Self::Failed(error) => write!(f, "{error}"),
        }
    }
}

impl From<io::Error> for NotLocked {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<NotLocked> for io::Error {
    fn from(error: NotLocked) -> Self {
        match error {
            NotLocked::Failed(error) => error,
            held => Self::new(io::ErrorKind::TimedOut, held.to_string()),
        }
    }
}

/// Describes who holds a lock on `file`. /proc/locks lists only processes of this process's PID namespace,
/// and not a process that has ended and left the lock to a child.
pub(crate) fn holders(file: &File) -> String {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let found = identity(file).map(|its| holding(&locks, &its)).unwrap_or_default();
    let named: Vec<String> = found.iter().take(NAMED).map(|id| process(*id)).collect();
    match (named.is_empty(), found.len().saturating_sub(NAMED)) {
        (true, _) => {
            "a process that is not visible from here (in another PID namespace, such as a container's)"
                .to_owned()
        }
        (false, 0) => named.join(", "),
        (false, more) => format!("{} and {more} more", named.join(", ")),
    }
}

fn process(id: u32) -> String {
    if id == std::process::id() {
        return format!("this process ({id})");
    }
    match fs::read(format!("/proc/{id}/comm")) {
        Ok(name) => format!("process {id} ({})", text::line(String::from_utf8_lossy(&name).trim_end())),
        Err(_) => format!("process {id}"),
    }
}

/// Returns the name of the file in /proc/locks. The device is that of the mount, because btrfs returns
/// another one in stat(2).
fn identity(file: &File) -> io::Result<String> {
    let found = file.metadata()?;
    let details = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let mount = details.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim);
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let of_mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let device = (fields.next() == mount).then(|| fields.nth(1))??;
        let (major, minor) = device.split_once(':')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    let of_file = || (rustix::fs::major(found.dev()), rustix::fs::minor(found.dev()));
    let (major, minor) = of_mount.unwrap_or_else(of_file);
    Ok(format!("{major:02x}:{minor:02x}:{}", found.ino()))
}

/// Returns the processes that hold a flock lock on the file `identity`, from the lines of /proc/locks (`1:
/// FLOCK  ADVISORY  WRITE 883 fe:00:10010645 0 EOF`). Processes that wait have `->` in their second field.
fn holding(locks: &str, identity: &str) -> Vec<u32> {
    let its = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, "FLOCK", _, _, id, file, ..] = fields[..] else { return None };
        (file == identity).then(|| id.parse().ok().filter(|id| *id > 0))?
    };
    let mut found: Vec<u32> = locks.lines().filter_map(its).collect();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_shared_lock_is_shared_and_an_exclusive_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let [one, other] = [open(&path).unwrap(), open_existing(&path).unwrap()];
        assert!(try_lock(&one, Mode::Shared).unwrap() && try_lock(&other, Mode::Shared).unwrap());
        assert!(!try_lock(&other, Mode::Exclusive).unwrap());
        // A process that another test forks may have a copy of it for a moment.
        one.unlock().unwrap();
        assert!(try_lock(&other, Mode::Exclusive).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o077, 0);
    }

    #[tokio::test]
    async fn a_wait_ends_at_its_limit_and_names_the_process_that_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let file = open(&path).unwrap();
        let mut holder = Command::new("flock")
            .arg(&path)
            .args(["sh", "-c", "echo; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let mut told = Vec::new();
        let limit = SAID + PAUSE;
        let failed = lock(&file, Mode::Shared, limit, |by| told.push(by.to_owned())).await.unwrap_err();
        let by = format!("process {} (flock)", holder.id());
        let text = failed.error("lock the list").to_string();
        assert!(text.starts_with(&format!("could not lock the list: {by} holds the lock")), "{text}");
        assert_eq!(told, [by]);
        assert_eq!(failed.error("x").kind(), ErrorKind::Timeout);
        assert!(matches!(lock_blocking(&file, Mode::Shared, Duration::ZERO), Err(NotLocked::Held { .. })));
        drop(holder.stdin.take());
        holder.wait().unwrap();
        lock(&file, Mode::Shared, MOMENT, |_| ()).await.unwrap();
    }

    #[test]
    fn this_process_is_named_as_such_and_one_that_is_not_listed_is_said_to_be_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let [held, other] = [open(&path).unwrap(), open(&path).unwrap()];
        assert!(holders(&other).starts_with("a process that is not visible"), "{}", holders(&other));
        assert!(try_lock(&held, Mode::Exclusive).unwrap());
        assert_eq!(holders(&other), format!("this process ({})", std::process::id()));
    }

    #[test]
    fn what_waits_and_other_kinds_of_locks_and_other_files_are_passed_over() {
        let locks = "1: FLOCK  ADVISORY  WRITE 883 fe:00:100 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 884 fe:00:100 0 EOF\n\
            2: POSIX  ADVISORY  WRITE 885 fe:00:100 0 EOF\n3: FLOCK  ADVISORY  READ 886 fe:00:1000 0 EOF\n\
            4: OFDLCK ADVISORY  READ -1 fe:00:100 0 EOF\n5: FLOCK  ADVISORY  READ 887 fe:01:100 0 EOF\nrubbish\n\n\
            6: FLOCK  ADVISORY  READ 0 fe:00:100 0 EOF\n7: FLOCK  ADVISORY  READ 999 fe:00:100 0 EOF";
        assert_eq!(holding(locks, "fe:00:100"), [883, 999]);
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        let target = here.join("target");
        fs::write(&target, "kept").unwrap();
        std::os::unix::fs::symlink(&target, here.join("link")).unwrap();
        std::os::unix::fs::symlink(here.join("none"), here.join("dangling")).unwrap();
        fs::create_dir(here.join("folder")).unwrap();
        assert!(Command::new("mkfifo").arg(here.join("fifo")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(here.join("socket")).unwrap();
        for name in ["link", "dangling", "folder", "fifo", "socket"] {
            assert!(open(&here.join(name)).is_err(), "{name}");
            assert!(open_existing(&here.join(name)).is_err(), "{name}");
        }
        assert!(open(Path::new("/dev/null")).is_err() && open(Path::new("/dev/tty")).is_err());
        assert_eq!(fs::read_to_string(target).unwrap(), "kept");
        assert!(!here.join("none").exists());
    }
}
