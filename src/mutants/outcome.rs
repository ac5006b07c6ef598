//! What became of mutants.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Mutant;

/// What became of a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Outcome {
    /// A scenario failed, or the machine did not boot.
    #[serde(rename = "CaughtMutant")]
    Caught,
    /// All scenarios passed.
    #[serde(rename = "MissedMutant")]
    Missed,
    /// The scenarios did not end within the limit.
    Timeout,
    /// It does not evaluate, or does not build.
    Unviable,
    /// It is the same system as the unchanged configuration.
    WithoutEffect,
}

impl Outcome {
    /// All outcomes, in the order in which they are counted.
    pub(crate) const ALL: [Self; 5] =
        [Self::Caught, Self::Missed, Self::Timeout, Self::Unviable, Self::WithoutEffect];

    /// Returns the name of its file, without the ending.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Caught => "caught",
            Self::Missed => "missed",
            Self::Timeout => "timeout",
            Self::Unviable => "unviable",
            Self::WithoutEffect => "without_effect",
        }
    }
}

/// Writes it as a word of a sentence.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Caught => "caught",
            Self::Missed => "missed",
            Self::Timeout => "timeout",
            Self::Unviable => "unviable",
            Self::WithoutEffect => "without effect",
        })
    }
}

/// A mutant that was tried.
#[derive(Debug, Clone)]
pub(crate) struct Tried {
    /// The mutant.
    pub(crate) mutant: Mutant,
    /// What became of it.
    pub(crate) outcome: Outcome,
    /// Why, on one line that is fit for a terminal: what failed.
    pub(crate) reason: String,
    /// How long its evaluation took.
    pub(crate) evaluation: Duration,
    /// How long its build and its scenarios took.
    pub(crate) run: Duration,
}

/// How many mutants had each outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally([usize; Outcome::ALL.len()]);

impl Tally {
    /// Counts the outcomes.
    pub(crate) fn of<'a>(tried: impl IntoIterator<Item = &'a Tried>) -> Self {
        let mut tally = Self::default();
        for tried in tried {
            for (count, outcome) in tally.0.iter_mut().zip(Outcome::ALL) {
                *count += usize::from(outcome == tried.outcome);
            }
        }
        tally
    }

    /// Returns the number of one outcome.
    pub(crate) fn count(&self, outcome: Outcome) -> usize {
        let mut counts = self.0.iter().zip(Outcome::ALL);
        counts.find(|(_, its)| *its == outcome).map_or(0, |(count, _)| *count)
    }

    /// Returns the number of all.
    pub(crate) fn total(&self) -> usize {
        self.0.iter().sum()
    }
}

/// Writes those that occurred: `3 caught, 1 missed`.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.0.iter().zip(Outcome::ALL).filter(|(count, _)| **count > 0);
        let parts: Vec<String> = parts.map(|(count, outcome)| format!("{count} {outcome}")).collect();
        f.write_str(if parts.is_empty() { "none tried" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}
