//! `nixvm-test mutants`: changes one definition of a configuration at a time, and asks whether a scenario notices.

mod scenarios;
mod summary;
mod trial;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::mutants::{Diff, Mutant, Output, OwnFiles, Scratch};
use crate::nix::{Source, Written};
use crate::scenario::Exit;
use crate::{Error, ErrorKind, Result, above, report, text};
use clap::Args;

use super::child::Signals;
use super::options::Options;
use super::run;
use scenarios::Scenarios;
use trial::{Ended, Trial};

/// The exit code when the scenarios fail with the unchanged configuration.
const BASELINE: u8 = 6;

const EXAMPLES: &str = "\
Examples:
  nixvm-test mutants                                      ./configuration.nix and ./scenarios
  nixvm-test mutants web.nix scenarios/web.rs             another configuration, and the scenarios that test it
  nixvm-test mutants --list                               what would be changed; nothing is evaluated
  nixvm-test mutants --check                              what is without effect or does not evaluate; nothing is booted
  nixvm-test mutants --max 10 -- login                    ten machines, and the scenarios whose name contains \"login\"
  git diff main | nixvm-test mutants --in-diff -          what a branch changes
  nixvm-test mutants --iterate                            again, without those that were caught

Exit codes:
  0  no mutant was missed
  1  a mutant was missed: no scenario failed
  2  the command makes no sense as given
  3  the unchanged configuration could not be built, or a scenario not compiled
  4  its VM did not boot as far as its login prompt
  5  the host lacks something, or may be the reason why something failed
  6  a scenario fails with the unchanged configuration
A run that a signal ended gives 128 + the signal's number.";

/// What is changed, and which scenarios have to notice.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Mutants {
    /// A configuration, and files of scenarios or folders of such files
    ///
    /// The configuration's name ends in `.nix`. Without one, it is that of --configuration or nixvm.toml, or else
    /// the configuration.nix in this folder or the nearest one above it. Without scenarios, they are those in
    /// ./scenarios, or else in this folder.
    #[arg(value_name = "FILE.nix|FILE.rs|DIR")]
    paths: Vec<PathBuf>,
    /// List the mutants; evaluate, build and boot nothing
    #[arg(long)]
    list: bool,
    /// Evaluate the mutants; build and boot nothing
    ///
    /// It shows which definitions are without effect and which mutants do not evaluate.
    #[arg(long, conflicts_with_all = ["list", "max", "iterate"])]
    check: bool,
    /// Take only mutants on lines that a diff adds or changes
    ///
    /// The diff is in the unified format, as `git diff` prints it. `-` stands for standard input.
    #[arg(long, value_name = "FILE")]
    in_diff: Option<PathBuf>,
    /// Boot at most this many mutants
    ///
    /// Mutants that do not evaluate or are without effect do not count.
    #[arg(long, value_name = "N", conflicts_with = "list")]
    max: Option<usize>,
    /// Leave out the mutants that the run before caught
    ///
    /// That run is the one in ./mutants.out.
    #[arg(long, conflicts_with = "list")]
    iterate: bool,
    /// Print JSON: the list of mutants, or what became of them
    #[arg(long)]
    json: bool,
    /// Arguments for the harness: filters, --exact, --skip WORD, …
    #[arg(last = true, value_name = "HARNESS ARGUMENTS")]
    harness: Vec<OsString>,
}

impl Mutants {
    /// Lists mutants, or tries them.
    pub async fn run(&self, options: &Options) -> Result<ExitCode> {
        match self.list_or_try(options).await {
            // Exit code 1 says that a mutant was missed.
            Err(error) if Exit::before_the_body(&error, Exit::Failed) == Exit::Failed => {
                report::error(&error);
                Ok(Exit::Host.into())
            }
            ended => ended,
        }
    }

