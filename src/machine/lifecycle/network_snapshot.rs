//! Restores all machines of a network to an earlier moment.

use nixvm_test_macros::tracked;

use crate::at_once;
use crate::machine::lifecycle::frozen::Frozen;
use crate::machine::lifecycle::snapshot::Back;
use crate::machine::lifecycle::turn::{self, Paused};
use crate::machine::{Machine, Network, Snapshot};
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
        let turns = turn::of_all(&self.machines()).await;
        let ready = at_once::all(turns.iter().map(|turn| turn.ready_for_snapshot())).await;
        let ready = ready.into_iter().collect::<Result<Vec<_>>>()?;
        let frozen = Frozen::of(self.switch());
        frozen.drained(turn::slowest(&turns)).await;
        let mut paused = Paused::of(turns.clone(), frozen);
        // All of them continue, whatever happens to one.
        let kept = async {
            paused.stop().await?;
            let in_flight = paused.in_flight();
            let kept = at_once::all(ready.iter().map(|ready| ready.keep())).await;
            Ok((kept.into_iter().collect::<Result<Vec<_>>>()?, in_flight))
        };
        let kept: Result<_> = kept.await;
        let gone_on = paused.go_on().await;
        let (kept, in_flight) = match (kept, gone_on) {
            (Ok(kept), gone_on) => gone_on.map(|()| kept)?,
            (Err(error), Ok(())) => return Err(error),
            (Err(error), Err(other)) => {
                return Err(error.section("a machine does not continue", other.to_string()));
            }
        };
        let machines = ready.into_iter().zip(kept).map(|(ready, moment)| ready.snapshot(moment)).collect();
        Ok(NetworkSnapshot { machines, in_flight })
    }

    /// Restores all machines of the network to a snapshot. For each machine it does what [`Machine::restore`] does. A
    /// machine that is off is started from the snapshot. The machines continue together: a connection that was open then
    /// is open again. Faults stay as they are now, and frames that were on their way then meet them. Counts and
    /// [`Network::packets`] go on: what was undone is in them.
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
        let turns = turn::of_all(&machines).await;
        let frozen = Frozen::of(self.switch());
        let all = turns.iter().zip(&snapshot.machines);
        let back = at_once::all(all.map(|(turn, its)| turn.go_back(its))).await;
        // What the QEMUs of before have sent belongs to no machine any more.
        turns.iter().flat_map(|turn| &turn.life.ports).for_each(Port::close);
        frozen.park(snapshot.in_flight.clone());
        let runs = at_once::all(back.into_iter().map(async |back| {
            let mut back = back?;
            back.go_on().await?;
            Ok(back)
        }));
        let runs: Vec<Result<Back<'_>>> = runs.await;
        // The slowest machine's first answer may take long, and guests notice when their peers are silent.
        drop(frozen);
        let awake = at_once::all(runs.into_iter().map(async |back| back?.awaken().await)).await;
        awake.into_iter().collect()
    }
}
