//! The console as an [`expectrl`] session, for code that was written for that crate.
//!
//! Measurements of expectrl 0.9 to consider first: it scans its whole buffer at every read, and compiles a
//! regular expression each time (a prompt after 50 MB of output takes 7.8 s, while [`Console::expect`] takes
//! about as long as reading them). A waiting `expect` uses a whole core. Its buffer grows with unmatched
//! output. A greedy `expect` consumes up to the last match in what has arrived. Its timeout error has neither
//! the pattern nor the output. It sees raw bytes, and a NixOS prompt has escape sequences between its letters
//! (see [`Pattern`](super::Pattern) for matching visible text).

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

/// How many bytes may be unread by a session. The session ends when there are more.
const WAITING: usize = 64 << 20;
/// The session may hold the console for this long, which is practically forever.
const HELD: Duration = Duration::from_secs(365 * 24 * 3600);

/// The other end of the line, in the role of a session's process.
#[derive(Debug)]
pub struct Guest {
    console: Console,
    /// Tells the tap that the session has ended.
    ended: Arc<AtomicBool>,
}

/// The line, in the role of a session's stream.
#[derive(Debug)]
pub struct Stream(UnixStream);

/// # A session of `expectrl`
impl Console {
    /// Turns the line into a session of expectrl's blocking interface. It gets the raw bytes since the last
    /// match. Until it is dropped, no other wait on this console gets a turn. Later output belongs to the
    /// next wait. The transcript continues, and a kernel panic or QEMU's end is the end of the session's
    /// input ([`Guest::console`] has the tail).
    ///
    /// Use it where blocking is allowed (a thread, `spawn_blocking`) and on a runtime with several threads,
    /// because a task moves the bytes.
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

/// Moves bytes in both directions until one side ends.
async fn carry(console: Console, line: tokio::net::UnixStream, ended: Arc<AtomicBool>) {
    let (mut typed, mut shown) = line.into_split();
    let (sender, mut receiver) = mpsc::unbounded_channel::<Vec<u8>>();
    let waiting = Arc::new(AtomicUsize::new(0));
    let held = waiting.clone();
    let tap = console.tap(HELD, move |bytes: &[u8]| {
        // Output after the session's end belongs to the next wait, even if the task below notices the end
        // late.
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
    /// Returns the console that the session runs on.
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
