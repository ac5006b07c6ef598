//! The clock of a guest's kernel against the guest's uptime.
//!
//! The kernel stamps its records by a clock of its own, which is fast to read and not put right. Where the processor's counter
//! is not stable it can be ten seconds from the uptime that the guest's shell reads. So which records belong to a command can't
//! be told by the uptime alone: the difference is taken from a line that is written to the kernel's log when root's channel is
//! opened (see [`Channel::compare_clocks`](crate::channel::Channel::compare_clocks)), and again when a machine goes on from a saved
//! moment or wakes up.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::channel::Clocks;

/// The kernel may print a record a little after its time, when the line is busy, and the clocks drift.
const LAG: f64 = 1.0;

/// How far the kernel's clock is ahead of the uptime, in seconds: at least and at most. Nothing where that is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct KernelClock {
    least: f64,
    most: f64,
}

impl KernelClock {
    /// As a line in the kernel's log shows it.
    pub(crate) fn of(clocks: Clocks) -> Self {
        let (logged, before, after) =
            (clocks.logged.as_secs_f64(), clocks.uptime.0.as_secs_f64(), clocks.uptime.1.as_secs_f64());
        Self { least: logged - after, most: logged - before }
    }

    /// The times, by the kernel's clock, of the records that can have been printed from one uptime to another. There are none
    /// where one of them is not known (a NaN).
    pub(crate) fn window(self, since: f64, until: f64) -> RangeInclusive<f64> {
        since + self.least - LAG..=until + self.most + LAG
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn records_are_those_of_a_command_by_the_kernels_own_clock() {
        let uptime = (Duration::from_millis(20_000), Duration::from_millis(20_500));
        for (logged, window) in [(30, 38.5..=44.0), (10, 18.5..=24.0), (20, 28.5..=34.0)] {
            let clock = KernelClock::of(Clocks { logged: Duration::from_secs(logged), uptime });
            assert_eq!(clock.window(30.0, 33.0), window, "{logged}");
        }
        assert_eq!(KernelClock::default().window(30.0, 33.0), 29.0..=34.0, "as if they were the same");
        assert!(KernelClock::default().window(f64::NAN, 33.0).is_empty());
        assert!(KernelClock::default().window(30.0, f64::NAN).is_empty());
        assert!(KernelClock::default().window(30.0, f64::INFINITY).contains(&1e9));
    }
}
