//! Finds out whether this host let a machine run. A guest that did not run for seconds reports stalls: its kernel
//! notices an idle processor, but not the cause.
//!
//! A host that slept or was busy shows it in two places: in its lost time (see [`crate::lost_time`]), and in how long
//! each of QEMU's threads waited for a processor (/proc/PID/task/TID/schedstat), which a guest under KVM sees as steal
//! time. The host is sampled every few seconds. So its state is known for any time of the last hour, and a stall is
//! attributed to the host only if the host was busy at the time of the stall.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::lost_time::{LostTime, TOO_MUCH, share};
use crate::mutex::lock;
use crate::qemu::Qemu;

/// Time between two samples of the host.
const BETWEEN: Duration = Duration::from_secs(5);
/// A sample that is no older than this is not repeated.
const FRESH: Duration = Duration::from_millis(200);
/// Maximum number of samples kept: one hour's worth.
const KEPT: usize = 720;
/// The minimum span. A shorter one is too imprecise: the samples are seconds apart, and a guest's times are not exact.
const LEAST: Duration = Duration::from_secs(20);

/// Samples of the host while a machine ran on it. Clones share the state.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostTrouble(Arc<Mutex<History>>);

#[derive(Debug, Default)]
struct History {
    /// The process of the machine's QEMU.
    pid: Option<u32>,
    /// Ordered by time.
    samples: VecDeque<Sample>,
}

/// One sample of the host.
#[derive(Debug, Clone)]
struct Sample {
    at: Instant,
    lost: LostTime,
    /// How long each thread of QEMU has waited for a processor.
    waited: BTreeMap<u32, Duration>,
}

impl HostTrouble {
    /// Samples the host while `qemu` runs.
    pub(crate) fn follow(&self, qemu: &Qemu) {
        let pid = qemu.pid();
        lock(&self.0).pid = Some(pid);
        let (its, mut exit) = (self.clone(), qemu.exit());
        tokio::spawn(async move {
            loop {
                its.take(Sample::of(pid));
                tokio::select! {
                    () = tokio::time::sleep(BETWEEN) => {}
                    _ = exit.wait_for(Option::is_some) => return,
                }
            }
        });
    }

    /// Samples the host, so that [`HostTrouble::during`] covers the time up to now.
    pub(crate) fn look(&self) {
        let pid = {
            let history = lock(&self.0);
            if history.samples.back().is_some_and(|last| last.at.elapsed() < FRESH) {
                return;
            }
            history.pid
        };
        // Done without the lock, because it reads files.
        if let Some(pid) = pid {
            self.take(Sample::of(pid));
        }
    }

    /// Returns why the guest did not run as it should in the `span` before `until`, if the host caused it.
    pub(crate) fn during(&self, span: Duration, until: Instant) -> Option<String> {
        let span = span.max(LEAST);
        let history = lock(&self.0);
        let from = until.checked_sub(span).or_else(|| history.samples.front().map(|first| first.at))?;
        let pairs = history.samples.iter().zip(history.samples.iter().skip(1));
        let (mut suspended, mut stolen) = (Duration::ZERO, Duration::ZERO);
        let mut waited: BTreeMap<u32, Duration> = BTreeMap::new();
        for (before, after) in pairs.filter(|(before, after)| before.at < until && after.at > from) {
            let lost = after.lost.since(&before.lost);
            // A suspend takes no time on the samples' clock. So it lies completely between these two samples.
            suspended += lost.suspended;
            let within = after.at.min(until).saturating_duration_since(before.at.max(from));
            let part = share(within, after.at.saturating_duration_since(before.at));
            stolen += lost.stolen.mul_f64(part);
            for (thread, time) in &after.waited {
                if let Some(earlier) = before.waited.get(thread) {
                    *waited.entry(*thread).or_default() += time.saturating_sub(*earlier).mul_f64(part);
                }
            }
        }
        drop(history);
        if !suspended.is_zero() {
            return Some(format!("this host was suspended for {:.0} s", suspended.as_secs_f64().max(1.0)));
        }
        let seconds = span.as_secs();
        let waited = share(waited.into_values().max().unwrap_or_default(), span);
        if waited > TOO_MUCH {
            return Some(format!(
                "this host was busy: the machine waited for a processor {:.0} % of {seconds} s",
                waited * 100.0
            ));
        }
        let stolen = share(stolen, span);
        (stolen > TOO_MUCH).then(|| {
            format!(
                "the hypervisor of this host took {:.0} % of its processor time in {seconds} \
                s",
                stolen * 100.0
            )
        })
    }

    fn take(&self, sample: Sample) {
        let mut history = lock(&self.0);
        // Two tasks may sample at the same time.
        if history.samples.back().is_some_and(|last| last.at >= sample.at) {
            return;
        }
        if history.samples.len() >= KEPT {
            history.samples.pop_front();
        }
        history.samples.push_back(sample);
    }

    /// Resets to the state before the first sample.
    #[cfg(test)]
    pub(crate) fn forget(&self) {
        lock(&self.0).samples.clear();
    }

