//! Frames for the guest. The sender writes them, and a task writes the rest if the stream is full.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};

use tokio::io::AsyncWrite;
use tokio::sync::Notify;

use crate::mutex::lock;

/// With more than this unwritten, in bytes, new commands wait.
const FULL: usize = 1 << 20;
/// The buffer is freed if it grew beyond this, in bytes.
const KEPT: usize = 256 << 10;

/// The writing side of a stream.
pub(super) type Sink = Box<dyn AsyncWrite + Send + Unpin>;

/// Frames on their way to the stream. A frame is added as a whole, so a caller that is dropped can't tear
/// one.
pub(super) struct Outgoing {
    pending: Mutex<Pending>,
    /// Notified when the stream accepts bytes again.
    bell: Arc<Bell>,
    /// Notified when there is room for new commands again.
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

    /// Lets `fill` append frames, and writes what the stream accepts at once. [`Outgoing::finish`] writes the
    /// rest.
    pub(super) fn send(&self, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut pending = self.pending();
        if pending.sink.is_none() {
            return Ok(());
        }
        fill(&mut pending.bytes);
        self.flush(pending)
    }

    /// Writes the rest each time the stream accepts bytes, until writing fails.
    pub(super) async fn finish(&self) -> io::Error {
        loop {
            self.bell.0.notified().await;
            if let Err(error) = self.flush(self.pending()) {
                return error;
            }
        }
    }

    /// Waits while too much is unwritten. It also returns when the stream is closed.
    pub(super) async fn wait_for_room(&self) {
        loop {
            let room = self.room.notified();
            let mut room = std::pin::pin!(room);
            // From here on no notification is missed.
            room.as_mut().enable();
            if !self.pending().is_full() {
                return;
            }
            room.await;
        }
    }

    /// Drops the stream and everything that is unwritten.
    pub(super) fn close(&self) {
        let mut pending = self.pending();
        let sink = pending.sink.take();
        pending.bytes = Vec::new();
        pending.written = 0;
        drop(pending);
        self.room.notify_waiters();
        // Dropped outside of the lock, because the stream may be a command on another channel, whose drop
        // writes there.
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
                    // Moves the rest only when half of it is written, so that a long text is not moved again
                    // and again.
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
