//! Reports an incomplete record. A scenario does not fail if its record can't be written (the disk is full); one note
//! says so.

use std::fmt::Display;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Events;

/// Receives the note. A process writes one record.
static LISTENER: OnceLock<Events> = OnceLock::new();
static SAID: AtomicBool = AtomicBool::new(false);

/// Sets `events`, which get one note if the record of this process is incomplete.
pub(crate) fn tell(events: Events) {
    let _ = LISTENER.set(events);
}

/// Disables the note: a signal ends the run, and the files of its machines disappear.
pub(crate) fn fall_silent() {
    SAID.store(true, Ordering::Relaxed);
}

/// Reports that something is missing from the record, and why. Only the first call in this process sends a note.
pub(crate) fn incomplete(what: &str, why: &dyn Display) {
    tracing::warn!(%why, what, "the record of this run is incomplete");
    if let Some(events) = LISTENER.get().filter(|_| !SAID.swap(true, Ordering::Relaxed)) {
        events.note(format!("the record of this run is incomplete: {what}: {why}"));
    }
}
