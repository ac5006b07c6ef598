//! Restores all machines of a network to an earlier moment.

use std::sync::Arc;

use nixvm_test_macros::tracked;

use crate::at_once;
use crate::machine::lifecycle::frozen::Frozen;
use crate::machine::{Life, Machine, Network, Snapshot};
use crate::network::{InFlight, Port};
use crate::{Error, ErrorKind, Result};

/// The state of all machines of a network at one moment, with the frames that were on their way. [`Network::snapshot`]
/// makes it. It is valid as long as the disks of the machines exist, as a [`Snapshot`] is.
#[derive(Debug)]
pub struct NetworkSnapshot {
    /// In the order of the machines.
    machines: Vec<Snapshot>,
    in_flight: InFlight,
}

/// # Snapshots
impl Network {
    /// Saves the present state of all machines of the network at one moment, to restore it later. All of them are paused
    /// while their states are written, so connections between them go on, also after [`Network::restore`]. For each
    /// machine it does what [`Machine::snapshot`] does.
    ///
    /// ```no_run
    /// # use nixvm_test::prelude::*;
    /// # async fn example(server: Machine, client: Machine, network: Network) -> Result {
    /// let before = network.snapshot().await?;
    /// server.succeed("rm -rf /var/lib/page").await?;
    /// network.restore(&before).await?;
    /// client.succeed("curl --fail http://server/").await.map(drop)
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Machine::snapshot`] for one of the machines: [`ErrorKind::SessionEnded`] when it is off. The machines
    /// continue in these cases.
    #[tracked]
    pub async fn snapshot(&self) -> Result<NetworkSnapshot> {
        let _turn = self.turn().await;
        let machines = self.machines();
        let lives: Vec<Arc<Life>> = machines.iter().map(Machine::life).collect();
        let both = || machines.iter().zip(&lives);
        let ready = at_once::all(both().map(|(machine, life)| machine.ready_for_snapshot(life))).await;
        let ready = ready.into_iter().collect::<Result<Vec<_>>>()?;
        let frozen = Frozen::of(self.switch());
        frozen.drained().await;
        let stopped = at_once::all(lives.iter().map(|life| life.stop())).await;
        // All of them continue, whatever happens to one.
        let kept = match stopped.iter().find_map(|stopped| stopped.as_ref().err()) {
            Some(error) => Err(error.clone()),
            None => {
                let in_flight = frozen.in_flight();
                let kept = at_once::all(ready.iter().map(|ready| ready.keep())).await;
                kept.into_iter().collect::<Result<Vec<_>>>().map(|kept| (kept, in_flight))
            }
        };
        let ran = lives.iter().zip(&stopped).filter(|(_, stopped)| matches!(stopped, Ok(true)));
        let gone_on = at_once::all(ran.map(|(life, _)| life.qemu.go_on())).await;
        let (kept, in_flight) = kept?;
        gone_on.into_iter().collect::<Result<()>>()?;
        let machines = ready.into_iter().zip(kept).map(|(ready, moment)| ready.snapshot(moment)).collect();
        Ok(NetworkSnapshot { machines, in_flight })
    }

    /// Restores all machines of the network to a snapshot. For each machine it does what [`Machine::restore`] does. A
    /// machine that is off is started from the snapshot. The machines continue together: a connection that was open then
    /// is open again.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a snapshot of another network, those of [`Machine::restore`] for one of the machines,
    /// which is then off. The others continue from the snapshot.
    #[tracked]
    pub async fn restore(&self, snapshot: &NetworkSnapshot) -> Result {
        let _turn = self.turn().await;
        let machines = self.machines();
        let is_its = |(machine, its): (&Machine, &Snapshot)| machine.has_taken(its);
        if machines.len() != snapshot.machines.len() || !machines.iter().zip(&snapshot.machines).all(is_its) {
            return Err(Error::new(ErrorKind::Usage, "this is a snapshot of another network")
                .next_step("restore a snapshot that `snapshot()` of the same network returned"));
        }
        let frozen = Frozen::of(self.switch());
        let lives: Vec<Arc<Life>> = machines.iter().map(Machine::life).collect();
        let all = machines.iter().zip(&lives).zip(&snapshot.machines);
        let back = at_once::all(all.map(|((machine, old), its)| machine.go_back(old, its))).await;
        // What the QEMUs of before have sent belongs to no machine any more.
        lives.iter().flat_map(|old| &old.ports).for_each(Port::close);
        frozen.park(snapshot.in_flight.clone());
        let woken = at_once::all(back.into_iter().map(async |back| back?.wake().await)).await;
        woken.into_iter().collect()
    }
}
