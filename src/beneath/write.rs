//! Writes files below a folder. Files appear complete, and nothing is written through a link.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::path::Path;

use rustix::fs::{self, AtFlags, Mode, OFlags, Timestamps};
use rustix::io::Errno;

use super::{Beneath, lookup, named};

/// How many names are tried for a temporary file.
const TRIES: u32 = 16;

impl Beneath {
    /// Creates a new file for writing. It gets `mode`, less the umask.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when the name exists, even as a symbolic link, and those of the type.
    pub fn create(&self, name: impl AsRef<Path>, mode: u32) -> io::Result<File> {
        let name = name.as_ref();
        let flags = lookup::FILE | OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
        self.regular(name, self.look_up(name, flags, bits(mode))).map(|(file, _)| file)
    }

    /// Opens a file for reading and writing, for example as a lock, and creates it if it is missing. Its
    /// content stays.
    ///
    /// # Errors
    /// Those of the type.
    pub fn open_or_create(&self, name: impl AsRef<Path>, mode: u32) -> io::Result<File> {
        let name = name.as_ref();
        let flags = lookup::FILE | OFlags::CREATE | OFlags::RDWR;
        self.regular(name, self.look_up(name, flags, bits(mode))).map(|(file, _)| file)
    }

    /// Opens a file for appending, and creates it if it is missing.
    ///
    /// # Errors
    /// Those of the type.
    pub fn append(&self, name: impl AsRef<Path>, mode: u32) -> io::Result<File> {
        let name = name.as_ref();
        let flags = lookup::FILE | OFlags::CREATE | OFlags::APPEND | OFlags::WRONLY;
        self.regular(name, self.look_up(name, flags, bits(mode))).map(|(file, _)| file)
    }

    /// Creates a new folder. Its parent folder must exist.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when the name exists, and those of the type.
    pub fn make_folder(&self, name: impl AsRef<Path>, mode: u32) -> io::Result<Self> {
        let name = name.as_ref();
        let (parent, last) = self.parent_of(name)?;
        let parent = parent.as_ref().unwrap_or(self);
        fs::mkdirat(parent, last, bits(mode)).map_err(|error| named(&self.path.join(name), error.into()))?;
        self.folder(name)
    }

    /// Replaces a file atomically: readers see either the old or the new content. If the name is a symbolic
    /// link, the link is replaced, and its target stays as it is. The new file gets `mode`, less the umask.
    ///
    /// # Errors
    /// When it can't be written, or the name is that of a folder, and those of the type.
    pub fn replace(&self, name: impl AsRef<Path>, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.replace_with(name, mode, |file| file.write_all(bytes))
    }

    /// Does the same as [`Beneath::replace`], with the content that `write` writes.
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

    /// Creates a symbolic link. Its target is not checked. `times` are the times of the link itself.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when the name exists, and those of the type.
    pub(crate) fn make_link(&self, name: &Path, to: &OsStr, times: &Timestamps) -> io::Result<()> {
        let failed = |error: Errno| named(&self.path.join(name), error.into());
        let (parent, last) = self.parent_of(name)?;
        let parent = parent.as_ref().unwrap_or(self);
        fs::symlinkat(to, parent, last).map_err(failed)?;
        // Ignore failure: the file system may not support the time.
        let _ = fs::utimensat(parent, last, times, AtFlags::SYMLINK_NOFOLLOW);
        Ok(())
    }

    /// Gives a file below this folder a second name below it. A symbolic link itself gets the second name.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when the name exists, and those of the type.
    pub(crate) fn hard_link(&self, name: &Path, other: &Path) -> io::Result<()> {
        let ((from, name), (to, last)) = (self.parent_of(name)?, self.parent_of(other)?);
        let (from, to) = (from.as_ref().unwrap_or(self), to.as_ref().unwrap_or(self));
        fs::linkat(from, name, to, last, AtFlags::empty())
            .map_err(|error| named(&self.path.join(other), error.into()))
    }

    /// Removes a file or a symbolic link. The target of a link stays.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when it does not exist, and those of the type.
    pub fn remove_file(&self, name: impl AsRef<Path>) -> io::Result<()> {
        let name = name.as_ref();
        let (parent, last) = self.parent_of(name)?;
        fs::unlinkat(parent.as_ref().unwrap_or(self), last, AtFlags::empty())
            .map_err(|error| named(&self.path.join(name), error.into()))
    }

    /// Creates a file with an unused name.
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

    /// Returns the folder that `name` is in, unless it is this one, and the last component.
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

/// Returns the permission bits for reading, writing and executing, without setuid, setgid and sticky.
fn bits(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o777)
}
