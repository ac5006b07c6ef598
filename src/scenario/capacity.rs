//! What this host has for machines, and what they take.

use serde::{Deserialize, Serialize};

/// What machines take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Need {
    /// MiB of memory.
    pub(super) memory: u64,
    pub(super) cores: u64,
}

/// What a machine takes beside the guest's own memory, in MiB: QEMU, and its translated code.
pub(super) const BESIDE: u64 = 256;
/// The memory of a machine that does not say how much it has, in MiB.
pub(super) const USUAL: u64 = 1024;

/// What there is to share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity(Need);

impl Capacity {
    /// This host's: its processors, and seven eighths of the memory that this process may have; or what the
    /// user says.
    pub(super) fn of_host(cores: Option<u64>, mebibytes: Option<u64>) -> Self {
        let found = rustix::system::sysinfo();
        let total = u64::from(found.mem_unit) * found.totalram;
        // What a container may have; outside of one there is no such file.
        let allowed = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
        let allowed = allowed.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(u64::MAX);
        let memory = mebibytes.unwrap_or((total.min(allowed) >> 20) / 8 * 7);
        let processors = || std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        Self(Need { memory, cores: cores.unwrap_or_else(processors) })
    }

    #[cfg(test)]
    pub(super) const fn new(memory: u64, cores: u64) -> Self {
        Self(Need { memory, cores })
    }

    /// How many machines of the usual size run at once.
    pub(super) fn machines(self) -> u64 {
        self.0.cores.min(self.0.memory / (USUAL + BESIDE)).max(1)
    }

    /// Whether `need` fits beside what runs.
    pub(super) fn has_room(self, running: impl Iterator<Item = Need>, need: Need) -> bool {
        let all = running.fold(need, |sum, other| Need {
            memory: sum.memory.saturating_add(other.memory),
            cores: sum.cores.saturating_add(other.cores),
        });
        all.memory <= self.0.memory && all.cores <= self.0.cores
    }

    /// In words, what of `need` is more than there is at all.
    pub(super) fn exceeded_by(self, need: Need) -> Option<String> {
        if need.cores > self.0.cores {
            return Some(format!(
                "{} processors of the {} that there are for machines",
                need.cores, self.0.cores
            ));
        }
        let memory = format!("{} MiB of the {} that there are for machines", need.memory, self.0.memory);
        (need.memory > self.0.memory).then_some(memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_says_goes_before_what_the_host_has() {
        let host = Capacity::of_host(None, None);
        assert!(host.0.cores >= 1 && host.0.memory > 100, "{host:?}");
        assert_eq!(Capacity::of_host(Some(64), Some(4096)).0, Need { memory: 4096, cores: 64 });
        assert_eq!(Capacity::new(4096, 64).machines(), 3);
        assert_eq!(Capacity::new(100_000, 2).machines(), 2);
        assert_eq!(Capacity::new(100, 1).machines(), 1);
    }

    #[test]
    fn what_is_more_than_there_is_is_told() {
        let host = Capacity::new(4000, 2);
        assert_eq!(host.exceeded_by(Need { memory: 4000, cores: 2 }), None);
        let more = host.exceeded_by(Need { memory: 1, cores: 3 }).unwrap();
        assert_eq!(more, "3 processors of the 2 that there are for machines");
        let more = host.exceeded_by(Need { memory: 4001, cores: 2 }).unwrap();
        assert_eq!(more, "4001 MiB of the 4000 that there are for machines");
    }
}
