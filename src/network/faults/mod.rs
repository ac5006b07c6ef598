//! What a link does to frames on purpose.
//!
//! Names are those of turmoil and of Linux's `netem` where these have them.

use std::fmt;
use std::num::NonZero;
use std::time::Duration;

pub(super) mod fate;
pub(super) mod under_way;

pub use fate::Seed;

/// How likely something is: a number from 0 (never) to 1 (always).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Chance(f64);

impl Chance {
    /// Something that never happens.
    pub const NEVER: Self = Self(0.0);

    /// Returns the chance of `probability`. None if that is not from 0 to 1.
    pub fn new(probability: f64) -> Option<Self> {
        // -0 is a number of the range, and prints its sign.
        (0.0..=1.0).contains(&probability).then_some(Self(probability.abs()))
    }

    /// Whether it happens, for a number that is as likely as any other.
    fn happens(self, drawn: u32) -> bool {
        f64::from(drawn) < self.0 * (f64::from(u32::MAX) + 1.0)
    }
}

impl fmt::Display for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One frame in 10^6 has no digits behind the point that would be noise.
        write!(f, "{} %", (self.0 * 1e8).round() / 1e6)
    }
}

/// How much later frames arrive. Each is late by a time between these, and none overtakes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latency {
    /// The shortest time.
    pub least: Duration,
    /// The longest time, which is not below the shortest one.
    pub most: Duration,
}

/// The faults of a link: what happens to its frames.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Faults {
    /// No frame passes. Those under way are lost, too.
    pub is_cut: bool,
    /// Frames wait, in their order, until this ends.
    pub is_held: bool,
    /// How much later frames arrive.
    pub latency: Latency,
    /// How many bits pass in a second. Frames wait for each other for up to a second; others are lost.
    pub rate: Option<NonZero<u64>>,
    /// How likely a frame is lost.
    pub loss: Chance,
    /// How likely a frame arrives twice.
    pub duplicate: Chance,
    /// How likely a frame arrives behind the next one. If none comes, it arrives 100 ms later.
    pub reorder: Chance,
    /// How likely one bit of a frame is wrong, behind the Ethernet header.
    pub corrupt: Chance,
}

impl Faults {
    /// Whether frames pass as without faults.
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether what happens to a frame is a matter of chance.
    pub fn are_random(&self) -> bool {
        let chances = [self.loss, self.duplicate, self.reorder, self.corrupt];
        self.latency.least != self.latency.most || chances.iter().any(|chance| *chance != Chance::NEVER)
    }

    /// Returns the faults in words, one each: "partition", "loss 10 %".
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.is_cut {
            words.push("partition".to_owned());
        }
        if self.is_held {
            words.push("hold".to_owned());
        }
        let Latency { least, most } = self.latency;
        match (least, most) {
            (Duration::ZERO, Duration::ZERO) => {}
            _ if least == most => words.push(format!("latency {most:?}")),
            _ => words.push(format!("latency {least:?} to {most:?}")),
        }
        if let Some(rate) = self.rate {
            words.push(format!("rate {rate} bit/s"));
        }
        let chances = [
            ("loss", self.loss),
            ("duplicate", self.duplicate),
            ("reorder", self.reorder),
            ("corrupt", self.corrupt),
        ];
        let chances = chances.into_iter().filter(|(_, chance)| *chance != Chance::NEVER);
        words.extend(chances.map(|(name, chance)| format!("{name} {chance}")));
        words
    }
}

/// The faults of one link that has some.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultyLink {
    /// The VLAN.
    pub vlan: super::VlanId,
    /// The machine that sends.
    pub from: String,
    /// The machine that receives.
    pub to: String,
    /// What happens between them.
    pub faults: Faults,
}
