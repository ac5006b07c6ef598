//! Ends a machine: cleanly, as a person does, or at once.

use std::sync::Arc;
use std::time::Duration;

use crate::stopped::Instant;

use nixvm_test_macros::tracked;

use crate::channel::{Channel, Progress, Request, Shell};
use crate::console::shown;
use crate::machine::lifecycle::trouble::AskedToGoDown;
use crate::machine::limit::StandsStill;
use crate::machine::services::logind::{self, Logind};
use crate::machine::session::command::Collector;
use crate::machine::session::shell_line::Ended;
use crate::machine::{Life, Line, Machine};
use crate::qemu::{Exit, Shutdown};
use crate::{Error, ErrorKind, Result};

/// The limit for the guest's shutdown after the request, on a fast host, in addition to [`STOP_JOBS`].
const SHUTDOWN: Duration = Duration::from_secs(20);
/// systemd waits 90 s in real time for a unit to stop before it kills it (DefaultTimeoutStopSec), on any host.
const STOP_JOBS: Duration = Duration::from_secs(100);
/// The limit for an answer that QEMU gives at once.
const QMP: Duration = Duration::from_secs(5);
const WHILE_IT_WENT_DOWN: &str = "QEMU ended before the guest had powered off";
/// Maximum number of lines of a command's output that are quoted in an error.
const SHOWN_LINES: usize = 20;

/// How a machine is shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By the user who is logged in on the console; by the power button if there is none.
    Person,
    /// By root over the control channel; by the power button if it is not open.
    Channel,
}

/// # Power off
impl Machine {
    /// Powers the machine off as a person would: `sudo poweroff` in the open session (`poweroff` for root), or the
    /// power button (ACPI) without a login on the console. Waits until QEMU has ended. An event says which way was
    /// used.
    ///
    /// When this fails, the machine keeps running: [`Machine::stop`] ends it in any case, and so does the end of the
    /// scenario.
    ///
    /// # Errors
    /// [`ErrorKind::CommandFailed`], with the output of `sudo`, when the power-off is refused; [`ErrorKind::Timeout`]
    /// when the machine still runs after the limit ([`Machine::within`]; the default is 100 s, which is longer than
    /// systemd waits for a unit that does not stop, plus 20 s on a fast host); [`ErrorKind::QemuGone`] when QEMU
    /// ends, or had ended before, other than by a power-off of the guest: it crashed, or somebody ended it.
    #[tracked]
    pub async fn power_off(&self) -> Result {
        self.end_in_good_order(Way::Person).await
    }

    /// Shuts the machine down and waits for its end: by root's `systemctl poweroff` if the control channel is open,
    /// otherwise by the power button (ACPI). The user on the console needs no rights for that.
    ///
    /// # Errors
    /// Those of [`Machine::power_off`].
    #[tracked]
    pub async fn shutdown(&self) -> Result {
        self.end_in_good_order(Way::Channel).await
    }

    /// Kills the machine at once, as if its plug were pulled. Data that the guest had not written to its disk is lost.
    pub async fn stop(&self) {
        self.life().pull_the_plug("stopped").await;
    }

    /// Kills its QEMU and does nothing else, for a machine whose scenario is stuck.
    pub(crate) async fn kill(&self) {
        self.life().qemu.kill().await;
    }

    async fn end_in_good_order(&self, way: Way) -> Result {
        let life = self.life();
        let _asked = AskedToGoDown(Arc::clone(&life));
        self.note_trouble().await;
        self.note_boot_times().await;
        let mut line = life.line.lock().await;
        let ended = life.qemu.exit().borrow().clone();
        if let Some(exit) = ended {
            return life.powered_off(&exit, "QEMU had ended before").await;
        }
        let _step = life.step("power off");
        let limit = life.time_to_go_down(self.limit);
        let how: String = life
            .answer("power off", async {
                let how = match way {
                    Way::Person => life.powered_off_by_a_person(&mut line, limit).await?,
                    Way::Channel => life.powered_off_by_root(limit).await?,
                };
                Ok(how.to_owned())
            })
            .await?;
        *line = Line::Lost("the machine was powered off".to_owned());
        life.stopped(format!("powered off by {how}"));
        Ok(())
    }
}

