//! What slows the host down while KVM is tried: time that its own hypervisor took from it, and suspends.

use std::fmt;
use std::time::{Duration, Instant};

use crate::lost_time::{LostTime, TOO_MUCH};

/// The state at one time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    at: Instant,
    lost: LostTime,
}

/// What happened between two times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Lost {
    /// The share of the time that the host's hypervisor took.
    stolen: f64,
    suspended: Duration,
}

impl Load {
    pub(super) fn now() -> Self {
        Self { at: Instant::now(), lost: LostTime::now() }
    }

    pub(super) fn since(&self, before: &Self) -> Lost {
        let lost = self.lost.since(&before.lost);
        let stolen = lost.stolen_share(self.at.saturating_duration_since(before.at));
        Lost { stolen, suspended: lost.suspended }
    }
}

impl Lost {
    pub(super) fn trouble(&self) -> Option<&'static str> {
        if !self.suspended.is_zero() {
            return Some("the host was suspended meanwhile, so times are not meaningful");
        }
        (self.stolen > TOO_MUCH)
            .then_some("its hypervisor takes much of its processor time, so limits may be too short")
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} % of the time stolen, ", self.stolen * 100.0)?;
        match self.suspended {
            Duration::ZERO => f.write_str("not suspended"),
            time => write!(f, "suspended for {:.0} s", time.as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_was_stolen_or_slept_through_is_told() {
        let seconds = Duration::from_secs;
        let before = Load { at: Instant::now(), lost: LostTime::default() };
        let after = |suspended, stolen| {
            let lost = LostTime { suspended: seconds(suspended), stolen: seconds(stolen) };
            Load { at: before.at + seconds(10), lost }.since(&before)
        };
        let busy = after(0, 5);
        assert_eq!(busy.to_string(), "50 % of the time stolen, not suspended");
        assert!(busy.trouble().unwrap().contains("its hypervisor"));
        let slept = after(590, 0);
        assert_eq!(slept.to_string(), "0 % of the time stolen, suspended for 590 s");
        assert!(slept.trouble().unwrap().contains("suspended"));
        assert_eq!(after(0, 2).trouble(), None);
    }
}