    /// Returns the number of samples.
    #[cfg(test)]
    pub(crate) fn looks(&self) -> usize {
        lock(&self.0).samples.len()
    }

    /// Simulates samples of a host that was suspended for an hour some time `ago`, within ten seconds.
    #[cfg(test)]
    pub(crate) fn pretend_suspended(&self, ago: Duration) {
        let mut history = lock(&self.0);
        let now = Sample::of(std::process::id());
        history.pid = Some(std::process::id());
        history.samples.clear();
        for (ago, suspended) in [(ago + Duration::from_secs(10), 0), (ago, 3600)] {
            let at = now.at.checked_sub(ago).unwrap_or(now.at);
            let lost = LostTime { suspended: Duration::from_secs(suspended), ..now.lost };
            history.samples.push_back(Sample { at, lost, waited: now.waited.clone() });
        }
        // The host of this test has slept less than that.
        history.samples.push_back(Sample {
            at: now.at + Duration::from_secs(3600),
            lost: LostTime { suspended: Duration::from_secs(3600), ..now.lost },
            waited: now.waited,
        });
    }
}

impl Sample {
    fn of(pid: u32) -> Self {
        Self { at: Instant::now(), lost: LostTime::now(), waited: waited(pid) }
    }
}

/// Returns how long each thread of a process has waited for a processor: the second number in its schedstat (proc(5),
/// Documentation/scheduler/sched-stats.rst), in nanoseconds. Empty if the kernel does not count it.
fn waited(pid: u32) -> BTreeMap<u32, Duration> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of = |thread: std::fs::DirEntry| {
        let id = thread.file_name().to_str()?.parse().ok()?;
        let counts = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let waited = counts.split_whitespace().nth(1)?.parse().ok()?;
        Some((id, Duration::from_nanos(waited)))
    };
    threads.filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Builds a host that was sampled every five seconds, with the time that it had lost by each sample.
    fn host(start: Instant, looks: impl IntoIterator<Item = (u64, u64, u64)>) -> HostTrouble {
        let its = HostTrouble::default();
        for (number, (suspended, stolen, waited)) in looks.into_iter().enumerate() {
            let lost = LostTime { suspended: seconds(suspended), stolen: seconds(stolen) };
            let waited = BTreeMap::from([(1, seconds(1)), (2, seconds(waited))]);
            its.take(Sample { at: start + seconds(5) * u32::try_from(number).unwrap(), lost, waited });
        }
        its
    }

    #[test]
    fn a_host_that_slept_or_took_more_than_a_fifth_of_the_time_is_to_blame() {
        let start = Instant::now();
        let quiet = [(7, 50, 100); 6];
        for (last, words) in [
            ((7, 55, 105), None),
            ((9, 50, 100), Some("suspended for 2 s")),
            ((7, 50, 108), Some("waited for a processor 27 % of 30 s")),
            ((7, 58, 100), Some("took 27 % of its processor time in 30 s")),
        ] {
            let why = host(start, quiet.into_iter().chain([last])).during(seconds(30), start + seconds(30));
            assert_eq!(why.is_some(), words.is_some(), "{last:?}: {why:?}");
            assert!(words.is_none_or(|words| why.as_deref().unwrap_or_default().contains(words)), "{why:?}");
        }
    }

    #[test]
    fn only_what_the_host_did_in_the_time_that_a_line_is_about_counts() {
        let start = Instant::now();
        // Busy in the first minute, suspended in the second, quiet in the third.
        let of = |second: u64| (3 * u64::from(second >= 90), 0, second.min(60));
        let its = host(start, (0..=36).map(|number| of(number * 5)));
        for (span, until, words) in [
            (22, 30, Some("waited")),
            (22, 60, Some("waited")),
            (22, 82, None),
            (22, 100, Some("suspended")),
            (22, 115, None),
            (22, 170, None),
            (120, 170, Some("suspended")),
            (120, 84, Some("waited")),
            // The percentage refers to the whole time.
            (20, 75, Some("waited for a processor 25 %")),
            (20, 77, None),
            // Unknown time is no excuse.
            (22, 600, None),
        ] {
            let why = its.during(seconds(span), start + seconds(until));
            assert_eq!(why.is_some(), words.is_some(), "{span} s before {until}: {why:?}");
            assert!(words.is_none_or(|words| why.as_deref().unwrap_or_default().contains(words)), "{why:?}");
        }
    }

    #[test]
    fn the_looks_that_are_kept_are_bounded_and_one_that_comes_late_takes_no_place() {
        let start = Instant::now();
        let its = host(start, (0..2 * KEPT as u64).map(|number| (0, 0, number)));
        its.take(Sample { at: start, lost: LostTime::default(), waited: BTreeMap::new() });
        assert_eq!(its.looks(), KEPT);
        assert!(lock(&its.0).samples.iter().is_sorted_by_key(|sample| sample.at));
    }

    #[test]
    fn a_process_of_this_host_can_be_looked_at() {
        let sample = Sample::of(std::process::id());
        assert!(!sample.waited.is_empty() || !std::path::Path::new("/proc/self/schedstat").exists());
    }
}
