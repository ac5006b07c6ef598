//! A wait's turn on the line: until it has what it waits for, or until waiting is pointless.

use std::time::Duration;

use crate::stopped::{Instant, sleep_until, timeout_at};
use tokio::sync::Notify;

use super::engine::Engine;
use super::failure::Wait;
use super::line::SerialLine;
use super::pattern::Pattern;
use super::track::Position;
use super::watch::Fatal;
use crate::{Error, Result};

/// The silence that confirms a panic without a time stamp.
const SILENCE: Duration = Duration::from_secs(1);
/// How long to wait for the rest of the line with a panic, and for each further part of a dialog.
const REST_OF_LINE: Duration = Duration::from_millis(100);
/// After this time a dialog is complete.
const REST_OF_DIALOG: Duration = Duration::from_secs(1);

/// The turn of the wait on the line. Dropping it, at the end or earlier, ends the wait.
pub(super) struct Turn<'a> {
    pub(super) line: &'a SerialLine,
    _turn: tokio::sync::MutexGuard<'a, ()>,
    vigil: Vigil<'a>,
}

/// What ends a wait: its result, its limit, or a condition that makes waiting pointless.
pub(super) struct Vigil<'a> {
    pub(super) line: &'a SerialLine,
    pub(super) patterns: &'a [Pattern],
    pub(super) began: Instant,
    /// Where the text for the wait begins.
    pub(super) from: Position,
    pub(super) limit: Duration,
}

/// A longer duration could not be added to an instant, so it counts as forever.
pub(super) const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl<'a> Turn<'a> {
    /// Waits for the turn, at most `limit`.
    pub(super) async fn take(line: &'a SerialLine, patterns: &'a [Pattern], limit: Duration) -> Result<Self> {
        let began = Instant::now();
        let limit = limit.min(FOR_EVER);
        let Ok(turn) = timeout_at(began + limit, line.turn.lock()).await else {
            let mut engine = line.engine();
            engine.flush();
            let wait = Wait { elapsed: began.elapsed(), limit, ..Wait::on(&line.name, &engine, patterns) };
            return Err(wait
                .timed_out(&engine)
                .likely_cause("another wait on the same console took all of the time"));
        };
        let from = line.engine().seen();
        Ok(Self { line, _turn: turn, vigil: Vigil { line, patterns, began, from, limit } })
    }

    /// Waits until `ready` returns something, or until a failure.
    pub(super) async fn until<T>(self, ready: impl FnMut(&mut Engine) -> Option<T>) -> Result<T> {
        self.vigil.until(&self.line.bell, ready).await
    }
}

impl Vigil<'_> {
    /// Waits until `ready` returns something, or until a failure. Checks each time that `bell` is notified.
    pub(super) async fn until<T>(
        &self,
        bell: &Notify,
        mut ready: impl FnMut(&mut Engine) -> Option<T>,
    ) -> Result<T> {
        loop {
            let look = {
                let rung = bell.notified();
                tokio::pin!(rung);
                // A notification for all reaches only those that are already listening.
                rung.as_mut().enable();
                match self.look(&mut ready) {
                    Look::NotYet { wake_at } => {
                        tokio::select! {
                            () = rung => {}
                            () = sleep_until(wake_at) => {}
                        }
                        continue;
                    }
                    look => look,
                }
            };
            match look {
                Look::Ready(found) => return Ok(found),
                Look::Failed(error) => return Err(error),
                Look::FailedInTheMiddle => return self.fatal_in_a_moment(bell, &mut ready).await,
                Look::NotYet { .. } => {}
            }
        }
    }

    fn look<T>(&self, ready: &mut impl FnMut(&mut Engine) -> Option<T>) -> Look<T> {
        let mut engine = self.line.engine();
        if let Some(found) = ready(&mut engine) {
            return Look::Ready(found);
        }
        let now = Instant::now();
        let limit = engine.longest_wait.map_or(self.limit, |longest| longest.min(self.limit));
        let deadline = self.began + limit;
        let mut wake_at = deadline;
        if engine.fatal().is_none()
            && let Some(fatal) = engine.suspicion()
        {
            let confirmed = engine.heard() + self.line.speed.scale(SILENCE);
            if confirmed <= now {
                engine.confirm(fatal);
            }
            wake_at = wake_at.min(confirmed);
        }
        let failure = if let Some(fatal) = engine.fatal() {
            if engine.closed().is_none() && !self.is_said(&engine, fatal) {
                return Look::FailedInTheMiddle;
            }
            self.report(&engine).fatal(&engine, fatal)
        } else if let Some(why) = engine.closed() {
            self.report(&engine).closed(&engine, why)
        } else if let Some(why) = engine.halted() {
            self.report(&engine).halted(&engine, why)
        } else if now >= deadline {
            self.report(&engine).timed_out(&engine)
        } else {
            return Look::NotYet { wake_at };
        };
        engine.flush();
        Look::Failed(failure)
    }

    /// Whether it is complete: the line of a panic, or a dialog up to its question.
    fn is_said(&self, engine: &Engine, fatal: Fatal) -> bool {
        match fatal.dialog {
            Some(_) => engine.heard().elapsed() >= self.line.speed.scale(REST_OF_LINE),
            None => engine.line_at(fatal.at).1,
        }
    }

    /// Waits for the rest of the panic's line or of the dialog, which says why it happened.
    async fn fatal_in_a_moment<T>(
        &self,
        bell: &Notify,
        ready: &mut impl FnMut(&mut Engine) -> Option<T>,
    ) -> Result<T> {
        let speed = self.line.speed;
        let mut until = Instant::now() + speed.scale(REST_OF_LINE);
        let at_most = Instant::now() + speed.scale(REST_OF_DIALOG);
        loop {
            let rang = timeout_at(until, bell.notified()).await.is_ok();
            let mut engine = self.line.engine();
            // The result must not depend on where a chunk ends, so a pattern in the panic's line still
            // counts.
            if let Some(found) = ready(&mut engine) {
                return Ok(found);
            }
            let Some(fatal) = engine.fatal() else {
                return Err(self.report(&engine).timed_out(&engine));
            };
            if !rang || engine.closed().is_some() || self.is_said(&engine, fatal) {
                engine.flush();
                return Err(self.report(&engine).fatal(&engine, fatal));
            }
            if fatal.dialog.is_some() {
                until = at_most.min(Instant::now() + speed.scale(REST_OF_LINE));
            }
        }
    }

    fn report(&self, engine: &Engine) -> Wait<'_> {
        Wait {
            began: self.from,
            elapsed: self.began.elapsed(),
            limit: self.limit,
            ..Wait::on(&self.line.name, engine, self.patterns)
        }
    }
}

/// The result of a check of the engine.
enum Look<T> {
    Ready(T),
    Failed(Error),
    FailedInTheMiddle,
    NotYet { wake_at: Instant },
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.line.engine().abandon();
    }
}
