//! Commands on the control channel, as root or as any user.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::stopped::Instant;

use nixvm_test_macros::tracked;

use crate::channel::Shell;
use crate::machine::command_text::quoted;
use crate::machine::command_text::shorten;
use crate::machine::commands::invocation::Invocation;
use crate::machine::output::Output;
use crate::machine::session::NOTHING;
use crate::machine::{Life, Machine};
use crate::{Error, ErrorKind, Result};

/// The default limit for one command, on a fast host. It equals that of the NixOS test driver.
pub(crate) const COMMAND: Duration = Duration::from_secs(900);
/// Maximum number of output lines that are shown in an error.
const SHOWN_LINES: usize = 30;
/// Maximum number of console lines that are shown in an error.
const CONSOLE_LINES: usize = 10;

/// A user of a machine who runs commands over the control channel: several at once, with separate standard output and
/// standard error. See [`Machine::as_user`].
#[derive(Debug, Clone)]
pub struct User {
    pub(crate) machine: Machine,
    pub(crate) name: String,
    pub(crate) shell: Shell,
    pub(crate) limit: Option<Duration>,
}

/// # Commands
impl Machine {
    /// Returns a user who runs commands over the control channel: `root`, or any other. The commands have the
    /// environment of the user's login shell and run in a separate session with a systemd user manager. The methods of
    /// the machine itself run commands as root.
    ///
    /// The channel is opened when it is first needed. At that time a user must be logged in on the console who is root
    /// or may use `sudo`; they may log out afterwards.
    ///
    /// ```no_run
    /// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
    /// machine.login("alice", "test").await?;
    /// let bob = machine.as_user("bob");
    /// assert_eq!(bob.succeed("id -un").await?.text(), "bob\n");
    /// # Ok(()) }
    /// ```
    pub fn as_user(&self, name: &str) -> User {
        User { machine: self.clone(), name: name.to_owned(), shell: Shell::Bash, limit: self.limit }
    }

    /// Runs a command as root. See [`User::execute`].
    ///
    /// # Errors
    /// Those of [`User::execute`].
    #[tracked]
    pub async fn execute(&self, command: impl AsRef<str>) -> Result<Output> {
        self.root().execute(command).await
    }

    /// Runs one or several commands as root; each has to succeed. See [`User::succeed`].
    ///
    /// # Errors
    /// Those of [`User::succeed`].
    #[tracked]
    pub async fn succeed(&self, commands: impl Commands) -> Result<Output> {
        self.root().succeed(commands).await
    }

    /// Runs one or several commands as root; each has to fail. See [`User::fail`].
    ///
    /// # Errors
    /// Those of [`User::fail`].
    #[tracked]
    pub async fn fail(&self, commands: impl Commands) -> Result<Output> {
        self.root().fail(commands).await
    }

    /// Repeats a command as root until it succeeds. See [`User::wait_until_succeeds`].
    ///
    /// # Errors
    /// Those of [`User::wait_until_succeeds`].
    #[tracked]
    pub async fn wait_until_succeeds(&self, command: impl AsRef<str>) -> Result<Output> {
        self.root().wait_until_succeeds(command).await
    }

    /// Repeats a command as root until it fails. See [`User::wait_until_fails`].
    ///
    /// # Errors
    /// Those of [`User::wait_until_fails`].
    #[tracked]
    pub async fn wait_until_fails(&self, command: impl AsRef<str>) -> Result<Output> {
        self.root().wait_until_fails(command).await
    }

    /// Opens the control channel. Otherwise the first command that needs it opens it.
    ///
    /// # Errors
    /// [`ErrorKind::NoRoot`] when no logged-in user can become root.
    pub(crate) async fn open_control_channel(&self) -> Result {
        self.life().channel("root").await.map(drop)
    }

    /// Creates a root command with options. See [`Invocation`].
    pub fn command(&self, command: impl AsRef<str>) -> Invocation {
        self.root().command(command)
    }

    pub(crate) fn root(&self) -> User {
        self.as_user("root")
    }
}

