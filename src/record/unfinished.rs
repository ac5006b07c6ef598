//! Completes the record of a run that was interrupted or killed. The files made from its transcripts are made by the
//! next command that reads the record, or by the run itself while a signal ends it.

use std::io::Write as _;
use std::sync::Mutex;

use super::history::{History, Scenario};
use super::{EVENTS, EventLine, Folder, Keeper, VERSION};
use crate::mutex::lock;
use crate::{Error, Event, Events, FileKind, Result};

/// Makes the missing films, pictures and logs of all transcripts of scenarios that have not ended, and records that
/// they exist. Takes only the scenarios for which `meant` is true of the suite and the name: call it only while no other
/// process writes files of these. A transcript that fails does not stop the others.
///
/// # Errors
/// The first [`crate::ErrorKind::Io`] of those when the record can't be read or written.
pub(crate) fn complete(folder: &Folder, meant: impl Fn(&str, &str) -> bool) -> Result {
    let history = History::of(folder.files())?;
    let mut outcome = Ok(());
    for scenario in history.scenarios.iter().filter(|scenario| meant(&scenario.suite, &scenario.name)) {
        for attempt in scenario.attempts.iter().filter(|attempt| attempt.took.is_none()) {
            for machine in &attempt.machines {
                for file in machine.files.iter().filter(|file| file.kind == FileKind::Transcript) {
                    // The log is made before all files that may be missing.
                    let is_made = folder.files().file(file.path.with_extension(super::FILM)).is_ok();
                    if file.is_within() && !is_made {
                        let made = made(folder, scenario, &machine.name, &file.path, history.last);
                        outcome = outcome.and(made);
                    }
                }
            }
        }
    }
    outcome
}

/// Makes the readable files of one transcript. The events have the time at which the record ends.
fn made(
    folder: &Folder,
    scenario: &Scenario,
    machine: &str,
    transcript: &std::path::Path,
    time: f64,
) -> Result {
    let failed = |error: std::io::Error| Error::io("complete the record of a run that did not end", &error);
    let told = std::sync::Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let events = Events::new(move |event: &Event| lock(&tell).push(event.clone()));
    let within = transcript.parent().unwrap_or(transcript).to_owned();
    let keeper = Keeper::unfinished(folder.shared_files(), within, events);
    keeper.mask(transcript).and_then(|()| keeper.make(machine, transcript, false)).map_err(failed)?;
    let mut lines = Vec::new();
    for event in lock(&told).drain(..) {
        let (scenario, suite) = (scenario.name.clone(), scenario.suite.clone());
        let line = EventLine { v: VERSION, time, scenario, suite, event };
        serde_json::to_writer(&mut lines, &line).map_err(|error| failed(error.into()))?;
        lines.push(b'\n');
    }
    let written = folder.files().append(EVENTS, 0o600).and_then(|mut file| file.write_all(&lines));
    written.map_err(failed)
}
