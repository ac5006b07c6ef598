//! How much space templates take, and which are pruned first.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Store;
use super::room::Files;
use super::store::{LOCK, MAKING, folders, opened, removed};
use crate::file_lock::{Mode, try_lock};
use crate::shared_file::Records;
use crate::{Error, Result, environment};

/// The variable for the limit of all templates together, in MiB.
const VARIABLE: &str = "NIXVM_CACHE_SIZE";
const LARGEST_MIB: u64 = 10 << 10;

/// A template in the store.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// What it alone takes on the disk, in bytes. Removing it frees this much.
    pub size: u64,
    /// What it shares with other templates or with kept machines, in bytes.
    pub shared: u64,
    /// When it was last used.
    pub used: SystemTime,
    /// Whether a machine runs on it, or it is being made.
    pub in_use: bool,
    /// Whether it has a folder. Only the lock is left of a template that was discarded or could not be made.
    is_there: bool,
    files: Files,
}

/// Returns what all `entries` take on the disk together, in bytes. Shared files count once.
pub fn total(entries: &[Entry]) -> u64 {
    all_files(entries).total()
}

fn all_files(entries: &[Entry]) -> Files {
    let mut files = Files::default();
    entries.iter().for_each(|entry| files.add(&entry.files));
    files
}

/// Returns the templates in `store`, the most recently used first.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when the folder can't be read.
pub fn list(store: &Store) -> Result<Vec<Entry>> {
    let mut all = entries(store.folder())
        .map_err(|error| Error::io(format_args!("read {}", store.folder().display()), &error))?;
    all.retain(|entry| entry.is_there);
    Ok(all)
}

/// Removes unused templates, the least recently used first, until all together take at most `size` bytes.
/// Returns the removed templates; the `size` of each is the space that was freed.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when the folder can't be read or a template can't be removed.
pub fn prune(store: &Store, size: u64) -> Result<Vec<Entry>> {
    down_to(store.folder(), size)
        .map_err(|error| Error::io(format_args!("prune {}", store.folder().display()), &error))
}

/// Keeps the store within its limit.
pub(super) fn to_size(folder: &Path) {
    let given = environment::text(VARIABLE).and_then(|text| text.parse::<u64>().ok());
    if let Err(error) = down_to(folder, given.unwrap_or(LARGEST_MIB) << 20) {
        tracing::debug!(%error, "could not prune templates");
    }
}

fn down_to(folder: &Path, size: u64) -> io::Result<Vec<Entry>> {
    let all = entries(folder)?;
    let mut left = all_files(&all);
    let mut gone = Vec::new();
    for mut entry in all.into_iter().rev() {
        if left.total() <= size {
            break;
        }
        let lock_path = folder.join(format!("{}{LOCK}", entry.key));
        let Some(lock) = opened(&lock_path)? else { continue };
        if !try_lock(&lock, Mode::Exclusive)? {
            continue;
        }
        // Another template may have been removed since they were listed, which changes the sizes.
        entry.look(folder);
        // An unfinished template belongs to a process that was killed, since a living one would hold the
        // lock.
        for its in places(folder, &entry.key) {
            removed(&its)?;
        }
        // The lock file is removed while it is locked. A process that opened it earlier notices that the name
        // leads to another file, and opens that one.
        fs::remove_file(&lock_path)?;
        left.without(&entry.files);
        if entry.is_there {
            gone.push(entry);
        }
    }
    Records::in_store(folder).sweep(&folders(folder)?)?;
    Ok(gone)
}

/// Returns the folders where files of a template may be.
fn places(folder: &Path, key: &str) -> [PathBuf; 2] {
    [folder.join(key), folder.join(format!("{key}{MAKING}"))]
}

impl Entry {
    fn look(&mut self, folder: &Path) {
        let mut files = Files::default();
        places(folder, &self.key).iter().for_each(|place| files.add(&Files::of(place)));
        self.shared = files.shared();
        self.size = files.total() - self.shared;
        self.is_there = places(folder, &self.key).iter().any(|place| place.is_dir());
        self.files = files;
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|its| its.modified()).ok()
}

fn entries(folder: &Path) -> io::Result<Vec<Entry>> {
    // A folder without a lock was left by a process that was killed, or by another version of this program.
    let mut keys = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let (Some(key), ending) =
            (path.file_stem().and_then(|name| name.to_str()), path.extension().and_then(|its| its.to_str()))
        else {
            continue;
        };
        let known = match ending {
            Some(ending) => [LOCK, MAKING].iter().any(|its| its[1..] == *ending),
            None => path.is_dir() && !key.starts_with('.'),
        };
        if known {
            keys.insert(key.to_owned());
        }
    }
    let mut all = Vec::new();
    for key in keys {
        let path = folder.join(format!("{key}{LOCK}"));
        let (used, in_use) = match modified(&path) {
            Some(used) => match opened(&path)? {
                Some(lock) => (used, !try_lock(&lock, Mode::Exclusive)?),
                None => continue,
            },
            // No lock is created for it, because that would count as the last use.
            None => match places(folder, &key).iter().filter_map(|place| modified(place)).max() {
                Some(left) => (left, false),
                None => continue,
            },
        };
        let mut entry =
            Entry { key, size: 0, shared: 0, used, in_use, is_there: false, files: Files::default() };
        entry.look(folder);
        all.push(entry);
    }
    all.sort_by_key(|entry| std::cmp::Reverse(entry.used));
    Ok(all)
}