impl User {
    /// Returns the user's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the same user with another time limit for each command and wait. The limit is for a fast host and is
    /// scaled by [`crate::Speed`].
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self.clone() }
    }

    /// Returns the same user, with commands that run in the user's own shell (`$SHELL -c`) instead of bash.
    #[must_use]
    pub fn in_own_shell(&self) -> Self {
        Self { shell: Shell::User, ..self.clone() }
    }

    /// Creates a command with options. See [`Invocation`].
    pub fn command(&self, command: impl AsRef<str>) -> Invocation {
        Invocation::new(self.clone(), command.as_ref())
    }

    /// Runs a command in its own bash with `set -euo pipefail` and returns its output, for any exit status. Its
    /// standard input is /dev/null. A process that it leaves in the background survives.
    ///
    /// # Errors
    /// [`ErrorKind::NoRoot`] when the control channel can't be opened because root is not available;
    /// [`ErrorKind::CommandTimeout`] after the limit (the default is 15 minutes on a fast host): its whole process
    /// group is killed; [`ErrorKind::ChannelLost`] when the machine shuts down meanwhile; [`ErrorKind::Usage`] for a
    /// command with a NUL in it.
    #[tracked]
    pub async fn execute(&self, command: impl AsRef<str>) -> Result<Output> {
        self.command(command).output().await
    }

    /// Runs one or several commands, one after the other; each has to end with status 0. Returns the output of all of
    /// them.
    ///
    /// ```no_run
    /// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
    /// machine.succeed(["systemctl start nginx", "curl --fail http://localhost"]).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::CommandFailed`], with both outputs, at the first command that fails; and those of
    /// [`User::execute`].
    #[tracked]
    pub async fn succeed(&self, commands: impl Commands) -> Result<Output> {
        self.each(commands, |output| match output.success() {
            true => Ok(()),
            false => Err((ErrorKind::CommandFailed, "0")),
        })
        .await
    }

    /// Runs one or several commands, one after the other; each has to end with a status other than 0.
    ///
    /// # Errors
    /// [`ErrorKind::CommandSucceeded`] at the first command that succeeds; and those of [`User::execute`].
    #[tracked]
    pub async fn fail(&self, commands: impl Commands) -> Result<Output> {
        self.each(commands, |output| match output.success() {
            false => Ok(()),
            true => Err((ErrorKind::CommandSucceeded, "other than 0")),
        })
        .await
    }

    /// Retries a command until it succeeds: first after 20 ms, then with longer and longer pauses (a twentieth of the
    /// time so far), up to 250 ms. The loop runs in the machine, so each retry costs only the command's own time.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after the limit, with the last outputs; and those of [`User::execute`].
    #[tracked]
    pub async fn wait_until_succeeds(&self, command: impl AsRef<str>) -> Result<Output> {
        self.repeat(command.as_ref(), true).await
    }

    /// Repeats a command until it fails, with the pauses of [`User::wait_until_succeeds`].
    ///
    /// # Errors
    /// Those of [`User::wait_until_succeeds`].
    #[tracked]
    pub async fn wait_until_fails(&self, command: impl AsRef<str>) -> Result<Output> {
        self.repeat(command.as_ref(), false).await
    }

    async fn each(
        &self,
        commands: impl Commands,
        check: impl Fn(&Output) -> Result<(), (ErrorKind, &'static str)>,
    ) -> Result<Output> {
        let mut all: Option<Output> = None;
        for command in commands.commands() {
            let output = self.execute(command).await?;
            check(&output)
                .map_err(|(kind, expected)| self.life().unexpected(kind, &self.name, &output, expected))?;
            all = Some(match all {
                None => output,
                Some(before) => before.and(output),
            });
        }
        all.ok_or_else(|| Error::new(ErrorKind::Usage, "no command was given"))
    }

    async fn repeat(&self, command: &str, until_success: bool) -> Result<Output> {
        let until = if until_success { "succeeds" } else { "fails" };
        let what = format!("`{}` {until}", shorten(command));
        let trying = self.command(repeated(self.shell, command, until_success)).repeating(command).hidden();
        self.wait_by(trying.asked_as(format!("wait until `{command}` {until}")), &what).await
    }

    /// Runs a command that waits in the machine for `what`, until it ends.
    pub(crate) async fn wait_by(&self, waiting: Invocation, what: &str) -> Result<Output> {
        let life = self.life();
        let command = waiting.name().to_owned();
        let limit = life.limit(self.limit.unwrap_or(COMMAND));
        let started = Instant::now();
        // The limit of the whole also ends a hanging attempt.
        let ended = waiting.run().await?;
        match ended.status {
            Some(_) => Ok(ended.into_output(&command)),
            None => {
                let summary = format!("{}: timed out waiting until {what}", life.name);
                let report = Error::new(ErrorKind::Timeout, summary).took(started.elapsed(), limit);
                let report = life.in_vain(report).await;
                Err(life.with_outputs(report, &ended.into_output(&command)))
            }
        }
    }

    pub(in crate::machine) fn life(&self) -> Arc<Life> {
        self.machine.life()
    }

    /// Returns the text that the shell has to evaluate to run `command` as this user.
    pub(crate) fn text(&self, channel: &crate::channel::Channel, command: &str) -> String {
        if channel.is_whole() || self.name == "root" {
            return command.to_owned();
        }
        // The shell script can't nest channels, so each command gets its own session.
        let user = quoted(&self.name);
        let (command, no_pager) = (quoted(command), crate::channel::guest::no_pager());
        format!(
            "exec systemd-run --quiet --collect --pipe --wait -p User={user} -p PAMName=login -p 'WorkingDirectory=~' bash -lc '{no_pager}; set -euo pipefail; eval \"$0\"' {command}"
        )
    }
}