    async fn list_or_try(&self, options: &Options) -> Result<ExitCode> {
        if let Some(other) = self.paths.iter().find(|path| is_another_source(path)) {
            return Err(not_changed(other.display()));
        }
        let is_nix = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "nix");
        let (configurations, scenarios): (Vec<&PathBuf>, Vec<&PathBuf>) = self.paths.iter().partition(is_nix);
        let configuration = match configurations.as_slice() {
            [] => default_configuration(options)?,
            [only] => (*only).clone(),
            [_, other, ..] => {
                let summary =
                    format!("one configuration is changed at a time, and {} is another", other.display());
                return Err(Error::new(ErrorKind::Usage, summary).next_step("run once for each"));
            }
        };
        if !scenarios.is_empty() {
            // A list does not use them, and a misspelt name would go unnoticed.
            run::files(&scenarios.iter().map(|path| (*path).clone()).collect::<Vec<_>>())?;
        }
        let mut own = OwnFiles::of(&configuration)?;
        if let Some(diff) = &self.in_diff {
            let text = read(diff)?;
            if !text.trim().is_empty() && !text.lines().any(|line| line.starts_with("@@ ")) {
                return Err(Error::new(
                    ErrorKind::Usage,
                    "the text that --in-diff got is no unified diff: it has no line `@@ …`",
                )
                .next_step("give the output of `git diff` or `diff -u`, without colours and not of --stat"));
            }
            let diff = Diff::read(&text);
            own.mutants = diff.touched(std::mem::take(&mut own.mutants), &own.folder, &bases(&own));
        }
        for note in &own.left_out {
            report::say(&format!("note: {}", report::printable(note)));
        }
        if self.list {
            match self.json {
                true => report::answer_json(&serde_json::json!(own.mutants)),
                false => report::show_foreign(&summary::list(&own)),
            }
            return Ok(Exit::Passed.into());
        }
        self.try_all(&own, scenarios.into_iter().cloned().collect(), options).await
    }

    async fn try_all(&self, own: &OwnFiles, paths: Vec<PathBuf>, options: &Options) -> Result<ExitCode> {
        let settings = options.settings()?;
        if settings.against.is_some() {
            return Err(Error::new(
                ErrorKind::Usage,
                "mutants are booted, and a record has no answers of theirs",
            )
            .next_step("leave out --against (NIXVM_AGAINST)"));
        }
        let mut signals = Signals::listen()?;
        let scenarios = match self.check {
            true => None,
            false => Some(tokio::select! {
                scenarios = Scenarios::of(paths, &self.harness, own, options) => scenarios?,
                signal = signals.next() => return Ok(interrupted(signal)),
            }),
        };
        let scratch = Scratch::of(own)?;
        let here = std::env::current_dir().map_err(|source| Error::io("find this folder", &source))?;
        let output = Output::make(&here, own, self.iterate)?;
        let mut trial = Trial::new(own, scratch, output, &settings, scenarios, signals);
        let ended = trial.all(self.max).await;
        let text = summary::table(own, trial.output());
        match (&ended, self.json) {
            // Nothing is known of mutants.
            (Err(_) | Ok(Ended::Baseline { .. }), _) if trial.output().tried().is_empty() => {}
            (_, true) => report::answer_json(&trial.output().as_json()),
            (_, false) => report::show_foreign(&text),
        }
        match ended? {
            Ended::All if summary::some_missed(trial.output()) => Ok(Exit::Failed.into()),
            Ended::All => Ok(Exit::Passed.into()),
            Ended::Signal(signal) => {
                report::say("interrupted: `nixvm-test mutants --iterate` leaves out what was caught so far");
                Ok(interrupted(signal))
            }
            Ended::Baseline { exit: Exit::Failed, why } => {
                report::say(&format!("error: the scenarios fail with the unchanged configuration: {why}"));
                report::say(&format!(
                    "  its output: {}",
                    trial.output().path().join("log/baseline.log").display()
                ));
                Ok(BASELINE.into())
            }
            Ended::Baseline { exit, why } => {
                report::say(&format!("error: the unchanged configuration can't be tested: {why}"));
                report::say(&format!(
                    "  its output: {}",
                    trial.output().path().join("log/baseline.log").display()
                ));
                Ok(exit.into())
            }
        }
    }
}

/// Whether a word of the command line names a flake, a commit or a built VM.
fn is_another_source(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let names_one = text.contains('#') || Written::parse(&text).file().is_none();
    path.file_name().is_some_and(|name| name == "flake.nix") || names_one && !path.exists()
}

fn not_changed(source: impl std::fmt::Display) -> Error {
    let summary = format!(
        "{source} can't be changed: mutants are made of a file, and not of a flake, a commit or a VM"
    );
    Error::new(ErrorKind::Usage, text::line(&summary))
        .next_step("name the configuration of a host: `nixvm-test mutants FILE.nix`")
}

/// Returns the configuration that the settings name, or else the nearest one.
fn default_configuration(options: &Options) -> Result<PathBuf> {
    match options.settings()?.source {
        Some(Source::Configuration(path)) => return Ok(path),
        Some(other) => return Err(not_changed(other)),
        None => {}
    }
    let here = std::env::current_dir().map_err(|source| Error::io("find this folder", &source))?;
    above::nearest(&here, "configuration.nix").map_err(|places| {
        Error::new(ErrorKind::Usage, "there is no configuration.nix in this folder or above it")
            .section("looked at", places)
            .next_step("name the configuration: `nixvm-test mutants FILE.nix`")
    })
}

/// The size of a diff, in bytes.
const LARGEST_DIFF: u64 = 64 << 20;

fn read(diff: &Path) -> Result<String> {
    use std::io::Read as _;
    let failed = |source: std::io::Error| match crate::presence::is_absent(&source) {
        true => Error::new(ErrorKind::Usage, format!("there is no diff {}", diff.display())),
        false => Error::io(format_args!("read the diff {}", diff.display()), &source),
    };
    let mut bytes = Vec::new();
    match diff.as_os_str() == "-" {
        true => std::io::stdin().lock().take(LARGEST_DIFF + 1).read_to_end(&mut bytes),
        false => {
            std::fs::File::open(diff).and_then(|file| file.take(LARGEST_DIFF + 1).read_to_end(&mut bytes))
        }
    }
    .map_err(failed)?;
    if bytes.len() as u64 > LARGEST_DIFF {
        let summary = format!("the diff {} has more than {} MiB", diff.display(), LARGEST_DIFF >> 20);
        return Err(Error::new(ErrorKind::Usage, text::line(&summary)));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the folders that names in a diff may start at: this one, the repository, and that of the configuration.
fn bases(own: &OwnFiles) -> Vec<PathBuf> {
    let beside = own.configuration.parent().map(Path::to_owned);
    std::env::current_dir().into_iter().chain([own.folder.clone()]).chain(beside).collect()
}

/// Returns the exit code of a run that a signal ended.
fn interrupted(signal: rustix::process::Signal) -> ExitCode {
    ExitCode::from(128 + u8::try_from(signal.as_raw()).unwrap_or_default())
}

/// Returns the place and the change of a mutant.
fn named(mutant: &Mutant, own: &OwnFiles) -> String {
    format!("{}: {}", crate::mutants::place(mutant, &own.folder), mutant.change)
}
