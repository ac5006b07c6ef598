//! The kernel's log, as a helper tells it over a channel.

use std::sync::Mutex;

use super::channel::{Channel, Shared};
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

/// The listener of a channel, if there is one.
#[derive(Default)]
pub(super) struct Listening(Mutex<Option<Listener>>);

impl Listening {
    pub(super) fn hear(&self, word: KernelWord<'_>) {
        if let Some(listener) = &mut *lock(&self.0) {
            listener(word);
        }
    }

    pub(super) fn end(&self) {
        let listener = lock(&self.0).take();
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

/// Takes a frame that tells of the kernel's log.
pub(super) fn take(shared: &Shared, kind: u8, payload: &[u8]) {
    shared.kernel.hear(match kind {
        b'M' => KernelWord::Records(payload),
        _ => KernelWord::NoMore(payload),
    });
}
