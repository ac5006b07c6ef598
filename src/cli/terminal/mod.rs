//! Shows a guest's console in the user's own terminal.
//!
//! The guest's output reaches the terminal byte for byte, as with `./result/bin/run-*-vm`, since that is what a console
//! does. So a guest can set the terminal's title, colours and modes. On leaving, the terminal's previous state is
//! restored, for every reason to leave: the key, the machine's end, an error, a panic or a signal.

mod reset;

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Mutex;

use crate::machine::RawConsole;
use crate::{Error, ErrorKind, Result};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;

use reset::Modes;

use crate::mutex::lock;

/// Key that leaves the console: ctrl-], as in telnet and virsh.
const LEAVE: u8 = 0x1d;

/// The terminal's previous state, while a console uses it.
static BEFORE: Mutex<Option<(File, Termios, Modes)>> = Mutex::new(None);

/// The other end of the connection.
pub trait Peer {
    /// Waits for its next output; returns `None` when it is gone. Cancel safe: no output is lost if the future is
    /// dropped.
    fn next(&mut self) -> impl Future<Output = Option<Vec<u8>>>;
    /// Sends keys.
    fn send(&mut self, keys: &[u8]) -> impl Future<Output = Result>;
}

impl Peer for RawConsole {
    async fn next(&mut self) -> Option<Vec<u8>> {
        Self::next(self).await
    }

    async fn send(&mut self, keys: &[u8]) -> Result {
        Self::send(self, keys).await
    }
}

impl Peer for UnixStream {
    async fn next(&mut self) -> Option<Vec<u8>> {
        let mut chunk = Vec::with_capacity(16 << 10);
        match self.read_buf(&mut chunk).await {
            Ok(count) if count > 0 => Some(chunk),
            _ => None,
        }
    }

    async fn send(&mut self, keys: &[u8]) -> Result {
        Ok(self.write_all(keys).await?)
    }
}

/// Why the user left a console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The user pressed the key.
    ByKey,
    /// The other end is gone: the machine is off.
    Gone,
}

/// The user's terminal, in raw mode: every key goes to the guest, including ctrl-C.
pub struct Terminal {
    /// Opened again, so that the terminal of the calling shell does not become non-blocking.
    keys: Receiver,
    /// What was typed after the key that leaves.
    typed_ahead: Vec<u8>,
}

impl Terminal {
    /// Checks that there is a terminal to connect a console to. Call it before anything boots.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when there is none.
    pub fn require() -> Result {
        if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Usage,
            "a console needs a terminal, and standard input or output is not one",
        )
        .next_step("run it in a terminal; commands in a file are for `nixvm-test repl <FILE`"))
    }

    /// Takes the terminal.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when there is none, [`ErrorKind::Io`] when it can't be used.
    pub fn take() -> Result<Self> {
        Self::require()?;
        let fail = |error: std::io::Error| Error::io("use the terminal", &error);
        let name =
            rustix::termios::ttyname(std::io::stdin(), Vec::new()).map_err(|errno| fail(errno.into()))?;
        let path = PathBuf::from(name.to_string_lossy().into_owned());
        let no_wait = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits().cast_signed();
        let keys = OpenOptions::new().read(true).custom_flags(no_wait).open(&path).map_err(fail)?;
        let terminal = File::from(rustix::io::dup(std::io::stdout()).map_err(|errno| fail(errno.into()))?);
        let before = tcgetattr(&keys).map_err(|errno| fail(errno.into()))?;
        let mut raw = before.clone();
        raw.make_raw();
        *lock(&BEFORE) = Some((terminal, before, Modes::default()));
        tcsetattr(&keys, OptionalActions::Now, &raw).map_err(|errno| fail(errno.into()))?;
        // A terminal is not a pipe, but can be polled and read like one.
        Ok(Self { keys: Receiver::from_file_unchecked(keys).map_err(fail)?, typed_ahead: Vec::new() })
    }

    /// Prints text of one or several lines unchanged.
    pub fn show(&self, text: &str) {
        write(text.replace('\n', "\r\n").as_bytes());
    }

    /// Connects the terminal to `peer` until the user leaves it or it is gone.
    pub async fn connect(&mut self, peer: &mut impl Peer) -> Left {
        loop {
            tokio::select! {
                said = peer.next() => match said {
                    Some(said) => {
                        note(&said);
                        write(&said);
                    }
                    None => return Left::Gone,
                },
                keys = Self::keys(&mut self.keys, &mut self.typed_ahead) => {
                    // If the terminal is gone, leave as well.
                    let Some(keys) = keys else { return Left::ByKey };
                    let leave = keys.iter().position(|key| *key == LEAVE);
                    let typed = &keys[..leave.unwrap_or(keys.len())];
                    if !typed.is_empty() {
                        // A guest that takes no input does not end the connection; `next` reports one that is gone.
                        let _ = peer.send(typed).await;
                    }
                    if let Some(leave) = leave {
                        self.typed_ahead = keys[leave + 1..].to_vec();
                        return Left::ByKey;
                    }
                }
            }
        }
    }

    /// Waits for one key; returns `None` for the key that leaves, and when the terminal is gone.
    pub async fn key(&mut self) -> Option<u8> {
        let mut keys = Self::keys(&mut self.keys, &mut self.typed_ahead).await?.into_iter();
        let key = keys.next().filter(|key| *key != LEAVE);
        self.typed_ahead = keys.collect();
        key
    }

    /// Undoes what a guest has set on the terminal, before another one is shown.
    pub fn undo_modes(&self) {
        let undone = lock(&BEFORE).as_mut().map(|(_, _, modes)| std::mem::take(modes).undone());
        write(&undone.unwrap_or_default());
    }

    /// Waits for typed keys; returns `None` when the terminal is gone.
    async fn keys(keys: &mut Receiver, typed_ahead: &mut Vec<u8>) -> Option<Vec<u8>> {
        if !typed_ahead.is_empty() {
            return Some(std::mem::take(typed_ahead));
        }
        let mut typed = Vec::with_capacity(1024);
        match keys.read_buf(&mut typed).await {
            Ok(count) if count > 0 => Some(typed),
            _ => None,
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal's previous state. Can be called from anywhere, and more than once.
pub fn restore() {
    let before = lock(&BEFORE).take();
    if let Some((mut terminal, before, modes)) = before {
        let _ = terminal.write_all(&modes.undone()).and_then(|()| terminal.flush());
        let _ = tcsetattr(&terminal, OptionalActions::Now, &before);
    }
}

fn note(said: &[u8]) {
    if let Some((_, _, modes)) = &mut *lock(&BEFORE) {
        modes.note(said);
    }
}

fn write(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    // The terminal may be gone.
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}
