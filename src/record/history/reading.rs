//! Reads a history from a record, event by event in file order.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::time::Duration;

use super::{Attempt, FaultsChange, History, Machine, Phase, RecordedFile, Scenario, Step, Stop};
use crate::beneath::Beneath;
use crate::event::MOST_LINKS;
use crate::record::{EVENTS, EventLine};
use crate::{Error, ErrorKind, Event, Result};

/// Maximum length of a line in bytes. The longest valid lines contain the end of an output, or a failure's report.
const LONGEST: u64 = 16 << 20;

/// The limits of a record. A record of 228 scenarios has 3 MB of events; one from elsewhere may have any size.
const BYTES: u64 = 256 << 20;
const EVENTS_READ: usize = 1_000_000;
const SCENARIOS: usize = 10_000;
const MACHINES: usize = 200;
const FILES: usize = 2_000;
const PHASES: usize = 2_000;
const FAULTS: usize = 2_000;

/// Maximum depth of nested steps. Steps that never ended are all nested in each other.
const DEEPEST: usize = 32;

/// The result of a check, with the text of the limit that was exceeded.
type Limited<T = ()> = std::result::Result<T, String>;

fn within(count: usize, most: usize, what: &str) -> Limited {
    if count < most { Ok(()) } else { Err(format!("there are more than {most} {what}")) }
}

impl History {
    /// Reads the record in `folder`. Skips invalid lines: lines of a later version, cut lines, and lines of over 16
    /// MiB.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] when its events can't be read: they must be in a regular file of at most 256 MiB, with
    /// at most 1,000,000 events and 10,000 scenarios.
    pub fn read(folder: &Path) -> Result<Self> {
        let opened = Beneath::open(folder).map_err(|error| Error::io("open the record", &error))?;
        Self::of(&opened)
    }

    /// Reads the record with these files. See [`History::read`].
    ///
    /// # Errors
    /// Those of [`History::read`].
    pub fn of(record: &Beneath) -> Result<Self> {
        let failed = |error: io::Error| Error::io("read the events of a record", &error);
        let exceeds = |why: String| {
            let summary = format!("the record in {} is not read: {why}", record.path().display());
            Error::new(ErrorKind::Io, crate::text::line(&summary))
                .likely_cause("nixvm-test did not write it, or the run was extremely long")
        };
        let (file, size) = record.file(EVENTS).map_err(failed)?;
        let too_large =
            |size: u64| exceeds(format!("{EVENTS} has {size} bytes, and at most {BYTES} are read"));
        if size > BYTES {
            return Err(too_large(size));
        }
        let mut reader = BufReader::new(file);
        let (mut history, mut line) = (Self::default(), Vec::new());
        let (mut bytes, mut events) = (0, 0);
        loop {
            let count = reader.by_ref().take(LONGEST).read_until(b'\n', &mut line).map_err(failed)?;
            if count == 0 {
                break;
            }
            // The file may have grown in the meantime.
            bytes += count as u64;
            if bytes > BYTES {
                return Err(too_large(bytes));
            }
            // A line that is too long arrives in pieces, which are invalid.
            if let Ok(line) = serde_json::from_slice(&line) {
                within(events, EVENTS_READ, "events").and_then(|()| history.add(line)).map_err(exceeds)?;
                events += 1;
            }
            line.clear();
        }
        history.finished = history.finished && history.under_way == 0;
        history.tell_apart();
        for attempt in history.scenarios.iter_mut().flat_map(|scenario| &mut scenario.attempts) {
            for machine in &mut attempt.machines {
                nest(&mut machine.steps);
            }
        }
        Ok(history)
    }

