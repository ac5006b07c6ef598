//! The output of a machine's serial console, independent of its sessions.

use std::time::Duration;

use nixvm_test_macros::tracked;

use crate::Result;
use crate::call::called;
use crate::console::{Mark, Match, Pattern};
use crate::machine::Machine;

/// # Console text
impl Machine {
    /// Waits until the serial console has printed `pattern`: plain text, or a regular expression ([`Pattern::regex`]).
    /// All output since the machine's start counts, even if something else has read it: text that is already there is
    /// found at once. `limit` is for a fast host and is scaled by [`crate::Speed`]. Further console output does not
    /// extend it.
    ///
    /// Sessions and other waits are not affected.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Timeout`] after `limit`, with what came instead; at once [`crate::ErrorKind::KernelPanic`],
    /// [`crate::ErrorKind::EmergencyMode`] and [`crate::ErrorKind::QemuGone`], unless the text came before.
    /// [`crate::ErrorKind::Incomplete`] instead of a timeout when a part of the transcript is lost (the host's disk was
    /// full): the text may have been there.
    ///
    /// ```no_run
    /// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
    /// use std::time::Duration;
    /// machine.wait_for_console_text("Reached target", Duration::from_secs(10)).await?;
    /// # Ok(()) }
    /// ```
    #[tracked]
    pub async fn wait_for_console_text(&self, pattern: impl Into<Pattern>, limit: Duration) -> Result<Match> {
        self.console_text(pattern.into(), None, limit).await
    }

    /// Like [`Machine::wait_for_console_text`], for the output since `mark`, which comes from
    /// [`Console::mark`](crate::console::Console::mark) of [`Machine::console`]. When more than 1 MiB has come since
    /// the mark, its beginning is not searched.
    ///
    /// # Errors
    /// Those of [`Machine::wait_for_console_text`]; [`crate::ErrorKind::Incomplete`] instead of a timeout when the
    /// beginning was not searched.
    #[tracked]
    pub async fn wait_for_console_text_since(
        &self,
        mark: Mark,
        pattern: impl Into<Pattern>,
        limit: Duration,
    ) -> Result<Match> {
        self.console_text(pattern.into(), Some(mark), limit).await
    }

    async fn console_text(&self, pattern: Pattern, since: Option<Mark>, limit: Duration) -> Result<Match> {
        let _step = self.life().step(format!("wait for {pattern} on the console"));
        let limit = self.speed().scale(limit);
        self.console().find(pattern, since, limit).await
    }

    /// Returns the serial console's whole output since the machine's start, as text: without escape sequences, with
    /// `\n` at the end of lines, and with secrets masked.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Incomplete`] when a part of it is lost because the host's disk was full: checks of the whole
    /// output would be wrong. [`crate::ErrorKind::Io`] when the transcript can't be read.
    #[track_caller]
    pub fn get_console_log(&self) -> Result<String> {
        called(self.console().log())
    }

    /// Types text on the serial console, for prompts before a login (emergency mode, a boot loader). `\n` is the Enter
    /// key. While a session is open, its shell gets the text.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Timeout`] when the guest takes no input for 10 s (scaled),
    /// [`crate::ErrorKind::QemuGone`].
    #[tracked]
    pub async fn send_console(&self, text: &str) -> Result {
        // The typed text may be a password.
        let what = format!("type {} characters on the console", text.chars().count());
        let life = self.life();
        let _step = life.step(what.clone());
        // The Enter key sends a carriage return.
        let typed = text.replace("\r\n", "\r").replace('\n', "\r");
        life.answer(&what, life.console.send(typed.as_bytes())).await
    }
}
