//! Time that does not count: while a person looks at a machine, no limit of a scenario runs.
//!
//! It is the whole process that pauses: whoever looks at one machine may be long, and scenarios beside it may wait for
//! what they share with it (the host's processors, a gdb that holds a guest).

use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::mutex::lock;
use crate::stopped;

/// Between two looks at whether a limit is reached, while there is a pause.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Clock {
    /// How many pauses there are now.
    pauses: usize,
    /// Since when.
    since: Option<Instant>,
    /// How long those lasted that are over.
    over: Duration,
}

static CLOCK: Mutex<Clock> = Mutex::new(Clock { pauses: 0, since: None, over: Duration::ZERO });

fn clock() -> MutexGuard<'static, Clock> {
    lock(&CLOCK)
}

/// Limits stand still as long as this lives.
#[derive(Debug)]
pub(crate) struct Pause(());

/// Begins a pause.
pub(crate) fn begin() -> Pause {
    let mut clock = clock();
    clock.pauses += 1;
    clock.since.get_or_insert_with(Instant::now);
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

/// How long this process has been paused so far, or stopped.
pub(crate) fn so_far() -> Duration {
    let clock = clock();
    clock.over + clock.since.map_or(Duration::ZERO, |since| since.elapsed()) + stopped::so_far()
}

/// A moment that pauses put off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    paused_before: Duration,
}

impl Deadline {
    /// In so long, pauses not counted.
    pub(crate) fn after(limit: Duration) -> Self {
        Self::at(Instant::now() + limit)
    }

    /// At this moment, and as much later as there are pauses from now on.
    pub(crate) fn at(at: Instant) -> Self {
        Self { at, paused_before: so_far() }
    }

    /// How long it is until then; zero when it is reached.
    pub(crate) fn left(self) -> Duration {
        (self.at + so_far().saturating_sub(self.paused_before)).saturating_duration_since(Instant::now())
    }

    /// What `future` gives, unless the deadline is reached before.
    pub(crate) async fn within<T>(self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        loop {
            let left = self.left();
            if left.is_zero() {
                // What is ready counts.
                return tokio::time::timeout(Duration::ZERO, &mut future).await.ok();
            }
            if let Ok(done) = tokio::time::timeout(left, &mut future).await {
                return Some(done);
            }
            // While a pause lasts, what is left does not get less: a look now and then is enough.
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
            // The outer one lasts.
            tokio::time::sleep(short).await;
            drop(pause);
            std::future::pending::<()>().await;
        };
        assert!(deadline.within(paused).await.is_none());
        assert!(begun.elapsed() >= Duration::from_millis(440), "{:?}", begun.elapsed());
        assert_eq!(Deadline::after(short).within(async { 7 }).await, Some(7));
    }
}
