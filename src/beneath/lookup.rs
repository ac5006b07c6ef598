//! Looks up one name without leaving the folder that the lookup starts in.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::io::{self, Errno};

/// The flags for opening a folder.
pub(super) const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::RDONLY);

/// The flags for opening a file. Opening a FIFO does not block, and a terminal does not become the
/// controlling terminal.
pub(super) const FILE: OFlags =
    OFlags::NOFOLLOW.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// How often to retry. The kernel requests a retry if something was renamed in the meantime.
const TRIES: u32 = 32;

/// Opens `name` below `folder`.
pub(super) fn open(folder: BorrowedFd<'_>, name: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    if !is_plain(name) {
        return Err(Errno::XDEV);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES {
        match fs::openat2(folder, name, flags, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Linux before 5.6 has no openat2, and some seccomp filters refuse unknown system calls.
            Err(Errno::NOSYS | Errno::PERM) => return open_by_parts(folder, name, flags, mode),
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

/// Does the same with one call per component. Each folder is opened from the one before it, so that a
/// concurrent rename or link can't lead elsewhere.
pub(super) fn open_by_parts(
    folder: BorrowedFd<'_>,
    name: &Path,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    if !is_plain(name) {
        return Err(Errno::XDEV);
    }
    let last = name.file_name().ok_or(Errno::XDEV)?;
    let mut at: Option<OwnedFd> = None;
    if let Some(parent) = name.parent() {
        for part in parent {
            at = Some(one(at.as_ref().map_or(folder, |at| at.as_fd()), part, FOLDER, Mode::empty())?);
        }
    }
    one(at.as_ref().map_or(folder, |at| at.as_fd()), last, flags, mode)
}

fn one(at: BorrowedFd<'_>, part: &std::ffi::OsStr, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    match fs::openat(at, part, flags | OFlags::NOFOLLOW, mode) {
        // Linux returns this error for a symbolic link when a folder is requested.
        Err(Errno::NOTDIR) if is_link(at, part) => Err(Errno::LOOP),
        opened => opened,
    }
}

fn is_link(at: BorrowedFd<'_>, part: &std::ffi::OsStr) -> bool {
    let stat = fs::statat(at, part, fs::AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::Symlink)
}

/// Whether it is a relative path with only ordinary components.
fn is_plain(name: &Path) -> bool {
    let mut parts = name.components().peekable();
    parts.peek().is_some()
        && parts.all(|part| matches!(part, Component::Normal(_)))
        && !name.as_os_str().as_bytes().contains(&0)
}
