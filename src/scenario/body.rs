//! The time limits of a scenario's function and of what follows it.

use std::time::{Duration, Instant};

use super::registry::Scenario;
use super::run::GRACE;
use crate::{Error, ErrorKind, Event, Events};

/// A scenario's function while it runs. What happens to the machines after it has ended, or was given up, is
/// not a step of the scenario and has no line.
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

/// Returns the error of a scenario that did not end within `limit`.
pub(super) fn timed_out(elapsed: Duration, limit: Duration) -> Error {
    Error::new(ErrorKind::Timeout, "the scenario did not end within its time limit")
        .took(elapsed, limit)
        .next_step("if it needs longer, give it a limit of its own: `#[scenario(timeout = \"10m\")]`")
}

/// Returns the error of a scenario that blocks its thread, so that it can't be ended.
pub(super) fn blocked(limit: Duration) -> Error {
    Error::new(ErrorKind::Timeout, "the scenario did not end within its time limit, and holds its thread")
        .took(limit + GRACE, limit)
        .likely_cause("it blocks: std::thread::sleep, a lock, or blocking input or output in async code")
        .next_step("use tokio's replacement (tokio::time::sleep), or tokio::task::spawn_blocking")
}

/// Returns the error if what follows the function did not end within `limit`, although each part of it has
/// its own limit.
pub(super) fn unfinished(limit: Duration) -> Error {
    let summary = "the scenario's function ended, but its cleanup did not end in time";
    held(Error::new(ErrorKind::Timeout, summary).took(limit, limit))
}

/// Returns the error if what follows the function can't end, because its runtime has run nothing for
/// `silence`.
pub(super) fn silent(silence: Duration) -> Error {
    let summary = "the scenario's function ended, but its cleanup can't: its runtime no longer runs tasks";
    held(Error::new(ErrorKind::Timeout, summary).took(silence, silence))
}

fn held(error: Error) -> Error {
    error
        .likely_cause("a task that the scenario spawned blocks, and holds the threads of its runtime")
        .next_step("use tokio's replacement (tokio::time::sleep), or tokio::task::spawn_blocking")
}