impl Life {
    /// Returns the error for a command with an unexpected status.
    pub(crate) fn unexpected(&self, kind: ErrorKind, user: &str, output: &Output, expected: &str) -> Error {
        let command = shorten(output.command());
        let ended = format!("` ended with status {}, expected {expected}", output.status());
        let error = Error::quoting(kind, &format!("{}: `", self.name), &command, &ended);
        let error = self.with_outputs(error, output);
        match output.status() {
            127 => error
                .likely_cause(format!("the command is not on the PATH of {user}"))
                .next_step("add its package to environment.systemPackages or to the packages of the user"),
            126 => error.likely_cause("the file is there but can't be executed by this user"),
            status if status > 128 && status < 193 => {
                error.likely_cause(format!("it was ended by signal {}", status - 128))
            }
            _ => error,
        }
    }

    /// Adds a command's output, and the console's.
    pub(crate) fn with_outputs(&self, error: Error, output: &Output) -> Error {
        let shown = |bytes| crate::console::shown(bytes, SHOWN_LINES);
        let is_silent = output.bytes().is_empty() && output.stderr().is_empty();
        error
            .section("its output", if is_silent { NOTHING.to_owned() } else { shown(output.bytes()) })
            .section("its errors", shown(output.stderr()))
            .section("last lines of the console", self.console.tail(CONSOLE_LINES))
    }
}

/// Printed to both outputs before each retry: earlier output is discarded.
pub(crate) const AGAIN: &[u8] = b"\0nixvm-again\0";
/// Waits for `$d` microseconds on `$z`, a pipe without a writer, which starts no process. Each wait is 5 % longer than
/// the last one, up to 250 ms.
pub(crate) const PAUSE: &str =
    "printf -v t .%06d $d; read -rt $t -u $z; d=$((d < 238000 ? d + d / 20 : 250000))";

/// Returns the command that repeats `command` in the machine. Each attempt has its own shell, as a single command has.
fn repeated(shell: Shell, command: &str, until_success: bool) -> String {
    let done = if until_success { "=" } else { "!=" };
    let command = quoted(command);
    let shell = match shell {
        Shell::User => r#""${SHELL:-/bin/sh}""#,
        Shell::Bash | Shell::HiddenBash => r#"-a bash "$BASH" -euo pipefail"#,
    };
    format!(
        r#"set +e; d=20000; exec {{z}}<> <(:)
while :; do (exec {{z}}>&-; exec {shell} -c {command}); s=$?; [ $s {done} 0 ] && exit $s
printf '\0nixvm-again\0'; printf '\0nixvm-again\0' >&2; {PAUSE}; done"#
    )
}

/// One command, or several that run one after the other.
pub trait Commands {
    /// Returns the commands in order.
    fn commands(&self) -> impl Iterator<Item = &str>;
}

/// These types are one command each. They are listed individually, because an array of commands could implement
/// `AsRef<str>` in the future.
macro_rules! one_command {
    ($($text:ty),* $(,)?) => {$(
        impl Commands for $text {
            fn commands(&self) -> impl Iterator<Item = &str> {
                std::iter::once(AsRef::<str>::as_ref(self))
            }
        }
    )*};
}

one_command!(&str, &&str, String, &String, Box<str>, Cow<'_, str>, &Cow<'_, str>);

impl<S: AsRef<str>, const N: usize> Commands for [S; N] {
    fn commands(&self) -> impl Iterator<Item = &str> {
        self.iter().map(AsRef::as_ref)
    }
}

impl<S: AsRef<str>> Commands for &[S] {
    fn commands(&self) -> impl Iterator<Item = &str> {
        self.iter().map(AsRef::as_ref)
    }
}

impl<S: AsRef<str>> Commands for Vec<S> {
    fn commands(&self) -> impl Iterator<Item = &str> {
        self.iter().map(AsRef::as_ref)
    }
}
