//! The folder `mutants.out`, in the form that cargo-mutants has made known. It is kept up while mutants are tried, so an
//! interrupted run leaves what it found.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Mutant, Outcome, OwnFiles, Tally, Tried};
use crate::beneath::Beneath;
use crate::file_lock::{self, Mode};
use crate::{Error, ErrorKind, Result, secrets, text};

/// The folder and the one of the run before. Neither is a part of a configuration.
pub(super) const NAMES: [&str; 2] = ["mutants.out", "mutants.out.old"];
const OUTCOMES: &str = "outcomes.json";
const CAUGHT_BEFORE: &str = "previously_caught.txt";
const LOCK: &str = "lock";
const LOGS: &str = "log";
const DIFFS: &str = "diff";

/// The size of a file of the run before that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// The folder of a run.
#[derive(Debug)]
pub(crate) struct Output {
    folder: Beneath,
    configuration: PathBuf,
    /// Mutants that an earlier run caught, which are not tried again.
    caught_before: BTreeSet<String>,
    baseline: Option<Value>,
    tried: Vec<Tried>,
    /// Held while the run is under way.
    _lock: File,
}

/// The part of `outcomes.json` that a later run reads.
#[derive(Default, Deserialize)]
struct Before {
    configuration: PathBuf,
    #[serde(default)]
    previously_caught: BTreeSet<String>,
    outcomes: Vec<OutcomeBefore>,
}

#[derive(Deserialize)]
struct OutcomeBefore {
    scenario: Value,
    summary: String,
}

impl Output {
    /// Makes the folder in `parent`. One that is there becomes `mutants.out.old`, and the older one is removed. If the
    /// run `continues` it, the mutants that it caught are remembered.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when another run writes to it, or when there is nothing to continue; [`ErrorKind::Io`] when it
    /// can't be written.
    pub(crate) fn make(parent: &Path, own: &OwnFiles, continues: bool) -> Result<Self> {
        let [path, old] = NAMES.map(|name| parent.join(name));
        let failed = |source: io::Error| {
            Error::io(format_args!("write {}", path.display()), &source).because_of_a_limit(&source)
        };
        let mut caught_before = BTreeSet::new();
        match Beneath::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
            Ok(before) => {
                // A folder without our file is not ours to move or to remove.
                let lock = match before.file(LOCK) {
                    Ok((lock, _)) => lock,
                    Err(_) => return Err(foreign(&path)),
                };
                if !file_lock::try_lock(&lock, Mode::Exclusive).map_err(failed)? {
                    let summary = format!("another run writes to {}", path.display());
                    return Err(Error::new(ErrorKind::Usage, summary)
                        .next_step("wait until it has ended, or run this one in another folder"));
                }
                if continues {
                    caught_before = Before::of(&before)?.caught(&own.configuration);
                }
                match Beneath::open(&old) {
                    Ok(older) if older.file(LOCK).is_err() => return Err(foreign(&old)),
                    Ok(_) => fs::remove_dir_all(&old).map_err(failed)?,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(failed(error)),
                }
                fs::rename(&path, &old).map_err(failed)?;
            }
        }
        fs::create_dir(&path).map_err(failed)?;
        let folder = Beneath::open(&path).map_err(failed)?;
        let lock = folder.create(LOCK, 0o600).map_err(failed)?;
        file_lock::try_lock(&lock, Mode::Exclusive).map_err(failed)?;
        for name in [LOGS, DIFFS] {
            folder.make_folder(name, 0o777).map_err(failed)?;
        }
        let configuration = own.configuration.clone();
        let output =
            Self { folder, configuration, caught_before, baseline: None, tried: Vec::new(), _lock: lock };
        output.write("mutants.json", &text::json(&format!("{:#}\n", json!(own.mutants))))?;
        let before = own.mutants.iter().filter(|mutant| output.was_caught(mutant));
        output.write(CAUGHT_BEFORE, &before.map(|mutant| line(mutant, &own.folder)).collect::<String>())?;
        for outcome in Outcome::ALL {
            output.write(&format!("{}.txt", outcome.file()), "")?;
        }
        // A run that is interrupted at once still says what was caught before.
        output.outcomes()?;
        Ok(output)
    }

    /// Returns its path.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns whether an earlier run caught the mutant.
    pub(crate) fn was_caught(&self, mutant: &Mutant) -> bool {
        self.caught_before.contains(&mutant.id)
    }

    /// Returns the mutants that were tried so far.
    pub(crate) fn tried(&self) -> &[Tried] {
        &self.tried
    }

    /// Opens the log of a mutant, or of the baseline.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it can't be written.
    pub(crate) fn log(&self, id: &str) -> Result<File> {
        self.folder.append(log_of(id), 0o666).map_err(|source| self.failed(&source))
    }

    /// Writes the difference between a mutant and the configuration.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it can't be written.
    pub(crate) fn diff(&self, mutant: &Mutant, own: &OwnFiles) -> Result {
        self.write(&diff_of(&mutant.id), &mutant.diff(own.text(mutant)))
    }

    /// Notes what the unchanged configuration took, in seconds.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it can't be written.
    pub(crate) fn baseline(&mut self, passed: bool, evaluation: f64, run: f64) -> Result {
        self.baseline = Some(json!({
            "scenario": "Baseline",
            "summary": if passed { "Success" } else { "Failure" },
            "log_path": log_of("baseline"),
            "diff_path": null,
            "phase_results": [phase("Evaluate", evaluation), phase("Test", run)],
        }));
        self.outcomes()
    }

    /// Notes what became of a mutant.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it can't be written.
    pub(crate) fn add(&mut self, tried: Tried, own: &OwnFiles) -> Result {
        self.tried.push(tried);
        if let Some(outcome) = self.tried.last().map(|tried| tried.outcome) {
            let of_it = self.tried.iter().filter(|tried| tried.outcome == outcome);
            let lines: String = of_it.map(|tried| line(&tried.mutant, &own.folder)).collect();
            self.write(&format!("{}.txt", outcome.file()), &lines)?;
        }
        self.outcomes()
    }

    /// Returns what `outcomes.json` holds.
    pub(crate) fn as_json(&self) -> Value {
        let tally = Tally::of(&self.tried);
        let mut outcomes: Vec<Value> = self.baseline.iter().cloned().collect();
        outcomes.extend(self.tried.iter().map(|tried| {
            json!({
                "scenario": { "Mutant": tried.mutant },
                "summary": tried.outcome,
                "reason": tried.reason,
                "log_path": log_of(&tried.mutant.id),
                "diff_path": diff_of(&tried.mutant.id),
                "phase_results": [
                    phase("Evaluate", tried.evaluation.as_secs_f64()),
                    phase("Test", tried.run.as_secs_f64()),
                ],
            })
        }));
        let mut all = json!({
            "configuration": self.configuration,
            "nixvm_test_version": env!("CARGO_PKG_VERSION"),
            "previously_caught": self.caught_before,
            "outcomes": outcomes,
            "total_mutants": tally.total(),
        });
        for outcome in Outcome::ALL {
            all[outcome.file()] = json!(tally.count(outcome));
        }
        all
    }

    fn outcomes(&self) -> Result {
        self.write(OUTCOMES, &text::json(&format!("{:#}\n", self.as_json())))
    }

    fn write(&self, name: &str, content: &str) -> Result {
        self.folder.replace(name, content.as_bytes(), 0o666).map_err(|source| self.failed(&source))
    }

    fn failed(&self, source: &io::Error) -> Error {
        Error::io(format_args!("write {}", self.path().display()), source).because_of_a_limit(source)
    }
}

