//! Gets the shell back from a command that does not end, and ends the shell.

use std::time::Duration;

use super::{ANSWER, Answering, Ended, INTERRUPT_KEY, Running, ShellLine};
use crate::console::Pattern;
use crate::machine::Life;
use crate::machine::session::frame::Nonce;
use crate::machine::session::phases::login_prompt;
use crate::machine::session::probe::{alive, probe};
use crate::machine::session::shell;
use crate::{ErrorKind, Result};

/// Time after ^C for a command to print its last output and end cleanly, on a fast host.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// Time for a signal to clear the terminal's input, on a fast host.
const KEY_TAKES_EFFECT: Duration = Duration::from_millis(20);
/// Time for the shell to come back after a key, before a stronger one is tried, on a fast host.
const ANSWER_TO_KEY: Duration = Duration::from_millis(500);
/// Maximum number of shells started by a command (`bash`, `sudo -i`) that are ended to get back to the session's shell.
const INNER_SHELLS: usize = 1;

impl ShellLine {
    /// Interrupts the running command, and collects its last output.
    pub(super) async fn interrupt(&mut self, life: &Life, running: Running) -> Result<Ended> {
        life.console.send(INTERRUPT_KEY).await?;
        // A command that handles ^C prints its last output, and then the loop prints its marker.
        let deadline = crate::stopped::Instant::now() + life.limit(LAST_WORDS);
        while running.collector().status().is_none() {
            match running
                .progress(&life.console, deadline.saturating_duration_since(crate::stopped::Instant::now()))
                .await
            {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Timeout => break,
                Err(error) => return Err(error),
            }
        }
        let collector = running.finish();
        if collector.status().is_some() {
            self.busy = false;
            return Ok(Ended::Interrupted { collector, regained: Ok(()) });
        }
        Ok(match self.regain(life).await {
            Ok(Answering::Own) => Ended::Interrupted { collector, regained: Ok(()) },
            Ok(Answering::Another) => Ended::LoggedOut(collector),
            Err(lost) => Ended::Interrupted { collector, regained: Err(lost) },
        })
    }

    /// Interrupts the unknown program that has the terminal.
    pub(super) async fn break_off(&mut self, life: &Life) -> Result<Answering> {
        life.console.send(INTERRUPT_KEY).await?;
        self.regain(life).await
    }

    /// Makes the shell serve again, with increasingly strong keys: ^C, ^\, ^Z and a kill of the stopped program.
    /// Another shell may answer: one that the command started, or one of an automatic login.
    pub(super) async fn regain(&mut self, life: &Life) -> Result<Answering> {
        let wait = life.limit(ANSWER_TO_KEY);
        let _answering = life.console.while_a_shell_starts();
        let mut inner = 0;
        let mut keys = [b"".as_slice(), INTERRUPT_KEY, b"\x1c", b"\x1a"].into_iter();
        let mut key = keys.next();
        while let Some(pressed) = key {
            life.console.send(pressed).await?;
            let nonce = Nonce::new();
            // The loop may still be there, or a line editor with partial input (^U clears it).
            let mut question = [shell::QUIT, b"\x15", probe(&nonce).as_bytes(), b"\r"].concat();
            if pressed == b"\x1a" {
                question.extend_from_slice(b" kill -KILL %%\r");
            }
            // A signal clears the terminal's input, so the question is typed after it.
            tokio::time::sleep(life.limit(KEY_TAKES_EFFECT)).await;
            life.console.send(&question).await?;
            match life.console.expect(Pattern::regex(&alive(&nonce))?, wait).await {
                Ok(_) if self.serve(life).await? == self.process => {
                    self.busy = false;
                    return Ok(Answering::Own);
                }
                Ok(_) if inner == INNER_SHELLS => {
                    life.console.send(shell::QUIT).await?;
                    return Ok(Answering::Another);
                }
                Ok(_) => {
                    inner += 1;
                    life.console.send(&[shell::QUIT, b" exit\r"].concat()).await?;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Timeout => key = keys.next(),
                Err(error) => return Err(error),
            }
        }
        Err(life
            .session_ended("interrupt of a command", "the shell did not come back")
            .likely_cause("the command ignores ^C, ^\\ and ^Z, or has put the terminal into raw mode"))
    }

    /// Ends the shell and waits for the login prompt, or for the shell of an automatic login.
    pub(crate) async fn leave(&mut self, life: &Life) -> Result {
        self.settle().await;
        if self.busy && self.break_off(life).await? == Answering::Another {
            return Ok(());
        }
        self.end_loop(life).await?;
        let prompt = login_prompt()?;
        // A shell with stopped jobs warns at the first `exit`.
        for _ in 0..2 {
            life.console.send_line(" exit").await?;
            match life.console.expect(prompt.clone(), life.limit(ANSWER)).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Timeout => {}
                Err(error) => return Err(error),
            }
        }
        // A console can log a user in without printing anything.
        if self.break_off(life).await? == Answering::Another {
            return Ok(());
        }
        Err(life.failure(ErrorKind::Timeout, format!("the shell of {} does not end at `exit`", self.user)))
    }

    /// Ends the shell, without waiting for what comes next.
    pub(crate) async fn exit(&self, life: &Life) -> Result {
        self.end_loop(life).await?;
        life.console.send_line(" exit").await
    }

    /// Ends the loop, so that the shell is at its own prompt again.
    pub(crate) async fn end_loop(&self, life: &Life) -> Result {
        life.console.send(shell::QUIT).await
    }
}
