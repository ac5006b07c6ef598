//! A switch that is frozen: what machines send waits here until the switch thaws.
//!
//! Several machines are saved at one moment so that connections between them go on. A frame that one of them had sent by
//! then, and another had not got, belongs to that moment, too: these are the frames in flight.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::frame::{self, Frame};
use super::{Key, VlanId};
use crate::digest;

/// How many frames in flight of each VLAN a frozen switch holds, and how many bytes of them. More than the windows of some TCP
/// connections with default settings need.
pub(super) const MOST_FRAMES: usize = 16 << 10;
pub(super) const MOST_BYTES: usize = 32 << 20;

/// A frame that a machine sent while the switch was frozen, or that a fault holds back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// The port that it came from. The machine may have another one by the time of the thaw.
    pub(super) port: Option<Key>,
    /// The machine that sent it. `None` if it has passed its link, and its receiver did not read.
    pub(super) from: Option<Arc<str>>,
    /// The machine that it is for, if it was already on a link.
    pub(super) to: Option<Arc<str>>,
    pub(super) vlan: VlanId,
    pub(super) bytes: Frame,
}

/// Frames that machines had sent at one moment, and that no machine had got, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InFlight {
    pub(super) frames: Vec<Held>,
    /// How many frames there are of each VLAN, and how many bytes. One VLAN that is flooded takes no room of another.
    taken: BTreeMap<VlanId, (usize, usize)>,
    lost: u64,
}

impl InFlight {
    /// Adds a frame. False, and it counts as lost, if there is no room for it.
    pub(super) fn hold(&mut self, held: Held) -> bool {
        let (frames, bytes) = self.taken.entry(held.vlan).or_default();
        if *frames >= MOST_FRAMES || *bytes + held.bytes.len() > MOST_BYTES {
            self.lost += 1;
            return false;
        }
        (*frames, *bytes) = (*frames + 1, *bytes + held.bytes.len());
        self.frames.push(held);
        true
    }

    /// Adds later frames, as those of machines that go on with other ports.
    pub(super) fn extend(&mut self, later: &Self) {
        self.lost += later.lost;
        for held in &later.frames {
            self.hold(Held { port: None, ..held.clone() });
        }
    }

    /// The number of frames.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// How many frames there was no room for.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Returns them as a text.
    pub(crate) fn to_text(&self) -> String {
        let written = self.frames.iter().map(|held| Written {
            from: held.from.as_deref().map(str::to_owned),
            to: held.to.as_deref().map(str::to_owned),
            vlan: held.vlan.get(),
            frame: digest::hex(&held.bytes, held.bytes.len()),
        });
        // Strings and numbers can always be written.
        serde_json::to_string(&written.collect::<Vec<_>>()).unwrap_or_default()
    }

    /// Reads a text of [`InFlight::to_text`]. Returns `None` for any other text.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        let mut flight = Self::default();
        for Written { from, to, vlan, frame } in serde_json::from_str::<Vec<Written>>(text).ok()? {
            let (vlan, bytes) = (VlanId::new(vlan)?, octets(&frame)?.into());
            flight.hold(Held { port: None, from: from.map(Into::into), to: to.map(Into::into), vlan, bytes });
        }
        Some(flight)
    }
}

/// A frame as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    from: Option<String>,
    to: Option<String>,
    vlan: u8,
    /// In hexadecimal digits.
    frame: String,
}

fn octets(digits: &str) -> Option<Vec<u8>> {
    if !digits.is_ascii() || !digits.len().is_multiple_of(2) || digits.len() > 2 * frame::LONGEST {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect()
}
