//! The kernel's log, which a helper sends over a channel, and the kernel's clock.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Mutex;
use std::time::Duration;

use super::connection::{Channel, OpenChannel};
use super::frame::encode;
use crate::mutex::lock;

/// A message of the helper about the kernel's log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum KernelWord<'a> {
    /// Complete records, in the format of /dev/kmsg.
    Records(&'a [u8]),
    /// No more records follow. Holds `ended`, or why the log can't be read.
    NoMore(&'a [u8]),
}

/// A receiver of the kernel's log. The reader of the channel calls it, so it must neither wait nor use the
/// channel. It is dropped when the channel is lost, after it has received everything that arrived before.
pub(super) type Listener = Box<dyn FnMut(KernelWord<'_>) + Send>;

/// The time of a line in the kernel's log, and the guest's uptime before and after the line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clocks {
    pub(crate) logged: Duration,
    pub(crate) uptime: (Duration, Duration),
}

impl Clocks {
    /// Parses five decimal numbers: the time in microseconds; seconds and nanoseconds before; seconds and
    /// nanoseconds after.
    fn parse(payload: &[u8]) -> Option<Self> {
        // A limit for uptimes in seconds that no guest reaches. The sum of two such uptimes does not
        // overflow.
        const MOST: u64 = u32::MAX as u64;
        let mut numbers = std::str::from_utf8(payload).ok()?.split_ascii_whitespace();
        let mut next = || numbers.next()?.parse::<u64>().ok();
        let logged = Duration::from_micros(next()?);
        let mut uptime = || {
            let (seconds, nanoseconds) = (next()?, next()?);
            Some(Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds.min(999_999_999)))
                .filter(|_| seconds <= MOST)
        };
        let uptime = (uptime()?, uptime()?);
        (logged.as_secs() <= MOST && uptime.0 <= uptime.1).then_some(Self { logged, uptime })
    }
}

/// A receiver of the clocks, which is called once.
type Comparing = Box<dyn FnOnce(Clocks) + Send>;

/// The receivers of a channel.
#[derive(Default)]
pub(super) struct Listening(Mutex<Option<Listener>>, Mutex<Option<Comparing>>);

impl Listening {
    pub(super) fn hear(&self, word: KernelWord<'_>) {
        if let Some(listener) = &mut *lock(&self.0) {
            listener(word);
        }
    }

    pub(super) fn end(&self) {
        let listener = lock(&self.0).take();
        drop(lock(&self.1).take());
        // Dropped outside of the lock, because the drop may wake a task that waits for the end.
        drop(listener);
    }
}

impl Channel {
    /// From now on sends the kernel's log to `listener`, starting with the record number `from`, or with the
    /// oldest record. Before a command's exit, a question's answer or a pong, the listener receives what was
    /// logged by then.
    ///
    /// Only the helper sends the log, and only on root's channel.
    pub(crate) fn follow_kernel(
        &self,
        from: Option<u64>,
        listener: impl FnMut(KernelWord<'_>) + Send + 'static,
    ) {
        let shared = self.shared();
        *lock(&shared.kernel.0) = Some(Box::new(listener));
        let from = from.map(|from| from.to_string()).unwrap_or_default();
        shared.send(|out| encode(out, b'M', 0, from.as_bytes()));
        // The channel may have been lost before, and then nothing else would end the listener.
        if self.lost().is_some() {
            shared.kernel.end();
        }
    }
}

impl Channel {
    /// Stops the log until the next [`Channel::follow_kernel`], so that saving the machine does not cut a
    /// frame in two.
    pub(crate) fn hold_kernel(&self) {
        self.shared().send(|out| encode(out, b'M', 0, b"hold"));
    }
}

impl Channel {
    /// Makes the guest write a line to the kernel's log. Calls `listener` with the line's time and the
    /// guest's uptime. A guest that can't do that sends nothing. The line contains a random word, so no other
    /// program can write it in advance.
    pub(crate) fn compare_clocks(&self, listener: impl FnOnce(Clocks) + Send + 'static) {
        let shared = self.shared();
        *lock(&shared.kernel.1) = Some(Box::new(listener));
        let word = format!("{:016x}", RandomState::new().hash_one(0u8));
        shared.send(|out| encode(out, b'U', 0, word.as_bytes()));
        if self.lost().is_some() {
            drop(lock(&shared.kernel.1).take());
        }
    }
}

/// Handles a frame with the kernel's clock.
pub(super) fn take_clocks(shared: &OpenChannel, payload: &[u8]) {
    let Some(clocks) = Clocks::parse(payload) else { return };
    // Called outside of the lock.
    let listener = lock(&shared.kernel.1).take();
    if let Some(listener) = listener {
        listener(clocks);
    }
}

/// Handles a frame with the kernel's log.
pub(super) fn take(shared: &OpenChannel, kind: u8, payload: &[u8]) {
    shared.kernel.hear(match kind {
        b'M' => KernelWord::Records(payload),
        _ => KernelWord::NoMore(payload),
    });
}
