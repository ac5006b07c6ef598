//! Saves the machines of one network at one moment, and lets clones of them run from one moment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::at_once;
use crate::machine::Machine;
use crate::machine::lifecycle::frozen::Frozen;
use crate::machine::lifecycle::saved::Loaded;
use crate::machine::lifecycle::turn;
use crate::network::{InFlight, Switch};
use crate::qemu::Saved;
use crate::{Error, Events, Result};

/// What came of saving several machines.
#[derive(Debug)]
pub(crate) enum SavedTogether {
    /// All are saved. Holds the frames that were on their way.
    Done(InFlight),
    /// The machine with this number can't be saved, for a reason in a few words.
    Impossible(usize, String),
}

/// Saves machines that are plugged into `switch`, each to its folder in `store`: all are at rest, then all are stopped,
/// then all are written. Afterwards they are off, unless saving fails.
///
/// # Errors
/// Those of [`Machine::save`], with the number of the machine.
pub(crate) async fn save_together(
    machines: &[Machine],
    folders: &[PathBuf],
    store: &Path,
    switch: &Arc<Switch>,
) -> Result<SavedTogether, (usize, Error)> {
    let turns = turn::of_all(machines).await;
    let resting = turns.iter().zip(folders).map(|(turn, folder)| turn.come_to_rest(folder, store));
    let mut ready = Vec::new();
    for (number, resting) in at_once::all(resting).await.into_iter().enumerate() {
        match resting.map_err(|error| (number, error))? {
            Ok(resting) => ready.push(resting),
            Err(why) => return Ok(SavedTogether::Impossible(number, why)),
        }
    }
    // After the machines are saved, they are off, so the switch forwards nothing when it thaws.
    let frozen = Frozen::of(Some(switch));
    frozen.drained(turn::slowest(&turns)).await;
    let stopped = at_once::all(turns.iter().map(|turn| turn.life.stop())).await;
    for (number, stopped) in stopped.into_iter().enumerate() {
        stopped.map_err(|error| (number, error))?;
    }
    let events = turns.first().map_or_else(Events::none, |turn| turn.life.events.clone());
    let in_flight = frozen.in_flight(&events);
    let written = at_once::all(ready.into_iter().map(|resting| resting.write())).await;
    for (number, written) in written.into_iter().enumerate() {
        match written.map_err(|error| (number, error))? {
            Saved::Done => {}
            Saved::Impossible(why) => return Ok(SavedTogether::Impossible(number, why)),
        }
    }
    Ok(SavedTogether::Done(in_flight))
}

/// Lets clones whose states are loaded run, and thaws their switch. Then waits until each has shown that it runs. Returns
/// the outcomes in the order of the clones.
pub(crate) async fn run_together(loaded: Vec<Loaded>, frozen: Frozen) -> Vec<Result<Machine>> {
    let run = at_once::all(loaded.iter().map(Loaded::go_on)).await;
    // The slowest clone's first answer may take long, and guests notice when their peers are silent.
    drop(frozen);
    let up = loaded.into_iter().zip(run).map(async |(loaded, run)| {
        run?;
        loaded.up().await
    });
    at_once::all(up).await
}
