//! The machines of a network, for what is done with all of them at once.

use std::sync::{Arc, Mutex, Weak};

use crate::machine::{Machine, Network, Shared};
use crate::mutex::lock;
use crate::network::Switch;

/// The machines of a network.
#[derive(Debug, Default)]
pub(super) struct Members {
    machines: Mutex<Vec<Weak<Shared>>>,
    /// Held by what takes all machines at once.
    turn: tokio::sync::Mutex<()>,
}

impl Network {
    /// Adds a machine that is plugged into it.
    pub(crate) fn add(&self, machine: &Machine) {
        lock(&self.shared.members.machines).push(Arc::downgrade(&machine.shared));
    }

    /// Returns its machines, except those that are gone.
    pub(in crate::machine) fn machines(&self) -> Vec<Machine> {
        let machines = lock(&self.shared.members.machines);
        machines.iter().filter_map(Weak::upgrade).map(|shared| Machine { shared, limit: None }).collect()
    }

    /// Returns the switch. `None` in a replay.
    pub(in crate::machine) fn switch(&self) -> Option<&Arc<Switch>> {
        self.shared.switch.as_ref()
    }

    /// Waits for the turn to take all machines at once.
    pub(in crate::machine) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.shared.members.turn.lock().await
    }
}
