//! What the integration tests and benchmarks of this package need of its internals. It is not for other code,
//! and changes without notice.

#![allow(missing_docs)]

pub use crate::built_vm::BuiltVm;
pub use crate::event::{
    Event, Events, Failure, FailureKind, FileKind, LinkFaults, LinkTraffic, Reporter, StepOutput,
};
pub use crate::requested_reports::RequestedReports;
pub use crate::scenario::EXIT_CODES;

pub mod beneath {
    pub use crate::beneath::Beneath;
}

pub mod network {
    pub use crate::network::{Counts, InFlight, Lease, Mac, Port, Switch, Traffic, VdeFolder, VlanId};
}

pub mod nix {
    pub use crate::nix::{Builder, Source};
}

/// Returns the system of a built VM, as a scenario's parameter of this name.
pub fn system(vm: BuiltVm, name: &str, source: &str) -> crate::machine::System {
    crate::machine::System::of(vm, name, source.to_owned())
}

/// Returns the options of machines of one VM that are on one network, as those of a scenario are.
#[cfg(feature = "cli")]
pub fn networked(
    vm: &BuiltVm,
    names: &[&str],
    events: &Events,
) -> crate::Result<Vec<crate::machine::MachineOptions>> {
    let networks = crate::scenario::Topology::by_hand(names, &vec![vm; names.len()], events)?;
    let options = names.iter().zip(networks).map(|(name, networks)| {
        crate::machine::MachineOptions::new(*name).events(events.clone()).networks(Some(networks))
    });
    Ok(options.collect())
}

pub mod qemu {
    pub use crate::qemu::{Accelerator, Disk, Launch, Qemu, RunDirectory};

    pub mod accelerator {
        pub use crate::qemu::accelerator::{choose, forget, record_speed};
    }
}

pub mod record {
    pub use crate::record::{EVENTS, EventLine, Folder, History, Tape, VERSION};

    pub mod film {
        pub use crate::record::film::Film;
    }

    pub mod history {
        pub use crate::record::history::Outcome;
    }
}

pub mod report {
    pub use crate::report::Rendering;
    #[cfg(feature = "cli")]
    pub use crate::report::compare;
}

pub mod settings {
    pub use crate::settings::{KeepState, Settings};
}

pub mod signals {
    pub use crate::signals::{hold_if_ending, install};
}

pub mod template {
    pub use crate::template::{Before, Member, Moment, Pool, Together, machine, machines};
}
