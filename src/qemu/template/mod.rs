//! A machine's state in files, and machines that go on from it.
//!
//! A template is the RAM of a machine in a file, the state of its devices in another, and its disk images.
//! A clone maps the RAM privately: it is shared by all clones until one of them writes to a page, and costs
//! no time to load. Its disks are layers over the template's. Measured under TCG: a clone answers after
//! 0.1 s where the boot takes 20 s or more.
//!
//! QEMU's side of it: RAM in `-object memory-backend-file,share=on`, and the migration capability
//! `x-ignore-shared`, which leaves it out of the state (docs/devel/migration/main.rst); the same command
//! with `share=off`, `-incoming defer` and the same capability takes it up again.
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
pub(crate) use save::{Memory, Saved, foreseen, foreseen_reach, memory_size};

/// The arguments of a QEMU that runs.
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
