//! What has arrived for one command and was not read yet, and how much stdin may still be sent to it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::running::{Progress, Sums};
use crate::mutex::lock;

/// How much output may be unread, in bytes.
pub(super) const UNREAD: usize = 64 << 20;
/// How much stdin may be unacknowledged, in bytes.
pub(super) const WINDOW: usize = 256 << 10;
/// Output is collected in pieces of at most this size, in bytes.
const PIECE: usize = 64 << 10;
/// What a piece costs in addition to its bytes, so that tiny pieces that alternate between stdout and stderr
/// count, too.
const OVERHEAD: usize = 64;

/// How a command ended, as far as the host can know.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// It exited.
    Exited(i32, Option<Sums>),
    /// The guest could not start it, for this reason.
    NotStarted(String),
    /// It was killed because too much output was unread.
    Unread,
    /// The channel was lost, for this reason.
    Lost(String),
    /// Its caller has dropped it.
    Forgotten,
}

/// Which of the outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    Stdout,
    Stderr,
}

/// Whether output was kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Yes,
    /// It was not kept, because it exceeds the limit for unread output. The command has to be killed.
    TooMuch,
}

/// Passes data from the task that reads the channel to the one that waits for a command.
#[derive(Default)]
pub(super) struct Mailbox(Mutex<Contents>);

#[derive(Default)]
struct Contents {
    pieces: VecDeque<(Output, Vec<u8>)>,
    unread: usize,
    unacknowledged: usize,
    end: Option<End>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Mailbox {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        lock(&self.0)
    }

    /// Adds output that has arrived.
    pub(super) fn put(&self, output: Output, bytes: &[u8]) -> Stored {
        let mut contents = self.contents();
        if bytes.is_empty() || contents.end.is_some() {
            return Stored::Yes;
        }
        let joined = match contents.pieces.back_mut() {
            Some((last, piece)) if *last == output && piece.len() + bytes.len() <= PIECE => {
                piece.extend_from_slice(bytes);
                true
            }
            _ => false,
        };
        contents.unread += bytes.len();
        if !joined {
            contents.unread += OVERHEAD;
            contents.pieces.push_back((output, bytes.to_vec()));
        }
        if contents.unread > UNREAD {
            drop(contents);
            self.end(End::Unread);
            return Stored::TooMuch;
        }
        let reader = contents.reader.take();
        drop(contents);
        wake(reader);
        Stored::Yes
    }

    /// Records that the guest has consumed more stdin.
    pub(super) fn acknowledge(&self, count: usize) {
        let mut contents = self.contents();
        contents.unacknowledged = contents.unacknowledged.saturating_sub(count);
        let writer = contents.writer.take();
        drop(contents);
        wake(writer);
    }

    /// Records the end of the command. The first one counts.
    pub(super) fn end(&self, end: End) {
        let mut contents = self.contents();
        if contents.end.is_some() {
            return;
        }
        if matches!(end, End::Unread | End::Forgotten) {
            contents.pieces = VecDeque::new();
        }
        contents.end = Some(end);
        let (reader, writer) = (contents.reader.take(), contents.writer.take());
        drop(contents);
        wake(reader);
        wake(writer);
    }

    /// Returns how it ended, if it did. Output may still be unread.
    pub(super) fn ended(&self) -> Option<End> {
        self.contents().end.clone()
    }

    /// Returns what came next: first all output, then the end, which is returned again on each later call.
    pub(super) fn poll_take(&self, context: &mut Context<'_>) -> Poll<Result<Progress, End>> {
        let mut contents = self.contents();
        if let Some((output, piece)) = contents.pieces.pop_front() {
            contents.unread = contents.unread.saturating_sub(piece.len() + OVERHEAD);
            return Poll::Ready(Ok(match output {
                Output::Stdout => Progress::Stdout(piece),
                Output::Stderr => Progress::Stderr(piece),
            }));
        }
        match &contents.end {
            Some(End::Exited(status, _)) => Poll::Ready(Ok(Progress::Exit(*status))),
            Some(end) => Poll::Ready(Err(end.clone())),
            None => {
                remember(&mut contents.reader, context);
                Poll::Pending
            }
        }
    }

    /// Returns how many bytes of stdin may be sent now, at most `wanted`. They count as sent.
    pub(super) fn poll_window(&self, context: &mut Context<'_>, wanted: usize) -> Poll<Result<usize, End>> {
        let mut contents = self.contents();
        if let Some(end) = &contents.end {
            return Poll::Ready(Err(end.clone()));
        }
        let granted = wanted.min(WINDOW - contents.unacknowledged);
        if granted == 0 && wanted > 0 {
            remember(&mut contents.writer, context);
            return Poll::Pending;
        }
        contents.unacknowledged += granted;
        Poll::Ready(Ok(granted))
    }
}

fn remember(slot: &mut Option<Waker>, context: &Context<'_>) {
    if !slot.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
        *slot = Some(context.waker().clone());
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
