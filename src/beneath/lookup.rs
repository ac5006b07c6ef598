//! One lookup of a name, which never leaves the folder it begins at.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::io::{self, Errno};

/// To open a folder.
pub(super) const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::RDONLY);

/// To open a file: a FIFO without a partner does not hold up, and a terminal does not become this process's own.
pub(super) const FILE: OFlags =
    OFlags::NOFOLLOW.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// The kernel asks for another try where something was renamed meanwhile.
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
            // Linux before 5.6 does not have it; some seccomp filters refuse what they do not know.
            Err(Errno::NOSYS | Errno::PERM) => return open_by_parts(folder, name, flags, mode),
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

/// The same with one call a component: each folder is opened from the one before it, so that nothing that is renamed
/// or linked meanwhile leads elsewhere.
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
        // What Linux says of a symbolic link where a folder is asked for.
        Err(Errno::NOTDIR) if is_link(at, part) => Err(Errno::LOOP),
        opened => opened,
    }
}

fn is_link(at: BorrowedFd<'_>, part: &std::ffi::OsStr) -> bool {
    let stat = fs::statat(at, part, fs::AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::Symlink)
}

/// Whether it is a relative path of ordinary components alone.
fn is_plain(name: &Path) -> bool {
    let mut parts = name.components().peekable();
    parts.peek().is_some()
        && parts.all(|part| matches!(part, Component::Normal(_)))
        && !name.as_os_str().as_bytes().contains(&0)
}
