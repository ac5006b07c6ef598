//! The methods of a switch that read what it has captured.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Notify;

use super::kept::Kept;
use super::{Of, pcapng};
use crate::network::frame::Frame;
use crate::network::links::Links;
use crate::network::{Switch, VlanId};

/// How many packets are read at a time. Frames wait that long: some tens of microseconds.
pub(super) const PAGE: usize = 1024;

/// A packet that passed a switch.
#[derive(Debug, Clone)]
pub(crate) struct Captured {
    pub(crate) number: u64,
    pub(crate) vlan: VlanId,
    pub(crate) at: SystemTime,
    pub(crate) from: Arc<str>,
    /// `None` for a frame that no port got.
    pub(crate) to: Option<Arc<str>>,
    pub(crate) frame: Frame,
    pub(crate) is_lost: bool,
    pub(crate) comment: Option<Arc<str>>,
    /// How many packets of its VLAN were left out just before it.
    pub(crate) left_out: u64,
}

impl Captured {
    pub(super) fn of(packet: &Kept, vlan: VlanId, left_out: u64, links: &Links) -> Self {
        let Kept { number, at, from, to, frame, is_lost, comment } = packet;
        Self {
            number: *number,
            vlan,
            at: *at,
            from: links.name(*from),
            to: to.map(|to| links.name(to)),
            frame: frame.clone(),
            is_lost: *is_lost,
            comment: comment.clone(),
            left_out,
        }
    }

    /// Makes a packet without a switch.
    #[cfg(test)]
    pub(crate) fn made(vlan: VlanId, (from, to): (&str, Option<&str>), frame: &[u8]) -> Self {
        Self {
            number: 0,
            vlan,
            at: SystemTime::now(),
            from: from.into(),
            to: to.map(Into::into),
            frame: frame.into(),
            is_lost: false,
            comment: None,
            left_out: 0,
        }
    }
}

/// Some of the packets that passed a switch.
#[derive(Debug, Default)]
pub(crate) struct Packets {
    /// The packets in their order.
    pub(crate) packets: Vec<Captured>,
    /// The number from which on later packets are read.
    pub(crate) next: u64,
    /// How many packets have passed so far.
    pub(crate) passed: u64,
    /// How many of those were left out.
    pub(crate) left_out: u64,
}

impl Switch {
    /// Keeps what passes from now on: the first `size` bytes of each VLAN, and the last ones.
    pub fn capture(&self, size: usize) {
        self.shared.with_capture(|capture, _| capture.start(size));
    }

    /// Returns some packets of the scenario from a number on: of one VLAN, or of all. `None` if the switch captures nothing.
    pub(crate) fn packets_from(&self, only: Option<VlanId>, number: u64) -> Option<Packets> {
        self.page(Of::Scenario(only), number)
    }

    fn page(&self, of: Of, number: u64) -> Option<Packets> {
        self.shared.with_capture(|capture, links| capture.page(links, of, number))
    }

    /// Returns all packets of the scenario so far: of one VLAN, or of all. `None` if the switch captures nothing.
    pub(crate) fn packets(&self, only: Option<VlanId>) -> Option<Packets> {
        self.all(Of::Scenario(only))
    }

    fn all(&self, of: Of) -> Option<Packets> {
        let end = self.shared.with_capture(|capture, _| capture.next);
        let mut all = self.page(of, 0)?;
        while all.next < end {
            let Packets { packets, next, passed, left_out } = self.page(of, all.next)?;
            all.packets.extend(packets);
            (all.next, all.passed, all.left_out) = (next, passed, left_out);
        }
        Some(all)
    }

    /// Returns what tells of the next packet, once after each call of [`Switch::packets_from`] that returned no packet.
    pub(crate) fn packet_came(&self) -> Arc<Notify> {
        self.shared.with_capture(|capture, _| capture.came.clone())
    }

    /// Returns the VLANs of which packets were captured.
    pub fn captured_vlans(&self) -> Vec<VlanId> {
        self.shared.with_capture(|capture, _| capture.vlans())
    }

    /// Writes the packets of a VLAN so far, also those of before the scenario, as a pcapng file.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_capture(&self, vlan: VlanId, out: &mut dyn io::Write) -> io::Result<()> {
        pcapng::write(&self.all(Of::File(vlan)).unwrap_or_default(), out)
    }
}
