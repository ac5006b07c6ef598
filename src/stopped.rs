//! Measures time in which this process did not run because it (SIGSTOP, ^Z, a debugger) or its host was stopped. Limits
//! do not count this time.
//!
//! QEMU keeps running meanwhile, but this process does not read its output. If limits counted this time, a machine
//! would seem silent although it is not. A thread reads the clock at a fixed interval. A gap between two readings that
//! is much longer than this interval is time in which this process did not run. Each request for the time also reads
//! the clock, so no limit ends before the gap is noticed.

use std::future::Future;
use std::ops::{Add, Sub};
use std::pin::pin;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use tokio::time::error::Elapsed;

use crate::mutex::lock;

/// Interval between two clock readings of the thread.
const LOOK: Duration = Duration::from_millis(250);
/// Longer gaps between two readings count as lost. A busy host delays a thread by less.
const LOST: Duration = Duration::from_secs(2);

/// The time that was lost so far.
#[derive(Debug)]
struct Clock {
    looked: Option<std::time::Instant>,
    lost: Duration,
}

impl Clock {
    fn look(&mut self, now: std::time::Instant) -> Duration {
        let between = self.looked.map_or(Duration::ZERO, |looked| now.saturating_duration_since(looked));
        if between >= LOST {
            self.lost += between;
        }
        self.looked = Some(now);
        self.lost
    }
}

static CLOCK: Mutex<Clock> = Mutex::new(Clock { looked: None, lost: Duration::ZERO });

/// Returns how long this process did not run so far, since the first call.
pub(crate) fn so_far() -> Duration {
    /// Whether the thread runs. Without it, lost time is unknown.
    static LOOKS: OnceLock<bool> = OnceLock::new();
    let looks = || {
        let forever = || {
            loop {
                std::thread::sleep(LOOK);
                let mut clock = lock(&CLOCK);
                clock.look(std::time::Instant::now());
            }
        };
        let thread = std::thread::Builder::new().name("clock".to_owned()).stack_size(64 * 1024);
        thread.spawn(forever).is_ok()
    };
    if !LOOKS.get_or_init(looks) {
        return Duration::ZERO;
    }
    let mut clock = lock(&CLOCK);
    // Under the lock, so that readings are in order.
    clock.look(std::time::Instant::now())
}

/// A point on the clock that runs only while this process runs. In tests, its underlying clock can be tokio's paused
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(tokio::time::Instant);

impl Instant {
    pub(crate) fn now() -> Self {
        // In this order: a stop between the two makes this moment too early, and not so late that a limit has passed.
        let now = tokio::time::Instant::now();
        let lost = so_far();
        Self(now.checked_sub(lost).unwrap_or(now))
    }

    /// Returns the time since then.
    pub(crate) fn elapsed(self) -> Duration {
        Self::now().saturating_duration_since(self)
    }

    pub(crate) fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }

    fn left(self) -> Duration {
        self.saturating_duration_since(Self::now())
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Limits the result to the end of the clock's range.
    fn add(self, time: Duration) -> Self {
        const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        Self(self.0 + time.min(FAR))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, time: Duration) -> Self {
        Self(self.0.checked_sub(time).unwrap_or(self.0))
    }
}

/// Returns the result of `future`, or an error if it takes longer than `limit`.
pub(crate) async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    timeout_at(Instant::now() + limit, future).await
}

/// Returns the result of `future`, or an error if it does not end before `at`.
pub(crate) async fn timeout_at<F: Future>(at: Instant, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    loop {
        match tokio::time::timeout(at.left(), future.as_mut()).await {
            Err(_) if !at.left().is_zero() => {}
            done => return done,
        }
    }
}

/// Waits until `at`.
pub(crate) async fn sleep_until(at: Instant) {
    while !at.left().is_zero() {
        tokio::time::sleep(at.left()).await;
    }
}

/// Waits for `time`.
pub(crate) async fn sleep(time: Duration) {
    sleep_until(Instant::now() + time).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_between_two_looks_is_lost() {
        let (begun, mut clock) = (std::time::Instant::now(), Clock { looked: None, lost: Duration::ZERO });
        let mut look = |at: u64| clock.look(begun + Duration::from_millis(at)).as_millis();
        assert_eq!([0, 250, 500, 1_900].map(&mut look), [0, 0, 0, 0], "a thread that waits for a processor");
        assert_eq!(look(61_900), 60_000, "a minute");
        assert_eq!([62_150, 62_000].map(&mut look), [60_000, 60_000]);
        assert_eq!(look(70_000), 68_000, "and once more");
    }

    #[tokio::test(start_paused = true)]
    async fn limits_hold_by_a_clock_that_can_be_paused() {
        let limit = Duration::from_secs(3600);
        let begun = Instant::now();
        assert!(timeout(limit, std::future::pending::<()>()).await.is_err());
        assert!(begun.elapsed() >= limit);
        sleep(limit).await;
        assert!(begun.elapsed() >= limit * 2);
        assert_eq!(timeout(Duration::MAX, async { 7 }).await.ok(), Some(7));
    }
}
