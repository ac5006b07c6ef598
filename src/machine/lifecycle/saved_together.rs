//! Saves the machines of one network at one moment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::at_once;
use crate::machine::lifecycle::frozen::Frozen;
use crate::machine::{Life, Machine};
use crate::network::{InFlight, Switch};
use crate::qemu::Saved;
use crate::{Error, Result};

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
    let lives: Vec<Arc<Life>> = machines.iter().map(Machine::life).collect();
    let resting = machines.iter().zip(&lives).zip(folders);
    let resting = resting.map(|((machine, life), folder)| machine.come_to_rest(life, folder, store));
    let mut ready = Vec::new();
    for (number, resting) in at_once::all(resting).await.into_iter().enumerate() {
        match resting.map_err(|error| (number, error))? {
            Ok(resting) => ready.push(resting),
            Err(why) => return Ok(SavedTogether::Impossible(number, why)),
        }
    }
    // The machines that are saved do not go on: the switch thaws for nobody.
    let frozen = Frozen::of(Some(switch));
    frozen.drained().await;
    let stopped = at_once::all(lives.iter().map(|life| life.stop())).await;
    for (number, stopped) in stopped.into_iter().enumerate() {
        stopped.map_err(|error| (number, error))?;
    }
    let in_flight = frozen.in_flight();
    let written = at_once::all(ready.into_iter().map(|resting| resting.write())).await;
    for (number, written) in written.into_iter().enumerate() {
        match written.map_err(|error| (number, error))? {
            Saved::Done => {}
            Saved::Impossible(why) => return Ok(SavedTogether::Impossible(number, why)),
        }
    }
    Ok(SavedTogether::Done(in_flight))
}
