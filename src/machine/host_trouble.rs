//! Whether this host let a machine run. A guest that was not run for seconds reports stalls: its kernel sees a processor that
//! did nothing for too long, and can't see why.
//!
//! A host that slept, or that had something else to do, is seen on the host: CLOCK_BOOTTIME goes on in a suspend and
//! CLOCK_MONOTONIC does not; the kernel counts how long each of QEMU's threads waited for a processor
//! (/proc/PID/task/TID/schedstat), which is what a guest under KVM sees as steal time; and where the host is a guest itself,
//! its own steal time stands in /proc/stat.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::mutex::lock;
use crate::qemu::Qemu;

/// Between two looks at the host.
const BETWEEN: Duration = Duration::from_secs(10);
/// A kernel reports a stall after 20 s (soft lockup) to 120 s (hung task), and the report may wait as well.
const WINDOW: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(180));
/// A host that takes more than this share of the time is to blame.
const SHARE: f64 = 0.2;
/// Clocks are read one after the other.
const SUSPENDED: Duration = Duration::from_millis(500);

/// What was seen of the host while a machine ran on it. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct HostTrouble(Arc<Mutex<History>>);

#[derive(Debug, Default)]
struct History {
    /// The process of the machine's QEMU.
    pid: Option<u32>,
    samples: VecDeque<Sample>,
    /// The first trouble that was seen.
    first: Option<String>,
    /// How much longer it seems to have been suspended than it was, in a test.
    #[cfg(test)]
    offset: Duration,
}

/// A look at the host.
#[derive(Debug, Clone)]
struct Sample {
    at: Instant,
    /// For how long it was suspended since its boot.
    suspended: Duration,
    /// For how long each thread of QEMU has waited for a processor.
    waited: BTreeMap<u32, Duration>,
    /// What the host's own host took from each of its processors, on average.
    stolen: Duration,
}

impl HostTrouble {
    /// Looks at the host as long as `qemu` runs.
    pub(super) fn follow(&self, qemu: &Qemu) {
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

    /// Why the guest did not run as it should in the last minutes, if it was the host's doing.
    pub(super) fn now(&self) -> Option<String> {
        let pid = lock(&self.0).pid?;
        self.take(Sample::of(pid))
    }

    /// The same of any time since the machine's start.
    pub(super) fn ever(&self) -> Option<String> {
        self.now();
        lock(&self.0).first.clone()
    }

    fn take(&self, #[cfg_attr(not(test), expect(unused_mut))] mut sample: Sample) -> Option<String> {
        let mut history = lock(&self.0);
        #[cfg(test)]
        {
            sample.suspended += history.offset;
        }
        let why = history.samples.iter().find_map(|from| sample.since(from));
        if history.first.is_none() {
            history.first.clone_from(&why);
        }
        // Looks at other times than the regular ones take no place.
        let regular = history.samples.back().is_none_or(|last| sample.at - last.at >= BETWEEN / 2);
        if regular {
            while history.samples.front().is_some_and(|first| sample.at - first.at > WINDOW.1) {
                history.samples.pop_front();
            }
            history.samples.push_back(sample);
        }
        why
    }

    /// As after a look at a host that was suspended.
    #[cfg(test)]
    pub(super) fn was_suspended(&self) {
        let mut history = lock(&self.0);
        history.pid = Some(std::process::id());
        let suspended = Sample::of(std::process::id());
        let earlier = suspended.at.checked_sub(Duration::from_secs(30)).unwrap_or(suspended.at);
        let before = Sample { at: earlier, ..suspended };
        history.samples.push_back(before);
        history.offset = Duration::from_secs(3600);
    }
}

impl Sample {
    fn of(pid: u32) -> Self {
        let now = |clock| {
            let time = clock_gettime(clock);
            Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
        };
        let (running, all) = (now(ClockId::Monotonic), now(ClockId::Boottime));
        Self {
            at: Instant::now(),
            suspended: all.saturating_sub(running),
            waited: waited(pid),
            stolen: stolen(&std::fs::read_to_string("/proc/stat").unwrap_or_default()),
        }
    }

