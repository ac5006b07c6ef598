//! Unpacks an archive from the guest. The guest may have forged any part of it.
//!
//! The archive is unpacked in a folder beside the target that other users can't enter. The folder gets the target's
//! name only when the whole archive is valid. After an error, nothing is left at the target or beside it.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, CWD, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use tar::{EntryType, PaxExtensions};

use crate::beneath::Beneath;
use crate::{host_limits, io_error, text};

/// The limits of an archive. A path on Linux has at most 4096 bytes. Removing a tree takes one descriptor per level.
const NAME: u64 = 8 << 10;
const EXTENSIONS: u64 = 1 << 20;
const DEPTH: usize = 400;
const ENTRIES: usize = 4_000_000;

/// The unpacked content without its final name. Dropping it deletes it.
#[derive(Debug)]
pub(super) struct Unpacked {
    files: Beneath,
    /// Removed when this is dropped.
    _folder: tempfile::TempDir,
    only: PathBuf,
    /// The final attributes of folders, in archive order.
    folders: Vec<(PathBuf, u32, u64)>,
    target: PathBuf,
}

/// The headers that precede a file and describe it.
#[derive(Default)]
struct Headers {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

/// Unpacks the single file or folder of an archive, which becomes `target`.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`], with the name of the entry, for an entry that is not a file, folder or link, or
/// whose name leads outside; and write errors.
pub(super) fn unpack(mut from: impl Read, target: &Path) -> io::Result<Unpacked> {
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = tempfile::Builder::new()
        .prefix(".nixvm-copy-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent)?;
    let files = Beneath::open(folder.path())?;
    let (only, target) = (PathBuf::new(), target.to_owned());
    let mut unpacked = Unpacked { files, _folder: folder, only, folders: Vec::new(), target };
    {
        let mut archive = tar::Archive::new(&mut from);
        let (mut headers, mut count) = (Headers::default(), 0);
        // Raw, because the crate would read an extension header of any length into memory.
        for entry in archive.entries()?.raw(true) {
            let mut entry = entry?;
            count += 1;
            if count > ENTRIES {
                return Err(bad(format!("the guest's archive has more than {ENTRIES} entries")));
            }
            match entry.header().entry_type() {
                EntryType::GNULongName => headers.path = Some(description(&mut entry, NAME)?),
                EntryType::GNULongLink => headers.link = Some(description(&mut entry, NAME)?),
                EntryType::XHeader => headers.extensions(&description(&mut entry, EXTENSIONS)?)?,
                EntryType::XGlobalHeader => drop(description(&mut entry, EXTENSIONS)?),
                _ => unpacked.entry(&mut entry, std::mem::take(&mut headers))?,
            }
        }
    }
    // tar pads an archive; the padding is read so that the guest does not block.
    io::copy(&mut from, &mut io::sink())?;
    match unpacked.files.names(1) {
        Ok(names) if names.len() == 1 => unpacked.only = names.into_iter().collect(),
        _ => {
            return Err(bad(
                "the guest's archive does not contain exactly the requested file or folder".into()
            ));
        }
    }
    Ok(unpacked)
}

impl Unpacked {
    /// Moves it to the target, replacing what is there: a file or a link is replaced, and an existing folder keeps its
    /// other content. After an error, what was already moved stays.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] where one is a folder and the other is not, and rename errors.
    pub(super) fn place_over(self) -> io::Result<()> {
        merge(&self.files, &self.only, &self.target)?;
        for (path, mode, time) in self.folders.iter().rev() {
            let within = path.strip_prefix(&self.only).unwrap_or(path);
            let folder = fs::openat(
                CWD,
                self.target.join(within),
                OFlags::DIRECTORY | OFlags::NOFOLLOW,
                Mode::empty(),
            )?;
            fs::fchmod(&folder, Mode::from_raw_mode(*mode))?;
            let _ = fs::futimens(&folder, &times(*time));
        }
        Ok(())
    }

    /// Moves it to the target, which must not exist.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when the target exists by now, and rename errors.
    pub(super) fn place(self) -> io::Result<()> {
        // Inner folders come first: the modes of an outer folder may forbid changes inside it.
        let mut folders: Vec<_> = self.folders.iter().collect();
        folders.sort_by_key(|(path, ..)| path.components().count());
        let finished = || {
            for (path, mode, time) in folders.iter().rev() {
                let folder = self.files.folder(path)?;
                fs::fchmod(&folder, Mode::from_raw_mode(*mode))?;
                let _ = fs::futimens(&folder, &times(*time));
            }
            io::Result::Ok(())
        };
        let placed = finished().and_then(|()| self.rename());
        if placed.is_err() {
            // The rest can be deleted after that.
            for (path, ..) in folders {
                let _ = self.files.folder(path).map(|folder| fs::fchmod(&folder, Mode::RWXU));
            }
        }
        placed
    }

    fn rename(&self) -> io::Result<()> {
        match fs::renameat_with(&self.files, &self.only, CWD, &self.target, RenameFlags::NOREPLACE) {
            // Some file systems do not support it.
            Err(Errno::INVAL | Errno::NOSYS) => fs::renameat(&self.files, &self.only, CWD, &self.target)?,
            renamed => renamed?,
        }
        Ok(())
    }

    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, headers: Headers) -> io::Result<()> {
        let header = entry.header();
        let (kind, size) = (header.entry_type(), header.size()?);
        let (mode, time) = (header.mode()? & 0o777, header.mtime().unwrap_or(0));
        let keeps_sticky = header.mode()? & 0o1000;
        let name = headers.path.unwrap_or_else(|| entry.path_bytes().into_owned());
        let link = headers.link.or_else(|| entry.link_name_bytes().map(std::borrow::Cow::into_owned));
        let shown = format!("`{}`", text::line(&String::from_utf8_lossy(&name)));
        let refused = |why: &str| bad(format!("{shown} in the guest's archive {why}"));
        if headers.size.is_some_and(|told| told != size) {
            return Err(refused("has two sizes"));
        }
        let path = path_in_folder(&name).ok_or_else(|| refused("is not a path within the copied folder"))?;
        let of = |error: io::Error| io_error::named(&shown, error);
        let link = || {
            link.filter(|link| !link.is_empty() && !link.contains(&0))
                .ok_or_else(|| refused("is a link without a target"))
        };
        match kind {
            // Old archives store a folder as a file whose name ends in `/`.
            EntryType::Regular if name.ends_with(b"/") => Err(refused("is a file with the name of a folder")),
            EntryType::Regular | EntryType::Continuous => {
                let mut file = self.made(&path, |files| files.create(&path, 0o600)).map_err(of)?;
                if io::copy(entry, &mut file).map_err(of)? != size {
                    return Err(refused("is truncated"));
                }
                finish(&file, mode, time).map_err(of)
            }
            EntryType::Directory => {
                match self.made(&path, |files| files.make_folder(&path, 0o700)) {
                    // It was created earlier for its content.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        self.files.folder(&path).map_err(of)?;
                    }
                    made => drop(made.map_err(of)?),
                }
                self.folders.push((path, mode | keeps_sticky, time));
                Ok(())
            }
            EntryType::Symlink => {
                let link = link()?;
                self.made(&path, |files| files.make_link(&path, OsStr::from_bytes(&link), &times(time)))
                    .map_err(of)
            }
            EntryType::Link => {
                let other = path_in_folder(&link()?)
                    .ok_or_else(|| refused("is a link to a file outside of the copied folder"))?;
                self.made(&path, |files| files.hard_link(&other, &path)).map_err(of)
            }
            EntryType::Fifo => Err(refused("is a FIFO, which can't be copied")),
            EntryType::Char | EntryType::Block => Err(refused("is a device, which can't be copied")),
            other => Err(refused(&format!(
                "is of the type {:?}, which can't be copied",
                char::from(other.as_byte())
            ))),
        }
    }

