//! What a run was, read back from its events: scenarios, their machines, and what was done with them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::{EVENTS, Line};
use crate::{Error, Event, Failure, FileKind, Result, StepOutput};

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
    pub files: Vec<Kept>,
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
    #[serde(skip)]
    number: u64,
}

/// A file in the record.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kept {
    /// What it is.
    pub kind: FileKind,
    /// Where it is, from the record's folder.
    pub path: PathBuf,
}

impl History {
    /// Reads the record in `folder`. Lines that make no sense here, of a later version or cut, are passed over.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] when its events can't be read.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(EVENTS);
        let failed = |error| Error::io(format_args!("read {}", path.display()), &error);
        let mut reader = BufReader::new(File::open(&path).map_err(failed)?);
        let (mut history, mut line) = (Self::default(), Vec::new());
        while reader.read_until(b'\n', &mut line).map_err(failed)? > 0 {
            if let Ok(line) = serde_json::from_slice(&line) {
                history.add(line);
            }
            line.clear();
        }
        history.finished = history.finished && history.under_way == 0;
        history.tell_apart();
        for attempt in history.scenarios.iter_mut().flat_map(|scenario| &mut scenario.attempts) {
            for machine in &mut attempt.machines {
                nest(&mut machine.steps);
                set_apart(&mut machine.steps);
            }
        }
        Ok(history)
    }

    /// How many scenarios ended so.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.scenarios.iter().filter(|scenario| scenario.outcome() == outcome).count()
    }

    /// How long it took, as far as is known.
    pub fn took(&self) -> f64 {
        (self.last - self.begun).max(0.0)
    }

    fn tell_apart(&mut self) {
        let label: fn(&Scenario) -> [String; 3] = |of| {
            let file = of.file.file_name().unwrap_or_default().to_string_lossy();
            [of.suite.clone(), file.into_owned(), of.file.display().to_string()]
        };
        let all: Vec<(String, [String; 3])> =
            self.scenarios.iter().map(|one| (one.name.clone(), label(one))).collect();
        for (index, scenario) in self.scenarios.iter_mut().enumerate() {
            let (name, mine) = &all[index];
            let namesakes: Vec<_> = all
                .iter()
                .enumerate()
                .filter(|(at, (its, _))| *at != index && its == name)
                .map(|(_, (_, labels))| labels)
                .collect();
            if !namesakes.is_empty() {
                let tells = |kind: &usize| namesakes.iter().all(|other| other[*kind] != mine[*kind]);
                scenario.apart = (0..mine.len()).find(tells).map(|kind| mine[kind].clone());
            }
        }
    }

    fn add(&mut self, Line { time, scenario, suite, event, .. }: Line) {
        if self.begun == 0.0 {
            self.begun = time;
        }
        self.last = self.last.max(time);
        match event {
            Event::RunStarted { arguments, version, host, processors, scenarios, .. } => {
                if self.version.is_empty() {
                    (self.arguments, self.version, self.host) = (arguments, version, host);
                    self.processors = processors;
                }
                self.expected += scenarios;
                self.under_way += 1;
            }
            Event::RunFinished { interrupted, .. } => {
                self.under_way = self.under_way.saturating_sub(1);
                self.finished = true;
                self.interrupted = interrupted.or(self.interrupted.take());
            }
            Event::Note { text } if scenario.is_empty() => self.notes.push(text),
            Event::ScenarioStarted { scenario, about, file, line, .. } => {
                let known =
                    |known: &Scenario| known.name == scenario && known.file == file && known.suite == suite;
                let index = self.scenarios.iter().position(known).unwrap_or_else(|| {
                    let (name, suite) = (scenario.clone(), suite.clone());
                    self.scenarios.push(Scenario { name, suite, about, file, line, ..Scenario::default() });
                    self.scenarios.len() - 1
                });
                self.scenarios[index].attempts.push(Attempt { begun: time, ..Attempt::default() });
                self.current.insert((suite, scenario), index);
            }
            Event::ScenarioSkipped { scenario, why } => {
                let skipped = Some(why);
                self.scenarios.push(Scenario { name: scenario, suite, skipped, ..Scenario::default() });
            }
            event => {
                let index = self.current.get(&(suite, scenario));
                let attempt = index.and_then(|index| self.scenarios.get_mut(*index)?.attempts.last_mut());
                if let Some(attempt) = attempt {
                    attempt.add(time, event);
                }
            }
        }
    }
}

impl Scenario {
    /// Its name, with what tells it from another one that has the same.
    ///
    /// ```
    /// let mut scenario = nixvm_test::record::history::Scenario { name: "login".into(), ..Default::default() };
    /// assert_eq!(scenario.title(), "login");
    /// scenario.apart = Some("machines::web".into());
    /// assert_eq!(scenario.title(), "login (machines::web)");
    /// ```
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

impl Attempt {
    fn machine(&mut self, name: String) -> &mut Machine {
        let index = self.machines.iter().position(|machine| machine.name == name).unwrap_or_else(|| {
            self.machines.push(Machine { name, ..Machine::default() });
            self.machines.len() - 1
        });
        &mut self.machines[index]
    }

