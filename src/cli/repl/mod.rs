//! `nixvm-test repl [CONFIG]`: runs commands on live machines, and saves those that worked as a scenario.

mod lines;
mod perform;
mod scenario;
mod step;

use std::path::Path;
use std::process::ExitCode;

use crate::scenario::Exit;
use crate::{Error, ErrorKind, Result, report};
use clap::Args;

use super::interactive::{Interactive, Up, machine_of};
use super::options::Options;
use super::startup_reporter::StartupReporter;
use lines::Lines;
use perform::Live;
use scenario::Parameter;
use step::{Step, Typed};

const EXAMPLES: &str = "\
Examples:
  nixvm-test repl                      ./configuration.nix, its first user logged in
  nixvm-test repl web.nix --user none  at the login prompt
  nixvm-test repl server=server.nix client=client.nix
  nixvm-test repl <commands.txt        the commands of a file; the exit code is 1 if one failed";

/// Commands by hand.
#[derive(Debug, Args)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{}", step::HELP))]
pub struct Repl {
    #[command(flatten)]
    interactive: Interactive,
}

impl Repl {
    /// Starts the machines and runs the typed commands.
    pub async fn run(self, options: &Options) -> Result<ExitCode> {
        let reporter = StartupReporter::new(&options.settings()?);
        let events = reporter.events();
        let all = tokio::select! {
            all = self.interactive.up(options, &events) => all?,
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::from(130)),
        };
        reporter.end();
        let names: Vec<String> = all.iter().map(|up| up.machine.name().to_owned()).collect();
        let mut lines = Lines::open(&names)?;
        if lines.is_terminal() {
            for up in &all {
                let who = up.user.as_ref().map_or("no user", |(user, _)| user);
                let name = up.machine.name();
                report::say(&format!(
                    "{name} is up, and {who} is logged in; `help` lists the commands, `quit` ends it"
                ));
            }
        }
        let failed = converse(&all, &mut lines).await;
        for up in &all {
            up.machine.stop().await;
        }
        Ok(if failed { Exit::Failed } else { Exit::Passed }.into())
    }
}

/// Runs the typed lines one by one. Returns whether a command failed that no user could see fail.
async fn converse(all: &[Up], lines: &mut Lines) -> bool {
    let mut live: Vec<Live> = all.iter().map(|up| Live::new(up.machine.clone())).collect();
    let mut worked: Vec<(usize, Step)> = Vec::new();
    let mut failed = false;
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(line) = line else { return failed };
        let done = match step::parse(&line) {
            Ok(Typed::Nothing) => continue,
            Ok(Typed::Quit) => return failed,
            Ok(Typed::Help) => {
                report::answer(format!("{}\n", step::HELP));
                continue;
            }
            Ok(Typed::Save(file)) => save(Path::new(&file), all, &worked),
            Ok(Typed::Step { machine, step }) => {
                let done = perform(all, &mut live, machine.as_deref(), &step).await;
                done.map(|(place, said)| {
                    report::guest_output(&said);
                    worked.push((place, step));
                })
            }
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            report::error(&error);
            // On a terminal the user has seen the failure.
            failed |= !lines.is_terminal();
        }
    }
}

/// Runs a step on the machine with this name. Returns the machine's place and the step's output.
async fn perform(
    all: &[Up],
    live: &mut [Live],
    machine: Option<&str>,
    step: &Step,
) -> Result<(usize, String)> {
    let (place, _) = machine_of(all, machine, "NAME.succeed COMMAND")?;
    let Some(its) = live.get_mut(place) else { return Ok((place, String::new())) };
    tokio::select! {
        done = its.perform(step) => done.map(|said| (place, said)),
        _ = tokio::signal::ctrl_c() => Err(Error::new(ErrorKind::Other, "given up")),
    }
}

fn save(file: &Path, all: &[Up], worked: &[(usize, Step)]) -> Result {
    if worked.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "no command has succeeded yet: there is nothing to save"));
    }
    let parameters: Vec<Parameter> = all
        .iter()
        .map(|up| Parameter { name: up.name.as_deref(), source: &up.source, user: up.user.as_ref() })
        .collect();
    let text = scenario::text(file, &parameters, worked);
    let written = std::fs::File::create_new(file)
        .and_then(|mut opened| std::io::Write::write_all(&mut opened, text.as_bytes()));
    written.map_err(|error| {
        let failed = Error::io(format_args!("write {}", file.display()), &error);
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => failed.next_step("save it under another name"),
            _ => failed,
        }
    })?;
    let (file, steps) = (file.display(), worked.len());
    report::show(&format!("{file}: {steps} steps; run it: nixvm-test {file}\n"));
    Ok(())
}
