//! The copy of a configuration in which mutants are made. The user's own files are never written to.
//!
//! The copy repeats the absolute paths of the files below a folder of its own, so that every relative path leads to the
//! copy. It always has the same place, since a configuration may hold the path of its own folder.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use super::OwnFiles;
use crate::file_lock::{self, Mode};
use crate::lexical_path::plain;
use crate::{Error, ErrorKind, Result, cache, digest, sparse_copy};

/// The folder of all copies, in the cache.
const FOLDER: &str = "mutants";
/// The ending of the lock of a copy, which stands beside it.
const LOCK: &str = "lock";
/// How often a lock is opened again because another process removed it.
const TIMES: usize = 10;
/// The size of all copied files, in bytes. Nix copies them into its store, too.
const MOST: u64 = 1 << 30;
/// The number of copied files.
const MOST_FILES: usize = 100_000;
/// The depth of folders.
const DEEPEST: usize = 64;

/// A copy of the files of a configuration. It is removed on drop.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: PathBuf,
    /// Held while the folder is in use.
    _lock: File,
}

impl Scratch {
    /// Copies everything that the configuration needs. What an earlier process left there is removed.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when another process has the same configuration, or the configuration takes in too much;
    /// [`ErrorKind::Host`] and [`ErrorKind::Io`] when the files can't be copied.
    pub(crate) fn of(own: &OwnFiles) -> Result<Self> {
        let base = cache::dir()?.join(FOLDER);
        let name = digest::of_parts([own.configuration.as_os_str().as_encoded_bytes()]);
        let folder = base.join(&name);
        let failed = |source: io::Error| {
            Error::io(format_args!("copy the configuration to {}", folder.display()), &source)
                .because_of_a_limit(&source)
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&base).map_err(failed)?;
        let Some(lock) = locked(&lock_of(&folder)).map_err(failed)? else {
            let summary = format!("another run has the mutants of {} under way", own.configuration.display());
            return Err(Error::new(ErrorKind::Usage, summary).next_step("wait until it has ended, or end it"));
        };
        remove(&folder).map_err(failed)?;
        let scratch = Self { folder: folder.clone(), _lock: lock };
        DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
        let mut copying = Copying { scratch: &scratch, own, bytes: MOST, files: MOST_FILES };
        // Links come last: a folder that a link leads to may be one that is copied.
        let (links, others): (Vec<&PathBuf>, Vec<&PathBuf>) =
            own.needed.iter().partition(|path| path.is_symlink());
        for path in others.into_iter().chain(links) {
            copying.copy(path).map_err(|source| match source.kind() {
                io::ErrorKind::FileTooLarge => too_much(path, &source),
                _ => Error::io(format_args!("copy {} to {}", path.display(), folder.display()), &source)
                    .because_of_a_limit(&source),
            })?;
        }
        Ok(scratch)
    }

    /// Returns the copy's path of a file.
    pub(crate) fn path_of(&self, file: &Path) -> PathBuf {
        let files = self.folder.join("files");
        let names = file.components().filter(|part| matches!(part, Component::Normal(_)));
        names.fold(files, |path, name| path.join(name))
    }

    /// Returns a folder for other files of the run, which is empty.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it can't be made.
    pub(crate) fn empty_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        let made = remove(&folder).and_then(|()| DirBuilder::new().mode(0o700).create(&folder));
        made.map_err(|source| Error::io(format_args!("make {}", folder.display()), &source))?;
        Ok(folder)
    }

    /// Replaces the text of the copy of a file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it can't be written.
    pub(crate) fn put(&self, file: &Path, text: &str) -> Result {
        let copy = self.path_of(file);
        fs::write(&copy, text).map_err(|source| {
            Error::io(format_args!("write {}", copy.display()), &source).because_of_a_limit(&source)
        })
    }
}

/// The copying of files, and how much may still be copied.
struct Copying<'a> {
    scratch: &'a Scratch,
    own: &'a OwnFiles,
    bytes: u64,
    files: usize,
}

