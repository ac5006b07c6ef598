//! A user's session on the console.

pub(crate) mod automatic;
pub(crate) mod command;
pub(crate) mod dialogue;
pub(crate) mod elevation;
pub(crate) mod ending;
pub(crate) mod frame;
pub(crate) mod identity;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod noise;
pub(crate) mod notices;
pub(crate) mod phases;
pub(crate) mod probe;
pub(crate) mod question;
pub(crate) mod raw_console;
pub(crate) mod rest;
pub(crate) mod shell;
pub(crate) mod shell_line;
pub(crate) mod terminal;
pub(crate) mod waiting;

use std::sync::Arc;
use std::time::Duration;

use crate::stopped::Instant;

use nixvm_test_macros::tracked;
use serde::{Deserialize, Serialize};

use crate::machine::command_text::shorten;
use crate::machine::limit::StandsStill;
use crate::machine::replay::answers::Bytes;
use crate::machine::session::command::Collector;
use crate::machine::session::shell_line::Ended;
use crate::machine::{Life, Line, Output};
use crate::text;
use crate::{Error, ErrorKind, Result};

/// The default limit for one command, on a fast host.
const COMMAND: Duration = Duration::from_secs(60);
/// The minimum on any host: systemd waits 90 s in real time for a unit to stop, or for a device to appear.
const AT_LEAST: Duration = Duration::from_secs(100);
/// Shown in an error for an empty output.
pub(crate) const NOTHING: &str = "(it printed nothing)";
/// Maximum number of output lines that are shown in an error.
const SHOWN_LINES: usize = 30;

/// A user who is logged in on the console. See [`crate::machine::Machine::login`].
///
/// Commands run one after the other in the user's own shell, as if typed: `cd`, variables and aliases persist between
/// commands. With fish and other shells that are not POSIX shells, each command runs in its own shell, and they do not
/// persist.
///
/// When sudo, sudo-rs, doas or polkit (run0) asks for the user's password, the session answers with the password of its
/// login. The question is not part of the output. A command that asks another question is an error at once if that can
/// be recognised: it asks for a secret, or root's channel is open.
#[derive(Debug, Clone)]
pub struct Session {
    life: Arc<Life>,
    id: u64,
    user: String,
    limit: Option<Duration>,
}

impl Session {
    pub(in crate::machine) fn new(life: Arc<Life>, id: u64, user: &str) -> Self {
        Self { life, id, user: user.to_owned(), limit: None }
    }