    fn tell_apart(&mut self) {
        let label: fn(&Scenario) -> [String; 3] = |of| {
            let file = of.file.file_name().unwrap_or_default().to_string_lossy();
            [of.suite.clone(), file.into_owned(), of.file.display().to_string()]
        };
        let all: Vec<[String; 3]> = self.scenarios.iter().map(label).collect();
        let mut namesakes: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, scenario) in self.scenarios.iter().enumerate() {
            namesakes.entry(scenario.name.clone()).or_default().push(index);
        }
        for group in namesakes.into_values().filter(|group| group.len() > 1) {
            // Counts the scenarios with each label, for each kind of label.
            let counts: [HashMap<&str, usize>; 3] = std::array::from_fn(|kind| {
                group.iter().fold(HashMap::new(), |mut counts, index| {
                    *counts.entry(all[*index][kind].as_str()).or_default() += 1;
                    counts
                })
            });
            for index in group {
                let tells = |kind: &usize| counts[*kind].get(all[index][*kind].as_str()) == Some(&1);
                self.scenarios[index].apart =
                    (0..counts.len()).find(tells).map(|kind| all[index][kind].clone());
            }
        }
    }

    fn add(&mut self, EventLine { time, scenario, suite, event, .. }: EventLine) -> Limited {
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
                self.expected = self.expected.saturating_add(scenarios);
                self.under_way += 1;
            }
            Event::RunFinished { interrupted, .. } => {
                self.under_way = self.under_way.saturating_sub(1);
                self.finished = true;
                self.interrupted = interrupted.or(self.interrupted.take());
            }
            Event::Note { text } if scenario.is_empty() => self.notes.push(text),
            Event::ScenarioStarted { scenario, about, file, line, .. } => {
                let key = (suite.clone(), scenario.clone(), file.clone());
                let index = match self.known.get(&key) {
                    Some(index) => *index,
                    None => {
                        within(self.scenarios.len(), SCENARIOS, "scenarios")?;
                        let (name, suite) = (scenario.clone(), suite.clone());
                        self.scenarios.push(Scenario {
                            name,
                            suite,
                            about,
                            file,
                            line,
                            ..Scenario::default()
                        });
                        self.known.insert(key, self.scenarios.len() - 1);
                        self.scenarios.len() - 1
                    }
                };
                self.scenarios[index].attempts.push(Attempt { begun: time, ..Attempt::default() });
                self.current.insert((suite, scenario), index);
            }
            Event::ScenarioSkipped { scenario: name, why, file, line } => {
                within(self.scenarios.len(), SCENARIOS, "scenarios")?;
                let skipped = Some(why);
                self.scenarios.push(Scenario { name, suite, skipped, file, line, ..Scenario::default() });
            }
            event => {
                let index = self.current.get(&(suite, scenario));
                let attempt = index.and_then(|index| self.scenarios.get_mut(*index)?.attempts.last_mut());
                if let Some(attempt) = attempt {
                    attempt.add(time, event)?;
                }
            }
        }
        Ok(())
    }
}

impl Attempt {
    fn machine(&mut self, name: String) -> Limited<&mut Machine> {
        let index = match self.machines.iter().position(|machine| machine.name == name) {
            Some(index) => index,
            None => {
                within(self.machines.len(), MACHINES, "machines in one scenario")?;
                self.machines.push(Machine { name, ..Machine::default() });
                self.machines.len() - 1
            }
        };
        Ok(&mut self.machines[index])
    }

