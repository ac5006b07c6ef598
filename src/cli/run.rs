//! `nixvm-test FILE.rs… | DIR`: compiles the files and runs the scenarios in them.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use nixvm_test::scenario::Exit;
use nixvm_test::scenario::compile::{self, Compiler};
use nixvm_test::{Error, ErrorKind, Result, report};
use tokio::signal::unix::{SignalKind, signal};

use super::options::Options;

/// Compiles all files first, so that what does not compile is said before anything boots, then runs
/// them one after the other.
pub async fn run(paths: &[PathBuf], harness: &[OsString], options: &Options) -> Result<ExitCode> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in paths {
        files.extend(compile::files(path)?);
    }
    let binaries = compile(&files).await?;
    let commands = binaries.iter().map(|binary| {
        let mut command = Command::new(binary);
        command.args(harness).envs(options.variables());
        command
    });
    match commands.collect::<Vec<_>>().as_mut_slice() {
        // In place of this process: nothing stands between the scenario and who started it.
        [only] => Err(Error::new(ErrorKind::Host, format!("could not start the scenario: {}", only.exec()))),
        several => in_turn(several, options.settings()?.run_limit).await,
    }
}

async fn compile(files: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let compiler = Compiler::new(std::io::stderr().is_terminal() && !plain)?;
    let reporter = report::choose();
    let events = report::events(&reporter);
    let mut binaries = Vec::new();
    let mut failure = None;
    for file in files {
        if let Some(binary) = compiler.fresh(file) {
            binaries.push(binary);
            continue;
        }
        let compiled = compiler.compile(file, &events).await;
        reporter.finish();
        report::diagnostics(&compiled.diagnostics);
        match compiled.binary {
            Ok(binary) => binaries.push(binary),
            // The compiler's errors of every file are worth seeing at once; nothing else is.
            Err(error) if error.kind() == ErrorKind::Build && failure.is_none() => failure = Some(error),
            Err(error) if error.kind() == ErrorKind::Build => report::error(&error),
            Err(error) => return Err(error),
        }
    }
    failure.map_or(Ok(binaries), Err)
}

/// Runs each and gives the code of all. They share the time of the run, if it has a limit.
async fn in_turn(commands: &mut [Command], limit: Option<Duration>) -> Result<ExitCode> {
    let begun = Instant::now();
    let listen = |kind| signal(kind).map_err(|source| Error::new(ErrorKind::Host, source.to_string()));
    // On a terminal ctrl-C reaches the scenario too, which ends in good order; from `kill` it does not.
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut exits = Vec::new();
    let count = commands.len();
    for (number, command) in commands.iter_mut().enumerate() {
        if let Some(limit) = limit {
            let rest = limit.saturating_sub(begun.elapsed());
            if rest.is_zero() {
                report::events(&report::choose()).note(format!(
                    "no time is left for {} of {count} files: they are not run",
                    count - number
                ));
                exits.push(Exit::Failed);
                break;
            }
            command.env("NIXVM_RUN_TIMEOUT", rest.as_millis().div_ceil(1000).to_string());
        }
        command.env("NIXVM_PARENT", std::process::id().to_string());
        let mut child =
            tokio::process::Command::from(std::mem::replace(command, Command::new(""))).spawn().map_err(
                |source| Error::new(ErrorKind::Host, format!("could not start the scenario: {source}")),
            )?;
        let pid = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
        let status = loop {
            let asked = tokio::select! {
                status = child.wait() => break status,
                _ = interrupt.recv() => rustix::process::Signal::INT,
                _ = terminate.recv() => rustix::process::Signal::TERM,
            };
            if let Some(pid) = pid
                && !(asked == rustix::process::Signal::INT && in_the_foreground())
            {
                let _ = rustix::process::kill_process(pid, asked);
            }
        };
        let status = status.map_err(|source| Error::new(ErrorKind::Host, source.to_string()))?;
        match exit_of(status) {
            Ok(exit) => exits.push(exit),
            // Ended by a signal: the ones after it are not wanted either.
            Err(code) => return Ok(code),
        }
    }
    Ok(Exit::of_all(exits).into())
}

/// Whether this process is among those that the terminal sends ctrl-C to.
fn in_the_foreground() -> bool {
    rustix::termios::tcgetpgrp(std::io::stderr()).is_ok_and(|group| group == rustix::process::getpgrp())
}

fn exit_of(status: ExitStatus) -> Result<Exit, ExitCode> {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, signal) => 128 + u8::try_from(signal.unwrap_or_default()).unwrap_or_default(),
    };
    let known = [Exit::Passed, Exit::Failed, Exit::Usage, Exit::Build, Exit::Boot, Exit::Host];
    match known.into_iter().find(|exit| exit.code() == code) {
        Some(exit) => Ok(exit),
        None if code > 128 => Err(ExitCode::from(code)),
        None => Ok(Exit::Failed),
    }
}
