//! A running command as a stream: reading returns its output, writing goes to its stdin.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::running::{Input, Progress, Running};
use crate::console::shown;

/// How much of the end of stderr is kept, in bytes.
const STDERR: usize = 8 << 10;
/// How many lines of it are shown.
const SHOWN: usize = 10;

/// See [`Running::into_stream`].
pub(crate) struct CommandStream {
    running: Running,
    input: Option<Input>,
    unread: Vec<u8>,
    read: usize,
    stderr: Vec<u8>,
}

impl CommandStream {
    pub(super) fn new(mut running: Running) -> Self {
        let input = running.take_input();
        Self { running, input, unread: Vec::new(), read: 0, stderr: Vec::new() }
    }

    fn note_stderr(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(STDERR)..];
        let excess = (self.stderr.len() + bytes.len()).saturating_sub(STDERR);
        self.stderr.drain(..excess);
        self.stderr.extend_from_slice(bytes);
    }

    fn ended_badly(&self, status: i32) -> io::Error {
        let mut text = format!("the command that carries it ended with status {status}");
        let said = shown(&self.stderr, SHOWN);
        if !said.trim().is_empty() {
            text += ": ";
            text += said.trim();
        }
        io::Error::other(text)
    }
}

impl AsyncRead for CommandStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.read == this.unread.len() {
            match ready!(this.running.poll_next(context)) {
                Ok(Progress::Stdout(piece)) => (this.unread, this.read) = (piece, 0),
                Ok(Progress::Stderr(piece)) => this.note_stderr(&piece),
                Ok(Progress::Exit(0)) => return Poll::Ready(Ok(())),
                Ok(Progress::Exit(status)) => return Poll::Ready(Err(this.ended_badly(status))),
                Err(error) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let rest = &this.unread[this.read..];
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        this.read += count;
        if this.read == this.unread.len() {
            (this.unread, this.read) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for CommandStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.input {
            Some(input) => input.poll_write(context, bytes).map_err(io::Error::other),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Everything that the window allows was sent at once.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match &mut self.input {
            Some(input) => input.finish().map_err(io::Error::other),
            None => Ok(()),
        })
    }
}
