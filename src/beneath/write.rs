//! What is written below a folder: files appear whole, and nothing is written through a link.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::path::Path;

use rustix::fs::{self, AtFlags, Mode, OFlags, Timestamps};
use rustix::io::Errno;

use super::{Beneath, lookup, named};

/// So many names are tried for a file that is written beside another.
const TRIES: u32 = 16;

impl Beneath {
    /// Makes a file that is not there yet, to write. `mode` is what it has, less the umask.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when anything has that name, a symbolic link included, and those that the type
    /// names.
    pub fn create(&self, name: impl AsRef<Path>, mode: u32) -> io::Result<File> {
        let name = name.as_ref();
        let flags = lookup::FILE | OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
        self.regular(name, self.look_up(name, flags, bits(mode))).map(|(file, _)| file)
    }

    /// Opens a file to read and write, and makes it if it is not there: a lock, say. What is in it stays.
    ///
    /// # Errors
    /// Those that the type names.
    pub fn open_or_create(&self, name: impl AsRef<Path>, mode: u32) -> io::Result<File> {
        let name = name.as_ref();
        let flags = lookup::FILE | OFlags::CREATE | OFlags::RDWR;
        self.regular(name, self.look_up(name, flags, bits(mode))).map(|(file, _)| file)
    }

    /// Opens a file to write at its end, and makes it if it is not there.
    ///
    /// # Errors
    /// Those that the type names.
    pub fn append(&self, name: impl AsRef<Path>, mode: u32) -> io::Result<File> {
        let name = name.as_ref();
        let flags = lookup::FILE | OFlags::CREATE | OFlags::APPEND | OFlags::WRONLY;
        self.regular(name, self.look_up(name, flags, bits(mode))).map(|(file, _)| file)
    }

    /// Makes a folder that is not there yet. The folder it is in has to be there.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when anything has that name, and those that the type names.
    pub fn make_folder(&self, name: impl AsRef<Path>, mode: u32) -> io::Result<Self> {
        let name = name.as_ref();
        let (parent, last) = self.parent_of(name)?;
        let parent = parent.as_ref().unwrap_or(self);
        fs::mkdirat(parent, last, bits(mode)).map_err(|error| named(&self.path.join(name), error.into()))?;
        self.folder(name)
    }

    /// Puts a file with these bytes in the place of what has the name: a reader sees all of the one or all of the
    /// other. A symbolic link in that place is replaced, and what it leads to stays as it is. `mode` is what the file
    /// has, less the umask.
    ///
    /// # Errors
    /// When it can't be written, or a folder has the name, and those that the type names.
    pub fn replace(&self, name: impl AsRef<Path>, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.replace_with(name, mode, |file| file.write_all(bytes))
    }

    /// As [`Beneath::replace`], with what `write` writes.
    ///
    /// # Errors
    /// Those of [`Beneath::replace`], and of `write`.
    pub fn replace_with(
        &self,
        name: impl AsRef<Path>,
        mode: u32,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let name = name.as_ref();
        let (parent, last) = self.parent_of(name)?;
        let parent = parent.as_ref().unwrap_or(self);
        let (beside, mut file) = parent.beside(mode)?;
        let written = write(&mut file).map_err(|error| named(&self.path.join(name), error));
        let placed = written.and_then(|()| {
            fs::renameat(parent, &beside, parent, last)
                .map_err(|error| named(&self.path.join(name), error.into()))
        });
        if placed.is_err() {
            let _ = parent.remove_file(&beside);
        }
        placed
    }

    /// Makes a symbolic link. What it leads to is not looked at; `times` are the link's own.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when anything has that name, and those that the type names.
    pub(crate) fn make_link(&self, name: &Path, to: &OsStr, times: &Timestamps) -> io::Result<()> {
        let failed = |error: Errno| named(&self.path.join(name), error.into());
        let (parent, last) = self.parent_of(name)?;
        let parent = parent.as_ref().unwrap_or(self);
        fs::symlinkat(to, parent, last).map_err(failed)?;
        // A time that the file system does not have is no reason to fail.
        let _ = fs::utimensat(parent, last, times, AtFlags::SYMLINK_NOFOLLOW);
        Ok(())
    }

    /// Gives a file below this folder a second name below it. A symbolic link gets one itself.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when anything has that name, and those that the type names.
    pub(crate) fn hard_link(&self, name: &Path, other: &Path) -> io::Result<()> {
        let ((from, name), (to, last)) = (self.parent_of(name)?, self.parent_of(other)?);
        let (from, to) = (from.as_ref().unwrap_or(self), to.as_ref().unwrap_or(self));
        fs::linkat(from, name, to, last, AtFlags::empty())
            .map_err(|error| named(&self.path.join(other), error.into()))
    }

    /// Removes a file or a symbolic link; what a link leads to stays.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when it is not there, and those that the type names.
    pub fn remove_file(&self, name: impl AsRef<Path>) -> io::Result<()> {
        let name = name.as_ref();
        let (parent, last) = self.parent_of(name)?;
        fs::unlinkat(parent.as_ref().unwrap_or(self), last, AtFlags::empty())
            .map_err(|error| named(&self.path.join(name), error.into()))
    }

    /// A new file of a name that nothing has.
    fn beside(&self, mode: u32) -> io::Result<(String, File)> {
        let mut last = None;
        for _ in 0..TRIES {
            let name = format!(".new-{:016x}", RandomState::new().hash_one(std::process::id()));
            match self.create(&name, mode) {
                Ok(file) => return Ok((name, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| named(&self.path, Errno::EXIST.into())))
    }

    /// The folder that `name` is in, unless that is this one, and the last component.
    fn parent_of<'a>(&self, name: &'a Path) -> io::Result<(Option<Self>, &'a Path)> {
        let last = match name.components().next_back() {
            Some(std::path::Component::Normal(last)) => Path::new(last),
            _ => return Err(named(&self.path.join(name), Errno::XDEV.into())),
        };
        match name.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => Ok((Some(self.folder(parent)?), last)),
            None => Ok((None, last)),
        }
    }
}

/// The bits that say who may read, write and execute: setuid, setgid and sticky are never asked for.
fn bits(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o777)
}
