//! Time in which this process did not run: it was stopped (SIGSTOP, ^Z, a debugger), or its host was. No limit runs then.
//!
//! QEMU goes on meanwhile and says things that nobody reads, so a limit that went on would find a machine silent that is not. What
//! is late when the process goes on is seen by a thread that looks at the clock all the time: between two of its looks there is
//! more time than it sleeps. Whoever asks for the time looks as well, so no limit ends before that thread has looked.

use std::future::Future;
use std::ops::{Add, Sub};
use std::pin::pin;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use tokio::time::error::Elapsed;

use crate::mutex::lock;

/// Between two looks of the thread.
const LOOK: Duration = Duration::from_millis(250);
/// So much time between two looks was lost. A host that is busy leaves a thread waiting for less.
const LOST: Duration = Duration::from_secs(2);

/// What was lost so far.
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

/// For how long this process did not run so far, since it asked for the first time.
pub(crate) fn so_far() -> Duration {
    /// Whether there is a thread that looks. Without one, nothing is known.
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
    // Behind the lock: the times of looks are in their order.
    clock.look(std::time::Instant::now())
}

/// A moment of the time in which this process runs. In tests, the clock below it can be tokio's paused one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(tokio::time::Instant);

impl Instant {
    pub(crate) fn now() -> Self {
        let lost = so_far();
        let now = tokio::time::Instant::now();
        Self(now.checked_sub(lost).unwrap_or(now))
    }

    /// How long ago it was.
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

    /// As far in the future as the clock goes, where that is not as far.
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

/// What `future` gives, unless that takes longer than `limit`.
pub(crate) async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    timeout_at(Instant::now() + limit, future).await
}

/// What `future` gives, unless the moment comes before.
pub(crate) async fn timeout_at<F: Future>(at: Instant, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    loop {
        match tokio::time::timeout(at.left(), future.as_mut()).await {
            Err(_) if !at.left().is_zero() => {}
            done => return done,
        }
    }
}

/// Waits until then.
pub(crate) async fn sleep_until(at: Instant) {
    while !at.left().is_zero() {
        tokio::time::sleep(at.left()).await;
    }
}

/// Waits so long.
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
