//! What the files of templates take on the disk. A file that several of them hold takes its room once.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The files of a folder, or of several, each once: by device and inode.
#[derive(Debug, Clone, Default)]
pub(super) struct Files(BTreeMap<(u64, u64), Held>);

/// A file that has names in these folders.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// What it takes, in bytes: less than its size where it has holes.
    takes: u64,
    /// How many names it has in these folders.
    here: u64,
    /// How many it has everywhere.
    everywhere: u64,
}

impl Files {
    /// Those of one folder. What can't be looked at takes nothing.
    pub(super) fn of(folder: &Path) -> Self {
        let mut files = Self::default();
        for found in
            fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|file| file.metadata().ok())
        {
            let held = Held { takes: found.blocks() * 512, here: 0, everywhere: found.nlink() };
            files.0.entry((found.dev(), found.ino())).or_insert(held).here += 1;
        }
        files
    }

    /// Adds those of others.
    pub(super) fn add(&mut self, others: &Self) {
        for (file, held) in &others.0 {
            let mine = self.0.entry(*file).or_insert(Held { here: 0, ..*held });
            mine.here += held.here;
            mine.everywhere = mine.everywhere.max(held.everywhere);
        }
    }

    /// Takes others away: what all that is left holds.
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

    /// What they take together.
    pub(super) fn total(&self) -> u64 {
        self.0.values().map(|held| held.takes).sum()
    }

    /// What they share with other folders.
    pub(super) fn shared(&self) -> u64 {
        self.0.values().filter(|held| held.everywhere > held.here).map(|held| held.takes).sum()
    }
}
