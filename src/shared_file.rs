//! Large files that several folders of a store share. Such a file is one inode with a name in each folder, so
//! it takes its space once, and the file system frees it with its last name.
//!
//! A file can be shared if it is never written to any more: it has no write permission, and only this user
//! may read it. A shared file is identified by its content. The content is hashed once, and afterwards the
//! times of its last change show whether it is the same. Adding or removing a name changes these times, too,
//! so the code that does this records the new times ([`Records`]). If the times do not match, the content is
//! hashed again. This also happens after a restart of the host, because after a crash a file may be torn
//! although its size and times are on the disk.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::boot_id::boot_id;
use crate::file_lock::{self, MOMENT, Mode};
use crate::sparse_copy::copy;

/// Smaller files are not shared, in bytes. They can be hashed whenever needed.
const LEAST: u64 = 4 << 20;
/// The mode of a shared file.
const MODE: u32 = 0o400;
/// The folder in a store with the records of its shared files.
const FOLDER: &str = ".shared";
const LOCK: &str = "lock";
/// The content is hashed in pieces of this size. Pieces of zeros are skipped, so a hole and written zeros
/// give the same hash.
const PIECE: u64 = 64 << 10;

/// Whether a file is shared, according to its metadata.
pub(crate) fn is_shared(found: &Metadata) -> bool {
    found.is_file() && found.mode() & 0o222 == 0 && found.len() > LEAST
}

/// Makes a file shareable if it is large enough. It must not be open for writing, and must not be written to
/// from now on.
///
/// # Errors
/// Those of chmod(2).
pub(crate) fn share(path: &Path) -> io::Result<()> {
    let found = fs::metadata(path)?;
    if found.blocks() * 512 >= LEAST && found.len() > LEAST {
        fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    }
    Ok(())
}

/// Gives a shared file another name. If the file system can't do that, or the file is not shared, `to`
/// becomes a copy.
///
/// # Errors
/// Those of copying.
pub(crate) fn hold(from: &Path, to: &Path) -> io::Result<()> {
    hold_by(from, to, |from, to| fs::hard_link(from, to))
}

fn hold_by(from: &Path, to: &Path, link: impl FnOnce(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    if !is_shared(&fs::symlink_metadata(from)?) {
        return copy(from, to);
    }
    let linked = match Records::of(from) {
        Some(records) => records.while_names_change(&[from.to_owned()], || link(from, to)),
        None => link(from, to),
    };
    let Err(error) = linked else { return Ok(()) };
    if error.kind() == io::ErrorKind::AlreadyExists {
        return Err(error);
    }
    // Another file system, one without links, or too many links.
    tracing::debug!(%error, from = %from.display(), to = %to.display(), "copying a shared file, because it can't be linked");
    copy(from, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(MODE))
}

/// Returns the files in a folder and in its folders: the template of several machines has one for each of them.
///
/// # Errors
/// Those of reading the folders. A missing folder is not an error.
pub(crate) fn files_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![(folder.to_owned(), true)]);
    while let Some((folder, has_folders)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            match has_folders && entry.file_type()?.is_dir() {
                true => folders.push((entry.path(), false)),
                false => files.push(entry.path()),
            }
        }
    }
    Ok(files)
}

/// Returns the shared files in a folder and in its folders.
///
/// # Errors
/// Those of [`files_in`].
pub(crate) fn in_folder(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut shared = files_in(folder)?;
    // A file that has been removed by now is skipped.
    shared.retain(|path| fs::symlink_metadata(path).is_ok_and(|found| is_shared(&found)));
    Ok(shared)
}

/// The records of the shared files of a store, which is a folder of folders.
#[derive(Debug, Clone)]
pub(crate) struct Records(PathBuf);

/// The state of a shared file when it was hashed or when its names last changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    size: u64,
    written: (i64, i64),
    changed: (i64, i64),
    /// The boot of the host for which it holds.
    host_boot: String,
    digest: String,
}

