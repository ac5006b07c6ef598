//! The difference between the clock of a guest's kernel and the guest's uptime.
//!
//! The kernel stamps its records with its own clock, which is fast to read and is not corrected. Where the processor's
//! counter is not stable, it can differ by ten seconds from the uptime that the guest's shell reads. So the uptime
//! alone can't tell which records belong to a command. The difference is measured with a line that is written to the
//! kernel's log when root's channel is opened (see
//! [`Channel::compare_clocks`](crate::channel::Channel::compare_clocks)). It is measured again when a machine resumes
//! from a saved moment or wakes up.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::channel::Clocks;

/// The kernel may print a record late when the line is busy, and the clocks drift.
const LAG: f64 = 1.0;

/// Lower and upper bound of how far the kernel's clock is ahead of the uptime, in seconds. Nothing if that is unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct KernelClock {
    least: f64,
    most: f64,
}

impl KernelClock {
    /// Computes the difference from a line in the kernel's log.
    pub(crate) fn of(clocks: Clocks) -> Self {
        let (logged, before, after) =
            (clocks.logged.as_secs_f64(), clocks.uptime.0.as_secs_f64(), clocks.uptime.1.as_secs_f64());
        Self { least: logged - after, most: logged - before }
    }

    /// Returns the kernel times of the records that can have been printed between two uptimes. The range is empty if
    /// one of them is unknown (a NaN).
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
