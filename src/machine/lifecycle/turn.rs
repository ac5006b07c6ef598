//! The turn to start, reboot, save or restore a machine.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use crate::at_once;
use crate::machine::lifecycle::frozen::Frozen;
use crate::machine::{Life, Machine};
use crate::network::InFlight;
use crate::{Events, Result, Speed};

/// The turn to change a machine. No other task starts, reboots, saves or restores the machine meanwhile, so its life
/// stays the same.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) machine: Machine,
    pub(super) life: Arc<Life>,
    _changing: OwnedMutexGuard<()>,
}

impl Machine {
    /// Waits for the turn to change this machine.
    pub(super) async fn turn(&self) -> Turn {
        let changing = Arc::clone(&self.shared.changing).lock_owned().await;
        // Another task may have replaced it while this one waited.
        Turn { machine: self.clone(), life: self.life(), _changing: changing }
    }
}

/// Waits for the turns of all `machines`. Returns them in the order of the machines.
pub(super) async fn of_all(machines: &[Machine]) -> Vec<Arc<Turn>> {
    let mut ordered: Vec<(usize, &Machine)> = machines.iter().enumerate().collect();
    // Two callers with some of the same machines take them in the same order, so none waits for the other forever.
    ordered.sort_by_key(|(_, machine)| Arc::as_ptr(&machine.shared));
    let mut turns = Vec::new();
    for (at, machine) in ordered {
        turns.push((at, Arc::new(machine.turn().await)));
    }
    turns.sort_by_key(|(at, _)| *at);
    turns.into_iter().map(|(_, turn)| turn).collect()
}

/// Returns the speed of the slowest of the machines.
pub(super) fn slowest(turns: &[Arc<Turn>]) -> Speed {
    Speed::new(turns.iter().map(|turn| turn.life.speed.factor()).fold(1.0, f64::max))
}

/// Machines that are paused for a moment. If it is dropped first, as at a time limit, they continue then.
#[derive(Debug)]
pub(super) struct Paused {
    turns: Vec<Arc<Turn>>,
    /// Thaws once the machines continue.
    frozen: Option<Frozen>,
    events: Events,
}

impl Paused {
    /// For machines that are about to be paused, and their frozen switch.
    pub(super) fn of(turns: Vec<Arc<Turn>>, frozen: impl Into<Option<Frozen>>) -> Self {
        let events = turns.first().map_or_else(Events::none, |turn| turn.life.events.clone());
        Self { turns, frozen: frozen.into(), events }
    }

    /// Returns the frames in flight.
    pub(super) fn in_flight(&self) -> InFlight {
        self.frozen.as_ref().map(|frozen| frozen.in_flight(&self.events)).unwrap_or_default()
    }

    /// Pauses the machines. One that was paused before stays so afterwards.
    pub(super) async fn stop(&mut self) -> Result {
        let stopped = at_once::all(self.turns.iter().map(|turn| turn.life.stop())).await;
        let mut stopped_at = stopped.iter();
        self.turns.retain(|_| matches!(stopped_at.next(), Some(Ok(true))));
        stopped.into_iter().try_for_each(|stopped| stopped.map(drop))
    }

    /// Lets the machines continue, and thaws the switch. An error of one does not keep the others from it.
    pub(super) async fn go_on(mut self) -> Result {
        let gone_on = at_once::all(self.turns.iter().map(|turn| turn.life.qemu.go_on())).await;
        self.done();
        gone_on.into_iter().collect()
    }

    /// Notes that the machines continue already.
    pub(super) fn done(&mut self) {
        self.turns.clear();
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        let (turns, frozen) = (std::mem::take(&mut self.turns), self.frozen.take());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if turns.is_empty() {
            return;
        }
        runtime.spawn(async move {
            let gone_on = at_once::all(turns.iter().map(|turn| turn.life.qemu.go_on())).await;
            for error in gone_on.into_iter().filter_map(Result::err) {
                tracing::debug!(%error, "a machine does not continue after a snapshot that was given up");
            }
            drop(frozen);
        });
    }
}
