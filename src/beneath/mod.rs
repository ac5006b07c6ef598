//! Files below a folder that other users may have filled: a record, an archive, a folder that several users
//! can write to.
//!
//! Names in such a folder are looked up from the opened folder. No symbolic link is followed on the way, even
//! if it is created between two steps. Only regular files are opened, and the caller limits their size.

mod above;
mod lookup;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use above::{is_ours, leads_to_ours};

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, CWD, FileType, Mode, OFlags};

use crate::io_error;

/// An opened folder. Its path may be renamed or replaced later: names are looked up in the folder that was
/// opened.
///
/// Every method takes names as a relative path of ordinary components (`scenario/machine.log`). An absolute
/// path, `..`, a symbolic link anywhere in it, and a file that is not a regular one are errors that name the
/// path.
///
/// ```
/// use nixvm_test::internals::beneath::Beneath;
/// let folder = std::env::temp_dir().join(format!("beneath-{}", std::process::id()));
/// std::fs::create_dir(&folder)?;
/// let record = Beneath::open(&folder)?;
/// record.replace("notes", b"hello", 0o600)?;
/// assert_eq!(record.read("notes", 1 << 10)?, b"hello");
/// assert!(record.read("../etc/passwd", 1 << 20).is_err());
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Beneath {
    folder: OwnedFd,
    /// The path as it was given, for errors.
    path: PathBuf,
    owner: u32,
}

