//! What a frame says. It is a guest's, so any part may be missing or wrong.

use std::net::IpAddr;
use std::ops::Range;

use etherparse::{
    EtherType, Ipv6ExtensionSlice, LaxIpPayloadSlice, LaxNetSlice, LaxSlicedPacket, TcpSlice, UdpSlice,
};

use super::Protocol;

/// What a frame says, as far as it can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) protocol: Protocol,
    pub(super) addresses: Option<(IpAddr, IpAddr)>,
    pub(super) ports: Option<(u16, u16)>,
    pub(super) is_syn: bool,
    pub(super) payload: Range<usize>,
}

impl Decoded {
    pub(super) fn of(frame: &[u8]) -> Self {
        let nothing = Self {
            protocol: Protocol::Ethernet(0),
            addresses: None,
            ports: None,
            is_syn: false,
            payload: frame.len()..frame.len(),
        };
        // An error here means that the frame has no header. The switch refuses such frames.
        let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else { return nothing };
        let (protocol, payload) = match packet.ether_payload() {
            Some(inner) if inner.ether_type == EtherType::ARP => (Protocol::Arp, inner.payload),
            Some(inner) => (Protocol::Ethernet(inner.ether_type.0), inner.payload),
            None => (nothing.protocol, &[][..]),
        };
        let ethernet = Self { protocol, payload: range(frame, payload), ..nothing };
        let (addresses, is_later_fragment, inner) = match &packet.net {
            Some(LaxNetSlice::Ipv4(ip)) => {
                let header = ip.header();
                let addresses = (header.source_addr().into(), header.destination_addr().into());
                (addresses, header.fragments_offset().value() > 0, ip.payload())
            }
            Some(LaxNetSlice::Ipv6(ip)) => {
                let header = ip.header();
                let addresses = (header.source_addr().into(), header.destination_addr().into());
                let is_later = |extension| match extension {
                    Ipv6ExtensionSlice::Fragment(fragment) => fragment.fragment_offset().value() > 0,
                    _ => false,
                };
                (addresses, ip.extensions().clone().into_iter().any(is_later), ip.payload())
            }
            Some(LaxNetSlice::Arp(_)) | None => return ethernet,
        };
        let over = Self {
            protocol: Protocol::over_ip(inner.ip_number.0),
            addresses: Some(addresses),
            payload: range(frame, inner.payload),
            ..ethernet
        };
        // If an extension header of IP is cut off, the protocol is that header's, which has no ports.
        if is_later_fragment { over } else { over.with_transport(frame, inner) }
    }

    /// Adds what the header of the transport protocol says.
    fn with_transport(self, frame: &[u8], inner: &LaxIpPayloadSlice<'_>) -> Self {
        let bytes = inner.payload;
        let ports = match bytes {
            [a, b, c, d, ..] if self.protocol.has_ports() => {
                Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])))
            }
            _ => None,
        };
        let (payload, is_syn) = match self.protocol {
            Protocol::Tcp => match TcpSlice::from_slice(bytes) {
                Ok(tcp) => (tcp.payload(), tcp.syn() && !tcp.ack()),
                Err(_) => (bytes, false),
            },
            // What follows the datagram in the packet is not part of it.
            Protocol::Udp => (UdpSlice::from_slice_lax(bytes).map_or(bytes, |udp| udp.payload()), false),
            other => (other.header().and_then(|length| bytes.get(length..)).unwrap_or(bytes), false),
        };
        Self { ports, is_syn, payload: range(frame, payload), ..self }
    }
}

/// Where a part of a frame is in it.
fn range(frame: &[u8], part: &[u8]) -> Range<usize> {
    let begin = (part.as_ptr() as usize).saturating_sub(frame.as_ptr() as usize).min(frame.len());
    begin..begin.saturating_add(part.len()).min(frame.len())
}
