//! Saves a machine's state to files, and starts machines from it.
//!
//! A template is the RAM of a machine in a file, the state of its devices in another, and its disk images. A
//! clone maps the RAM privately: all clones share a page until one of them writes to it, and loading costs no
//! time. Its disks are layers over the template's. Measured under TCG: a clone answers after 0.1 s where the
//! boot takes 20 s or more.
//!
//! On QEMU's side, the RAM is in `-object memory-backend-file,share=on`, and the migration capability
//! `x-ignore-shared` leaves it out of the state (docs/devel/migration/main.rst). The same command with
//! `share=off`, `-incoming defer` and the same capability resumes it.
//!
//! A machine that was not started to be saved is kept whole (`keep`): its RAM is part of the state.

mod allowed;
mod command_line;
mod fitness;
mod foreign;
mod keep;
mod layers;
mod outside;
mod overlay;
mod processor;
mod program;
mod properties;
mod qcow2_snapshots;
mod resume;
mod save;

pub(super) use command_line::CommandLine;
pub(crate) use fitness::unfit;
pub(crate) use foreign::{is_script_in_store, suspicious};
pub(in crate::qemu) use outside::Made;
pub(crate) use outside::changed_outside;
pub(crate) use processor::kvm_with;
pub(in crate::qemu) use properties::Properties;
pub(super) use qcow2_snapshots::snapshots;
pub(crate) use resume::Resume;
pub(crate) use save::{Memory, Saved, ToSave, foreseen, foreseen_reach, memory_size};

/// Returns the arguments of a running QEMU.
pub(in crate::qemu) fn arguments(pid: u32) -> Option<Vec<String>> {
    command_line::CommandLine::of(pid).ok().map(|command| command.arguments)
}

/// The id of the machine's RAM among QEMU's objects.
const MEMORY: &str = "nixvm-memory";
/// The files of a template.
const RAM_FILE: &str = "memory";
const STATE_FILE: &str = "state";
const MACHINE_FILE: &str = "machine.json";

#[cfg(test)]
mod tests;
