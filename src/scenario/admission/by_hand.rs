//! Machines that a person has open: they wait for nobody, and others see them.

use std::path::Path;

use super::super::capacity::{BESIDE, Need, USUAL};
use super::{Demand, Permit, ask, change, folder};
use crate::build::BuiltVm;
use crate::qemu::memory_size;

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
        let permit = run_at_once(&folder(), need);
        if let Err(error) = &permit {
            tracing::warn!(%error, "a machine is not counted among those of this host");
        }
        Self { _permit: permit.ok() }
    }
}

/// Puts a machine on the list that runs already.
pub(super) fn run_at_once(folder: &Path, need: Need) -> std::io::Result<Permit> {
    let permit = ask(folder, Demand { need, machines: 1, run: None })?;
    change(folder, |list| {
        if let Some(its) = list.iter_mut().find(|entry| entry.holder == permit.holder) {
            its.runs = true;
        }
    })?;
    Ok(permit)
}
