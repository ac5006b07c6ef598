//! What else the host does while KVM is tried: time that its own host took from it, and suspends.

use std::fmt;
use std::fs;
use std::time::Duration;

/// More than this share of the time makes limits too short.
const STOLEN: f64 = 0.2;

/// Counters of the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Load {
    /// Ticks of all processors, and those of them that the host's own host took (proc_stat(5)).
    all: u64,
    stolen: u64,
    /// Seconds since the host was booted, suspended or not.
    uptime: f64,
}

/// What came between two looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Lost {
    stolen: f64,
    suspended: f64,
}

impl Load {
    pub(super) fn now() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self::of(&read("/proc/stat"), &read("/proc/uptime"))
    }

    fn of(stat: &str, uptime: &str) -> Self {
        let line = stat.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        let uptime = uptime.split_whitespace().next().and_then(|word| word.parse().ok());
        // The first eight; the rest is part of them.
        let all = ticks.iter().take(8).sum();
        Self { all, stolen: ticks.get(7).copied().unwrap_or_default(), uptime: uptime.unwrap_or_default() }
    }

    /// `elapsed` is by a clock that stands still while the host is suspended.
    pub(super) fn since(&self, before: &Self, elapsed: Duration) -> Lost {
        let all = self.all.saturating_sub(before.all).max(1);
        let stolen = self.stolen.saturating_sub(before.stolen) as f64 / all as f64;
        let suspended = self.uptime - before.uptime - elapsed.as_secs_f64();
        Lost { stolen, suspended: if suspended > 1.0 { suspended } else { 0.0 } }
    }
}

impl Lost {
    pub(super) fn trouble(&self) -> Option<&'static str> {
        if self.suspended > 0.0 {
            return Some("the host was suspended meanwhile, so times say nothing");
        }
        (self.stolen > STOLEN).then_some("its own host takes much of its time, so limits may be too short")
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} % of the time stolen, ", self.stolen * 100.0)?;
        match self.suspended {
            0.0 => f.write_str("not suspended"),
            seconds => write!(f, "suspended for {seconds:.0} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_was_stolen_or_slept_through_is_told() {
        let before = Load::of("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1\n", "1000.50 1.0\n");
        let busy = Load::of("cpu  150 0 100 850 0 0 0 100 0 0\n", "1010.50 1.0\n");
        let lost = busy.since(&before, Duration::from_secs(10));
        assert_eq!(lost.to_string(), "50 % of the time stolen, not suspended");
        assert!(lost.trouble().unwrap().contains("its own host"));
        let slept = Load { uptime: 1600.5, ..before }.since(&before, Duration::from_secs(10));
        assert_eq!(slept.to_string(), "0 % of the time stolen, suspended for 590 s");
        assert!(slept.trouble().unwrap().contains("suspended"));
        assert_eq!(Load::of("", "").since(&Load::of("", ""), Duration::from_secs(60)).trouble(), None);
    }
}