impl Copying<'_> {
    fn copy(&mut self, path: &Path) -> io::Result<()> {
        let to = self.scratch.path_of(path);
        if let Some(folder) = to.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        self.entry(path, &to, 0)
    }

    fn entry(&mut self, path: &Path, to: &Path, depth: usize) -> io::Result<()> {
        let found = match path.symlink_metadata() {
            Ok(found) => found,
            // It was there a moment ago.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let is_there = to.symlink_metadata().is_ok();
        if found.is_dir() || found.is_symlink() && is_there && path.is_dir() {
            return self.folder(path, to, depth);
        }
        if is_there {
            return Ok(());
        }
        if found.is_symlink() {
            return std::os::unix::fs::symlink(self.target(path)?, to);
        }
        // Sockets, FIFOs and devices are nothing that Nix reads.
        if found.is_file() {
            let too_much = || io::Error::new(io::ErrorKind::FileTooLarge, "it holds too much");
            self.bytes = self.bytes.checked_sub(found.len()).ok_or_else(too_much)?;
            self.files = self.files.checked_sub(1).ok_or_else(too_much)?;
            sparse_copy::copy(path, to)?;
            // Nix puts into the store whether a file is executable.
            let mode = if found.permissions().mode() & 0o100 == 0 { 0o600 } else { 0o700 };
            fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    fn folder(&mut self, path: &Path, to: &Path, depth: usize) -> io::Result<()> {
        if depth >= DEEPEST {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "its folders are nested too deeply"));
        }
        DirBuilder::new().recursive(true).mode(0o700).create(to)?;
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let is_ours = super::output::NAMES.iter().any(|name| entry.file_name() == *name);
            // The cache may lie in the folder.
            if !is_ours && !self.scratch.folder.starts_with(entry.path()) {
                self.entry(&entry.path(), &to.join(entry.file_name()), depth + 1)?;
            }
        }
        Ok(())
    }

    /// Returns where the copy of a link leads: to the copy of its target, or to the target itself if that has no copy.
    fn target(&self, link: &Path) -> io::Result<PathBuf> {
        let target = link.read_link()?;
        let absolute = plain(&link.parent().unwrap_or(Path::new("/")).join(&target));
        let is_copied = self.own.needed.iter().any(|needed| absolute.starts_with(needed));
        Ok(match (is_copied, target.is_absolute()) {
            (true, true) => self.scratch.path_of(&absolute),
            (true, false) => target,
            (false, _) => absolute,
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.folder) {
            tracing::warn!(%error, folder = %self.folder.display(), "the copy of a configuration stays");
            return;
        }
        // It is still locked.
        let _ = fs::remove_file(lock_of(&self.folder));
    }
}

/// Removes the copies that processes left when they were killed. Returns how many there were.
///
/// # Errors
/// Those of [`cache::dir`]. Copies that can't be removed are left.
pub(crate) fn prune() -> Result<usize> {
    Ok(prune_in(&cache::dir()?.join(FOLDER)))
}

fn prune_in(base: &Path) -> usize {
    let mut removed = 0;
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Ok(Some(_lock)) = locked(&lock_of(&path))
            && remove(&path).is_ok()
        {
            removed += 1;
            let _ = fs::remove_file(lock_of(&path));
        }
    }
    removed
}

fn lock_of(folder: &Path) -> PathBuf {
    folder.with_extension(LOCK)
}

/// Locks the file at `path`, and makes it if it is not there. Returns `None` if another process holds the lock.
fn locked(path: &Path) -> io::Result<Option<File>> {
    for _ in 0..TIMES {
        let lock = file_lock::open(path)?;
        if !file_lock::try_lock(&lock, Mode::Exclusive)? {
            return Ok(None);
        }
        // A process removes its lock before it releases it.
        let own = lock.metadata()?;
        if path.symlink_metadata().is_ok_and(|now| (now.dev(), now.ino()) == (own.dev(), own.ino())) {
            return Ok(Some(lock));
        }
    }
    Ok(None)
}

/// Removes a folder, if it is there. No link in it is followed.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn too_much(path: &Path, source: &io::Error) -> Error {
    let summary =
        format!("the configuration takes in {}, which is too much to copy: {source}", path.display());
    Error::new(ErrorKind::Usage, summary)
        .likely_cause(format!("a path in it stands for this folder; at most {} MiB are copied", MOST >> 20))
        .next_step("name the files that the configuration needs, or put them into a folder of their own")
}

#[cfg(test)]
mod tests;
