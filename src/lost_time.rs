//! Measures time that this host lost: to suspends, and to its own host if it is a guest itself.
//!
//! CLOCK_BOOTTIME continues in a suspend and CLOCK_MONOTONIC does not. /proc/stat has the steal time of a guest.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// If a host loses more than this share of its time, it is too slow for limits and for its guests.
pub(crate) const TOO_MUCH: f64 = 0.2;
/// Shorter differences are ignored, since the clocks are read one after the other.
const SUSPENDED: Duration = Duration::from_millis(500);

/// The time that a host has lost since its boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LostTime {
    /// How long it was suspended.
    pub(crate) suspended: Duration,
    /// The time that its own host took from each of its processors, on average.
    pub(crate) stolen: Duration,
}

impl LostTime {
    /// Returns the time lost up to now.
    pub(crate) fn now() -> Self {
        let now = |clock| {
            let time = clock_gettime(clock);
            Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
        };
        let (running, all) = (now(ClockId::Monotonic), now(ClockId::Boottime));
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        Self { suspended: all.saturating_sub(running), stolen: stolen(&stat) }
    }

    /// Returns the time lost since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let suspended = self.suspended.saturating_sub(before.suspended);
        Self {
            suspended: if suspended > SUSPENDED { suspended } else { Duration::ZERO },
            stolen: self.stolen.saturating_sub(before.stolen),
        }
    }

    /// Returns the share of `elapsed` that its own host took. `elapsed` must not include suspends.
    pub(crate) fn stolen_share(&self, elapsed: Duration) -> f64 {
        share(self.stolen, elapsed)
    }
}

/// Returns the share of `time` in `elapsed`.
pub(crate) fn share(time: Duration, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { time.as_secs_f64() / elapsed.as_secs_f64() }
}

/// Returns the steal time in /proc/stat (proc_stat(5)), the eighth number of its first line, per processor.
fn stolen(stat: &str) -> Duration {
    let processors = stat.lines().filter(|line| line.starts_with("cpu")).count().saturating_sub(1).max(1);
    let ticks: u64 =
        stat.lines().next().and_then(|line| line.split_whitespace().nth(8)?.parse().ok()).unwrap_or(0);
    let seconds = ticks as f64 / rustix::param::clock_ticks_per_second().max(1) as f64 / processors as f64;
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steal_time_is_that_of_a_processor_on_average() {
        let stat = "cpu  1 2 3 4 5 6 7 200 0 0\ncpu0 1 2\ncpu1 1 2\nintr 5\n";
        let tick = 1.0 / rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(stolen(stat).as_secs_f64(), 100.0 * tick);
        for nothing in ["", "cpu", "cpu 1 2 3", "cpu  x x x x x x x -1 0 0\n"] {
            assert_eq!(stolen(nothing), Duration::ZERO, "{nothing:?}");
        }
        assert!(stolen("cpu  0 0 0 0 0 0 0 18446744073709551615\n") > Duration::ZERO);
    }

    #[test]
    fn a_suspend_is_told_from_two_clocks_that_are_read_one_after_the_other() {
        let seconds = Duration::from_secs;
        let before = LostTime { suspended: seconds(7), stolen: seconds(50) };
        let after = LostTime { suspended: Duration::from_millis(7400), stolen: seconds(57) };
        assert_eq!(after.since(&before), LostTime { suspended: Duration::ZERO, stolen: seconds(7) });
        let slept = LostTime { suspended: seconds(9), ..before };
        assert_eq!(slept.since(&before).suspended, seconds(2));
        assert!((after.since(&before).stolen_share(seconds(30)) - 7.0 / 30.0).abs() < 1e-9);
        assert_eq!(after.since(&before).stolen_share(Duration::ZERO), 0.0);
    }
}
