//! A run as its events describe it: scenarios, their machines, and their steps.

mod reading;

use std::collections::HashMap;
use std::path::{Component, PathBuf};

use serde::Serialize;

use crate::event::{LinkFaults, LinkTraffic};
use crate::{Failure, FileKind, StepOutput};

/// A run, read from its record. Times are in seconds: those named `begun` or `time` count since 1970, UTC.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct History {
    /// The command line of the suite; the first suite's, if several processes wrote the record.
    pub arguments: Vec<String>,
    /// The version of the library.
    pub version: String,
    /// The host's name.
    pub host: String,
    /// How many processors it has.
    pub processors: usize,
    /// How many scenarios were expected to run.
    pub expected: usize,
    /// Time of the first event.
    pub begun: f64,
    /// Time of the last event.
    pub last: f64,
    /// Whether every suite that began has reported its end.
    pub finished: bool,
    /// The signal that interrupted it.
    pub interrupted: Option<String>,
    /// Notes about the whole run.
    pub notes: Vec<String>,
    /// Its scenarios, in the order in which they began.
    pub scenarios: Vec<Scenario>,
    #[serde(skip)]
    under_way: usize,
    /// Index of the scenario that events of this suite and name are about.
    #[serde(skip)]
    current: HashMap<(String, String), usize>,
    /// Index of the scenario with this suite, name and file.
    #[serde(skip)]
    known: HashMap<(String, String, PathBuf), usize>,
}

/// A scenario of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// The test binary it is in, where cargo-nextest ran it.
    pub suite: String,
    /// What distinguishes it from another one of the run with the same name: the suite, or the file.
    pub apart: Option<String>,
    /// Its doc comment.
    pub about: String,
    /// The file that contains it.
    pub file: PathBuf,
    /// The line of its function.
    pub line: u32,
    /// Why it was skipped, if it was.
    pub skipped: Option<String>,
    /// Its tries.
    pub attempts: Vec<Attempt>,
}

/// How a scenario ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It passed on a retry.
    Flaky,
    /// It was skipped.
    Skipped,
    /// It has not ended, or its process did not report the end.
    Unfinished,
}

impl Outcome {
    /// Returns the outcome as a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Flaky => "flaky",
            Self::Skipped => "skipped",
            Self::Unfinished => "unfinished",
        }
    }
}

/// One try of a scenario.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Attempt {
    /// When it began.
    pub begun: f64,
    /// Its duration; `None` when it has not ended.
    pub took: Option<f64>,
    /// The time limit of the scenario itself, without building and booting.
    pub limit: Option<f64>,
    /// The duration of its function; `None` when it has not ended, or never began.
    pub body: Option<f64>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Notes about it.
    pub notes: Vec<String>,
    /// Its machines.
    pub machines: Vec<Machine>,
    /// What it did to its network, in the order of time.
    pub faults: Vec<FaultsChange>,
    /// What passed each link of its network.
    pub traffic: Vec<LinkTraffic>,
    /// Its files in the record that belong to no machine.
    pub files: Vec<RecordedFile>,
}

/// A change of the faults of a scenario's network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FaultsChange {
    /// When it was made.
    pub time: f64,
    /// What the scenario did.
    pub text: String,
    /// The line of the scenario's file.
    pub line: Option<u32>,
    /// The links that changed, as they are since then.
    pub links: Vec<LinkFaults>,
    /// How many more links changed.
    pub left_out: usize,
}

/// A machine of a scenario.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// `kvm` or `tcg`.
    pub accelerator: Option<String>,
    /// How many times slower than hardware virtualization its host is.
    pub factor: Option<f64>,
    /// Whether it is a clone of a template.
    pub cloned: bool,
    /// When it was started; one time for each start.
    pub started: Vec<f64>,
    /// When it ended, and how.
    pub stopped: Vec<Stop>,
    /// The phases that it reached.
    pub phases: Vec<Phase>,
    /// Its steps.
    pub steps: Vec<Step>,
    /// Its files in the record.
    pub files: Vec<RecordedFile>,
    /// Index of the step with this number; the last one, if there are several.
    #[serde(skip)]
    numbers: HashMap<u64, usize>,
}

/// The end of a machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stop {
    /// The time.
    pub time: f64,
    /// The reason.
    pub how: String,
}

/// A phase of a machine's life.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// When it began, in seconds since the machine's start.
    pub at: f64,
    /// When it began.
    pub time: f64,
}

/// A step of a scenario with a machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Its description.
    pub text: String,
    /// The line of the scenario's file.
    pub line: Option<u32>,
    /// When it began.
    pub begun: f64,
    /// Its duration; `None` when it has not ended.
    pub took: Option<f64>,
    /// The result of its command.
    pub output: Option<StepOutput>,
    /// How many steps contain it.
    pub depth: usize,
    /// Whether nixvm-test took it after the scenario: its journal, its failed units.
    pub afterwards: bool,
}

/// A file in the record.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecordedFile {
    /// Its kind.
    pub kind: FileKind,
    /// Its path, relative to the record's folder.
    pub path: PathBuf,
}

impl RecordedFile {
    /// Returns whether its path stays within the record's folder. A record from elsewhere may contain any path.
    pub fn is_within(&self) -> bool {
        self.path.components().all(|part| matches!(part, Component::Normal(_)))
    }
}

impl History {
    /// Counts the scenarios with this outcome.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.scenarios.iter().filter(|scenario| scenario.outcome() == outcome).count()
    }

    /// Returns its duration, as far as it is known.
    pub fn took(&self) -> f64 {
        (self.last - self.begun).max(0.0)
    }
}

impl Scenario {
    /// Returns its name, with a suffix if another one has the same name.
    pub fn title(&self) -> String {
        match &self.apart {
            Some(apart) => format!("{} ({apart})", self.name),
            None => self.name.clone(),
        }
    }

    /// Returns its outcome.
    pub fn outcome(&self) -> Outcome {
        match self.attempts.as_slice() {
            [] => Outcome::Skipped,
            [.., last] if last.took.is_none() => Outcome::Unfinished,
            [.., last] if last.failure.is_some() => Outcome::Failed,
            [before @ .., _] if before.iter().any(|attempt| attempt.failure.is_some()) => Outcome::Flaky,
            _ => Outcome::Passed,
        }
    }

    /// Returns the duration of all its tries.
    pub fn took(&self) -> f64 {
        self.attempts.iter().filter_map(|attempt| attempt.took).sum()
    }

    /// Returns the failure of its last try, if it failed.
    pub fn failure(&self) -> Option<&Failure> {
        self.attempts.last()?.failure.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_tells_two_scenarios_of_one_name_apart() {
        let mut scenario = Scenario { name: "login".into(), ..Default::default() };
        assert_eq!(scenario.title(), "login");
        scenario.apart = Some("machines::web".into());
        assert_eq!(scenario.title(), "login (machines::web)");
    }
}
