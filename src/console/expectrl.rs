//! The console as an [`expectrl`] session, for code that was written for that crate.
//!
//! What was measured of expectrl 0.9, to know before building on it: it looks through its whole buffer at
//! every read and compiles a regular expression anew each time (a prompt after 50 MB of output: 7.8 s, where
//! [`Console::expect`] takes about as long as reading them); a waiting `expect` uses a whole core; its buffer
//! grows with what was not matched; a greedy `expect` eats up to the last match in what has come; its timeout
//! error has neither the pattern nor what came. It sees raw bytes: a NixOS prompt has escape sequences
//! between its letters (see [`Pattern`](super::Pattern) for matching what is visible).

use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use expectrl::process::{Healthcheck, NonBlocking};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::Console;
use crate::{Error, ErrorKind, Result};

/// What may wait for a session that does not read; the session ends when more comes.
const WAITING: usize = 64 << 20;
/// The console is the session's for as long as it is held.
const HELD: Duration = Duration::from_secs(365 * 24 * 3600);

/// The other end of the line, as a session's process.
#[derive(Debug)]
pub struct Guest {
    console: Console,
    /// Tells the tap that nobody reads any more.
    ended: Arc<AtomicBool>,
}

/// The line, as a session's stream.
#[derive(Debug)]
pub struct Stream(UnixStream);

impl Console {
    /// The line as a session of expectrl's blocking interface. It sees the raw bytes since the last
    /// match; until it is dropped, no other wait on this console gets a turn, and what comes after that is
    /// the next wait's. The transcript goes on, and a kernel panic or QEMU's end is the end of the
    /// session's input ([`Guest::console`] has the tail).
    ///
    /// Use it where blocking is allowed (a thread, `spawn_blocking`) and on a runtime of several threads:
    /// the bytes are carried by a task.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the host has no descriptors left, [`ErrorKind::Usage`] outside of a tokio
    /// runtime.
    pub fn into_expectrl(self) -> Result<expectrl::Session<Guest, Stream>> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| Error::new(ErrorKind::Usage, "a console needs a tokio runtime"))?;
        let fail = |error: io::Error| Error::io("connect the console with expectrl", &error);
        let (ours, theirs) = UnixStream::pair().map_err(fail)?;
        ours.set_nonblocking(true).map_err(fail)?;
        let ours = tokio::net::UnixStream::from_std(ours).map_err(fail)?;
        let ended = Arc::new(AtomicBool::new(false));
        runtime.spawn(carry(self.clone(), ours, ended.clone()));
        expectrl::Session::new(Guest { console: self, ended }, Stream(theirs)).map_err(fail)
    }
}

/// Carries bytes both ways until either side ends.
async fn carry(console: Console, line: tokio::net::UnixStream, ended: Arc<AtomicBool>) {
    let (mut typed, mut shown) = line.into_split();
    let (sender, mut receiver) = mpsc::unbounded_channel::<Vec<u8>>();
    let waiting = Arc::new(AtomicUsize::new(0));
    let held = waiting.clone();
    let tap = console.tap(HELD, move |bytes: &[u8]| {
        // What comes after the session is the next wait's, however late the task below hears of its end.
        if ended.load(Ordering::Acquire) {
            return ControlFlow::Break(0);
        }
        let more = held.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        if more > WAITING || sender.send(bytes.to_vec()).is_err() {
            return ControlFlow::Break(bytes.len());
        }
        ControlFlow::Continue(())
    });
    let out = async {
        while let Some(bytes) = receiver.recv().await {
            waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
            if shown.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let input = async {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = typed.read(&mut buffer).await {
            if console.send(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        (ended, ()) = async { tokio::join!(tap, out) } => {
            if let Err(error) = ended {
                tracing::debug!(%error, "the console of an expectrl session ended");
            }
        }
        () = input => {}
    }
}

impl Guest {
    /// The console that the session runs on.
    pub fn console(&self) -> &Console {
        &self.console
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
    }
}

impl Healthcheck for Guest {
    type Status = ();

    fn get_status(&self) -> io::Result<()> {
        Ok(())
    }

    /// Whether the line is still open.
    fn is_alive(&self) -> io::Result<bool> {
        Ok(self.console.is_open())
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl NonBlocking for Stream {
    fn set_blocking(&mut self, on: bool) -> io::Result<()> {
        self.0.set_nonblocking(!on)
    }
}
