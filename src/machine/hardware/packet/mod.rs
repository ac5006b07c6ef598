//! A packet that passed a network, as a scenario sees it.

use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

use crate::network::{Captured, Mac};
use crate::text;
use decoded::Decoded;

pub use protocol::Protocol;

mod decoded;
mod protocol;
#[cfg(test)]
mod tests;

/// A packet that passed the network of a scenario: an Ethernet frame on its way from one machine to another one.
///
/// A frame for several machines is one packet for each of them. A frame that no machine gets is one packet, too: see
/// [`Packet::to`]. What is in a frame is a guest's, so each method tells only what is there: a packet that is cut off or
/// that says something impossible has no port, and maybe no address.
///
/// ```no_run
/// # use nixvm_test::prelude::*;
/// # fn example(network: Network) -> Result {
/// for packet in network.packets()? {
///     // client → server TCP 192.168.1.1:41234 → 192.168.1.2:80, 74 bytes
///     println!("{packet}");
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Packet {
    captured: Captured,
    decoded: Decoded,
}

impl Packet {
    /// Decodes a captured packet.
    pub(crate) fn of(captured: Captured) -> Self {
        let decoded = Decoded::of(&captured.frame);
        Self { captured, decoded }
    }

    /// Returns the number of the VLAN that it passed.
    pub fn vlan(&self) -> u8 {
        self.captured.vlan.get()
    }

    /// Returns the name of the machine that sent it. Of packets that no machine sent, it is `the DHCP server` or
    /// `a vde connection`.
    pub fn from(&self) -> &str {
        &self.captured.from
    }

    /// Returns the name of the machine that it is for. `None` for a frame that no machine gets: nobody has its destination,
    /// and no other machine is on the VLAN, or its destination is at the card that it came from.
    pub fn to(&self) -> Option<&str> {
        self.captured.to.as_deref()
    }

    /// Returns when it passed, by the clock of this host.
    pub fn at(&self) -> SystemTime {
        self.captured.at
    }

    /// Returns the whole Ethernet frame, from the destination's address on, without the checksum at its end.
    pub fn bytes(&self) -> &[u8] {
        &self.captured.frame
    }

    /// Returns whether it was lost: by a fault of the network ([`Network::set_loss`](crate::machine::Network::set_loss)), or
    /// because the receiver did not read, and its queue was full. A frame for a card whose cable is unplugged is not lost in
    /// this sense: QEMU gets it.
    pub fn was_lost(&self) -> bool {
        self.captured.is_lost
    }

    /// Returns what happened to it on its way, in words.
    pub fn comment(&self) -> Option<&str> {
        self.captured.comment.as_deref()
    }

    /// Returns the Ethernet address of the card that sent it, as the frame says.
    pub fn source_mac(&self) -> [u8; 6] {
        mac(self.bytes(), 6)
    }

    /// Returns the Ethernet address of the card or the group that it is for.
    pub fn destination_mac(&self) -> [u8; 6] {
        mac(self.bytes(), 0)
    }

    /// Returns the IP address of the sender. `None` for what is not IP, such as ARP.
    pub fn source(&self) -> Option<IpAddr> {
        self.decoded.addresses.map(|(source, _)| source)
    }

    /// Returns the IP address of the receiver. `None` for what is not IP, such as ARP.
    pub fn destination(&self) -> Option<IpAddr> {
        self.decoded.addresses.map(|(_, destination)| destination)
    }

    /// Returns the port of the sender. `None` for what has no ports: they are in TCP, UDP and SCTP, and of several fragments
    /// in the first one.
    pub fn source_port(&self) -> Option<u16> {
        self.decoded.ports.map(|(source, _)| source)
    }

    /// Returns the port of the receiver. See [`Packet::source_port`].
    pub fn destination_port(&self) -> Option<u16> {
        self.decoded.ports.map(|(_, destination)| destination)
    }

    /// Returns the protocol: of what is in the IP packet, or of what is in the frame if that is not IP. Tags (802.1Q) are
    /// passed over.
    pub fn protocol(&self) -> Protocol {
        self.decoded.protocol
    }

    /// Returns whether it opens a TCP connection: SYN is set, and ACK is not.
    pub fn is_syn(&self) -> bool {
        self.decoded.is_syn
    }

    /// Returns what comes after the header of TCP, UDP, ICMP or SCTP. For another protocol over IP, and for a fragment that is
    /// not the first one, it is what comes after the headers of IP; for what is not IP, after the header of Ethernet.
    pub fn payload(&self) -> &[u8] {
        self.bytes().get(self.decoded.payload.clone()).unwrap_or_default()
    }

    /// Returns whether these bytes are anywhere in the frame. A text that is split over two packets is not found, nor one that
    /// is encoded: the password of HTTP's basic authentication is in base64.
    ///
    /// ```no_run
    /// # use nixvm_test::prelude::*;
    /// # fn example(network: Network) -> Result {
    /// assert!(!network.packets()?.iter().any(|packet| packet.contains("s3cret")), "it left unencrypted");
    /// # Ok(()) }
    /// ```
    pub fn contains(&self, bytes: impl AsRef<[u8]>) -> bool {
        memchr::memmem::find(self.bytes(), bytes.as_ref()).is_some()
    }
}

/// The address at this place of a frame. Each frame that the switch takes has both.
fn mac(frame: &[u8], at: usize) -> Mac {
    frame.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default()
}

/// Writes it in one line: `client → server TCP 192.168.1.1:41234 → 192.168.1.2:80, 74 bytes`.
impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = self.to().unwrap_or("nobody");
        write!(f, "{} → {} {} ", text::line(self.from()), text::line(to), self.protocol())?;
        match (self.decoded.addresses, self.decoded.ports) {
            (Some((IpAddr::V6(source), IpAddr::V6(destination))), Some((from, to))) => {
                write!(f, "[{source}]:{from} → [{destination}]:{to}")?;
            }
            (Some((source, destination)), Some((from, to))) => {
                write!(f, "{source}:{from} → {destination}:{to}")?;
            }
            (Some((source, destination)), None) => write!(f, "{source} → {destination}")?,
            (None, _) => {
                let mac = |mac: Mac| mac.map(|byte| format!("{byte:02x}")).join(":");
                write!(f, "{} → {}", mac(self.source_mac()), mac(self.destination_mac()))?;
            }
        }
        write!(f, ", {} bytes", self.bytes().len())?;
        if self.was_lost() {
            f.write_str(", lost")?;
        }
        match self.comment() {
            Some(comment) => write!(f, " ({})", text::line(comment)),
            None => Ok(()),
        }
    }
}
