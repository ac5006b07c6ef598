//! Waits until a person presses Enter.

use std::fs::{File, OpenOptions};
use std::io::IsTerminal as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use rustix::fs::OFlags;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{Mutex, MutexGuard};

use crate::{Error, Result};

/// Returns whether there is a terminal on which a key can be pressed.
pub(crate) fn has_terminal() -> bool {
    std::io::stdin().is_terminal()
}

static TURN: Mutex<()> = Mutex::const_new(());

/// Takes the lock for waiting on the key.
pub(super) async fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().await
}

/// Waits for the key. Also returns when the terminal goes away.
pub(super) async fn pressed() -> Result {
    let mut terminal = opened().map_err(|error| Error::io("read from the terminal", &error))?;
    let mut keys = [0; 64];
    loop {
        match terminal.read(&mut keys).await {
            Ok(count) if count > 0 && !keys[..count].iter().any(|key| matches!(key, b'\n' | b'\r')) => {}
            _ => return Ok(()),
        }
    }
}

/// Opens the terminal again. `O_NONBLOCK` is a property of the open file, and other processes share the open file of
/// our standard input.
fn opened() -> std::io::Result<Receiver> {
    let name = rustix::termios::ttyname(std::io::stdin(), Vec::new())?;
    let path = PathBuf::from(name.to_string_lossy().into_owned());
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let terminal: File = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // It is not a pipe, but is polled and read like one.
    Receiver::from_file_unchecked(terminal)
}