    /// Returns the user's name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Returns the same session with another time limit for each command. The limit is for a fast host and is scaled by
    /// [`crate::Speed`]. The default is one minute, but at least 100 s, because systemd waits 90 s for a unit to stop.
    ///
    /// ```no_run
    /// # async fn example(alice: nixvm_test::machine::Session) -> nixvm_test::Result {
    /// use std::time::Duration;
    /// alice.within(Duration::from_secs(5)).succeed("systemctl is-system-running --wait").await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self.clone() }
    }

    /// Runs a command and returns its output, for any exit status. The command may have several lines.
    ///
    /// # Errors
    /// [`ErrorKind::CommandTimeout`] when it does not end within the limit: it is interrupted and the session
    /// continues. [`ErrorKind::SessionEnded`] when the session has ended (the command was `exit`, or another user
    /// logged in since), [`ErrorKind::KernelPanic`] and [`ErrorKind::QemuGone`] at once, [`ErrorKind::Usage`] for a
    /// command with a NUL in it.
    #[tracked]
    pub async fn execute(&self, command: impl AsRef<str>) -> Result<Output> {
        self.execute_text(command.as_ref()).await
    }

    async fn execute_text(&self, command: &str) -> Result<Output> {
        if command.contains('\0') {
            return Err(Error::new(ErrorKind::Usage, "a command can't contain a NUL byte"));
        }
        let life = &self.life;
        let mut line = life.line.lock().await;
        let ended =
            |why: &str| life.session_ended(&format!("run `{}` as {}", shorten(command), self.user), why);
        let shell = match &mut *line {
            Line::Shell(shell) if shell.id() == self.id => shell,
            Line::Shell(other) => {
                return Err(ended(&format!("it was logged out when {} logged in", other.user())));
            }
            Line::AtLogin => return Err(ended("it was logged out")),
            Line::Lost(why) => return Err(ended(why)),
        };
        let mut step = life.step_with(&format!("{}: ", self.user), &shorten(command));
        let limit = match self.limit {
            Some(limit) => life.limit(limit),
            None => life.speed.scale_to_at_least(COMMAND, AT_LEAST),
        };
        let started = Instant::now();
        let question = format!("{}$ {command}", self.user);
        let ran = life.answer_on_console(&question, async {
            match life.held_to(limit, shell.run(life, command, limit)).await {
                Ok(ran) => ran.map(Ran::from),
                // Dropped, so that the next command interrupts it.
                Err(StandsStill) => Err(Error::quoting(
                    ErrorKind::CommandTimeout,
                    &format!("{}: `", life.name),
                    &shorten(command),
                    "` did not end within its limit",
                )
                .took(started.elapsed(), limit)
                .likely_cause(StandsStill::CAUSE)),
            }
        });
        match ran.await {
            Ok(Ran::Done { status, printed, lost }) => {
                let output = output(command, status, printed, lost)?;
                step.gave(output.bytes(), output.stderr(), Some(output.status()));
                Ok(output)
            }
            Ok(Ran::Interrupted { printed, lost, asks }) => {
                let (behind, next_step) = match &asks {
                    Some(question) => (
                        format!("` asks a question: {}", text::line(question)),
                        "the command was interrupted and the session continues; give the command the \
                         answer by an option or on its input",
                    ),
                    None => (
                        "` did not end within its limit".to_owned(),
                        "the command was interrupted and the session continues; give it more time with `within`",
                    ),
                };
                let error = Error::quoting(
                    ErrorKind::CommandTimeout,
                    &format!("{}: `", life.name),
                    &shorten(command),
                    &behind,
                )
                .took(started.elapsed(), limit)
                .section("what it had printed", shown(&printed.0));
                match lost {
                    None => Err(error.next_step(next_step)),
                    Some(Lost { summary, report }) => {
                        *line = Line::Lost(text::line(&summary));
                        Err(error.section("and then", text::lines(&report)))
                    }
                }
            }
            Ok(Ran::LoggedOut { printed }) => {
                *line = Line::AtLogin;
                Err(ended(
                    "it ended with the session: the login prompt is back, or another shell is on the console",
                )
                .section("what it had printed", shown(&printed.0)))
            }
            Err(error) => {
                // A paused guest may continue, and its shell with it.
                let goes_on = matches!(
                    error.kind(),
                    ErrorKind::Timeout
                        | ErrorKind::CommandTimeout
                        | ErrorKind::NotRecorded
                        | ErrorKind::GuestStopped
                        | ErrorKind::DiskError
                );
                if !goes_on {
                    *line = Line::Lost(error.summary().to_owned());
                }
                Err(error)
            }
        }
    }

    /// Runs a command that has to succeed.
    ///
    /// # Errors
    /// [`ErrorKind::CommandFailed`] when its status is not 0, and those of [`Session::execute`].
    #[tracked]
    pub async fn succeed(&self, command: impl AsRef<str>) -> Result<Output> {
        let output = self.execute_text(command.as_ref()).await?;
        if output.success() {
            return Ok(output);
        }
        Err(self.unexpected(ErrorKind::CommandFailed, &output, "0"))
    }

    /// Runs a command that has to fail.
    ///
    /// # Errors
    /// [`ErrorKind::CommandSucceeded`] when its status is 0, and those of [`Session::execute`].
    #[tracked]
    pub async fn fail(&self, command: impl AsRef<str>) -> Result<Output> {
        let output = self.execute_text(command.as_ref()).await?;
        if !output.success() {
            return Ok(output);
        }
        Err(self.unexpected(ErrorKind::CommandSucceeded, &output, "other than 0"))
    }

    /// Logs out: ends the shell and waits for the login prompt.
    ///
    /// # Errors
    /// [`ErrorKind::SessionEnded`] when the session had ended before, [`ErrorKind::Timeout`] when the login prompt does
    /// not come back.
    #[tracked]
    pub async fn log_out(self) -> Result {
        let mut line = self.life.line.lock().await;
        match &*line {
            Line::Shell(shell) if shell.id() == self.id => self.life.leave_shell(&mut line).await,
            _ => Err(self
                .life
                .session_ended(&format!("log out {}", self.user), "the session had ended before")),
        }
    }

    fn unexpected(&self, kind: ErrorKind, output: &Output, expected: &str) -> Error {
        let command = shorten(output.command());
        let ended = format!("` ended with status {}, expected {expected}", output.status());
        let error = Error::quoting(kind, &format!("{}: `", self.life.name), &command, &ended);
        let said = if output.bytes().is_empty() { NOTHING.to_owned() } else { shown(output.bytes()) };
        let error = error.section("its output", said);
        match output.status() {
            127 => error.likely_cause("the command is not on the user's PATH").next_step(format!(
                "add its package to users.users.{}.packages or environment.systemPackages",
                self.user
            )),
            126 => error.likely_cause("the file is there but can't be executed by this user"),
            status if status > 128 && status < 193 => {
                error.likely_cause(format!("it was ended by signal {}", status - 128))
            }
            _ => error,
        }
    }
}

