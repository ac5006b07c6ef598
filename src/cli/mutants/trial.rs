//! Tries mutants: evaluates each, builds those that are another system, and runs the scenarios on them.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::mutants::{Mutant, Outcome, Output, OwnFiles, Scratch, Tally, Tried};
use crate::nix::{Builder, Fault, Refused};
use crate::scenario::Exit;
use crate::settings::Settings;
use crate::stopped::Instant;
use crate::{BuiltVm, Error, ErrorKind, Events, Result, report, secrets, text};
use rustix::process::Signal;

use super::super::child::Signals;
use super::scenarios::{self, Scenarios};

/// How many times longer than with the unchanged configuration a mutant may take.
const TIMES: u32 = 5;
/// The shortest limit for an evaluation, and for a run of the scenarios.
const SHORTEST: Duration = Duration::from_secs(60);
/// The limit for the scenarios with the unchanged configuration, whose own limits end them before.
const NO_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the progress is told.
const TOLD: Duration = Duration::from_secs(60);

/// All mutants of a configuration under trial.
pub(super) struct Trial<'a> {
    own: &'a OwnFiles,
    scratch: Scratch,
    output: Output,
    settings: &'a Settings,
    builder: Builder,
    /// None if mutants are only evaluated.
    scenarios: Option<Scenarios>,
    signals: Signals,
    /// What became of each system, by its derivation. Several changes can lead to the same one.
    known: HashMap<PathBuf, (Outcome, String)>,
}

/// How the trial ended.
pub(super) enum Ended {
    /// Every mutant was tried, or as many as were asked for.
    All,
    /// The unchanged configuration does not pass.
    Baseline { exit: Exit, why: String },
    /// A signal ended it.
    Signal(Signal),
}

/// The unchanged configuration.
struct Baseline {
    derivation: PathBuf,
    evaluation: Duration,
    run: Duration,
    /// Whether machines are cloned. With one machine for each mutant, a template would only take time.
    templates: bool,
}

/// A mutant that is another system.
struct Viable {
    mutant: Mutant,
    derivation: PathBuf,
    evaluation: Duration,
}

/// Returns from the function that it is used in if a signal came.
macro_rules! unless_ended {
    ($self:ident, $work:expr) => {
        tokio::select! {
            done = $work => done,
            signal = $self.signals.next() => return Ok(Err(Ended::Signal(signal))),
        }
    };
}

/// The result of a step, or how the whole trial ends.
type Step<T> = Result<std::result::Result<T, Ended>>;

impl<'a> Trial<'a> {
    /// Prepares a trial. Nothing is evaluated yet.
    pub(super) fn new(
        own: &'a OwnFiles,
        scratch: Scratch,
        output: Output,
        settings: &'a Settings,
        scenarios: Option<Scenarios>,
        signals: Signals,
    ) -> Self {
        let networked = scenarios.as_ref().is_some_and(Scenarios::are_networked);
        let builder = settings.builder().networked(networked);
        Self { own, scratch, output, settings, builder, scenarios, signals, known: HashMap::new() }
    }

    /// Returns what is known so far.
    pub(super) fn output(&self) -> &Output {
        &self.output
    }

    /// Tries the unchanged configuration first, and then all mutants. Boots at most `max` of them.
    ///
    /// # Errors
    /// [`ErrorKind::Build`] when the unchanged configuration can't be built; [`ErrorKind::Host`] when the host is the
    /// reason for a failure, or may be.
    pub(super) async fn all(&mut self, max: Option<usize>) -> Result<Ended> {
        let baseline = match self.baseline().await? {
            Ok(baseline) => baseline,
            Err(ended) => return Ok(ended),
        };
        let viable = match self.sieve(&baseline, max).await? {
            Ok(viable) => viable,
            Err(ended) => return Ok(ended),
        };
        if self.scenarios.is_none() {
            return Ok(Ended::All);
        }
        let (mut told, count) = (Instant::now(), viable.len());
        for (number, viable) in viable.into_iter().enumerate() {
            if let Err(ended) = self.run(viable, &baseline).await? {
                return Ok(ended);
            }
            if told.elapsed() >= TOLD {
                told = Instant::now();
                report::say(&format!("  {} of {count}: {}", number + 1, Tally::of(self.output.tried())));
            }
        }
        Ok(Ended::All)
    }

