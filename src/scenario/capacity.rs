//! This host's capacity for machines, and what they need.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::host::{Load, Memory};

/// What machines need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Need {
    /// The memory, in MiB.
    pub(super) memory: u64,
    pub(super) cores: u64,
}

/// What a machine takes in addition to the guest's memory, in MiB: QEMU, and its translated code.
pub(super) const BESIDE: u64 = 256;
/// The memory of a machine whose memory is not known, in MiB.
pub(super) const USUAL: u64 = 1024;

/// A further machine waits while the host has more tasks per processor than this, not counting this user's
/// machines.
const BUSY: f64 = 2.0;
/// The longest time for which a busy host delays a machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The capacity for machines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    most: Need,
    /// Whether the value comes from the host and not from the user. Only then does the use of others count.
    memory_found: bool,
    cores_found: bool,
}

/// What other users and programs leave too little of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Lack {
    /// The needed and the available memory, in MiB.
    Memory(u64, u64),
    Processors(Load),
}

impl Lack {
    /// Whether the wait continues after it has lasted for `waited`.
    pub(super) fn holds_after(self, waited: Duration) -> bool {
        matches!(self, Self::Memory(..)) || waited < PATIENCE
    }
}

impl fmt::Display for Lack {
    /// Writes the condition for the end of the wait: "waiting until …".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(needed, available) => write!(
                f,
                "{needed} MiB of memory are available ({available} MiB are; other users and programs use the rest), \
                 or other machines of yours are done"
            ),
            Self::Processors(Load { average, processors }) => write!(
                f,
                "this host is less busy (load average {average:.1} on {processors} processors), for {} s at most",
                PATIENCE.as_secs()
            ),
        }
    }
}

impl Capacity {
    /// Returns this host's capacity: its processors, and seven eighths of the memory that this process may
    /// use, or what the user chose.
    pub(super) fn of_host(cores: Option<u64>, mebibytes: Option<u64>) -> Self {
        let memory = mebibytes.unwrap_or_else(|| Memory::look().total / 8 * 7);
        let processors = || std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        let most = Need { memory, cores: cores.unwrap_or_else(processors) };
        Self { most, memory_found: mebibytes.is_none(), cores_found: cores.is_none() }
    }

    /// Returns what is lacking for `need` at this moment because of other users. `cores` are the cores of
    /// this user's running machines.
    pub(super) fn lacks(self, need: Need, cores: u64) -> Option<Lack> {
        let memory = self.memory_found.then(Memory::look);
        let load = self.cores_found.then(Load::look).flatten();
        lacking(need, cores, memory, load)
    }

    #[cfg(test)]
    pub(super) const fn new(memory: u64, cores: u64) -> Self {
        Self { most: Need { memory, cores }, memory_found: false, cores_found: false }
    }

    /// Returns a capacity as if it came from the host.
    #[cfg(test)]
    pub(super) const fn found(memory: u64, cores: u64) -> Self {
        Self { most: Need { memory, cores }, memory_found: true, cores_found: false }
    }

    /// Returns how many machines of the usual size can run at once.
    pub(super) fn machines(self) -> u64 {
        self.most.cores.min(self.most.memory / (USUAL + BESIDE)).max(1)
    }

    /// Whether `need` fits besides what runs.
    pub(super) fn has_room(self, running: impl Iterator<Item = Need>, need: Need) -> bool {
        let all = running.fold(need, |sum, other| Need {
            memory: sum.memory.saturating_add(other.memory),
            cores: sum.cores.saturating_add(other.cores),
        });
        all.memory <= self.most.memory && all.cores <= self.most.cores
    }

    /// Describes what of `need` exceeds the whole capacity.
    pub(super) fn exceeded_by(self, need: Need) -> Option<String> {
        if need.cores > self.most.cores {
            return Some(format!(
                "{} processors, and this host has {} for machines",
                need.cores, self.most.cores
            ));
        }
        let memory = format!("{} MiB, and this host has {} MiB for machines", need.memory, self.most.memory);
        (need.memory > self.most.memory).then_some(memory)
    }
}

fn lacking(need: Need, cores: u64, memory: Option<Memory>, load: Option<Load>) -> Option<Lack> {
    if let Some(memory) = memory.filter(|memory| memory.available < need.memory) {
        return Some(Lack::Memory(need.memory, memory.available));
    }
    // This user's machines are tasks, too.
    let of_others = |load: &Load| load.average - cores as f64;
    load.filter(|load| of_others(load) > BUSY * load.processors as f64).map(Lack::Processors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_take_of_memory_and_processors_is_lacking() {
        let need = Need { memory: 1280, cores: 1 };
        let memory = |available| Some(Memory { total: 8000, available });
        let load = |average| Some(Load { average, processors: 2 });
        assert_eq!(lacking(need, 0, memory(1280), load(4.0)), None);
        assert_eq!(lacking(need, 0, memory(1279), load(0.0)), Some(Lack::Memory(1280, 1279)));
        let busy = lacking(need, 1, memory(8000), load(5.5)).unwrap();
        assert_eq!(busy, Lack::Processors(Load { average: 5.5, processors: 2 }));
        assert_eq!(lacking(need, 2, memory(8000), load(5.5)), None, "two of them are machines of this user");
        assert_eq!(lacking(need, 0, None, None), None, "the user's choice holds, regardless of others");
        // A busy host delays a machine, but does not stop it.
        assert!(busy.holds_after(Duration::ZERO) && !busy.holds_after(PATIENCE));
        assert!(Lack::Memory(2, 1).holds_after(Duration::MAX));
    }

    #[test]
    fn what_the_user_says_goes_before_what_the_host_has() {
        let host = Capacity::of_host(None, None);
        assert!(host.most.cores >= 1 && host.most.memory > 100, "{host:?}");
        assert_eq!(Capacity::of_host(Some(64), Some(4096)).most, Need { memory: 4096, cores: 64 });
        assert_eq!(Capacity::new(4096, 64).machines(), 3);
        assert_eq!(Capacity::new(100_000, 2).machines(), 2);
        assert_eq!(Capacity::new(100, 1).machines(), 1);
    }

    #[test]
    fn what_is_more_than_there_is_is_told() {
        let host = Capacity::new(4000, 2);
        assert_eq!(host.exceeded_by(Need { memory: 4000, cores: 2 }), None);
        let more = host.exceeded_by(Need { memory: 1, cores: 3 }).unwrap();
        assert_eq!(more, "3 processors, and this host has 2 for machines");
        let more = host.exceeded_by(Need { memory: 4001, cores: 2 }).unwrap();
        assert_eq!(more, "4001 MiB, and this host has 4000 MiB for machines");
    }
}
