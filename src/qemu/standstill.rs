//! A guest whose processors are given time and get nowhere, as under a KVM that can't run its kernel.
//!
//! How long a guest says nothing tells little: a nested host under load is slow. So the processors themselves are looked
//! at. Where all registers stay the same, while QEMU's threads for them use the host's processor, the guest stands on one
//! instruction. A host that is slow gives those threads little time, and a guest that waits uses none.

use std::time::{Duration, Instant};

use super::processes::time_of_thread;
use super::{QMP_LIMIT, Qemu};
use crate::text;

/// So much of the host's processor is used for one instruction. The longest that a working KVM takes is for a huge page,
/// whose gigabyte the host's kernel fills with zeros.
const SPENT: Duration = Duration::from_secs(3);
/// And it is seen so often at least: a loop of a few instructions looks the same now and then.
const LOOKS: u32 = 5;
/// And it is so much of the time that has passed. A guest that waits, while KVM polls for it, uses less.
const SHARE: u32 = 2;

/// What was seen of a guest's processors so far.
#[derive(Debug, Default)]
pub(crate) struct Standstill {
    seen: Option<Seen>,
}

/// Registers that have not changed.
#[derive(Debug)]
struct Seen {
    registers: String,
    since: Instant,
    /// How much time the threads had used then.
    used: Duration,
    looks: u32,
}

impl Standstill {
    /// Looks once more. Gives how much of the host's processor went into one instruction, and which that is, once that is
    /// certain. What QEMU does not tell is no standstill.
    pub(crate) async fn look(&mut self, qemu: &Qemu) -> Option<(Duration, String)> {
        let registers = qemu.monitor("info registers -a").await.ok()?;
        let used = qemu.time_of_processors().await?;
        let spent = self.see(registers, used, Instant::now())?;
        Some((spent, place(&self.seen.as_ref()?.registers)))
    }

    fn see(&mut self, registers: String, used: Duration, now: Instant) -> Option<Duration> {
        match &mut self.seen {
            Some(seen) if seen.registers == registers => {
                seen.looks += 1;
                let (spent, passed) = (used.saturating_sub(seen.used), now.duration_since(seen.since));
                let stands = spent >= SPENT && spent * SHARE >= passed && seen.looks >= LOOKS;
                stands.then_some(spent)
            }
            _ => {
                self.seen = Some(Seen { registers, since: now, used, looks: 1 });
                None
            }
        }
    }
}

impl Qemu {
    /// How much of the host's processor the threads of the guest's processors have used.
    async fn time_of_processors(&self) -> Option<Duration> {
        let processors = self.qmp().execute("query-cpus-fast", None, QMP_LIMIT).await.ok()?;
        let threads = processors.as_array()?.iter().filter_map(|processor| processor["thread-id"].as_u64());
        threads.map(|thread| time_of_thread(self.pid(), thread)).sum()
    }
}

/// The register that says which instruction it is (x86, then ARM), as QEMU prints it.
fn place(registers: &str) -> String {
    let mut words = registers.split_whitespace();
    let place = words.find(|word| ["RIP=", "EIP=", "PC="].iter().any(|name| word.starts_with(name)));
    text::line(place.unwrap_or_default()).chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every half second of a guest whose thread uses this share of the time, until it is said to stand still.
    fn looked(seconds: u32, share: f64, registers: impl Fn(u32) -> String) -> Option<Duration> {
        let (mut standstill, begun) = (Standstill::default(), Instant::now());
        (0..seconds * 2).find_map(|look| {
            let passed = Duration::from_millis(500) * look;
            standstill.see(registers(look), passed.mul_f64(share), begun + passed)?;
            Some(passed)
        })
    }

    #[test]
    fn a_guest_that_stands_on_one_instruction_is_seen_by_the_time_it_was_given() {
        let same = |_| "EAX=0 EIP=ffff".to_owned();
        assert_eq!(looked(30, 1.0, same), Some(Duration::from_secs(3)));
        assert_eq!(looked(30, 0.6, same), Some(Duration::from_secs(5)), "the host is loaded");
        assert_eq!(
            looked(30, 2.0, same),
            Some(Duration::from_secs(2)),
            "several threads: five looks at least"
        );
    }

    #[test]
    fn a_guest_that_is_slow_or_waits_does_not_stand_still() {
        assert_eq!(looked(600, 1.0, |look| format!("EIP={look}")), None, "it goes on");
        assert_eq!(looked(600, 1.0, |look| format!("EIP={}", look / 5)), None, "it goes on at times");
        assert_eq!(looked(600, 0.3, |_| String::new()), None, "it waits for an interrupt");
        assert_eq!(looked(600, 0.0, |_| String::new()), None, "it is given no time");
    }

    #[test]
    fn the_instruction_is_named() {
        assert_eq!(place("EAX=1 EBX=2\nRIP=ffffffff8307957e RFL=2"), "RIP=ffffffff8307957e");
        assert_eq!(place(" PC=ffff800010080000 X00=0"), "PC=ffff800010080000");
        assert_eq!(place(""), "");
    }
}
