//! Runs scenarios before a switch, after it, after a reboot into the new system, and after the rollback.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use super::super::child::{Child, Signals, exit_of};
use super::super::described;
use super::super::options::Options;
use super::super::run;
use super::Systems;
use crate::scenario::{Exit, REHEARSED, REHEARSED_NEXT, Rehearsed};
use crate::{Error, Result};

/// Compiled scenarios.
pub(super) struct Scenarios {
    /// Their files, each with its binary.
    files: Vec<(PathBuf, PathBuf)>,
    networked: bool,
}

impl Scenarios {
    /// Compiles the scenarios of `paths`.
    pub(super) async fn of(paths: &[PathBuf], options: &Options) -> Result<Self> {
        let files = run::files(paths)?;
        let binaries = run::compile(&files, &run::compiler()?, options).await?;
        let files: Vec<(PathBuf, PathBuf)> = files.into_iter().zip(binaries).collect();
        let mut networked = false;
        for (file, binary) in &files {
            let command = run::command(file, binary, &[], options)?;
            networked |= described::have_network(&described::scenarios(command, file).await?);
        }
        Ok(Self { files, networked })
    }

    /// Returns whether machines are on a network, so that their VMs need the module for it.
    pub(super) fn are_networked(&self) -> bool {
        self.networked
    }

    /// Runs every scenario at each stage, each on machines of its own that are taken to the stage before its function
    /// begins.
    pub(super) async fn run(&self, systems: &Systems, options: &Options) -> Result<ExitCode> {
        let settings = options.settings()?;
        let stages = Rehearsed::ALL;
        let mut commands = Vec::new();
        for stage in stages {
            for (file, binary) in &self.files {
                let mut command = run::command(file, binary, &[], options)?;
                command
                    .env_remove("NIXVM_CONFIGURATION")
                    .env_remove("NIXVM_FLAKE")
                    .env_remove("NIXVM_NIXPKGS");
                command.env("NIXVM_VM", built(&systems.today)?);
                command.env(REHEARSED, stage.name()).env(REHEARSED_NEXT, built(&systems.next)?);
                commands.push((stage, command));
            }
        }
        let mut all: Vec<_> = Vec::new();
        let (stages_of, mut commands): (Vec<_>, Vec<_>) = commands.into_iter().unzip();
        let _record = run::in_one_record(&mut commands, &settings);
        let mut signals = Signals::listen()?;
        let mut shown = None;
        for (stage, command) in stages_of.into_iter().zip(commands) {
            if shown != Some(stage) {
                say(&format!("\n== {} ==", stage.title()))?;
                shown = Some(stage);
            }
            let mut child = Child::start(command)?;
            let status = loop {
                tokio::select! {
                    status = child.wait() => break status?,
                    signal = signals.next() => child.pass_on(signal),
                }
            };
            match exit_of(status) {
                Ok(exit) => all.push((stage, exit)),
                // A signal ended it, so the remaining ones do not run either.
                Err(code) => return Ok(code),
            }
        }
        say("")?;
        for stage in stages {
            let failed = all.iter().filter(|(its, exit)| *its == stage && *exit != Exit::Passed).count();
            let result = if failed == 0 {
                "passed".to_owned()
            } else {
                format!("failed in {failed} of {} files", self.files.len())
            };
            say(&format!("{:<20} {result}", stage.title()))?;
        }
        Ok(Exit::of_all(all.into_iter().map(|(_, exit)| exit)).into())
    }
}

/// Returns the folder of a built VM.
fn built(system: &crate::machine::System) -> Result<OsString> {
    let script = system.vm()?.script();
    Ok(script.ancestors().nth(2).unwrap_or(script).into())
}

fn say(line: &str) -> Result {
    writeln!(std::io::stdout(), "{line}").map_err(|error| Error::io("print the result", &error))
}
