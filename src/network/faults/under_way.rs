//! Frames that arrive later: those of links with latency, a rate, or frames that change places.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::network::Key;
use crate::network::capture::PacketId;
use crate::network::frame::Frame;
use crate::network::links::Link;

/// When a frame arrives. Those that arrive at the same time do so in the order of these numbers.
pub(in crate::network) type Arrival = (Instant, u64);

/// A frame on a link.
#[derive(Debug, Clone)]
pub(in crate::network) struct Sent {
    pub(in crate::network) link: Link,
    /// The port that it is for.
    pub(in crate::network) to: Key,
    pub(in crate::network) frame: Frame,
    /// What is captured of it.
    pub(in crate::network) packet: PacketId,
}

/// All frames of a switch that arrive later.
#[derive(Debug, Default)]
pub(in crate::network) struct UnderWay {
    frames: BTreeMap<Arrival, Sent>,
    /// The number of the last one.
    last: u64,
}

impl UnderWay {
    /// Adds a frame that arrives at `due`, behind those that were added for the same time before.
    pub(in crate::network) fn add(&mut self, due: Instant, sent: Sent) -> Arrival {
        self.last += 1;
        self.frames.insert((due, self.last), sent);
        (due, self.last)
    }

    /// Lets a frame arrive at another time. Nothing happens if it has arrived.
    pub(in crate::network) fn postpone(&mut self, arrival: Arrival, due: Instant) {
        if let Some(sent) = self.frames.remove(&arrival) {
            self.add(due, sent);
        }
    }

    /// Returns all frames in the order in which they arrive.
    pub(in crate::network) fn all(&self) -> impl Iterator<Item = &Sent> {
        self.frames.values()
    }

    /// When the next frame arrives.
    pub(in crate::network) fn next(&self) -> Option<Instant> {
        self.frames.first_key_value().map(|((due, _), _)| *due)
    }

    /// Removes the next frame, if it has arrived by now.
    pub(in crate::network) fn arrived(&mut self, now: Instant) -> Option<Sent> {
        let first = self.frames.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// Removes the frames of a link.
    pub(in crate::network) fn remove(&mut self, link: Link) -> BTreeMap<Arrival, Sent> {
        let (of_link, others) =
            std::mem::take(&mut self.frames).into_iter().partition(|(_, sent)| sent.link == link);
        self.frames = others;
        of_link
    }
}
