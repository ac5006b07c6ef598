//! The kernel's log, as a helper tells it over a channel, and its clock.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Mutex;
use std::time::Duration;

use super::connection::{Channel, OpenChannel};
use super::frame::encode;
use crate::mutex::lock;

/// What a helper says of the kernel's log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum KernelWord<'a> {
    /// Whole records, as /dev/kmsg has them.
    Records(&'a [u8]),
    /// Nothing more comes: `ended`, or why the log can't be read.
    NoMore(&'a [u8]),
}

/// Who is told of the kernel's log. It is called where the channel is read: it must neither wait nor use the channel.
/// It is dropped when the channel is lost and everything that came before that was handed to it.
pub(super) type Listener = Box<dyn FnMut(KernelWord<'_>) + Send>;

/// The time of a line in the kernel's log, and the guest's uptime before and after it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clocks {
    pub(crate) logged: Duration,
    pub(crate) uptime: (Duration, Duration),
}

impl Clocks {
    /// Five decimal numbers: the time in microseconds; seconds and nanoseconds before, and after.
    fn parse(payload: &[u8]) -> Option<Self> {
        // No guest is up for so long, in seconds, and no sum of two of them is too large.
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

/// Who is told of the clocks, once.
type Comparing = Box<dyn FnOnce(Clocks) + Send>;

/// The listeners of a channel.
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
        // Not under the lock: it may wake who waits for its end.
        drop(listener);
    }
}

impl Channel {
    /// From now on `listener` hears what the kernel logs, from the record with the number `from` on, or from the oldest
    /// one that it has. Before a command's exit, a question's answer and a pong comes what was logged by then.
    ///
    /// Only the helper tells it, and only to root.
    pub(crate) fn follow_kernel(
        &self,
        from: Option<u64>,
        listener: impl FnMut(KernelWord<'_>) + Send + 'static,
    ) {
        let shared = self.shared();
        *lock(&shared.kernel.0) = Some(Box::new(listener));
        let from = from.map(|from| from.to_string()).unwrap_or_default();
        shared.send(|out| encode(out, b'M', 0, from.as_bytes()));
        // It may have been lost before, and nobody else would tell.
        if self.lost().is_some() {
            shared.kernel.end();
        }
    }
}

impl Channel {
    /// Nothing is told until [`Channel::follow_kernel`]: whoever saves the machine must not cut a frame in two.
    pub(crate) fn hold_kernel(&self) {
        self.shared().send(|out| encode(out, b'M', 0, b"hold"));
    }
}

impl Channel {
    /// Has the guest write a line to the kernel's log, and gives `listener` the time that it has there with the uptime of
    /// then. Nothing is said by a guest that can't do that. No other program knows the line before it is there.
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

/// Takes a frame that tells of the kernel's clock.
pub(super) fn take_clocks(shared: &OpenChannel, payload: &[u8]) {
    let Some(clocks) = Clocks::parse(payload) else { return };
    // Not under the lock.
    let listener = lock(&shared.kernel.1).take();
    if let Some(listener) = listener {
        listener(clocks);
    }
}

/// Takes a frame that tells of the kernel's log.
pub(super) fn take(shared: &OpenChannel, kind: u8, payload: &[u8]) {
    shared.kernel.hear(match kind {
        b'M' => KernelWord::Records(payload),
        _ => KernelWord::NoMore(payload),
    });
}