    /// Creates an entry with `make`, after creating missing folders on the way to `path`.
    fn made<T>(&self, path: &Path, make: impl Fn(&Beneath) -> io::Result<T>) -> io::Result<T> {
        match make(&self.files) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            made => return made,
        }
        let mut way = PathBuf::new();
        for part in path.parent().into_iter().flatten() {
            way.push(part);
            match self.files.make_folder(&way, 0o700) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        make(&self.files)
    }
}

/// Moves `name` of a folder to `target`, and into `target` where both are folders. Links are never followed.
fn merge(from: &Beneath, name: &Path, target: &Path) -> io::Result<()> {
    let theirs = match target.symlink_metadata() {
        Ok(theirs) => Some(theirs.is_dir()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let exists = |what: &str| {
        let text = format!("{} is {what}", text::line(&target.display().to_string()));
        io::Error::new(io::ErrorKind::AlreadyExists, text)
    };
    match (from.folder(name), theirs) {
        (Ok(folder), Some(true)) => {
            let mut names = folder.names(ENTRIES)?;
            names.sort();
            names.iter().try_for_each(|name| merge(&folder, Path::new(name), &target.join(name)))
        }
        (Ok(_), Some(false)) => Err(exists("not a folder, and the copy is one")),
        (Err(error), _) if io_error::code(&error).and_then(host_limits::of_files).is_some() => Err(error),
        (Err(_), Some(true)) => Err(exists("a folder, and the copy is not one")),
        (_, _) => Ok(fs::renameat(from, name, CWD, target)?),
    }
}

impl Headers {
    /// Parses POSIX's extended headers. Extended attributes are ignored, because they include capabilities.
    fn extensions(&mut self, bytes: &[u8]) -> io::Result<()> {
        for extension in PaxExtensions::new(bytes) {
            let extension = extension?;
            let value = extension.value_bytes();
            match extension.key_bytes() {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|size| size.parse().ok());
                    self.size =
                        Some(size.ok_or_else(|| bad("the guest's archive has an invalid size".into()))?);
                }
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(bad("the guest's archive has a sparse file, which can't be copied".into()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads a header that describes the next entry.
fn description<R: Read>(entry: &mut tar::Entry<'_, R>, most: u64) -> io::Result<Vec<u8>> {
    let size = entry.header().size()?;
    if size > most {
        let why = format!(
            "the guest's archive has a name or description of {size} bytes, and at most {most} are read"
        );
        return Err(bad(why));
    }
    let mut bytes = Vec::new();
    entry.take(most).read_to_end(&mut bytes)?;
    // GNU tar ends a name with a NUL.
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(bytes)
}

/// Returns the path without redundant components, if it stays within its folder.
fn path_in_folder(name: &[u8]) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in Path::new(OsStr::from_bytes(name)).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    let is_sound =
        path.components().next().is_some() && !name.contains(&0) && path.components().count() <= DEPTH;
    is_sound.then_some(path)
}

/// Sets the permission bits. Setuid and setgid are never set.
fn finish(file: &File, mode: u32, time: u64) -> io::Result<()> {
    fs::fchmod(file, Mode::from_raw_mode(mode))?;
    // Ignore failure: the file system may not support the time.
    let _ = fs::futimens(file, &times(time));
    Ok(())
}

fn times(time: u64) -> Timestamps {
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let modified = i64::try_from(time).map_or(omit, |tv_sec| Timespec { tv_sec, tv_nsec: 0 });
    Timestamps { last_access: omit, last_modification: modified }
}

fn bad(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests;