    async fn baseline(&mut self) -> Step<Baseline> {
        let reporter = report::choose(self.settings);
        let events = Events::to(&reporter);
        let file = self.scratch.path_of(&self.own.configuration);
        let begun = Instant::now();
        let derivation = unless_ended!(self, self.builder.derivation(&file, &events))
            .map_err(|refused| self.of_baseline(refused))?;
        let evaluation = begun.elapsed();
        let mut baseline = Baseline { derivation, evaluation, run: Duration::ZERO, templates: false };
        let Some(scenarios) = &self.scenarios else {
            self.output.baseline(true, evaluation.as_secs_f64(), 0.0)?;
            return Ok(Ok(baseline));
        };
        let built = unless_ended!(self, self.builder.realise(&baseline.derivation, &file, &events));
        reporter.finish();
        let vm = built.map_err(|refused| self.of_baseline(refused))?;
        report::say("running the scenarios with the unchanged configuration");
        let (begun, log) = (Instant::now(), self.output.log("baseline")?);
        let record = self.scratch.empty_folder("record")?;
        let outcome = scenarios.run(&vm, &log, &record, self.settings.templates, NO_LIMIT, &mut self.signals);
        let outcome = outcome.await?;
        baseline.run = begun.elapsed();
        let machines = scenarios::with_machines(&record);
        baseline.templates = self.settings.templates && machines > 1;
        let passed = matches!(outcome, scenarios::Outcome::Passed);
        self.output.baseline(passed, evaluation.as_secs_f64(), baseline.run.as_secs_f64())?;
        match outcome {
            scenarios::Outcome::Passed if machines == 0 => {
                Err(Error::new(ErrorKind::Usage, "no scenario ran that has a machine")
                    .next_step("name other scenarios, or leave out the filter behind `--`"))
            }
            scenarios::Outcome::Passed => Ok(Ok(baseline)),
            scenarios::Outcome::Failed { exit, why } => Ok(Err(Ended::Baseline { exit, why })),
            scenarios::Outcome::Limit => {
                Ok(Err(Ended::Baseline { exit: Exit::Failed, why: "they do not end".to_owned() }))
            }
            scenarios::Outcome::Host(why) => Err(of_the_host("the unchanged configuration", &why)),
            scenarios::Outcome::Signal(signal) => Ok(Err(Ended::Signal(signal))),
        }
    }

    /// Evaluates the mutants, and returns those that have to be run.
    async fn sieve(&mut self, baseline: &Baseline, max: Option<usize>) -> Step<Vec<Viable>> {
        let own = self.own;
        let mutants: Vec<&Mutant> =
            own.mutants.iter().filter(|mutant| !self.output.was_caught(mutant)).collect();
        report::say(&format!(
            "evaluating {} in {}",
            counted(mutants.len(), "mutant"),
            counted(own.files().count(), "file")
        ));
        let builder = self.builder.clone().limit((baseline.evaluation * TIMES).max(SHORTEST));
        let configuration = self.scratch.path_of(&own.configuration);
        let (mut viable, mut told, silent) = (Vec::new(), Instant::now(), Events::none());
        for (number, mutant) in mutants.iter().enumerate() {
            if self.scenarios.is_some() && max.is_some_and(|max| viable.len() >= max) {
                break;
            }
            let (file, text) = (own.folder.join(&mutant.file), own.text(mutant));
            self.output.diff(mutant, own)?;
            let log = self.output.log(&mutant.id)?;
            note(&log, &super::named(mutant, own));
            self.scratch.put(&file, &mutant.applied(text))?;
            let begun = Instant::now();
            let derived = unless_ended!(self, builder.derivation(&configuration, &silent));
            let evaluation = begun.elapsed();
            self.scratch.put(&file, text)?;
            match derived {
                Ok(derivation) if derivation == baseline.derivation => {
                    self.add(mutant, Outcome::WithoutEffect, String::new(), evaluation, Duration::ZERO)?;
                }
                Ok(derivation) => viable.push(Viable { mutant: (*mutant).clone(), derivation, evaluation }),
                Err(refused) => {
                    let (outcome, why) = self.refused(&refused, mutant, &log)?;
                    self.add(mutant, outcome, why, evaluation, Duration::ZERO)?;
                }
            }
            if told.elapsed() >= TOLD {
                told = Instant::now();
                report::say(&format!("  {} of {} evaluated", number + 1, mutants.len()));
            }
        }
        // Another derivation of the same files would make every mutant another system.
        let again = unless_ended!(self, builder.derivation(&configuration, &silent))
            .map_err(|refused| self.of_baseline(refused))?;
        if again != baseline.derivation {
            return Err(Error::new(ErrorKind::Host, "the unchanged configuration is another system than a moment ago")
                .section("its derivations", format!("{}\n{}", baseline.derivation.display(), again.display()))
                .likely_cause("nixpkgs has changed meanwhile, or the configuration depends on the time or on files elsewhere")
                .next_step("run it again; if it is so again, `builtins.currentTime` or the like is in it"));
        }
        let tally = Tally::of(self.output.tried());
        if self.scenarios.is_some() {
            let each = baseline.run.as_secs_f64();
            report::say(&format!(
                "{} to run, {} unviable, {} without effect; the scenarios take {each:.0} s with the unchanged configuration",
                viable.len(),
                tally.count(Outcome::Unviable),
                tally.count(Outcome::WithoutEffect),
            ));
        }
        Ok(Ok(viable))
    }

