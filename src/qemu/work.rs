//! Whether a silent guest is working: whether the threads of its processors have something to do.
//!
//! On a loaded host even a thread that always computes gets little CPU time. So the time in which it waits
//! for a processor (/proc/PID/task/TID/schedstat) counts, too. A guest that waits for something, or has
//! ended, uses neither.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::processes::{time_of_thread, wanted_by_thread};
use super::{QMP_LIMIT, Qemu};

/// How long threads are observed at least.
pub(crate) const WATCHED: Duration = Duration::from_secs(5);
/// A thread that has something to do for this share of that time is busy. Only timers wake a guest at rest.
const SHARE: f64 = 0.75;

/// How much CPU time each thread has wanted by a given time.
#[derive(Debug)]
struct Sample {
    at: Instant,
    /// For how long this process or its host had stood still by then. The clock of `at` may go on meanwhile.
    stood: Duration,
    wanted: BTreeMap<u64, Duration>,
}

/// What has been observed of a guest's processors so far.
#[derive(Debug, Default)]
pub(crate) struct Work {
    before: Option<Sample>,
}

impl Work {
    /// Observes once more. Returns whether one of the guest's processors was busy since the first observation
    /// or the last answer, or `None` if that is not long enough ago. If QEMU does not list its threads, the
    /// guest counts as at rest.
    pub(crate) async fn look(&mut self, qemu: &Qemu) -> Option<bool> {
        let wanted = qemu.time_wanted().await.unwrap_or_default();
        self.see(Sample { at: Instant::now(), stood: crate::stopped::so_far(), wanted })
    }

    fn see(&mut self, now: Sample) -> Option<bool> {
        let Some(before) = &self.before else {
            self.before = Some(now);
            return None;
        };
        if before.stood != now.stood {
            self.before = Some(now);
            return None;
        }
        let passed = now.at.saturating_duration_since(before.at);
        if passed < WATCHED {
            return None;
        }
        let share = |(thread, wanted): (&u64, &Duration)| {
            let wanted = wanted.saturating_sub(*before.wanted.get(thread)?);
            Some(wanted.as_secs_f64() / passed.as_secs_f64())
        };
        let busy = now.wanted.iter().filter_map(share).any(|share| share >= SHARE);
        self.before = Some(now);
        Some(busy)
    }
}

impl Qemu {
    /// Returns how much CPU time each thread of the guest's processors has used or waited for.
    async fn time_wanted(&self) -> Option<BTreeMap<u64, Duration>> {
        let processors = self.qmp().execute("query-cpus-fast", None, QMP_LIMIT).await.ok()?;
        let threads = processors.as_array()?.iter().filter_map(|processor| processor["thread-id"].as_u64());
        let wanted = |thread| {
            let wanted = wanted_by_thread(self.pid(), thread).or_else(|| time_of_thread(self.pid(), thread));
            Some((thread, wanted?))
        };
        Some(threads.filter_map(wanted).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the answers for a guest whose threads want these shares of the time, with two observations per
    /// second.
    fn looked(seconds: u32, shares: &[f64]) -> Vec<bool> {
        let (mut work, begun) = (Work::default(), Instant::now());
        let looks = (0..=seconds * 2).filter_map(|look| {
            let passed = Duration::from_millis(500) * look;
            let wanted = shares.iter().enumerate();
            let wanted = wanted.map(|(thread, share)| (thread as u64, passed.mul_f64(*share))).collect();
            work.see(Sample { at: begun + passed, stood: Duration::ZERO, wanted })
        });
        looks.collect()
    }

    #[test]
    fn time_in_which_the_host_stood_still_makes_no_guest_idle() {
        let (mut work, begun) = (Work::default(), Instant::now());
        let mut look = |at: u64, stood: u64, wanted: u64| {
            let [at, stood, wanted] = [at, stood, wanted].map(Duration::from_secs);
            work.see(Sample { at: begun + at, stood, wanted: BTreeMap::from([(1, wanted)]) })
        };
        assert_eq!(look(0, 0, 0), None);
        assert_eq!(look(60, 58, 2), None, "it was busy for the 2 s in which the host ran");
        assert_eq!(look(66, 58, 8), Some(true));
    }

    #[test]
    fn one_busy_processor_is_enough_and_many_at_rest_are_none() {
        assert_eq!(looked(10, &[1.0]), [true, true]);
        assert_eq!(looked(5, &[0.01, 0.9, 0.01, 0.01]), [true]);
        assert_eq!(looked(5, &[0.3; 16]), [false], "each of them is woken by its timers");
        assert_eq!(looked(5, &[]), [false], "QEMU told no thread");
        assert!(looked(4, &[1.0]).is_empty(), "too early");
    }
}
