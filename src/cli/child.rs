//! Runs the binary of a scenario as a child of this process, and handles the signals that end both.

use std::process::{Command, ExitCode, ExitStatus};

use std::os::unix::process::ExitStatusExt as _;

use crate::scenario::Exit;
use crate::signals;
use crate::{Error, Result};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// The signals that end a run, except those that were ignored when this process started.
pub struct Signals(Vec<(Signal, tokio::signal::unix::Signal)>);

impl Signals {
    /// Starts to receive the signals here. They no longer end this process by themselves.
    pub fn listen() -> Result<Self> {
        let all = [
            (Signal::INT, SignalKind::interrupt()),
            (Signal::TERM, SignalKind::terminate()),
            (Signal::HUP, SignalKind::hangup()),
        ];
        let heard = all.into_iter().filter(|(number, _)| !signals::is_ignored(number.as_raw()));
        let heard = heard.map(|(number, kind)| {
            Ok((number, signal(kind).map_err(|source| signals::not_watched(&source))?))
        });
        heard.collect::<Result<_>>().map(Self)
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            for (number, heard) in &mut self.0 {
                if heard.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// A running scenario binary.
pub struct Child(tokio::process::Child);

impl Child {
    /// Starts the binary. It ends when this process ends, for any reason.
    pub fn start(mut command: Command) -> Result<Self> {
        command.env("NIXVM_PARENT", std::process::id().to_string());
        let started = tokio::process::Command::from(command).spawn();
        started.map(Self).map_err(|source| not_started(&source))
    }

    /// Waits for its exit.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        let failed = |source: std::io::Error| Error::host("wait for the scenario", &source);
        self.0.wait().await.map_err(failed)
    }

    /// Tells it to end, which it does in an orderly way.
    pub fn tell(&self, signal: Signal) {
        let pid = self.0.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Passes on a signal that this process received.
    pub fn pass_on(&self, signal: Signal) {
        // On a terminal ctrl-C reaches the scenario too, so passing it on would deliver it twice.
        if !(signal == Signal::INT && in_the_foreground()) {
            self.tell(signal);
        }
    }
}

/// Returns the error for a scenario binary that could not be started.
pub fn not_started(source: &std::io::Error) -> Error {
    Error::host("start the scenario", source)
}

/// Returns whether this process is in the foreground group, to which the terminal sends ctrl-C.
fn in_the_foreground() -> bool {
    rustix::termios::tcgetpgrp(std::io::stderr()).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// Returns how a scenario's binary ended; `Err` with this process's own exit code if a signal ended it.
pub fn exit_of(status: ExitStatus) -> Result<Exit, ExitCode> {
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