    /// Builds a mutant, and runs the scenarios on it.
    async fn run(&mut self, viable: Viable, baseline: &Baseline) -> Step<()> {
        let Viable { mutant, derivation, evaluation } = viable;
        if let Some((outcome, why)) = self.known.get(&derivation) {
            let (outcome, why) = (*outcome, why.clone());
            self.add(&mutant, outcome, why, evaluation, Duration::ZERO)?;
            return Ok(Ok(()));
        }
        let begun = Instant::now();
        let (outcome, why) = match self.outcome(&mutant, &derivation, baseline).await? {
            Ok(outcome) => outcome,
            Err(ended) => return Ok(Err(ended)),
        };
        self.known.insert(derivation, (outcome, format!("the same system as that of {}", mutant.id)));
        self.add(&mutant, outcome, why, evaluation, begun.elapsed())?;
        Ok(Ok(()))
    }

    async fn outcome(
        &mut self,
        mutant: &Mutant,
        derivation: &Path,
        baseline: &Baseline,
    ) -> Step<(Outcome, String)> {
        let Some(scenarios) = &self.scenarios else { return Ok(Ok((Outcome::Missed, String::new()))) };
        let log = self.output.log(&mutant.id)?;
        let file = self.scratch.path_of(&self.own.configuration);
        let silent = Events::none();
        let built = unless_ended!(self, self.builder.realise(derivation, &file, &silent));
        let vm: BuiltVm = match built {
            Ok(vm) => vm,
            Err(refused) => return self.refused(&refused, mutant, &log).map(Ok),
        };
        let record = self.scratch.empty_folder("record")?;
        let limit = (baseline.run * TIMES).max(SHORTEST);
        let outcome = scenarios.run(&vm, &log, &record, baseline.templates, limit, &mut self.signals).await?;
        Ok(match outcome {
            scenarios::Outcome::Passed => Ok((Outcome::Missed, String::new())),
            scenarios::Outcome::Failed { why, .. } => Ok((Outcome::Caught, why)),
            scenarios::Outcome::Limit => {
                Ok((Outcome::Timeout, format!("the scenarios had {:.0} s", limit.as_secs_f64())))
            }
            scenarios::Outcome::Host(why) => {
                note(&log, &why);
                return Err(of_the_host(&super::named(mutant, self.own), &why));
            }
            scenarios::Outcome::Signal(signal) => Err(Ended::Signal(signal)),
        })
    }

    /// Returns what a failure of Nix says of a mutant.
    fn refused(&self, refused: &Refused, mutant: &Mutant, log: &File) -> Result<(Outcome, String)> {
        // The paths in it are those of the copy.
        let copies = self.scratch.path_of(Path::new("/")).display().to_string();
        let said = refused.error.to_string().replace(&copies, "");
        note(log, &said);
        let why = secrets::line(&reason(&refused.error).replace(&copies, ""));
        match refused.fault {
            Fault::Configuration => Ok((Outcome::Unviable, why)),
            Fault::Limit => Ok((Outcome::Timeout, why)),
            Fault::Host => Err(of_the_host(&super::named(mutant, self.own), &said)),
        }
    }

    /// Returns the error for an unchanged configuration that Nix refused.
    fn of_baseline(&self, refused: Refused) -> Error {
        let error = match refused.fault {
            Fault::Host if refused.error.kind() == ErrorKind::Build => {
                of_the_host("the unchanged configuration", &refused.error.to_string())
            }
            _ => refused.error,
        };
        error.section("the file is a copy of", self.own.configuration.display().to_string())
    }

    fn add(
        &mut self,
        mutant: &Mutant,
        outcome: Outcome,
        reason: String,
        evaluation: Duration,
        run: Duration,
    ) -> Result {
        if matches!(outcome, Outcome::Missed | Outcome::Timeout) {
            report::say(&format!("{outcome:<8} {}", super::named(mutant, self.own)));
        }
        let tried = Tried { mutant: mutant.clone(), outcome, reason, evaluation, run };
        self.output.add(tried, self.own)
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Returns why Nix refused a mutant, on one line.
fn reason(error: &Error) -> String {
    let summary = error.summary();
    let more = error.sections().find(|(title, _)| *title == "nix says more");
    match more.and_then(|(_, text)| text.lines().find(|line| !line.trim().is_empty())) {
        Some(first) if summary.ends_with(':') => {
            format!("{summary} {}", first.trim().trim_start_matches("- "))
        }
        _ => summary.to_owned(),
    }
}

/// Writes a text from outside into a log. The scenarios mask passwords themselves.
fn note(mut log: &File, said: &str) {
    // What became of the mutant is in other files, and a full disk shows when they are written.
    let _ = writeln!(log, "{}", secrets::lines(&text::lines(said)));
}

/// Returns the error for a failure that says nothing about the scenarios.
fn of_the_host(what: &str, why: &str) -> Error {
    Error::new(ErrorKind::Host, format!("the trial ends at {what}: the host is the reason, or may be"))
        .section("what happened", why.to_owned())
        .next_step(
            "correct that, then go on: `nixvm-test mutants --iterate` leaves out what was caught so far",
        )
}
