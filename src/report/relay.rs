//! The harness and the scenarios write to standard output, and a live display uses the same terminal. The
//! relay reads standard output through a pipe, and prints it above the display.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use libtest_mimic::{Arguments, ColorSetting, FormatSetting};

use crate::event::Reporter;
use crate::{Error, Result, threads};

/// Passes standard output to a live reporter.
pub struct Relay {
    /// The original standard output.
    stdout: OwnedFd,
    thread: JoinHandle<()>,
}

impl Relay {
    /// Redirects standard output to a pipe if `reporter` is live. Does nothing if the output goes to a file
    /// of the user's, or is a row of dots without whole lines.
    ///
    /// # Errors
    /// If the host has no pipe or thread left.
    pub fn start(reporter: &Arc<dyn Reporter>, arguments: &mut Arguments) -> Result<Option<Self>> {
        let dots = arguments.quiet || arguments.format == Some(FormatSetting::Terse);
        if !reporter.is_live() || arguments.logfile.is_some() || dots {
            return Ok(None);
        }
        let failed = |doing: &str, source: std::io::Error| Error::io(doing, &source);
        let (hear, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|source| failed("make a pipe", source.into()))?;
        let reporter = reporter.clone();
        let carry = move || {
            let mut hear = std::fs::File::from(hear);
            let (mut chunk, mut pending) = ([0; 4096], Vec::new());
            while let Ok(length @ 1..) = hear.read(&mut chunk) {
                pending.extend_from_slice(&chunk[..length]);
                if let Some(end) = pending.iter().rposition(|byte| *byte == b'\n') {
                    reporter.print(&pending[..=end]);
                    pending.drain(..=end);
                }
            }
            reporter.print(&pending);
        };
        let thread = std::thread::Builder::new()
            .name("results".into())
            .spawn(carry)
            .map_err(|source| threads::refused_thread(&source))?;
        if arguments.color.is_none_or(|color| color == ColorSetting::Auto) && std::io::stdout().is_terminal()
        {
            arguments.color = Some(ColorSetting::Always);
        }
        let stdout = rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), 3)
            .and_then(|stdout| rustix::stdio::dup2_stdout(&tell).map(|()| stdout))
            .map_err(|source| failed("redirect standard output to a pipe", source.into()))?;
        Ok(Some(Self { stdout, thread }))
    }

    /// Waits until everything is printed.
    pub fn finish(self) {
        // The last writer of the pipe is closed here.
        let _ = std::io::stdout().flush();
        let _ = rustix::stdio::dup2_stdout(&self.stdout);
        let _ = self.thread.join();
    }
}
