//! The task that reads a channel and passes each frame to its receiver.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::connection::OpenChannel;
use super::frame::{Decoder, Frame, decimal};
use super::mailbox::{End, Output, Stored};
use super::running::Sums;
use crate::console::shown;

/// How many lines of the guest's reason for not starting a command are kept.
const REASON: usize = 10;

/// After the other end has closed a line that stays open on this side: if nothing has arrived for this long,
/// nothing more will.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Reads until the end of the stream, which is the end of the channel.
pub(super) struct Reader {
    shared: Arc<OpenChannel>,
    decoder: Decoder,
}

impl Reader {
    pub(super) fn new(shared: Arc<OpenChannel>, decoder: Decoder) -> Self {
        Self { shared, decoder }
    }

    pub(super) async fn run(mut self, mut incoming: impl AsyncRead + Unpin) {
        let why = loop {
            if let Err(why) = self.hand_out() {
                break why;
            }
            let closing = self.shared.why_closing();
            let read = tokio::select! {
                biased;
                read = incoming.read(self.decoder.room()) => read,
                () = self.shared.closing.notified(), if closing.is_none() => continue,
                () = tokio::time::sleep(LAST_WORDS), if closing.is_some() => break closing.unwrap_or_default(),
            };
            match read {
                Ok(0) => break "the guest closed it".to_owned(),
                Ok(count) => self.decoder.filled(count),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => break error.to_string(),
            }
        };
        self.shared.lose(why);
    }

    /// Passes on every frame that has arrived completely.
    fn hand_out(&mut self) -> Result<(), String> {
        while let Some(frame) = self.decoder.next().map_err(|malformed| malformed.to_string())? {
            take(&self.shared, frame)?;
        }
        Ok(())
    }
}

/// The task may be dropped together with its runtime, and then no caller would get an answer.
impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.lose("the runtime that read it has ended".to_owned());
    }
}

fn take(shared: &OpenChannel, frame: Frame<'_>) -> Result<(), String> {
    let Frame { kind, id, payload } = frame;
    let unreadable = || {
        format!("the guest sent a {} frame that can't be parsed: \"{}\"", char::from(kind), {
            payload[..payload.len().min(40)].escape_ascii()
        })
    };
    match kind {
        b'O' | b'E' => {
            let output = if kind == b'O' { Output::Stdout } else { Output::Stderr };
            if let Some(mailbox) = shared.mailbox(id)
                && mailbox.put(output, payload) == Stored::TooMuch
            {
                shared.kill(id, 9);
            }
        }
        b'A' => {
            let count = decimal(payload, 9).and_then(|count| usize::try_from(count).ok());
            let count = count.ok_or_else(unreadable)?;
            if let Some(mailbox) = shared.mailbox(id) {
                mailbox.acknowledge(count);
            }
        }
        b'X' => {
            let status = status(payload).ok_or_else(unreadable)?;
            if let Some(mailbox) = shared.forget(id) {
                mailbox.end(End::Exited(status, sums(payload)));
            }
        }
        b'F' => {
            if let Some(mailbox) = shared.forget(id) {
                mailbox.end(End::NotStarted(shown(payload, REASON)));
            }
        }
        b'P' => shared.pong(id),
        b'U' => super::kernel::take_clocks(shared, payload),
        b'M' | b'N' => super::kernel::take(shared, kind, payload),
        _ => {}
    }
    Ok(())
}

/// Parses `status N`. Lines that a later version may add are ignored.
fn status(payload: &[u8]) -> Option<i32> {
    let number = payload.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"status "))?;
    decimal(number, 3).filter(|status| *status < 256).and_then(|status| i32::try_from(status).ok())
}

/// Parses `sum INPUT OUTPUT`, if it is there.
fn sums(payload: &[u8]) -> Option<Sums> {
    let line = payload.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"sum "))?;
    let (input, output) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let value = |digits| u64::from_str_radix(digits, 16).ok();
    Some(Sums { input: value(input)?, output: value(output)? })
}