impl Life {
    /// Returns the limit for a clean shutdown; `asked` is the scenario's own limit.
    pub(crate) fn time_to_go_down(&self, asked: Option<Duration>) -> Duration {
        match asked {
            Some(limit) => self.limit(limit),
            None => STOP_JOBS + self.limit(SHUTDOWN),
        }
    }

    /// Returns an error unless the guest has powered off: its QEMU may have crashed, or somebody may have ended it.
    async fn powered_off(&self, exit: &Exit, summary: &str) -> Result {
        let summary = format!("{}: {summary}", self.name);
        let shutdown = self.qemu.went_down(exit, &summary).await;
        let error = match shutdown {
            // QEMU before 4.0 gives no reason.
            Ok(Some(Shutdown { reason, .. })) if !matches!(reason.as_str(), "" | "guest-shutdown") => {
                exit.error(format_args!("{summary}, and not by a power-off ({reason})"))
            }
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        Err(error.section("the console's last lines", self.console.tail(SHOWN_LINES)))
    }

    async fn powered_off_by_a_person(&self, line: &mut Line, limit: Duration) -> Result<&'static str> {
        let Line::Shell(shell) = line else { return self.press_the_power_button(limit).await };
        let started = Instant::now();
        let mut lost = None;
        let ran = self.held_to(limit, shell.run_command_as_root(self, "poweroff", limit)).await;
        let ran = ran.unwrap_or_else(|StandsStill| {
            Err(self.failure(ErrorKind::Timeout, StandsStill::CAUSE.to_owned()))
        });
        let (ran, by) = match ran {
            Ok((ended, by)) => (Ok(ended), by),
            // The shell ended with the machine.
            Err(error) => (Err(error), if shell.user() == "root" { "" } else { self.channels.way_to_root() }),
        };
        let command = match by {
            "" => "poweroff",
            "doas" => "doas poweroff",
            "run0" => "run0 poweroff",
            _ => "sudo poweroff",
        };
        let said = match ran {
            Ok(Ended::Done(collector)) if collector.status() != Some(0) => {
                return Err(self.refused_to(command, shell.user(), collector));
            }
            Ok(Ended::Done(collector)) => collector.into_bytes(),
            Ok(Ended::Asks { question, collector, regained }) => {
                let error = self.asks_at(command, shell.user(), &question, collector);
                if let Err(lost) = regained {
                    *line = Line::Lost(lost.summary().to_owned());
                }
                return Err(error);
            }
            Ok(Ended::Interrupted { collector, regained }) => {
                lost = regained.err();
                collector.into_bytes()
            }
            Ok(Ended::LoggedOut(collector)) => {
                *line = Line::AtLogin;
                collector.into_bytes()
            }
            // The shell ends with the machine, perhaps before it answers.
            Err(error) => {
                lost = Some(error);
                Vec::new()
            }
        };
        if let Some(error) = &lost {
            *line = Line::Lost(error.summary().to_owned());
        }
        if let Some(error) = lost.take_if(|error| error.kind() == ErrorKind::KernelPanic) {
            return Err(error);
        }
        if let Some(exit) = self.gone_within(limit.saturating_sub(started.elapsed())).await {
            self.powered_off(&exit, WHILE_IT_WENT_DOWN).await?;
            return Ok(command);
        }
        let still_runs = self.still_runs(command, started, limit);
        let what_came = still_runs.section(format!("what {command} said"), shown(&said, SHOWN_LINES));
        Err(match lost {
            Some(lost) => what_came.section("the session", lost.to_string()),
            None => what_came,
        })
    }

