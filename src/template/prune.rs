//! How much room templates take, and which go first.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Store;
use super::store::{MAKING, opened, removed};
use crate::file_lock::{Mode, try_lock};
use crate::{Error, Result};

/// What all templates together may take, in MiB; another number can be set.
const VARIABLE: &str = "NIXVM_CACHE_SIZE";
const LARGEST_MIB: u64 = 10 << 10;

/// A template that is kept.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// What it takes on the disk, in bytes.
    pub size: u64,
    /// When it was used last.
    pub used: SystemTime,
    /// Whether a machine runs on it, or it is being made.
    pub in_use: bool,
    lock: PathBuf,
    folder: PathBuf,
}

/// The templates in `store`, the one that was used last first.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when the folder can't be read.
pub fn list(store: &Store) -> Result<Vec<Entry>> {
    entries(store.folder())
        .map_err(|error| Error::io(format_args!("read {}", store.folder().display()), &error))
}

/// Removes templates that nobody uses, those that were used longest ago first, until all together take no more
/// than `size` bytes. Gives those that were removed.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when the folder can't be read or a template not be removed.
pub fn prune(store: &Store, size: u64) -> Result<Vec<Entry>> {
    down_to(store.folder(), size)
        .map_err(|error| Error::io(format_args!("prune {}", store.folder().display()), &error))
}

/// Keeps the store within its limit.
pub(super) fn to_size(folder: &Path) {
    let given = std::env::var(VARIABLE).ok().and_then(|text| text.parse::<u64>().ok());
    if let Err(error) = down_to(folder, given.unwrap_or(LARGEST_MIB) << 20) {
        tracing::debug!(%error, "templates can't be pruned");
    }
}

fn down_to(folder: &Path, size: u64) -> io::Result<Vec<Entry>> {
    let all = entries(folder)?;
    let mut total: u64 = all.iter().map(|entry| entry.size).sum();
    let mut gone = Vec::new();
    for entry in all.into_iter().rev() {
        if total <= size {
            break;
        }
        let Some(lock) = opened(&entry.lock)? else { continue };
        if !try_lock(&lock, Mode::Exclusive)? {
            continue;
        }
        removed(&entry.folder)?;
        // While it is locked: who opened it before sees that it is another's, and opens again.
        fs::remove_file(&entry.lock)?;
        total -= entry.size;
        gone.push(entry);
    }
    Ok(gone)
}

fn entries(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let (Some(key), Some("lock")) =
            (path.file_stem().and_then(|name| name.to_str()), path.extension().and_then(|its| its.to_str()))
        else {
            continue;
        };
        let whole = folder.join(key);
        let size = size_of(&whole) + size_of(&folder.join(format!("{key}{MAKING}")));
        let Ok(used) = fs::metadata(&path).and_then(|its| its.modified()) else { continue };
        let in_use = match opened(&path)? {
            Some(lock) => !try_lock(&lock, Mode::Exclusive)?,
            None => false,
        };
        all.push(Entry { key: key.to_owned(), size, used, in_use, lock: path, folder: whole });
    }
    all.sort_by_key(|entry| std::cmp::Reverse(entry.used));
    Ok(all)
}

/// What a folder's files take on the disk: less than their size where they have holes.
fn size_of(folder: &Path) -> u64 {
    let Ok(files) = fs::read_dir(folder) else { return 0 };
    files.flatten().filter_map(|file| file.metadata().ok()).map(|found| found.blocks() * 512).sum()
}
