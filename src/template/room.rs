//! The disk space of templates. A file that several templates share counts once.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::shared_file;

/// The files of one or more folders, each once, by device and inode.
#[derive(Debug, Clone, Default)]
pub(super) struct Files(BTreeMap<(u64, u64), Held>);

/// A file with names in these folders.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// The space it takes, in bytes. It is less than the file's size if the file has holes.
    takes: u64,
    /// How many names it has in these folders.
    here: u64,
    /// How many names it has in total.
    everywhere: u64,
}

impl Files {
    /// Returns the files of a template's folder. A file whose metadata can't be read counts as empty.
    pub(super) fn of(folder: &Path) -> Self {
        let mut files = Self::default();
        let paths = shared_file::files_in(folder).unwrap_or_default();
        for found in paths.iter().filter_map(|path| fs::symlink_metadata(path).ok()) {
            let held = Held { takes: found.blocks() * 512, here: 0, everywhere: found.nlink() };
            files.0.entry((found.dev(), found.ino())).or_insert(held).here += 1;
        }
        files
    }

    /// Adds the files of other folders.
    pub(super) fn add(&mut self, others: &Self) {
        for (file, held) in &others.0 {
            let mine = self.0.entry(*file).or_insert(Held { here: 0, ..*held });
            mine.here += held.here;
            mine.everywhere = mine.everywhere.max(held.everywhere);
        }
    }

    /// Removes the files of other folders, and keeps those that still have a name here.
    pub(super) fn without(&mut self, others: &Self) {
        for (file, gone) in &others.0 {
            if let Some(held) = self.0.get_mut(file) {
                held.here = held.here.saturating_sub(gone.here);
                held.everywhere = held.everywhere.saturating_sub(gone.here);
                if held.here == 0 {
                    self.0.remove(file);
                }
            }
        }
    }

    /// Returns the space of all files together, in bytes.
    pub(super) fn total(&self) -> u64 {
        self.0.values().map(|held| held.takes).sum()
    }

    /// Returns the space of the files that have names elsewhere, in bytes.
    pub(super) fn shared(&self) -> u64 {
        self.0.values().filter(|held| held.everywhere > held.here).map(|held| held.takes).sum()
    }
}