    async fn powered_off_by_root(&self, limit: Duration) -> Result<&'static str> {
        const COMMAND: &str = "systemctl poweroff";
        let Some(channel) = self.channels.root() else { return self.press_the_power_button(limit).await };
        let started = Instant::now();
        if let Ok(asked) = crate::stopped::timeout(limit, self.asked_to_power_off(&channel, COMMAND)).await {
            asked?;
        }
        if let Some(exit) = self.gone_within(limit.saturating_sub(started.elapsed())).await {
            self.powered_off(&exit, WHILE_IT_WENT_DOWN).await?;
            return Ok(COMMAND);
        }
        Err(self.still_runs(COMMAND, started, limit))
    }

    /// Asks logind for what `command` would do, or runs the command if logind does not do it.
    async fn asked_to_power_off(&self, channel: &Channel, command: &str) -> Result {
        match logind::power_off(channel).await {
            Logind::Did => Ok(()),
            Logind::DidNot => self.asked_by_root(channel, command).await,
            // If the shutdown is already in progress, the command fails.
            Logind::Unknown => {
                if let Err(error) = self.asked_by_root(channel, command).await {
                    tracing::debug!(%error, "logind may be shutting it down");
                }
                Ok(())
            }
        }
    }

    /// Runs a command as root that shuts the machine down. Returns when the request was accepted, and an error when it
    /// was refused. No answer means that the channel closed with the machine.
    pub(crate) async fn asked_by_root(&self, channel: &Channel, command: &str) -> Result {
        let request = Request { text: command.to_owned(), shell: Shell::Bash, stdin: false, sum: false };
        let Ok(mut running) = channel.run(request).await else { return Ok(()) };
        let mut said = Vec::new();
        loop {
            match running.next().await {
                Ok(Progress::Stdout(bytes) | Progress::Stderr(bytes)) => said.extend(bytes),
                Ok(Progress::Exit(0)) | Err(_) => return Ok(()),
                Ok(Progress::Exit(status)) => {
                    let what = format!("` of root ended with status {status}, so the machine still runs");
                    let before = format!("{}: `", self.name);
                    return Err(Error::quoting(ErrorKind::CommandFailed, &before, command, &what)
                        .section(format!("what {command} said"), shown(&said, SHOWN_LINES)));
                }
            }
        }
    }

    async fn press_the_power_button(&self, limit: Duration) -> Result<&'static str> {
        const BUTTON: &str = "the power button (ACPI)";
        let started = Instant::now();
        // QEMU may end before it answers.
        let pressed = self.qemu.qmp().execute("system_powerdown", None, QMP).await;
        if let Some(exit) = self.gone_within(limit.saturating_sub(started.elapsed())).await {
            self.powered_off(&exit, WHILE_IT_WENT_DOWN).await?;
            return Ok(BUTTON);
        }
        pressed?;
        Err(self
            .still_runs(BUTTON, started, limit)
            .likely_cause("the guest ignores the power button: its kernel runs without ACPI, logind does not run, or HandlePowerKey is not poweroff")
            .next_step("log in, and `power_off()` types `poweroff`; `stop()` always ends the machine"))
    }

    /// Returns the error for a user who lacks the rights for it.
    pub(crate) fn refused_to(&self, command: &str, user: &str, collector: Collector) -> Error {
        let status = collector.status().unwrap_or(-1);
        let said = collector.into_bytes();
        let error = Error::quoting(
            ErrorKind::CommandFailed,
            &format!("{}: `", self.name),
            command,
            &format!("` of {user} ended with status {status}, so the machine still runs"),
        )
        .section(format!("what {command} said"), shown(&said, SHOWN_LINES));
        if user == "root" {
            return error;
        }
        error
            .likely_cause(format!("{user} may not use sudo, or sudo asks for another password than the login"))
            .next_step(format!("let {user} use it: users.users.{user}.extraGroups = [ \"wheel\" ]; `shutdown()` asks root or presses the power button"))
    }

    /// `command` asks for more than the password of `user`, and was interrupted.
    pub(crate) fn asks_at(&self, command: &str, user: &str, question: &str, collector: Collector) -> Error {
        let question = crate::text::line(question);
        Error::quoting(
            ErrorKind::CommandFailed,
            &format!("{}: `", self.name),
            command,
            &format!(
                "` of {user} asks {question:?}, and nixvm-test has no answer, so the machine still runs"
            ),
        )
        .section(format!("what {command} said"), shown(&collector.into_bytes(), SHOWN_LINES))
        .next_step("`shutdown()` asks root or presses the power button; `stop()` always ends the machine")
    }

    fn still_runs(&self, how: &str, started: Instant, limit: Duration) -> Error {
        self.failure(ErrorKind::Timeout, format!("the machine still runs after {how}"))
            .took(started.elapsed(), limit)
            .next_step(
                "check which unit delays it, or give it more time with `within`; `stop()` always ends it",
            )
    }
}
