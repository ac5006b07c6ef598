//! The scenarios that have to notice a mutant: compiles them once, and runs them with the VM of a mutant.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::mutants::OwnFiles;
use crate::record::{History, RUN};
use crate::scenario::Exit;
use crate::{BuiltVm, Error, ErrorKind, Result, secrets, stopped};
use rustix::process::Signal;
use serde_json::Value;

use super::super::child::{Child, Signals, exit_of};
use super::super::described;
use super::super::options::Options;
use super::super::run;

/// Time limit for scenarios to end after they were told to. It usually takes milliseconds.
const ENDING: Duration = Duration::from_secs(10);

/// The binaries of scenarios, and what they are run with.
pub(super) struct Scenarios {
    commands: Vec<(PathBuf, Prepared)>,
    /// The configuration as the scenarios name it.
    sources: BTreeSet<String>,
    /// Whether a machine that has it is on a network.
    networked: bool,
}

/// The command that runs the scenarios of a file. It is started once for each mutant.
struct Prepared {
    binary: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(&'static str, OsString)>,
}

/// What a machine or a system of a scenario is built from.
struct Built {
    source: String,
    /// A nixpkgs of its own.
    nixpkgs: Option<String>,
    /// Whether the machines of the scenario are on a network.
    on_network: bool,
}

/// How a run of the scenarios ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Passed,
    /// A scenario failed, or a machine did not boot.
    Failed {
        exit: Exit,
        why: String,
    },
    /// The limit was reached.
    Limit,
    /// The host is the reason, or may be.
    Host(String),
    Signal(Signal),
}

impl Scenarios {
    /// Compiles the scenarios of `paths`, and looks which of their machines have the configuration.
    ///
    /// # Errors
    /// Those of compiling; [`ErrorKind::Usage`] when no machine has it.
    pub(super) async fn of(
        paths: Vec<PathBuf>,
        harness: &[OsString],
        own: &OwnFiles,
        options: &Options,
    ) -> Result<Self> {
        let here = if Path::new("scenarios").is_dir() { "scenarios" } else { "." };
        let paths = if paths.is_empty() { vec![here.into()] } else { paths };
        let files = run::files(&paths)?;
        let binaries = run::compile(&files, &run::compiler()?.ended_with_us(), options).await?;
        let (mut commands, mut sources, mut others) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        let mut networked = false;
        for (file, binary) in files.iter().zip(binaries) {
            let prepared = Prepared {
                binary,
                arguments: harness.to_vec(),
                variables: options.variables(file.parent())?,
            };
            let mut is_of_it = false;
            for Built { source, nixpkgs, on_network } in prepared.sources(file).await? {
                if !Path::new(&source).canonicalize().is_ok_and(|path| path == own.configuration) {
                    others.insert(source);
                    continue;
                }
                if let Some(nixpkgs) = nixpkgs {
                    let summary = format!(
                        "{} builds {source} with a nixpkgs of its own, {nixpkgs}",
                        run::from_here(file)
                    );
                    return Err(Error::new(ErrorKind::Usage, summary)
                        .next_step("name other scenarios: mutants are built with one nixpkgs"));
                }
                is_of_it = true;
                networked |= on_network;
                sources.insert(source);
            }
            // Scenarios of other machines can't notice anything.
            if is_of_it {
                commands.push((file.clone(), prepared));
            }
        }
        if sources.is_empty() {
            let summary = format!("no scenario has a machine of {}", run::from_here(&own.configuration));
            let others = others.iter().map(|source| run::from_here(Path::new(source)));
            return Err(Error::new(ErrorKind::Usage, summary)
                .section("their machines are built from", others.collect::<Vec<_>>().join("\n"))
                .next_step(
                    "name another configuration, or its scenarios: `nixvm-test mutants FILE.nix FILE.rs`",
                ));
        }
        // The variable that tells a scenario of its VM is a list.
        if let Some(odd) = sources.iter().find(|source| source.contains([',', '='])) {
            let summary = format!("{odd} can't be tried: a comma or an equals sign is in its path");
            return Err(Error::new(ErrorKind::Usage, summary).next_step("move it to another folder"));
        }
        Ok(Self { commands, sources, networked })
    }

    /// Returns whether a machine that has the configuration is on a network, so that its VM needs the module for it.
    pub(super) fn are_networked(&self) -> bool {
        self.networked
    }