impl Beneath {
    /// Opens a folder that the user named. Symbolic links in `path` itself are followed, because they are the
    /// user's.
    ///
    /// # Errors
    /// Those of opening it; [`io::ErrorKind::NotADirectory`] when it is not a folder.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        Self::opened(fs::openat(CWD, path, lookup::FOLDER, Mode::empty()), path)
    }

    /// Opens a folder that belongs to this user alone, and creates it (with mode 0700) if it is missing. Its
    /// parent folder must exist.
    ///
    /// # Errors
    /// When it is a symbolic link, belongs to another user, or others may write to it. A group with the
    /// user's number counts as the user's own.
    pub fn private(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        match fs::mkdirat(CWD, path, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(named(path, error.into())),
        }
        let opened = fs::openat(CWD, path, lookup::FOLDER | OFlags::NOFOLLOW, Mode::empty());
        if opened.as_ref().is_err_and(|error| *error == rustix::io::Errno::NOTDIR) {
            return Err(refused(path, "it is a symbolic link, or not a folder"));
        }
        let folder = Self::opened(opened, path)?;
        let stat = fs::fstat(&folder).map_err(|error| named(path, error.into()))?;
        let me = rustix::process::geteuid().as_raw();
        if stat.st_uid != me {
            let why = format!("it belongs to the user {}, and this process runs as {me}", stat.st_uid);
            return Err(refused(path, &why));
        }
        // With a umask of 002, a folder is writable for its group. The group with the user's own number has
        // no other members.
        let of_own_group = stat.st_mode & 0o002 == 0 && stat.st_gid == stat.st_uid;
        if stat.st_mode & 0o022 != 0 && !of_own_group {
            let why = format!("other users may write to it (mode {:o})", stat.st_mode & 0o7777);
            return Err(refused(path, &why));
        }
        if stat.st_mode & 0o777 != 0o700 {
            fs::fchmod(&folder, Mode::RWXU).map_err(|error| named(path, error.into()))?;
        }
        Ok(folder)
    }

    fn opened(folder: rustix::io::Result<OwnedFd>, path: &Path) -> io::Result<Self> {
        let failed = |error: rustix::io::Errno| named(path, error.into());
        let folder = folder.map_err(failed)?;
        let owner = fs::fstat(&folder).map_err(failed)?.st_uid;
        Ok(Self { folder, path: path.to_owned(), owner })
    }

    /// Returns the path that it had when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the number of the folder's owner.
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// Opens a folder in it.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when it does not exist, and those of the type.
    pub fn folder(&self, name: impl AsRef<Path>) -> io::Result<Self> {
        let name = name.as_ref();
        Self::opened(self.look_up(name, lookup::FOLDER, Mode::empty()), &self.path.join(name))
    }

    /// Opens a regular file in it for reading, and returns it with its size in bytes.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when it does not exist, and those of the type.
    pub fn file(&self, name: impl AsRef<Path>) -> io::Result<(File, u64)> {
        let name = name.as_ref();
        self.regular(name, self.look_up(name, lookup::FILE | OFlags::RDONLY, Mode::empty()))
    }

    /// Reads a file of at most `most` bytes.
    ///
    /// # Errors
    /// Those of [`Beneath::file`]; [`io::ErrorKind::FileTooLarge`], with the size and the limit, when it is
    /// larger, or grows beyond the limit while it is read.
    pub fn read(&self, name: impl AsRef<Path>, most: u64) -> io::Result<Vec<u8>> {
        let name = name.as_ref();
        let (file, size) = self.file(name)?;
        let too_large = |size: u64| {
            let text = format!("{}: it has {size} bytes, and at most {most} are read", self.shown(name));
            io::Error::new(io::ErrorKind::FileTooLarge, text)
        };
        if size > most {
            return Err(too_large(size));
        }
        let mut bytes = Vec::new();
        file.take(most.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| named(&self.path.join(name), error))?;
        // The file may have grown in the meantime.
        if bytes.len() as u64 > most { Err(too_large(bytes.len() as u64)) } else { Ok(bytes) }
    }

    /// Returns the names in the folder, in no particular order, at most `most` of them. `.` and `..` are left
    /// out.
    ///
    /// # Errors
    /// Those of reading the folder; [`io::ErrorKind::FileTooLarge`] when there are more.
    pub fn names(&self, most: usize) -> io::Result<Vec<OsString>> {
        let failed = |error: rustix::io::Errno| named(&self.path, error.into());
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_owned().into_bytes();
            if matches!(name.as_slice(), b"." | b"..") {
                continue;
            }
            if names.len() == most {
                let text = format!("{}: it holds more than {most} files", self.path.display());
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
            }
            names.push(OsString::from_vec(name));
        }
        Ok(names)
    }

    /// Checks that `opened` is a regular file that belongs here, and returns it with its size.
    fn regular(&self, name: &Path, opened: rustix::io::Result<OwnedFd>) -> io::Result<(File, u64)> {
        let path = self.path.join(name);
        let file = opened.map_err(|error| named(&path, error.into()))?;
        let stat = fs::fstat(&file).map_err(|error| named(&path, error.into()))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::RegularFile {
            return Err(refused(
                &path,
                &format!("it is {}, and a regular file is expected", kind_name(kind)),
            ));
        }
        // If the kernel lets every user make a hard link to any file (fs.protected_hardlinks=0), a name in
        // another user's folder may be a link to a file that this other user can't read.
        if stat.st_nlink > 1 && stat.st_uid != self.owner {
            let why = "it is a hard link to a file that does not belong to the folder's owner";
            return Err(refused(&path, why));
        }
        Ok((File::from(file), u64::try_from(stat.st_size).unwrap_or(0)))
    }

    fn look_up(&self, name: &Path, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
        lookup::open(self.folder.as_fd(), name, flags, mode)
    }

    fn shown(&self, name: &Path) -> String {
        crate::text::line(&self.path.join(name).display().to_string())
    }
}

impl AsFd for Beneath {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

/// Adds the path to the error, and explains a refused lookup.
fn named(path: &Path, error: io::Error) -> io::Error {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let path = crate::text::line(&path.display().to_string());
    let why = match errno {
        Some(Errno::LOOP) => "a symbolic link is not followed here",
        Some(Errno::XDEV) => "it is not within its folder",
        Some(Errno::NXIO) => "it is a socket or a FIFO, and a regular file is expected",
        _ => return io_error::named(path, error),
    };
    io::Error::new(error.kind(), format!("{path}: {why}"))
}

fn refused(path: &Path, why: &str) -> io::Error {
    let path = crate::text::line(&path.display().to_string());
    io::Error::new(io::ErrorKind::PermissionDenied, format!("{path} is not used: {why}"))
}

fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "a folder",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "none",
    }
}
