//! The guest's terminal, handled as getty, login and sudo handle theirs.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, QueueSelector, tcflush, tcgetattr, tcsetattr,
};

/// An open terminal.
pub struct Tty(pub File);

/// Why a line did not come.
#[derive(Debug)]
pub enum NoLine {
    /// End of file: ctrl-D, or the line is gone.
    End,
    /// The time limit.
    Timeout,
}

impl Tty {
    /// Opens the terminal without taking it as the controlling one.
    pub fn open(path: &str) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path).map(Self)
    }

    /// Prints, through the terminal's output processing.
    pub fn print(&mut self, text: &str) {
        let _ = self.0.write_all(text.as_bytes());
    }

    /// Throws away what was typed and not yet read.
    pub fn flush_input(&self) {
        let _ = tcflush(&self.0, QueueSelector::IFlush);
    }

    /// No echo, no line editing, no output processing: as agetty sets the line, and as systemd reads answers.
    pub fn raw(&self) {
        if let Ok(mut modes) = tcgetattr(&self.0) {
            modes.make_raw();
            let _ = tcsetattr(&self.0, OptionalActions::Now, &modes);
        }
    }

    /// Lines, echo, signals: as login and a shell expect the line.
    pub fn sane(&self) {
        if let Ok(mut modes) = tcgetattr(&self.0) {
            modes.input_modes |= InputModes::ICRNL | InputModes::IXON | InputModes::IUTF8;
            modes.input_modes -= InputModes::INLCR | InputModes::IGNCR;
            modes.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
            modes.local_modes |= LocalModes::ISIG
                | LocalModes::ICANON
                | LocalModes::ECHO
                | LocalModes::ECHOE
                | LocalModes::ECHOK
                | LocalModes::ECHOCTL
                | LocalModes::ECHOKE;
            // As agetty 2.38 leaves it (measured with `stty -a` on the real console).
            modes.local_modes.remove(LocalModes::IEXTEN);
            let _ = tcsetattr(&self.0, OptionalActions::Now, &modes);
        }
    }

    /// No echo, as login sets the line before it asks for a password; what was typed before is thrown away.
    pub fn hidden(&self) {
        if let Ok(mut modes) = tcgetattr(&self.0) {
            modes.local_modes.remove(LocalModes::ECHO);
            let _ = tcsetattr(&self.0, OptionalActions::Flush, &modes);
        }
    }

    /// Prints `prompt` and reads a line, as PAM does: what was typed before the prompt is thrown away.
    pub fn ask(&mut self, prompt: &str, echo: bool, limit: Duration) -> Result<String, NoLine> {
        self.ask_keeping(prompt, echo, limit, false)
    }

    /// The same; `keep` takes what was typed before the prompt as its answer.
    pub fn ask_keeping(
        &mut self,
        prompt: &str,
        echo: bool,
        limit: Duration,
        keep: bool,
    ) -> Result<String, NoLine> {
        let before = tcgetattr(&self.0).ok();
        if let Some(mut modes) = before.clone() {
            modes.local_modes.set(LocalModes::ECHO, echo);
            let when = if keep { OptionalActions::Now } else { OptionalActions::Flush };
            let _ = tcsetattr(&self.0, when, &modes);
        }
        self.print(prompt);
        let line = self.line(limit);
        if let Some(before) = before {
            let _ = tcsetattr(&self.0, OptionalActions::Drain, &before);
        }
        if !echo {
            self.print("\n");
        }
        line
    }

    fn line(&mut self, limit: Duration) -> Result<String, NoLine> {
        let until = Instant::now() + limit;
        let mut line = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let read = self.read(&mut buffer, until.saturating_duration_since(Instant::now()))?;
            line.extend_from_slice(read);
            if line.last() == Some(&b'\n') {
                line.pop();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
        }
    }

    /// Reads what there is, waiting at most `limit`.
    pub fn read<'a>(&mut self, buffer: &'a mut [u8], limit: Duration) -> Result<&'a [u8], NoLine> {
        let limit = Timespec::try_from(limit).ok();
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut fds, limit.as_ref()) {
            Ok(0) => return Err(NoLine::Timeout),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Err(NoLine::End),
        }
        match self.0.read(buffer) {
            Ok(0) | Err(_) => Err(NoLine::End),
            Ok(read) => Ok(&buffer[..read]),
        }
    }
}
