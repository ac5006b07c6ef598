//! Pauses all limits of scenarios while a person looks at a machine.
//!
//! The whole process pauses. A person may look at one machine for a long time, and other scenarios may wait
//! for what they share with it (the host's processors, a gdb that holds a guest).

use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::mutex::lock;
use crate::stopped;

/// The interval of checks for a passed limit during a pause.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Clock {
    /// The present number of pauses.
    pauses: usize,
    /// When the present pause began. Time in which this process is stopped is counted elsewhere.
    since: Option<stopped::Instant>,
    /// How long the finished pauses lasted.
    over: Duration,
}

static CLOCK: Mutex<Clock> = Mutex::new(Clock { pauses: 0, since: None, over: Duration::ZERO });

fn clock() -> MutexGuard<'static, Clock> {
    lock(&CLOCK)
}

/// A pause, which stops all limits until this is dropped.
#[derive(Debug)]
pub(crate) struct Pause(());

/// Begins a pause.
pub(crate) fn begin() -> Pause {
    let mut clock = clock();
    clock.pauses += 1;
    clock.since.get_or_insert_with(stopped::Instant::now);
    Pause(())
}

impl Drop for Pause {
    fn drop(&mut self) {
        let mut clock = clock();
        clock.pauses -= 1;
        if clock.pauses == 0 {
            let lasted = clock.since.take().map_or(Duration::ZERO, |since| since.elapsed());
            clock.over += lasted;
        }
    }
}

/// Returns how long this process has been paused or stopped so far.
pub(crate) fn so_far() -> Duration {
    let clock = clock();
    clock.over + clock.since.map_or(Duration::ZERO, |since| since.elapsed()) + stopped::so_far()
}

/// A point in time that pauses move.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    paused_before: Duration,
}

impl Deadline {
    /// Makes a deadline after `limit`, not counting pauses.
    pub(crate) fn after(limit: Duration) -> Self {
        Self::at(Instant::now() + limit)
    }

    /// Makes a deadline at this time, moved by pauses from now on.
    pub(crate) fn at(at: Instant) -> Self {
        Self { at, paused_before: so_far() }
    }

    /// Returns the remaining time; zero if the deadline has passed.
    pub(crate) fn left(self) -> Duration {
        (self.at + so_far().saturating_sub(self.paused_before)).saturating_duration_since(Instant::now())
    }

    /// Returns the result of `future`, or `None` if the deadline passes first.
    pub(crate) async fn within<T>(self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        loop {
            let left = self.left();
            if left.is_zero() {
                // A future that is ready counts.
                return tokio::time::timeout(Duration::ZERO, &mut future).await.ok();
            }
            if let Ok(done) = tokio::time::timeout(left, &mut future).await {
                return Some(done);
            }
            // The remaining time does not shrink during a pause, so an occasional check is enough.
            if clock().pauses > 0
                && let Ok(done) = tokio::time::timeout(LOOK, &mut future).await
            {
                return Some(done);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_limit_does_not_run_during_a_pause() {
        let short = Duration::from_millis(150);
        let deadline = Deadline::after(short);
        let begun = Instant::now();
        let paused = async {
            let pause = begin();
            let inner = begin();
            tokio::time::sleep(short).await;
            drop(inner);
            // The outer pause continues.
            tokio::time::sleep(short).await;
            drop(pause);
            std::future::pending::<()>().await;
        };
        assert!(deadline.within(paused).await.is_none());
        assert!(begun.elapsed() >= Duration::from_millis(440), "{:?}", begun.elapsed());
        assert_eq!(Deadline::after(short).within(async { 7 }).await, Some(7));
    }
}