    /// Why a guest did not run between two looks, if it was the host's doing.
    fn since(&self, from: &Self) -> Option<String> {
        let elapsed = self.at - from.at;
        let suspended = self.suspended.saturating_sub(from.suspended);
        if elapsed <= WINDOW.1 && suspended > SUSPENDED {
            return Some(format!("this host was suspended for {:.0} s", suspended.as_secs_f64().max(1.0)));
        }
        if elapsed < WINDOW.0 || elapsed > WINDOW.1 {
            return None;
        }
        let share = |time: Duration| time.as_secs_f64() / elapsed.as_secs_f64();
        let waited = self.waited.iter().filter_map(|(thread, waited)| {
            from.waited.get(thread).map(|before| share(waited.saturating_sub(*before)))
        });
        let waited = waited.fold(0.0, f64::max);
        let stolen = share(self.stolen.saturating_sub(from.stolen));
        let seconds = elapsed.as_secs();
        if waited > SHARE {
            return Some(format!(
                "this host was busy: the machine waited for a processor {:.0} % of {seconds} s",
                waited * 100.0
            ));
        }
        (stolen > SHARE)
            .then(|| format!("this host's own host took {:.0} % of its time in {seconds} s", stolen * 100.0))
    }
}

/// How long each thread of a process has waited for a processor: the second number in its schedstat (proc(5),
/// Documentation/scheduler/sched-stats.rst), in nanoseconds. None where the kernel does not count it.
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

/// The steal time in /proc/stat, the eighth number of its first line, for each of the processors.
fn stolen(stat: &str) -> Duration {
    let processors = stat.lines().filter(|line| line.starts_with("cpu")).count().saturating_sub(1).max(1);
    let ticks: u64 =
        stat.lines().next().and_then(|line| line.split_whitespace().nth(8)?.parse().ok()).unwrap_or(0);
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64 / processors as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(start: Instant, at: u64, suspended: u64, waited: u64, stolen: u64) -> Sample {
        let seconds = Duration::from_secs;
        let waited = BTreeMap::from([(1, seconds(1)), (2, seconds(waited))]);
        let (at, suspended, stolen) = (start + seconds(at), seconds(suspended), seconds(stolen));
        Sample { at, suspended, waited, stolen }
    }

    #[test]
    fn a_host_that_slept_or_took_more_than_a_fifth_of_the_time_is_to_blame() {
        let start = Instant::now();
        let before = sample(start, 0, 7, 100, 50);
        for (after, words) in [
            (sample(start, 30, 7, 105, 55), None),
            (sample(start, 1, 9, 100, 50), Some("suspended for 2 s")),
            (sample(start, 30, 7, 107, 50), Some("waited for a processor 23 % of 30 s")),
            (sample(start, 30, 7, 100, 57), Some("took 23 % of its time in 30 s")),
            // Too short a time, and one that is over.
            (sample(start, 5, 7, 104, 50), None),
            (sample(start, 400, 99, 300, 250), None),
        ] {
            let why = after.since(&before);
            assert_eq!(why.is_some(), words.is_some(), "{after:?}: {why:?}");
            assert!(words.is_none_or(|words| why.as_deref().unwrap_or_default().contains(words)), "{why:?}");
        }
    }

    #[test]
    fn trouble_that_is_over_is_remembered_as_such() {
        let (start, its) = (Instant::now(), HostTrouble::default());
        assert_eq!(its.take(sample(start, 0, 0, 0, 0)), None);
        assert!(its.take(sample(start, 10, 5, 0, 0)).is_some());
        assert_eq!(its.take(sample(start, 300, 5, 0, 0)), None);
        assert!(lock(&its.0).first.is_some());
        assert_eq!(lock(&its.0).samples.len(), 1, "what is too old is not kept");
    }

    #[test]
    fn a_process_of_this_host_can_be_looked_at() {
        let sample = Sample::of(std::process::id());
        assert!(!sample.waited.is_empty() || !std::path::Path::new("/proc/self/schedstat").exists());
        assert_eq!(stolen("cpu  1 2 3 4 5 6 7 200 0 0\ncpu0 1 2\ncpu1 1 2\n").as_secs_f64() * 2.0, {
            200.0 / rustix::param::clock_ticks_per_second() as f64
        });
        assert_eq!(stolen(""), Duration::ZERO);
    }
}
