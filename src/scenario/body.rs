//! A scenario's own function: when it begins and ends, and how long it may take.

use std::time::{Duration, Instant};

use super::registry::Scenario;
use super::run::GRACE;
use crate::{Error, ErrorKind, Event, Events};

/// A scenario's function while it runs. When it ends, or is given up, what is done with the machines is no step
/// of it any more and has no line.
pub(super) struct Body<'a> {
    events: &'a Events,
    pub(super) begun: Instant,
}

impl<'a> Body<'a> {
    pub(super) fn begin(scenario: &Scenario, events: &'a Events, limit: Duration) -> Self {
        crate::place::begin(scenario.file, scenario.line);
        events.send(Event::BodyStarted { limit });
        Self { events, begun: Instant::now() }
    }
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        self.events.send(Event::BodyFinished { took: self.begun.elapsed() });
        crate::place::end();
    }
}

/// It did not end within `limit`.
pub(super) fn timed_out(elapsed: Duration, limit: Duration) -> Error {
    Error::new(ErrorKind::Timeout, "the scenario did not end within its time limit")
        .took(elapsed, limit)
        .next_step("if it needs longer, give it a limit of its own: `#[scenario(timeout = \"10m\")]`")
}

/// It holds its thread, so that nothing can end it.
pub(super) fn blocked(limit: Duration) -> Error {
    Error::new(ErrorKind::Timeout, "the scenario did not end within its time limit, and holds its thread")
        .took(limit + GRACE, limit)
        .likely_cause("it blocks: std::thread::sleep, a lock, or blocking input or output in async code")
        .next_step("use what tokio has for it (tokio::time::sleep), or tokio::task::spawn_blocking")
}

/// What follows its function has not ended within `limit`, though each part of it has a limit of its own.
pub(super) fn unfinished(limit: Duration) -> Error {
    let summary = "the scenario's function ended, and what follows it did not end in time";
    held(Error::new(ErrorKind::Timeout, summary).took(limit, limit))
}

/// What follows its function can't end: its runtime has run nothing for `silence`.
pub(super) fn silent(silence: Duration) -> Error {
    let summary =
        "the scenario's function ended, and what follows it can't: its runtime runs nothing any more";
    held(Error::new(ErrorKind::Timeout, summary).took(silence, silence))
}

fn held(error: Error) -> Error {
    error
        .likely_cause("a task that the scenario spawned blocks, and holds the threads of its runtime")
        .next_step("use what tokio has for it (tokio::time::sleep), or tokio::task::spawn_blocking")
}
