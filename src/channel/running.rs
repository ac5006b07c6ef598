//! A command that runs in the guest.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::connection::Channel;
use super::frame::encode;
use super::mailbox::{End, Mailbox, UNREAD};
use super::stream::CommandStream;
use crate::{Error, ErrorKind, Result};

/// How much stdin goes into one frame, in bytes, so that frames for other commands fit in between.
const PIECE: usize = 32 << 10;
const SIGKILL: i32 = 9;

/// What a command did next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It printed this.
    Stdout(Vec<u8>),
    /// It printed this to stderr.
    Stderr(Vec<u8>),
    /// It ended with this status, by signal n if this is 128+n.
    Exit(i32),
}

/// Checksums of a command's input and output, computed by the guest ([`Sum`](super::Sum)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sums {
    /// The checksum of what was written to its stdin.
    pub(crate) input: u64,
    /// The checksum of what it printed to stdout.
    pub(crate) output: u64,
}

/// A command that was started. Dropping it before its end kills its process group in the guest.
pub(crate) struct Running {
    channel: Channel,
    id: u32,
    mailbox: Arc<Mailbox>,
    input: Option<Input>,
}

/// The stdin of a running command. Dropping it ends the input.
pub(crate) struct Input {
    channel: Channel,
    id: u32,
    mailbox: Arc<Mailbox>,
    ended: bool,
}

impl Running {
    pub(super) fn new(channel: Channel, id: u32, mailbox: Arc<Mailbox>, stdin: bool) -> Self {
        let input = stdin.then(|| Input {
            channel: channel.clone(),
            id,
            mailbox: Arc::clone(&mailbox),
            ended: false,
        });
        Self { channel, id, mailbox, input }
    }

    /// Waits for what the command does next: all of its output, then its exit. After the exit, each call
    /// returns the exit again. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::ChannelLost`] when the channel is lost before the exit, [`ErrorKind::CommandFailed`] when
    /// the guest could not start it, [`ErrorKind::Usage`] when 64 MiB of output were left unread.
    pub(crate) async fn next(&mut self) -> Result<Progress> {
        poll_fn(|context| self.poll_next(context)).await
    }

    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Progress>> {
        self.mailbox.poll_take(context).map_err(|end| self.error(end))
    }

    /// Takes its stdin, so that it can be written while the output is read. Returns `None` if the command was
    /// started without stdin, or if it was taken before.
    pub(crate) fn take_input(&mut self) -> Option<Input> {
        self.input.take()
    }

    /// Returns the guest's checksums once the command has ended, if they were requested and the guest
    /// supports them.
    pub(crate) fn sums(&self) -> Option<Sums> {
        match self.mailbox.ended() {
            Some(End::Exited(_, sums)) => sums,
            _ => None,
        }
    }

    /// Sends a signal to its whole process group. Does nothing if the command has ended.
    ///
    /// # Errors
    /// [`ErrorKind::ChannelLost`].
    pub(crate) async fn kill(&self, signal: i32) -> Result {
        match self.mailbox.ended() {
            None => self.channel.shared().kill(self.id, signal),
            Some(End::Lost(why)) => return Err(self.channel.shared().lost_error(&why)),
            Some(_) => {}
        }
        Ok(())
    }

    /// Turns its stdout and stdin into a stream. The end of stderr is kept, and is part of the error that
    /// reading returns if the command ends with a status other than 0.
    pub(crate) fn into_stream(self) -> CommandStream {
        CommandStream::new(self)
    }

    fn error(&self, end: End) -> Error {
        let shared = self.channel.shared();
        match end {
            End::NotStarted(why) => Error::new(
                ErrorKind::CommandFailed,
                format!("{}: the guest could not start the command", shared.name()),
            )
            .section("the guest says", why),
            End::Unread => Error::new(
                ErrorKind::Usage,
                format!(
                    "{}: the command was killed: {} MiB of its output were unread",
                    shared.name(),
                    UNREAD >> 20
                ),
            )
            .next_step("read its output while it runs, or let it write to a file"),
            End::Lost(why) => shared.lost_error(&why),
            End::Exited(..) | End::Forgotten => shared.lost_error("the command is no longer known"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let shared = self.channel.shared();
        shared.forget(self.id);
        if self.mailbox.ended().is_none() {
            shared.kill(self.id, SIGKILL);
        }
        self.mailbox.end(End::Forgotten);
    }
}

impl Input {
    /// Writes, and returns when everything was sent. What a command does not read is discarded without an
    /// error.
    ///
    /// # Errors
    /// [`ErrorKind::ChannelLost`]; [`ErrorKind::Usage`] when the input was ended.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = poll_fn(|context| self.poll_write(context, rest)).await?;
            rest = &rest[count..];
        }
        Ok(())
    }

    pub(super) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        if self.ended {
            return Poll::Ready(Err(Error::new(ErrorKind::Usage, "the command's stdin has already ended")));
        }
        self.mailbox.poll_window(context, bytes.len().min(PIECE)).map(|granted| match granted {
            Ok(0) => Ok(0),
            Ok(count) => {
                self.channel.shared().send(|out| encode(out, b'I', self.id, &bytes[..count]));
                Ok(count)
            }
            Err(End::Lost(why)) => Err(self.channel.shared().lost_error(&why)),
            // The command reads no more.
            Err(_) => Ok(bytes.len()),
        })
    }

    /// Ends the input. A second call does nothing.
    ///
    /// # Errors
    /// [`ErrorKind::ChannelLost`].
    pub(crate) async fn end(&mut self) -> Result {
        self.finish()
    }

    pub(super) fn finish(&mut self) -> Result {
        match self.mailbox.ended() {
            Some(End::Lost(why)) => return Err(self.channel.shared().lost_error(&why)),
            None if !self.ended => self.channel.shared().send(|out| encode(out, b'I', self.id, b"")),
            _ => {}
        }
        self.ended = true;
        Ok(())
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        // On a lost channel there is no input to end.
        let _ = self.finish();
    }
}
