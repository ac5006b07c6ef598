//! What passed the VLANs of a switch. Of each VLAN the first packets and the last ones are kept, as far as there is room.
//!
//! A frame is one packet for each link that it is sent on, or one packet to nobody. The packets share the frame with the
//! queues, and with each other.
//!
//! | file | what |
//! |---|---|
//! | `kept.rs` | the packets of one VLAN, and how many there is room for |
//! | `reading.rs` | the methods of a switch: packets are read in pages, so that frames don't wait for a reader |
//! | `pcapng.rs` | the file that Wireshark reads |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Notify;

use super::VlanId;
use super::frame::Frame;
use super::links::{End, Link, Links};
use kept::{Kept, KeptPackets};

mod kept;
mod pcapng;
mod reading;
#[cfg(test)]
mod tests;

pub(crate) use reading::{Captured, Packets};

/// Names a packet of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PacketId {
    vlan: VlanId,
    number: u64,
}

/// The number of a packet that is not kept.
const NONE: u64 = u64::MAX;

/// Which packets are read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of {
    /// Those of the scenario: of one VLAN, or of all.
    Scenario(Option<VlanId>),
    /// Those of a VLAN that are written to its file: also those of before the scenario.
    File(VlanId),
}

/// The packets of a switch.
#[derive(Debug, Default)]
pub(super) struct Capture {
    /// How many bytes the first packets of a VLAN take, and how many the last ones. `None` if no packet is kept.
    size: Option<usize>,
    vlans: BTreeMap<VlanId, KeptPackets>,
    /// The number of the next packet.
    next: u64,
    /// The number of the first packet of the scenario.
    begun: u64,
    /// Somebody waits for the next packet.
    is_awaited: bool,
    came: Arc<Notify>,
}

impl Capture {
    /// Keeps the packets from now on: of each VLAN the first `size` bytes, and the last ones.
    pub(super) fn start(&mut self, size: usize) {
        self.size = Some(size);
    }

    /// Makes the scenario begin here. Earlier packets are in the file, and are not told.
    pub(super) fn begin(&mut self) {
        self.begun = self.next;
        self.vlans.values_mut().for_each(|packets| packets.begin(self.begun));
    }

    /// Adds a frame that is sent on a link.
    pub(super) fn add(&mut self, link: Link, frame: &Frame) -> PacketId {
        self.keep(link.vlan, link.from, Some(link.to), frame)
    }

    /// Adds a frame that no port gets.
    pub(super) fn add_to_nobody(&mut self, vlan: VlanId, from: End, frame: &Frame) -> PacketId {
        self.keep(vlan, from, None, frame)
    }

    fn keep(&mut self, vlan: VlanId, from: End, to: Option<End>, frame: &Frame) -> PacketId {
        let Some(size) = self.size else { return PacketId { vlan, number: NONE } };
        let (number, at, frame) = (self.next, SystemTime::now(), frame.clone());
        self.next += 1;
        let packets = self.vlans.entry(vlan).or_insert_with(|| KeptPackets::new(size));
        packets.add(Kept { number, at, from, to, frame, is_lost: false, comment: None });
        // A reader that finds no packet sets it again, so a flood wakes nobody twice.
        if std::mem::take(&mut self.is_awaited) {
            self.came.notify_waiters();
        }
        PacketId { vlan, number }
    }

    /// Adds a comment to a packet, after those that it has. A packet that was left out gets none.
    pub(super) fn comment(&mut self, packet: PacketId, text: &str) {
        if let Some(packets) = self.vlans.get_mut(&packet.vlan) {
            packets.comment(packet.number, text);
        }
    }

    /// Marks a packet as lost, and says why: its receiver does not get it.
    pub(super) fn lost(&mut self, packet: PacketId, why: &str) {
        if let Some(packets) = self.vlans.get_mut(&packet.vlan) {
            packets.lost(packet.number);
        }
        self.comment(packet, why);
    }

    /// Returns the VLANs that packets were sent on.
    fn vlans(&self) -> Vec<VlanId> {
        self.vlans.keys().copied().collect()
    }

    /// Returns the next packets from a number on, in their order, of one VLAN or of all. `None` if none is kept.
    fn page(&mut self, links: &Links, of: Of, from: u64) -> Option<Packets> {
        self.size?;
        let (only, from) = match of {
            Of::Scenario(only) => (only, from.max(self.begun)),
            Of::File(vlan) => (Some(vlan), from),
        };
        let vlans = self.vlans.iter().filter(|(vlan, _)| only.is_none_or(|only| only == **vlan));
        let (mut packets, mut passed, mut left_out) = (Vec::new(), 0, 0);
        for (vlan, kept) in vlans {
            let (its_passed, its_left_out) = match of {
                Of::Scenario(_) => kept.since_begun(),
                Of::File(_) => kept.ever(),
            };
            (passed, left_out) = (passed + its_passed, left_out + its_left_out);
            let next = kept.from(from).take(reading::PAGE);
            packets.extend(next.map(|(packet, left_out)| Captured::of(packet, *vlan, left_out, links)));
        }
        packets.sort_unstable_by_key(|packet| packet.number);
        packets.truncate(reading::PAGE);
        self.is_awaited |= packets.is_empty();
        let next = packets.last().map_or(self.next, |last| last.number + 1);
        Some(Packets { packets, next, passed, left_out })
    }
}
