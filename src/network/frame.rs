//! What the switch reads of an Ethernet frame: addresses and tags. It changes nothing in a frame.

use std::sync::Arc;

/// A frame on its way. Ports that a frame is flooded to share it.
pub(super) type Frame = Arc<[u8]>;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Destination, source and EtherType.
pub(super) const HEADER: usize = 14;

/// The length of a tag.
const TAG: usize = 4;

/// The longest frame: the largest MTU that a virtio card can have, and two tags.
pub(super) const LONGEST: usize = HEADER + 2 * TAG + u16::MAX as usize;

/// The EtherTypes of tags: 802.1Q, 802.1ad, and what was used for stacked tags before it.
const TAGS: [[u8; 2]; 3] = [[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00]];

/// The address to which bridges send their spanning tree messages.
const SPANNING_TREE: Mac = [0x01, 0x80, 0xc2, 0, 0, 0];

/// The addresses of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) destination: Mac,
    pub(super) source: Mac,
    /// The VLAN identifiers of the outer and the inner tag, 0 for a tag that is not there.
    pub(super) tags: [u16; 2],
}

impl Header {
    /// Reads the header of a frame. None if the frame is too short for a header, or longer than any frame may be.
    pub(super) fn read(frame: &[u8]) -> Option<Self> {
        if frame.len() > LONGEST {
            return None;
        }
        let (destination, rest) = frame.split_first_chunk::<6>()?;
        let (source, mut rest) = rest.split_first_chunk::<6>()?;
        rest.first_chunk::<2>()?;
        let mut tags = [0; 2];
        for tag in &mut tags {
            let Some(([a, b, c, d], behind)) = rest.split_first_chunk::<TAG>() else { break };
            if !TAGS.contains(&[*a, *b]) {
                break;
            }
            // The upper bits are the priority.
            *tag = u16::from_be_bytes([*c, *d]) & 0xfff;
            rest = behind;
        }
        Some(Self { destination: *destination, source: *source, tags })
    }
}

/// Whether an address is that of a group, such as the broadcast address.
pub(super) fn is_group(address: Mac) -> bool {
    address[0] & 1 == 1
}

/// Whether a frame tells bridges that the topology has changed: stations may be at other ports now.
pub(super) fn changes_topology(frame: &[u8]) -> bool {
    let Some(message) = frame.get(HEADER..).filter(|_| frame.starts_with(&SPANNING_TREE)) else {
        return false;
    };
    // LLC, the protocol's number, its version, the type of the message, and its flags. One type has no flags.
    match message {
        [0x42, 0x42, 3, 0, 0, _, 0x80, ..] => true,
        [0x42, 0x42, 3, 0, 0, _, _, flags, ..] => flags & 1 == 1,
        _ => false,
    }
}
