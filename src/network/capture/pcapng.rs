//! Writes packets as a pcapng file (draft-ietf-opsawg-pcapng), with one interface for each link.
//!
//! The file needs four kinds of numbers and texts, so this is shorter than the use of a crate. The crate pcap-file depends
//! on derive-into-owned, which compiles syn 0.11 of 2017.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::reading::{Captured, Packets};
use crate::text;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;

/// The options of all blocks.
const COMMENT: u16 = 1;
/// The option of a section: the program that wrote it.
const APPLICATION: u16 = 4;
/// The options of an interface.
const NAME: u16 = 2;
const RESOLUTION: u16 = 9;

/// The longest text of an option, in characters. An option has room for 65,535 bytes.
const LONGEST: usize = 512;

/// The link type of Ethernet.
const ETHERNET: u16 = 1;

/// Writes the packets of a VLAN.
pub(super) fn write(captured: &Packets, out: &mut dyn Write) -> io::Result<()> {
    let mut section = Block::new(SECTION);
    // The byte order, the version 1.0, and a length that is not known.
    section.u32(0x1a2b_3c4d).u16(1).u16(0).u64(u64::MAX);
    section.text(APPLICATION, concat!("nixvm-test ", env!("CARGO_PKG_VERSION")));
    if captured.left_out > 0 {
        let Packets { passed, left_out, .. } = captured;
        section.text(
            COMMENT,
            &format!("{left_out} of {passed} frames were left out between the first and the last ones"),
        );
    }
    section.end(out)?;

    let mut interfaces: HashMap<(&Arc<str>, Option<&Arc<str>>), u32> = HashMap::new();
    for Captured { from, to, .. } in &captured.packets {
        let next = u32::try_from(interfaces.len()).unwrap_or(u32::MAX);
        if let Entry::Vacant(new) = interfaces.entry((from, to.as_ref())) {
            new.insert(next);
            let mut interface = Block::new(INTERFACE);
            // No limit of the length of a packet.
            interface.u16(ETHERNET).u16(0).u32(0);
            interface.text(NAME, &format!("{from} → {}", to.as_deref().unwrap_or("nobody")));
            // Times are nanoseconds.
            interface.option(RESOLUTION, &[9]);
            interface.end(out)?;
        }
    }

    for packet in &captured.packets {
        let interface = interfaces.get(&(&packet.from, packet.to.as_ref())).copied().unwrap_or_default();
        let since = packet.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let nanoseconds = u64::try_from(since).unwrap_or(u64::MAX);
        let length = u32::try_from(packet.frame.len()).unwrap_or(u32::MAX);
        let mut block = Block::new(PACKET);
        block.u32(interface).u32((nanoseconds >> 32) as u32).u32(nanoseconds as u32);
        block.u32(length).u32(length).padded(&packet.frame);
        if packet.left_out > 0 {
            block.text(COMMENT, &format!("before this one, {} frames were left out", packet.left_out));
        }
        match (&packet.comment, packet.is_lost) {
            (Some(comment), true) => _ = block.text(COMMENT, &format!("lost: {comment}")),
            (Some(comment), false) => _ = block.text(COMMENT, comment),
            (None, true) => _ = block.text(COMMENT, "lost"),
            (None, false) => {}
        }
        block.end(out)?;
    }
    Ok(())
}

/// A block that is put together. Numbers are little-endian.
struct Block {
    bytes: Vec<u8>,
    has_options: bool,
}

impl Block {
    fn new(kind: u32) -> Self {
        let mut block = Self { bytes: Vec::new(), has_options: false };
        // The length comes at the end.
        block.u32(kind).u32(0);
        block
    }

    fn u16(&mut self, number: u16) -> &mut Self {
        self.bytes.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.bytes.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.bytes.extend_from_slice(&number.to_le_bytes());
        self
    }

    /// Adds bytes, and zeros up to a multiple of four.
    fn padded(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    fn option(&mut self, code: u16, value: &[u8]) -> &mut Self {
        self.has_options = true;
        self.u16(code).u16(u16::try_from(value.len()).unwrap_or(u16::MAX)).padded(value)
    }

    fn text(&mut self, code: u16, value: &str) -> &mut Self {
        let value: String = text::line(value).chars().take(LONGEST).collect();
        self.option(code, value.as_bytes())
    }

    fn end(mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.has_options {
            self.u32(0);
        }
        let length = u32::try_from(self.bytes.len() + 4).unwrap_or(u32::MAX);
        self.u32(length);
        self.bytes[4..8].copy_from_slice(&length.to_le_bytes());
        out.write_all(&self.bytes)
    }
}
