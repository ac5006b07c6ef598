//! A record that can't be written (the disk is full) is no reason for a scenario to fail; it is said, once.

use std::fmt::Display;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Events;

/// Who is told. A process writes one record.
static LISTENER: OnceLock<Events> = OnceLock::new();
static SAID: AtomicBool = AtomicBool::new(false);

/// `events` are told in one line when the record of this process turns out to be incomplete.
pub(crate) fn tell(events: Events) {
    let _ = LISTENER.set(events);
}

/// From now on nothing is said: a signal ends the run, whose machines vanish with their files.
pub(crate) fn fall_silent() {
    SAID.store(true, Ordering::Relaxed);
}

/// Something is not in the record: what, and why. The first time in this process it is said.
pub(crate) fn incomplete(what: &str, why: &dyn Display) {
    tracing::warn!(%why, what, "the record of this run is incomplete");
    if let Some(events) = LISTENER.get().filter(|_| !SAID.swap(true, Ordering::Relaxed)) {
        events.note(format!("the record of this run is incomplete: {what}: {why}"));
    }
}
