//! Asks a program a short question, within a limit, on a thread that may block.

use std::io::{self, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::stopped::Instant;

/// Maximum size of an answer: the list of all files of a large repository has some megabytes.
const STDOUT: u64 = 256 << 20;
/// Maximum size of the messages that are kept.
const STDERR: u64 = 16 << 10;
/// The pause between two looks at a program that has closed its output and not ended.
const PAUSE: Duration = Duration::from_millis(5);

/// What a program answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

impl Answer {
    /// Returns stdout without white space around it, if the program succeeded and it is text.
    pub(super) fn line(&self) -> Option<&str> {
        std::str::from_utf8(&self.stdout).ok().map(str::trim).filter(|_| self.status.success())
    }

    /// Returns what the program said: its messages, or else its output.
    pub(super) fn said(&self) -> String {
        if self.stderr.trim().is_empty() {
            return String::from_utf8_lossy(self.stdout.get(..1024).unwrap_or(&self.stdout)).into_owned();
        }
        self.stderr.clone()
    }
}

/// Runs `command` without input to its end. It is killed at the limit.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] at the limit; [`io::ErrorKind::FileTooLarge`] for an answer without an end; else those
/// of starting it and reading its output.
pub(super) fn ask(mut command: Command, limit: Duration) -> io::Result<Answer> {
    let until = Instant::now() + limit;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let answered = || {
        let (stdout, stderr) = (read(stdout, STDOUT)?, read(stderr, STDERR)?);
        let (stdout, stderr) = (received(&stdout, until)?, received(&stderr, until)?);
        if stdout.len() as u64 >= STDOUT {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        Ok((stdout, stderr))
    };
    let answered = answered();
    while answered.is_ok() && Instant::now() < until {
        if let Some(status) = child.try_wait()? {
            let (stdout, stderr) = answered?;
            return Ok(Answer { status, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() });
        }
        std::thread::sleep(PAUSE);
    }
    // It may have ended by itself.
    let _ = child.kill();
    child.wait()?;
    answered.and(Err(io::ErrorKind::TimedOut.into()))
}

/// Reads to the end, on a thread of its own, so that the caller can stop waiting. Only the first `most` bytes are kept: a
/// program whose messages are not read would end with an error of its own.
fn read(from: Option<impl Read + Send + 'static>, most: u64) -> io::Result<Receiver<io::Result<Vec<u8>>>> {
    let (tell, told) = mpsc::channel();
    let read = move || {
        let mut bytes = Vec::new();
        let outcome = match from {
            Some(mut from) => from
                .by_ref()
                .take(most)
                .read_to_end(&mut bytes)
                .and_then(|_| io::copy(&mut from, &mut io::sink()))
                .map(|_| bytes),
            None => Ok(bytes),
        };
        // The caller may have stopped waiting.
        let _ = tell.send(outcome);
    };
    std::thread::Builder::new().name("answer".to_owned()).spawn(read)?;
    Ok(told)
}

fn received(from: &Receiver<io::Result<Vec<u8>>>, until: Instant) -> io::Result<Vec<u8>> {
    match from.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
        Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hang::HANG;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_answer_has_both_outputs_and_the_status() {
        let answer = ask(shell("echo ' yes '; echo no >&2; exit 3"), HANG).unwrap();
        assert_eq!((answer.status.code(), answer.line(), answer.said()), (Some(3), None, "no\n".to_owned()));
        assert_eq!(ask(shell("echo ' yes '"), HANG).unwrap().line(), Some("yes"));
        assert_eq!(ask(Command::new("/no/such/program"), HANG).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn long_messages_are_cut_and_do_not_end_the_program() {
        let answer = ask(shell("head -c 300000 /dev/zero | tr '\\0' x >&2 && echo yes"), HANG).unwrap();
        assert_eq!((answer.status.code(), answer.line()), (Some(0), Some("yes")));
        assert_eq!(answer.stderr.len() as u64, STDERR);
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_at_the_limit() {
        for script in ["exec sleep 1000", "exec sleep 1000 >&- 2>&-", "sleep 1000 & wait"] {
            let error = ask(shell(script), Duration::from_millis(100)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{script}");
        }
    }
}