impl Record {
    fn fits(&self, found: &Metadata) -> bool {
        self.is_written_as(found)
            && self.changed == (found.ctime(), found.ctime_nsec())
            && self.host_boot == boot_id()
    }

    fn is_written_as(&self, found: &Metadata) -> bool {
        self.size == found.len() && self.written == (found.mtime(), found.mtime_nsec())
    }
}

/// The turn to change the names of the store's shared files. No other process changes them until this is
/// dropped.
#[derive(Debug)]
pub(crate) struct Turn(#[expect(dead_code, reason = "the lock ends with it")] File);

impl Records {
    /// Returns the records of a store.
    pub(crate) fn in_store(store: &Path) -> Self {
        Self(store.join(FOLDER))
    }

    /// Returns the records for a file in a folder of a store, or `None` if the store has none.
    fn of(path: &Path) -> Option<Self> {
        // A file of one of several machines is in a folder of a folder of the store.
        path.ancestors().skip(2).take(2).map(Self::in_store).find(|records| records.0.is_dir())
    }

    /// Returns the digest of a shared file's content. The file is read only if no record shows that it is
    /// unchanged. Reading needs the turn, which is taken unless the caller has it.
    ///
    /// # Errors
    /// Those of reading the file.
    pub(crate) fn digest(&self, path: &Path, turn: Option<&Turn>) -> io::Result<String> {
        let file = File::open(path)?;
        if let Some(record) = self.fitting(&file.metadata()?) {
            return Ok(record.digest);
        }
        // Another process may be hashing the file, or changing its names.
        let _turn = if turn.is_none() { self.turn() } else { None };
        self.digest_in_turn(&file)
    }

    fn digest_in_turn(&self, file: &File) -> io::Result<String> {
        let before = file.metadata()?;
        if let Some(record) = self.fitting(&before) {
            return Ok(record.digest);
        }
        let digest = digest_of(file)?;
        let record = Record {
            size: before.len(),
            written: (before.mtime(), before.mtime_nsec()),
            changed: (before.ctime(), before.ctime_nsec()),
            host_boot: boot_id(),
            digest,
        };
        if record.fits(&file.metadata()?) {
            self.write(before.ino(), &record);
        }
        Ok(record.digest)
    }

    /// Takes the turn to change names. Returns `None` if the lock is not available in time. Names may still
    /// be changed then, but the records may not match afterwards.
    pub(crate) fn turn(&self) -> Option<Turn> {
        let locked = || {
            fs::create_dir_all(&self.0)?;
            let lock = file_lock::open(&self.0.join(LOCK))?;
            file_lock::lock_blocking(&lock, Mode::Exclusive, MOMENT)?;
            io::Result::Ok(Turn(lock))
        };
        locked().inspect_err(|error| tracing::debug!(%error, "using shared files without their lock")).ok()
    }

    /// Calls `change`, which adds or removes names of these files, and records their new times.
    ///
    /// # Errors
    /// Those of `change`.
    pub(crate) fn while_names_change<T>(
        &self,
        files: &[PathBuf],
        change: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        if files.is_empty() {
            return change();
        }
        let turn = self.turn();
        let done = self.known_through(files, change);
        drop(turn);
        done
    }

    fn known_through<T>(&self, files: &[PathBuf], change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let known: Vec<(File, Record)> = files
            .iter()
            .filter_map(|path| {
                let file = File::open(path).ok()?;
                let record = self.fitting(&file.metadata().ok()?)?;
                Some((file, record))
            })
            .collect();
        let done = change();
        for (file, mut record) in known {
            let Ok(found) = file.metadata() else { continue };
            if found.nlink() == 0 {
                let _ = fs::remove_file(self.path(found.ino()));
            } else if record.is_written_as(&found) && is_shared(&found) {
                record.changed = (found.ctime(), found.ctime_nsec());
                self.write(found.ino(), &record);
            }
        }
        done
    }

    /// Replaces each shared file of `folder` by a link to a file with the same content, if a folder of
    /// `others` has one. If that is not possible, the file stays.
    pub(crate) fn merge(&self, _turn: &Turn, folder: &Path, others: &[PathBuf]) -> io::Result<()> {
        for path in in_folder(folder)? {
            let file = File::open(&path)?;
            let found = file.metadata()?;
            // It is linked already.
            if found.nlink() > 1 {
                continue;
            }
            let digest = self.digest_in_turn(&file)?;
            let Some(same) = self.same(&found, &digest, others) else { continue };
            let link = path.with_extension("link");
            let linked = self.known_through(std::slice::from_ref(&same), || {
                fs::hard_link(&same, &link)?;
                fs::rename(&link, &path)
            });
            match linked {
                Ok(()) => drop(fs::remove_file(self.path(found.ino()))),
                Err(error) => {
                    tracing::debug!(%error, same = %same.display(), "could not share a file");
                    let _ = fs::remove_file(&link);
                }
            }
        }
        Ok(())
    }

    /// Returns the file with this content in one of these folders.
    fn same(&self, found: &Metadata, digest: &str, folders: &[PathBuf]) -> Option<PathBuf> {
        let files = folders.iter().flat_map(|folder| in_folder(folder).unwrap_or_default());
        let is_same = |path: &PathBuf| {
            let Ok(other) = File::open(path) else { return false };
            let fits = other.metadata().is_ok_and(|its| its.len() == found.len() && its.ino() != found.ino());
            fits && self.digest_in_turn(&other).is_ok_and(|its| its == digest)
        };
        files.into_iter().find(is_same)
    }

    /// Removes the records of files that are no longer in any of these folders.
    pub(crate) fn sweep(&self, folders: &[PathBuf]) -> io::Result<()> {
        let Ok(entries) = fs::read_dir(&self.0) else { return Ok(()) };
        let _turn = self.turn();
        let mut inodes = Vec::new();
        for folder in folders {
            for path in in_folder(folder)? {
                inodes.extend(fs::symlink_metadata(path).map(|found| found.ino().to_string()));
            }
        }
        for entry in entries {
            let name = entry?.file_name();
            if name != LOCK && inodes.iter().all(|inode| name != inode.as_str()) {
                let _ = fs::remove_file(self.0.join(name));
            }
        }
        Ok(())
    }

    fn path(&self, inode: u64) -> PathBuf {
        self.0.join(inode.to_string())
    }

    /// Returns the record of a file, if the file has not changed since.
    fn fitting(&self, found: &Metadata) -> Option<Record> {
        let text = fs::read(self.path(found.ino())).ok()?;
        serde_json::from_slice::<Record>(&text).ok().filter(|record| record.fits(found))
    }

    /// Writes a record. If that fails, the file is hashed again the next time.
    fn write(&self, inode: u64, record: &Record) {
        let written = || {
            fs::create_dir_all(&self.0)?;
            let mut file = tempfile::NamedTempFile::new_in(&self.0)?;
            serde_json::to_writer(&mut file, record)?;
            file.persist(self.path(inode)).map_err(|error| error.error).map(drop)
        };
        if let Err(error) = written() {
            let error: io::Error = error;
            tracing::debug!(%error, "could not write the record of a shared file");
        }
    }
}

/// Returns the digest of a file's content.
fn digest_of(file: &File) -> io::Result<String> {
    let size = file.metadata()?.len();
    let mut hash = Sha256::new();
    hash.update(size.to_le_bytes());
    let mut piece = vec![0; PIECE as usize];
    let mut at = 0;
    while at < size {
        let data = match seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Only a hole is left.
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        at = data - data % PIECE;
        let length = usize::try_from((size - at).min(PIECE)).unwrap_or(piece.len());
        let piece = &mut piece[..length];
        file.read_exact_at(piece, at)?;
        if piece.iter().any(|byte| *byte != 0) {
            hash.update(at.to_le_bytes());
            hash.update(&*piece);
        }
        at += length as u64;
    }
    Ok(crate::digest::hex(&hash.finalize(), 32))
}

#[cfg(test)]
mod tests;