impl Before {
    fn of(folder: &Beneath) -> Result<Self> {
        let failed = |why: &dyn std::fmt::Display| {
            let path = folder.path().join(OUTCOMES);
            let summary = format!("{} can't be continued: {why}", path.display());
            Error::new(ErrorKind::Usage, text::line(&summary))
                .next_step("leave out --iterate, which tries all mutants again")
        };
        match folder.read(OUTCOMES, LARGEST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(failed(&error)),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(&error)),
        }
    }

    /// Returns the mutants of `configuration` that were caught then, or earlier.
    fn caught(self, configuration: &Path) -> BTreeSet<String> {
        if self.configuration != configuration {
            return BTreeSet::new();
        }
        let caught = self.outcomes.into_iter().filter(|outcome| outcome.summary == "CaughtMutant");
        let ids = caught.filter_map(|outcome| Some(outcome.scenario["Mutant"]["id"].as_str()?.to_owned()));
        ids.chain(self.previously_caught).collect()
    }
}

/// Returns a mutant as a line of text: its place, the change, and its identifier.
fn line(mutant: &Mutant, folder: &Path) -> String {
    format!("{}: {} [{}]\n", place(mutant, folder), mutant.change, mutant.id)
}

/// Returns where a mutant is, as the user would write it: `configuration.nix:12:3`.
pub(crate) fn place(mutant: &Mutant, folder: &Path) -> String {
    let path = folder.join(&mutant.file);
    let here = std::env::current_dir().and_then(|here| here.canonicalize()).unwrap_or_default();
    let shown = path.strip_prefix(&here).unwrap_or(&path);
    format!("{}:{}:{}", secrets::line(&shown.display().to_string()), mutant.line, mutant.column)
}

fn phase(name: &str, seconds: f64) -> Value {
    json!({ "phase": name, "duration": seconds })
}

fn log_of(id: &str) -> String {
    format!("{LOGS}/{id}.log")
}

fn diff_of(id: &str) -> String {
    format!("{DIFFS}/{id}.diff")
}

fn foreign(path: &Path) -> Error {
    let summary = format!("{} was not written by `nixvm-test mutants`, and was not changed", path.display());
    Error::new(ErrorKind::Usage, summary).next_step("move it away, or run in another folder")
}

#[cfg(test)]
mod tests;