    fn add(&mut self, time: f64, event: Event) {
        match event {
            Event::BodyStarted { limit } => self.limit = Some(limit.as_secs_f64()),
            Event::ScenarioFinished { took, failure, .. } => {
                (self.took, self.failure) = (Some(took.as_secs_f64()), failure);
            }
            Event::Note { text } => self.notes.push(text),
            Event::MachineStarted { machine, .. } => self.machine(machine).started.push(time),
            Event::HostSpeed { machine, accelerator, factor } => {
                let machine = self.machine(machine);
                (machine.accelerator, machine.factor) = (Some(accelerator), Some(factor));
            }
            Event::Phase { machine, phase, at } => {
                let machine = self.machine(machine);
                machine.cloned |= phase == "cloned";
                machine.phases.push(Phase { name: phase, at: at.as_secs_f64(), time });
            }
            Event::StepStarted { machine, step: number, text, line } => {
                let steps = &mut self.machine(machine).steps;
                let (begun, depth, afterwards) = (time, 0, false);
                steps.push(Step { text, line, begun, took: None, output: None, depth, afterwards, number });
            }
            Event::StepFinished { machine, step, took, output } => {
                let steps = &mut self.machine(machine).steps;
                if let Some(step) = steps.iter_mut().rev().find(|known| known.number == step) {
                    (step.took, step.output) = (Some(Duration::as_secs_f64(&took)), output);
                }
            }
            Event::MachineStopped { machine, how } => self.machine(machine).stopped.push(Stop { time, how }),
            Event::FileKept { machine, kind, path } => {
                let files = &mut self.machine(machine).files;
                let kept = Kept { kind, path };
                if !files.contains(&kept) {
                    files.push(kept);
                }
            }
            _ => {}
        }
    }
}

/// How the steps begin that nixvm-test takes when a scenario is over (src/machine/journal.rs, trouble.rs).
const AFTERWARDS: [&str; 3] = [
    "root: journalctl -b --no-pager -q -o short-iso-precise | tail",
    "root: dmesg 2>/dev/null | tail",
    "root: systemctl list-units --state=failed --plain",
];

/// Finds the steps at the end that are not the scenario's.
fn set_apart(steps: &mut [Step]) {
    let is_ours = |step: &&mut Step| AFTERWARDS.iter().any(|begins| step.text.starts_with(begins));
    // A part of another step is a look at a machine that the scenario itself powered off.
    let last = steps.iter_mut().rev().take_while(|step| step.depth == 0 && is_ours(step));
    last.for_each(|step| step.afterwards = true);
}

/// Finds which step is a part of which: one that ended before the other did.
fn nest(steps: &mut [Step]) {
    // When a step is written down and when it began are not quite the same.
    const SLACK: f64 = 0.001;
    let mut around: Vec<f64> = Vec::new();
    for step in steps {
        let end = step.took.map_or(f64::INFINITY, |took| step.begun + took);
        around.retain(|outer| step.begun < *outer && end <= *outer + SLACK);
        step.depth = around.len();
        around.push(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(lines: &str) -> History {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(EVENTS), lines).unwrap();
        History::read(folder.path()).unwrap()
    }

    fn line(time: f64, scenario: &str, event: &str) -> String {
        format!("{{\"v\":1,\"time\":{time},\"scenario\":\"{scenario}\",{event}}}\n")
    }

    fn started(time: f64, scenario: &str, attempt: u32) -> String {
        let event = r#""event":"scenario_started","about":"","file":"a.rs","line":3,"attempt":"#;
        line(time, scenario, &format!("{event}{attempt}"))
    }

    #[test]
    fn what_failed_and_then_passed_is_flaky_and_what_never_ended_is_unfinished() {
        let failed = r#""event":"scenario_finished","took":2,"retried":true,
            "failure":{"summary":"no","kind":"Other","report":"no","file":"a.rs","line":4}"#;
        let text = [
            started(10.0, "a", 1),
            line(12.0, "a", &failed.replace('\n', "")),
            started(12.5, "a", 2),
            line(13.0, "a", r#""event":"scenario_finished","took":0.5"#),
            started(13.0, "b", 1),
            line(13.0, "c", r#""event":"scenario_skipped","why":"needs a moon""#),
        ];
        let history = history(&text.concat());
        let outcomes: Vec<_> =
            history.scenarios.iter().map(|one| (one.name.as_str(), one.outcome())).collect();
        use Outcome::{Flaky, Skipped, Unfinished};
        assert_eq!(outcomes, [("a", Flaky), ("b", Unfinished), ("c", Skipped)]);
        assert_eq!((history.begun, history.took(), history.scenarios[0].took()), (10.0, 3.0, 2.5));
        assert!(!history.finished);
    }

    #[test]
    fn unknown_events_and_a_cut_line_are_passed_over() {
        let whole = started(1.0, "a", 1);
        let unknown = line(2.0, "a", r#""event":"from_the_future","x":1"#);
        let ended = line(3.0, "a", r#""event":"scenario_finished","took":2,"new_key":[]"#);
        let history = history(&format!("{whole}{unknown}{ended}{}", &whole[..40]));
        assert_eq!(history.scenarios.len(), 1);
        assert_eq!(history.scenarios[0].outcome(), Outcome::Passed);
    }

    #[test]
    fn steps_within_steps_are_found_by_their_times() {
        let step = |time: f64, number: u32| {
            line(
                time,
                "a",
                &format!(r#""event":"step_started","machine":"m","step":{number},"text":"s{number}""#),
            )
        };
        let end = |time: f64, number: u32, took: f64| {
            let event = r#""event":"step_finished","machine":"m","#;
            line(time, "a", &format!("{event}\"step\":{number},\"took\":{took}"))
        };
        let text = [
            started(0.5, "a", 1),
            step(1.0, 1),
            step(2.0, 2),
            end(3.0, 2, 1.0),
            end(4.0, 1, 3.0),
            step(4.5, 3),
            step(5.0, 4),
            end(6.0, 3, 1.5),
            end(7.0, 4, 2.0),
        ];
        let history = history(&text.concat());
        let steps = &history.scenarios[0].attempts[0].machines[0].steps;
        assert_eq!(steps.iter().map(|step| step.depth).collect::<Vec<_>>(), [0, 1, 0, 0]);
    }

    #[test]
    fn scenarios_of_one_name_are_told_apart_by_their_suite_else_by_their_file() {
        let of = |suite: &str, text: &str| {
            text.replace(r#""event":"#, &format!(r#""suite":"{suite}","event":"#)) + "\n"
        };
        let in_file = |file: &str, text: &str| text.replace("a.rs", file);
        let ended = |time: f64| line(time, "web::login", r#""event":"scenario_finished","took":2"#);
        let failed = r#""event":"scenario_finished","took":9,"failure":{"summary":"no","kind":"Other","report":"no","file":"a.rs","line":4}"#;
        let booted = line(1.5, "web::login", r#""event":"machine_started","machine":"m","pid":1"#);
        // Two processes at once; what happens in the one is none of the other's.
        let text = [
            of("crate::x", &started(1.0, "web::login", 1)),
            of("crate::y", &started(1.1, "web::login", 1)),
            of("crate::x", &booted),
            of("crate::x", &line(4.0, "web::login", failed)),
            of("crate::y", &ended(5.0)),
            // cargo-nextest tries again in another process.
            of("crate::x", &started(6.0, "web::login", 1)),
            of("crate::x", &ended(7.0)),
            started(8.0, "alone", 1),
            in_file("one/c.rs", &started(8.0, "named", 1)),
            in_file("one/d.rs", &started(8.0, "named", 1)),
            in_file("two/c.rs", &started(8.0, "other", 1)),
            in_file("one/c.rs", &started(8.0, "other", 1)),
        ];
        let history = history(&text.concat());
        let told: Vec<_> = history.scenarios.iter().map(|one| (one.title(), one.attempts.len())).collect();
        let expected = [
            ("web::login (crate::x)", 2),
            ("web::login (crate::y)", 1),
            ("alone", 1),
            ("named (c.rs)", 1),
            ("named (d.rs)", 1),
            ("other (two/c.rs)", 1),
            ("other (one/c.rs)", 1),
        ];
        assert_eq!(told, expected.map(|(title, tries)| (title.to_owned(), tries)));
        let machines: Vec<_> =
            history.scenarios[..2].iter().map(|one| one.attempts[0].machines.len()).collect();
        assert_eq!(machines, [1, 0]);
        assert_eq!([0, 1].map(|one| history.scenarios[one].outcome()), [Outcome::Flaky, Outcome::Passed]);
    }

    #[test]
    fn what_is_asked_when_the_scenario_is_over_is_none_of_its_steps() {
        let step = |number: u32, text: &str| {
            let event = r#""event":"step_started","machine":"m","#;
            let time = 1.0 + f64::from(number);
            let begins = line(time, "a", &format!("{event}\"step\":{number},\"text\":\"{text}\""));
            begins
                + &line(
                    time,
                    "a",
                    &format!(r#""event":"step_finished","machine":"m","step":{number},"took":0.5"#),
                )
        };
        let units = "root: systemctl list-units --state=failed --plain --no-legend --no-pager";
        let text = [
            started(0.5, "a", 1),
            step(1, units),
            step(2, "alice: ls"),
            step(3, "root: dmesg 2>/dev/null | tail -c 9"),
            step(4, units),
        ];
        let history = history(&text.concat());
        let steps = &history.scenarios[0].attempts[0].machines[0].steps;
        assert_eq!(steps.iter().map(|step| step.afterwards).collect::<Vec<_>>(), [false, false, true, true]);
    }
}
