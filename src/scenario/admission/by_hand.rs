//! Machines that a person has open: they wait for nobody, and others see them.

use std::path::Path;
use std::time::Instant;

use super::super::capacity::{BESIDE, Need, USUAL};
use super::list::Folder;
use super::{Demand, Entry, GIVING_BACK, Permit};
use crate::BuiltVm;
use crate::file_lock::NotLocked;
use crate::qemu::memory_size;
use crate::user_lock;

/// A machine that a person has open (`nixvm-test shell`, `attach`, `repl`), counted among those of this host as long as
/// this lives. Nobody who sits at a terminal is kept waiting, so it runs at once, whatever runs already; scenarios that
/// come after it get what it leaves.
#[derive(Debug)]
pub struct ByHand {
    /// Nothing where it can't be counted: that keeps nobody from their machine.
    _permit: Option<Permit>,
}

impl ByHand {
    /// Counts a machine made of `vm`; of one that is not known the usual size is taken.
    pub fn count(vm: Option<&BuiltVm>) -> Self {
        let memory = vm.and_then(memory_size).map_or(USUAL, |bytes| bytes >> 20);
        let need = Need { memory: memory.saturating_add(BESIDE), cores: 1 };
        let counted = user_lock::path().map_err(|error| error.what());
        let counted = counted.and_then(|path| run_at_once(&path, need).map_err(|why| why.to_string()));
        if let Err(why) = &counted {
            tracing::warn!(why, "a machine is not counted among those of this host");
        }
        Self { _permit: counted.ok() }
    }
}

/// Puts a machine on the list that runs already.
pub(super) fn run_at_once(path: &Path, need: Need) -> Result<Permit, NotLocked> {
    let folder = Folder::open(path)?;
    let (holder, lock) = folder.hold()?;
    let demand = Demand { need, machines: 1, run: None };
    let permit = Permit { folder: path.to_owned(), holder, demand, asked: Instant::now(), _lock: lock };
    folder.change_blocking(GIVING_BACK, |list| list.push(Entry { runs: true, ..permit.entry() }))?;
    Ok(permit)
}
