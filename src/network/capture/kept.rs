//! The packets of one VLAN that are kept: its first ones and its last ones.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use crate::network::frame::Frame;
use crate::network::links::End;
use crate::text;

/// What a packet takes beside its frame and its comment, in bytes: its place in a list that has room for as many again,
/// and what the allocator adds. So a flood of short frames is bounded, too.
pub(super) const OVERHEAD: usize = 192;

/// The longest comment of a packet, in characters.
pub(super) const COMMENT: usize = 200;

/// A packet as it is kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) number: u64,
    pub(super) at: SystemTime,
    pub(super) from: End,
    /// `None` for a frame that no port gets.
    pub(super) to: Option<End>,
    pub(super) frame: Frame,
    pub(super) is_lost: bool,
    pub(super) comment: Option<Arc<str>>,
}

impl Kept {
    /// How many bytes it takes. A frame that several packets share counts for each of them.
    fn room(&self) -> usize {
        OVERHEAD + self.frame.len() + self.comment.as_ref().map_or(0, |comment| comment.len())
    }
}

/// The packets of a VLAN.
#[derive(Debug)]
pub(super) struct KeptPackets {
    /// The most bytes of the first packets, and of the last ones. Comments that first packets get later come on top.
    size: usize,
    first: Vec<Kept>,
    first_bytes: usize,
    /// A packet did not fit, so all later ones are last ones.
    first_is_full: bool,
    last: VecDeque<Kept>,
    last_bytes: usize,
    left_out: u64,
    /// The number of the first packet of the scenario.
    begun: u64,
    /// How many packets there were since then.
    passed_since: u64,
    /// How many of those were left out.
    left_out_since: u64,
}

impl KeptPackets {
    pub(super) fn new(size: usize) -> Self {
        let (first, last) = Default::default();
        let (left_out, begun, passed_since, left_out_since) = Default::default();
        Self {
            size,
            first,
            first_bytes: 0,
            first_is_full: false,
            last,
            last_bytes: 0,
            left_out,
            begun,
            passed_since,
            left_out_since,
        }
    }

    /// Makes the scenario begin with the packet of this number.
    pub(super) fn begin(&mut self, number: u64) {
        (self.begun, self.passed_since, self.left_out_since) = (number, 0, 0);
    }

    /// Adds a packet. Its number is higher than those before.
    pub(super) fn add(&mut self, packet: Kept) {
        let room = packet.room();
        self.passed_since += 1;
        self.first_is_full |= self.first_bytes + room > self.size;
        if self.first_is_full {
            self.last_bytes += room;
            self.last.push_back(packet);
            self.leave_out();
        } else {
            self.first_bytes += room;
            self.first.push(packet);
        }
    }

    /// Leaves out the oldest ones of the last packets until they have room.
    fn leave_out(&mut self) {
        while self.last_bytes > self.size
            && let Some(oldest) = self.last.pop_front()
        {
            self.last_bytes -= oldest.room();
            self.left_out += 1;
            self.left_out_since += u64::from(oldest.number >= self.begun);
        }
    }

    pub(super) fn lost(&mut self, number: u64) {
        if let Some((packet, _)) = self.find(number) {
            packet.is_lost = true;
        }
    }

    pub(super) fn comment(&mut self, number: u64, text: &str) {
        let Some((packet, bytes)) = self.find(number) else { return };
        let before = packet.comment.as_deref().unwrap_or_default();
        let comment = joined(before, text);
        *bytes = *bytes + comment.len() - before.len();
        packet.comment = Some(comment.into());
        self.leave_out();
    }

    /// Returns a packet, and the bytes that those beside it take.
    fn find(&mut self, number: u64) -> Option<(&mut Kept, &mut usize)> {
        if self.first.last().is_some_and(|last| number <= last.number) {
            let at = self.first.binary_search_by_key(&number, |packet| packet.number).ok()?;
            return Some((self.first.get_mut(at)?, &mut self.first_bytes));
        }
        let at = self.last.binary_search_by_key(&number, |packet| packet.number).ok()?;
        Some((self.last.get_mut(at)?, &mut self.last_bytes))
    }

    /// Returns the packets from a number on, the first one after a gap with how many were left out there.
    pub(super) fn from(&self, number: u64) -> impl Iterator<Item = (&Kept, u64)> {
        let first = self.first.partition_point(|packet| packet.number < number);
        let last = self.last.partition_point(|packet| packet.number < number);
        let first = self.first.iter().skip(first).map(|packet| (packet, 0));
        let last = self.last.iter().enumerate().skip(last);
        first.chain(last.map(|(at, packet)| (packet, if at == 0 { self.left_out } else { 0 })))
    }

    /// How many packets there were, and how many of them are not kept.
    pub(super) fn ever(&self) -> (u64, u64) {
        ((self.first.len() + self.last.len()) as u64 + self.left_out, self.left_out)
    }

    /// The same of the packets since the scenario began.
    pub(super) fn since_begun(&self) -> (u64, u64) {
        (self.passed_since, self.left_out_since)
    }

    /// How many bytes the first packets take, and the last ones.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> [usize; 2] {
        [self.first_bytes, self.last_bytes]
    }
}

/// Returns a comment with one more part, as one line that is not too long.
fn joined(before: &str, text: &str) -> String {
    let mut comment = match before {
        "" => text::line(text),
        before => format!("{before}; {}", text::line(text)),
    };
    if comment.chars().count() > COMMENT {
        // A part that was cut off before ends with the sign, too.
        comment = comment.chars().take(COMMENT - 1).chain(['…']).collect();
    }
    comment
}