/// How a command ended, as recorded.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ran {
    Done {
        status: i32,
        printed: Bytes,
        lost: usize,
    },
    Interrupted {
        printed: Bytes,
        lost: Option<Lost>,
        /// The question for which it was interrupted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        asks: Option<String>,
    },
    LoggedOut {
        printed: Bytes,
    },
}

/// The shell did not come back.
#[derive(Serialize, Deserialize)]
struct Lost {
    summary: String,
    report: String,
}

impl From<Error> for Lost {
    fn from(lost: Error) -> Self {
        Self { summary: lost.summary().to_owned(), report: lost.to_string() }
    }
}

impl From<Ended> for Ran {
    fn from(ended: Ended) -> Self {
        let printed = |collector: Collector| Bytes(collector.into_bytes());
        // Only messages have it.
        let last = |collector: Collector| Bytes(collector.into_last_bytes());
        match ended {
            Ended::Done(collector) => {
                let (status, lost) = (collector.status().unwrap_or(-1), collector.lost());
                Self::Done { status, printed: printed(collector), lost }
            }
            Ended::Interrupted { collector, regained } => Self::Interrupted {
                printed: last(collector),
                lost: regained.err().map(Lost::from),
                asks: None,
            },
            Ended::Asks { question, collector, regained } => Self::Interrupted {
                printed: last(collector),
                lost: regained.err().map(Lost::from),
                asks: Some(question),
            },
            Ended::LoggedOut(collector) => Self::LoggedOut { printed: last(collector) },
        }
    }
}

fn output(command: &str, status: i32, printed: Bytes, lost: usize) -> Result<Output> {
    if lost > 0 {
        return Err(Error::new(
            ErrorKind::Other,
            format!("`{}` printed {} bytes more than are kept of one command", shorten(command), lost),
        )
        .next_step("write its output to a file in the machine, and read the part that you need"));
    }
    Ok(Output::new(command, status, printed.0, Vec::new()))
}

/// Returns the end of an output, as shown in a message.
fn shown(bytes: &[u8]) -> String {
    crate::console::shown(bytes, SHOWN_LINES)
}
