//! What goes to the guest: written by whoever has something to say, finished by a task if the stream is full.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};

use tokio::io::AsyncWrite;
use tokio::sync::Notify;

use crate::mutex::lock;

/// With more than this unwritten, new commands wait.
const FULL: usize = 1 << 20;
/// The buffer is given back if it grew beyond this.
const KEPT: usize = 256 << 10;

/// The writing side of a stream.
pub(super) type Sink = Box<dyn AsyncWrite + Send + Unpin>;

/// Frames on their way to the stream. They are put here as a whole, so that a caller that gives up can't
/// tear one.
pub(super) struct Outgoing {
    pending: Mutex<Pending>,
    /// Rings when the stream takes bytes again.
    bell: Arc<Bell>,
    /// Rings when there is room for new commands again.
    room: Notify,
}

struct Pending {
    sink: Option<Sink>,
    bytes: Vec<u8>,
    written: usize,
}

struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}

impl Outgoing {
    pub(super) fn new(sink: Sink) -> Self {
        let pending = Pending { sink: Some(sink), bytes: Vec::new(), written: 0 };
        Self { pending: Mutex::new(pending), bell: Arc::new(Bell(Notify::new())), room: Notify::new() }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        lock(&self.pending)
    }

    /// Lets `fill` append frames and writes what the stream takes at once. What is left over is written by
    /// [`Outgoing::finish`].
    pub(super) fn send(&self, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut pending = self.pending();
        if pending.sink.is_none() {
            return Ok(());
        }
        fill(&mut pending.bytes);
        self.flush(pending)
    }

    /// Writes what was left over whenever the stream takes it, until it fails.
    pub(super) async fn finish(&self) -> io::Error {
        loop {
            self.bell.0.notified().await;
            if let Err(error) = self.flush(self.pending()) {
                return error;
            }
        }
    }

    /// Waits while too much is unwritten. It ends as well when the stream is closed.
    pub(super) async fn wait_for_room(&self) {
        loop {
            let room = self.room.notified();
            let mut room = std::pin::pin!(room);
            // From here on no ring is missed.
            room.as_mut().enable();
            if !self.pending().is_full() {
                return;
            }
            room.await;
        }
    }

    /// Lets go of the stream and of all that was to be written.
    pub(super) fn close(&self) {
        let mut pending = self.pending();
        let sink = pending.sink.take();
        pending.bytes = Vec::new();
        pending.written = 0;
        drop(pending);
        self.room.notify_waiters();
        // Not under the lock: the stream may be a command on another channel, which says goodbye there.
        drop(sink);
    }

    fn flush(&self, mut pending: MutexGuard<'_, Pending>) -> io::Result<()> {
        let was_full = pending.is_full();
        let result = pending.flush(&Waker::from(Arc::clone(&self.bell)));
        let made_room = was_full && !pending.is_full();
        drop(pending);
        if made_room {
            self.room.notify_waiters();
        }
        result
    }
}

impl Pending {
    fn is_full(&self) -> bool {
        self.sink.is_some() && self.bytes.len() - self.written > FULL
    }

    fn flush(&mut self, waker: &Waker) -> io::Result<()> {
        let Some(sink) = &mut self.sink else { return Ok(()) };
        let mut context = Context::from_waker(waker);
        while self.written < self.bytes.len() {
            match Pin::new(&mut *sink).poll_write(&mut context, &self.bytes[self.written..]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => self.written += count,
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    // Long texts must not be moved again and again: only when half of it is written.
                    if self.written > self.bytes.len() / 2 {
                        self.bytes.drain(..self.written);
                        self.written = 0;
                    }
                    return Ok(());
                }
            }
        }
        self.written = 0;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        match Pin::new(sink).poll_flush(&mut context) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }
}