    /// Runs the scenarios with `vm` in place of the configuration, until one fails or `limit` has passed. Their output
    /// goes to `log`, their record to `record`, an empty folder.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] and [`ErrorKind::Io`] when they can't be started.
    pub(super) async fn run(
        &self,
        vm: &BuiltVm,
        log: &File,
        record: &Path,
        templates: bool,
        limit: Duration,
        signals: &mut Signals,
    ) -> Result<Outcome> {
        let result = vm.script().ancestors().nth(2).unwrap_or(vm.script());
        let pairs: Vec<String> =
            self.sources.iter().map(|source| format!("{source}={}", result.display())).collect();
        let mut until = Box::pin(stopped::sleep(limit));
        for (_, prepared) in &self.commands {
            let mut command = prepared.command();
            command.env("NIXVM_VMS", pairs.join(",")).env(RUN, record);
            if !templates {
                command.env("NIXVM_TEMPLATES", "0");
            }
            let copy = || log.try_clone().map_err(|source| Error::host("write the log", &source));
            command.stdin(Stdio::null()).stdout(copy()?).stderr(copy()?);
            let mut child = Child::start(command)?;
            let status = tokio::select! {
                status = child.wait() => status?,
                signal = signals.next() => {
                    child.pass_on(signal);
                    ended(&mut child, signals).await;
                    return Ok(Outcome::Signal(signal));
                }
                () = &mut until => {
                    child.tell(Signal::TERM);
                    ended(&mut child, signals).await;
                    return Ok(Outcome::Limit);
                }
            };
            match exit_of(status) {
                Ok(Exit::Passed) => {}
                Ok(exit) => return Ok(judged(exit, record)),
                Err(_) => return Ok(Outcome::Host(format!("a signal ended the scenarios ({status})"))),
            }
        }
        Ok(Outcome::Passed)
    }
}

impl Prepared {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(&self.arguments).envs(self.variables.iter().map(|(name, value)| (name, value)));
        // The first failure decides. The rest is for people who look at one run.
        for (name, value) in [
            ("NIXVM_FAIL_FAST", "1"),
            ("NIXVM_KEEP_FAILED", "0"),
            ("NIXVM_KEEP_STATE", "0"),
            ("NIXVM_PAUSE_ON_FAILURE", "0"),
            ("NIXVM_RUN_TIMEOUT", "1000h"),
        ] {
            command.env(name, value);
        }
        // A page of reports for each mutant would be of no use.
        for name in ["GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITLAB_CI", "NIXVM_REPORT"] {
            command.env_remove(name);
        }
        command
    }

    /// Returns what the machines and systems of the scenarios are built from.
    async fn sources(&self, file: &Path) -> Result<Vec<Built>> {
        let mut command = Command::new(&self.binary);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let scenarios = described::scenarios(command, file).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let of_one = |scenario: &Value| {
            let on_network = described::have_network(std::slice::from_ref(scenario));
            let kinds = [&scenario["machines"], &scenario["systems"]].map(Value::as_array);
            let built = |its: &Value| {
                Some(Built { source: text(&its["source"])?, nixpkgs: text(&its["nixpkgs"]), on_network })
            };
            kinds.into_iter().flatten().flatten().filter_map(built).collect::<Vec<_>>()
        };
        Ok(scenarios.iter().flat_map(of_one).collect())
    }
}

/// Waits for scenarios that were told to end.
async fn ended(child: &mut Child, signals: &mut Signals) {
    tokio::select! {
        _ = child.wait() => return,
        // Their machines end with them, even after SIGKILL.
        _ = signals.next() => {}
        () = stopped::sleep(ENDING) => {}
    }
    child.tell(Signal::KILL);
    let _ = child.wait().await;
}

/// Says why scenarios failed: their record has the errors.
fn judged(exit: Exit, record: &Path) -> Outcome {
    let history = History::read(record).unwrap_or_default();
    let mut failures = history.scenarios.iter().filter_map(|scenario| Some((scenario, scenario.failure()?)));
    let of_the_host = failures.clone().find(|(_, failure)| {
        let kind = failure.kind.known();
        let killed = kind == ErrorKind::QemuGone && failure.summary.contains("killed by signal 9");
        killed
            || matches!(
                kind,
                ErrorKind::Host | ErrorKind::Io | ErrorKind::DiskError | ErrorKind::GuestStopped
            )
    });
    if let Some((scenario, failure)) = of_the_host {
        return Outcome::Host(secrets::line(&format!("{}: {}", scenario.title(), failure.summary)));
    }
    match (failures.next(), exit) {
        (Some((scenario, failure)), Exit::Boot) => {
            let why = format!("it does not boot: {} ({})", failure.summary, scenario.title());
            Outcome::Failed { exit, why: secrets::line(&why) }
        }
        // The machines that are not changed are built here, too.
        (Some((scenario, failure)), Exit::Build | Exit::Host) => {
            Outcome::Host(secrets::line(&format!("{}: {}", scenario.title(), failure.summary)))
        }
        (Some((scenario, failure)), _) => Outcome::Failed {
            exit,
            why: secrets::line(&format!("{}: {}", scenario.title(), failure.summary)),
        },
        (None, _) => {
            Outcome::Host(format!("the scenarios ended with exit code {} and no failure", exit.code()))
        }
    }
}

/// Returns how many scenarios with machines are in a record.
pub(super) fn with_machines(record: &Path) -> usize {
    let history = History::read(record).unwrap_or_default();
    let boots = |scenario: &&crate::record::history::Scenario| {
        scenario.attempts.iter().any(|attempt| !attempt.machines.is_empty())
    };
    history.scenarios.iter().filter(boots).count()
}
