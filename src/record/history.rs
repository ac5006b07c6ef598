//! What a run was, read back from its events: scenarios, their machines, and what was done with them.

mod reading;

use std::collections::HashMap;
use std::path::{Component, PathBuf};

use serde::Serialize;

use crate::{Failure, FileKind, StepOutput};

/// A run, as its record tells it. Times are seconds: those called `begun` or `time` since 1970, UTC.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct History {
    /// The command line of the suite; the first one's, where several processes wrote the record.
    pub arguments: Vec<String>,
    /// The version of the library.
    pub version: String,
    /// The host's name.
    pub host: String,
    /// How many processors it has.
    pub processors: usize,
    /// How many scenarios were to be run.
    pub expected: usize,
    /// When the first event came.
    pub begun: f64,
    /// When the last event came.
    pub last: f64,
    /// Whether every suite that began said that it has run.
    pub finished: bool,
    /// The signal that ended it before its time.
    pub interrupted: Option<String>,
    /// What was said of the run as a whole.
    pub notes: Vec<String>,
    /// Its scenarios, in the order in which they began.
    pub scenarios: Vec<Scenario>,
    #[serde(skip)]
    under_way: usize,
    /// Which scenario events of this suite and name are about.
    #[serde(skip)]
    current: HashMap<(String, String), usize>,
    /// Where the scenario of this suite, name and file is.
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
    /// What tells it from another one of the run that has the same name: the suite, or the file.
    pub apart: Option<String>,
    /// Its doc comment.
    pub about: String,
    /// The file it stands in.
    pub file: PathBuf,
    /// The line of its function.
    pub line: u32,
    /// Why it was left out, if it was.
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
    /// It passed after it had failed.
    Flaky,
    /// It was left out.
    Skipped,
    /// It has not ended, or what ran it did not say so.
    Unfinished,
}

impl Outcome {
    /// The outcome in a word.
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
    /// How long it took; `None` when it has not ended.
    pub took: Option<f64>,
    /// How long the scenario itself might take, building and booting left out.
    pub limit: Option<f64>,
    /// How long its function took; `None` when that is not over, or never began.
    pub body: Option<f64>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// What was said of it.
    pub notes: Vec<String>,
    /// Its machines.
    pub machines: Vec<Machine>,
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
    /// When it was started; again, for one that was started again.
    pub started: Vec<f64>,
    /// When it ended, and how.
    pub stopped: Vec<Stop>,
    /// What it reached.
    pub phases: Vec<Phase>,
    /// What was done with it.
    pub steps: Vec<Step>,
    /// What is kept of it.
    pub files: Vec<RecordedFile>,
    /// Where the step of this number is; of several the last one.
    #[serde(skip)]
    numbers: HashMap<u64, usize>,
}

/// The end of a machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stop {
    /// When.
    pub time: f64,
    /// How.
    pub how: String,
}

/// A phase of a machine's life.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How long after the machine's start it began.
    pub at: f64,
    /// When it began.
    pub time: f64,
}

/// Something that was done with a machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// What.
    pub text: String,
    /// The line of the scenario's file.
    pub line: Option<u32>,
    /// When it began.
    pub begun: f64,
    /// How long it took; `None` when it has not ended.
    pub took: Option<f64>,
    /// What its command gave.
    pub output: Option<StepOutput>,
    /// How many steps it is a part of.
    pub depth: usize,
    /// Whether nixvm-test took it when the scenario was over: its journal, its failed units.
    pub afterwards: bool,
}

/// A file in the record.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecordedFile {
    /// What it is.
    pub kind: FileKind,
    /// Where it is, from the record's folder.
    pub path: PathBuf,
}

impl RecordedFile {
    /// Whether its path stays within the record's folder. A record from elsewhere may name any.
    pub fn is_within(&self) -> bool {
        self.path.components().all(|part| matches!(part, Component::Normal(_)))
    }
}

impl History {
    /// How many scenarios ended so.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.scenarios.iter().filter(|scenario| scenario.outcome() == outcome).count()
    }

    /// How long it took, as far as is known.
    pub fn took(&self) -> f64 {
        (self.last - self.begun).max(0.0)
    }
}

impl Scenario {
    /// Its name, with what tells it from another one that has the same.
    pub fn title(&self) -> String {
        match &self.apart {
            Some(apart) => format!("{} ({apart})", self.name),
            None => self.name.clone(),
        }
    }

    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        match self.attempts.as_slice() {
            [] => Outcome::Skipped,
            [.., last] if last.took.is_none() => Outcome::Unfinished,
            [.., last] if last.failure.is_some() => Outcome::Failed,
            [before @ .., _] if before.iter().any(|attempt| attempt.failure.is_some()) => Outcome::Flaky,
            _ => Outcome::Passed,
        }
    }

    /// How long all tries took.
    pub fn took(&self) -> f64 {
        self.attempts.iter().filter_map(|attempt| attempt.took).sum()
    }

    /// Why it failed, if its last try did.
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
