//! The protocols of packets.

use std::fmt;

/// The protocol of a [`Packet`](super::Packet).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// Looks for the card with an IPv4 address.
    Arp,
    /// Messages about IPv4: ping, an unreachable host.
    Icmp,
    /// Messages about IPv6: ping, neighbours, routers.
    Icmpv6,
    /// Members of IPv4 groups.
    Igmp,
    /// Connections.
    Tcp,
    /// Datagrams. `WireGuard` and DNS use it.
    Udp,
    /// Messages in streams.
    Sctp,
    /// Any packet in another one, as it is.
    Gre,
    /// Encrypted packets of `IPsec`.
    Esp,
    /// Routers that share an address: keepalived.
    Vrrp,
    /// Another protocol over IP, by its number.
    Ip(u8),
    /// What is not IP, by its EtherType. For a frame that has a length there, as spanning tree messages have, it is that
    /// length: below 1536.
    Ethernet(u16),
}

impl Protocol {
    /// Returns the protocol over IP with this number.
    pub(super) fn over_ip(number: u8) -> Self {
        match number {
            1 => Self::Icmp,
            2 => Self::Igmp,
            6 => Self::Tcp,
            17 => Self::Udp,
            47 => Self::Gre,
            50 => Self::Esp,
            58 => Self::Icmpv6,
            112 => Self::Vrrp,
            132 => Self::Sctp,
            number => Self::Ip(number),
        }
    }

    /// Returns the length of its header, if that is fixed.
    pub(super) fn header(self) -> Option<usize> {
        match self {
            Self::Icmp | Self::Icmpv6 | Self::Udp => Some(8),
            Self::Sctp => Some(12),
            _ => None,
        }
    }

    /// Returns whether its header begins with two ports.
    pub(super) fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp | Self::Sctp)
    }
}

/// Writes its usual name.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arp => "ARP",
            Self::Icmp => "ICMP",
            Self::Icmpv6 => "ICMPv6",
            Self::Igmp => "IGMP",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
            Self::Gre => "GRE",
            Self::Esp => "ESP",
            Self::Vrrp => "VRRP",
            Self::Ip(number) => return write!(f, "IP protocol {number}"),
            Self::Ethernet(number) => return write!(f, "EtherType {number:#06x}"),
        })
    }
}
