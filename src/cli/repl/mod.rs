//! `nixvm-test repl [CONFIG]`: runs commands on a live machine, and saves those that worked as a scenario.

mod lines;
mod perform;
mod scenario;
mod step;

use std::path::Path;
use std::process::ExitCode;

use crate::scenario::Exit;
use crate::{Error, ErrorKind, Result, report};
use clap::Args;

use super::interactive::{Interactive, Up};
use super::options::Options;
use super::startup_reporter::StartupReporter;
use lines::Lines;
use perform::Live;
use step::{Step, Typed};

const EXAMPLES: &str = "\
Examples:
  nixvm-test repl                      ./configuration.nix, its first user logged in
  nixvm-test repl web.nix --user none  at the login prompt
  nixvm-test repl <commands.txt        the commands of a file; the exit code is 1 if one failed";

/// Commands by hand.
#[derive(Debug, Args)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{}", step::HELP))]
pub struct Repl {
    #[command(flatten)]
    interactive: Interactive,
}

impl Repl {
    /// Starts the machine and runs the typed commands.
    pub async fn run(self, options: &Options) -> Result<ExitCode> {
        let reporter = StartupReporter::new(&options.settings()?);
        let events = reporter.events();
        let up = tokio::select! {
            up = self.interactive.up(options, &events) => up?,
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::from(130)),
        };
        reporter.end();
        let mut lines = Lines::open()?;
        if lines.is_terminal() {
            let who = up.user.as_ref().map_or("no user", |(user, _)| user);
            let name = up.machine.name();
            report::say(&format!(
                "{name} is up, and {who} is logged in; `help` lists the commands, `quit` ends it"
            ));
        }
        let failed = converse(&up, &mut lines).await;
        up.machine.stop().await;
        Ok(if failed { Exit::Failed } else { Exit::Passed }.into())
    }
}

/// Runs the typed lines one by one. Returns whether a command failed that no user could see fail.
async fn converse(up: &Up, lines: &mut Lines) -> bool {
    let mut live = Live::new(up.machine.clone());
    let mut worked: Vec<Step> = Vec::new();
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
            Ok(Typed::Save(file)) => save(Path::new(&file), up, &worked),
            Ok(Typed::Step(step)) => {
                let done = tokio::select! {
                    done = live.perform(&step) => done,
                    _ = tokio::signal::ctrl_c() => Err(Error::new(ErrorKind::Other, "given up")),
                };
                done.map(|said| {
                    report::guest_output(&said);
                    worked.push(step);
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

fn save(file: &Path, up: &Up, worked: &[Step]) -> Result {
    if worked.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "no command has succeeded yet: there is nothing to save"));
    }
    let text = scenario::text(file, &up.source, up.user.as_ref(), worked);
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
