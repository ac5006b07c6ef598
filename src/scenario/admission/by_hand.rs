//! Machines that a person has open: they wait for nothing, and others take them into account.

use std::path::Path;
use std::time::Instant;

use super::super::capacity::{BESIDE, Need, USUAL};
use super::list::Folder;
use super::{Demand, Entry, GIVING_BACK, Permit};
use crate::BuiltVm;
use crate::file_lock::NotLocked;
use crate::qemu::memory_size;
use crate::user_lock;

/// A machine that a person has open (`nixvm-test shell`, `attach`, `repl`). It counts among the machines of
/// this host until this is dropped. A person at a terminal should not wait, so it runs at once, even if the
/// capacity is exhausted. Later scenarios get what is left.
#[derive(Debug)]
pub struct ByHand {
    /// `None` if the machine could not be counted, which does not keep it from running.
    _permit: Option<Permit>,
}

impl ByHand {
    /// Counts a machine of `vm`. If the VM is not known, the usual size counts.
    pub fn count(vm: Option<&BuiltVm>) -> Self {
        let memory = vm.and_then(memory_size).map_or(USUAL, |bytes| bytes >> 20);
        let need = Need { memory: memory.saturating_add(BESIDE), cores: 1 };
        let counted = user_lock::path().map_err(|error| error.what());
        let counted = counted.and_then(|path| run_at_once(&path, need).map_err(|why| why.to_string()));
        if let Err(why) = &counted {
            tracing::warn!(why, "could not count a machine among those of this host");
        }
        Self { _permit: counted.ok() }
    }
}

/// Adds a machine that runs already to the list.
pub(super) fn run_at_once(path: &Path, need: Need) -> Result<Permit, NotLocked> {
    let folder = Folder::open(path)?;
    let (holder, lock) = folder.hold()?;
    let demand = Demand { need, machines: 1, run: None };
    let permit = Permit { folder: path.to_owned(), holder, demand, asked: Instant::now(), _lock: lock };
    folder.change_blocking(GIVING_BACK, |list| list.push(Entry { runs: true, ..permit.entry() }))?;
    Ok(permit)
}