    fn add(&mut self, time: f64, event: Event) -> Limited {
        match event {
            Event::BodyStarted { limit } => self.limit = Some(limit.as_secs_f64()),
            Event::BodyFinished { took } => self.body = Some(took.as_secs_f64()),
            Event::ScenarioFinished { took, failure, .. } => {
                (self.took, self.failure) = (Some(took.as_secs_f64()), failure);
            }
            Event::Note { text } => self.notes.push(text),
            Event::MachineStarted { machine, .. } => self.machine(machine)?.started.push(time),
            Event::HostSpeed { machine, accelerator, factor } => {
                let machine = self.machine(machine)?;
                (machine.accelerator, machine.factor) = (Some(accelerator), Some(factor));
            }
            Event::Phase { machine, phase, at } => {
                let machine = self.machine(machine)?;
                within(machine.phases.len(), PHASES, "phases of one machine")?;
                machine.cloned |= phase == "cloned";
                machine.phases.push(Phase { name: phase, at: at.as_secs_f64(), time });
            }
            Event::StepStarted { machine, step: number, text, line } => {
                let (begun, depth, afterwards) = (time, 0, self.body.is_some());
                let machine = self.machine(machine)?;
                machine.numbers.insert(number, machine.steps.len());
                let (took, output) = (None, None);
                machine.steps.push(Step { text, line, begun, took, output, depth, afterwards });
            }
            Event::StepFinished { machine, step, took, output } => {
                let machine = self.machine(machine)?;
                let index = machine.numbers.get(&step);
                if let Some(step) = index.and_then(|index| machine.steps.get_mut(*index)) {
                    (step.took, step.output) = (Some(Duration::as_secs_f64(&took)), output);
                }
            }
            Event::NetworkFaults { text, line, links, left_out } => {
                within(self.faults.len(), FAULTS, "changes of a network's faults in one scenario")?;
                within(links.len(), MOST_LINKS + 1, "links in one change of faults")?;
                self.faults.push(FaultsChange { time, text, line, links, left_out });
            }
            Event::NetworkCounts { links, .. } => {
                within(links.len(), MOST_LINKS + 1, "links of one network")?;
                self.traffic = links;
            }
            Event::MachineStopped { machine, how } => self.machine(machine)?.stopped.push(Stop { time, how }),
            Event::FileKept { machine, kind, path } => {
                let files = match machine.is_empty() {
                    true => &mut self.files,
                    false => &mut self.machine(machine)?.files,
                };
                let kept = RecordedFile { kind, path };
                if !files.contains(&kept) {
                    within(files.len(), FILES, "files of one machine or scenario")?;
                    files.push(kept);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Finds which steps are part of others: a step is nested in one that ended after it.
fn nest(steps: &mut [Step]) {
    // The times of a step's event and of its start differ slightly.
    const SLACK: f64 = 0.001;
    let mut around: Vec<f64> = Vec::new();
    for step in steps {
        let end = step.took.map_or(f64::INFINITY, |took| step.begun + took);
        around.retain(|outer| step.begun < *outer && end <= *outer + SLACK);
        step.depth = around.len();
        if around.len() < DEEPEST {
            around.push(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::history::Outcome;

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
    fn a_file_of_all_machines_is_a_file_of_the_scenario() {
        let kept = |machine: &str, kind: &str| {
            let event =
                format!(r#""event":"file_kept","machine":"{machine}","kind":"{kind}","path":"a/{kind}""#);
            line(2.0, "a", &event)
        };
        let history = history(&[started(1.0, "a", 1), kept("m", "log"), kept("", "packets")].concat());
        let attempt = &history.scenarios[0].attempts[0];
        let files = |files: &[RecordedFile]| files.iter().map(|file| file.kind).collect::<Vec<_>>();
        assert_eq!(files(&attempt.files), [crate::FileKind::Packets]);
        assert_eq!(
            (attempt.machines.len(), files(&attempt.machines[0].files)),
            (1, vec![crate::FileKind::Log])
        );
    }

    #[test]
    fn a_line_without_end_is_passed_over() {
        let endless =
            format!(r#"{{"v":1,"time":1,"scenario":"","event":"note","text":"{}"}}"#, "x".repeat(17 << 20));
        let history = history(&(endless + "\n" + &started(1.0, "a", 1)));
        assert_eq!((history.scenarios.len(), history.notes), (1, Vec::new()));
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
        // Two processes at once; events of one must not affect the other.
        let text = [
            of("crate::x", &started(1.0, "web::login", 1)),
            of("crate::y", &started(1.1, "web::login", 1)),
            of("crate::x", &booted),
            of("crate::x", &line(4.0, "web::login", failed)),
            of("crate::y", &ended(5.0)),
            // cargo-nextest retries in another process.
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
        let over = line(3.6, "a", r#""event":"body_finished","took":3"#);
        let text = [
            started(0.5, "a", 1),
            step(1, "root: dmesg"),
            step(2, "alice: ls"),
            over,
            step(3, "root: dmesg"),
            step(4, "root: journalctl"),
        ];
        let history = history(&text.concat());
        let steps = &history.scenarios[0].attempts[0].machines[0].steps;
        assert_eq!(steps.iter().map(|step| step.afterwards).collect::<Vec<_>>(), [false, false, true, true]);
    }
}
