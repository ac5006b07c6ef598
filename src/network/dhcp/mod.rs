//! A DHCP server that knows beforehand which card gets which address.
//!
//! It is for machines that nothing else tells their addresses. So it stays out of the way of everything else: it answers no card
//! that it has no lease for, no tagged frame (an 802.1Q interface has the address of its card, but another network), and
//! no request that names another server. A lease never ends, so clients have no reason to speak to the server's address.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

use super::frame::{Header, Mac, is_group};
use super::{Lease, VlanId};
use message::{Request, option};

mod message;

/// The port of servers, and that of clients.
const SERVER: u16 = 67;
const CLIENT: u16 = 68;

/// The time of a lease without an end.
const FOR_EVER: [u8; 4] = [0xff; 4];

const EVERYBODY: Mac = [0xff; 6];

/// The longest host name that is one label.
const LABEL: usize = 63;

/// The DHCP server of one VLAN.
#[derive(Debug)]
pub(super) struct Server {
    card: Mac,
    address: Ipv4Addr,
    leases: HashMap<Mac, Lease>,
}

impl Server {
    pub(super) fn new(vlan: VlanId, leases: Vec<Lease>) -> Self {
        Self {
            // Numbers of machines end at 254.
            card: [0x52, 0x54, 0, 0x12, vlan.get(), 0xff],
            address: Ipv4Addr::new(192, 168, vlan.get(), 254),
            leases: leases.into_iter().map(|lease| (lease.mac, lease)).collect(),
        }
    }

    /// Returns the answer to a frame, if it is a request that the server answers.
    pub(super) fn answer(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let header = Header::read(frame)?;
        if header.tags != [0; 2] || !(header.destination == self.card || header.destination == EVERYBODY) {
            return None;
        }
        let packet = SlicedPacket::from_ethernet(frame).ok()?;
        let (NetSlice::Ipv4(_), TransportSlice::Udp(udp)) = (packet.net?, packet.transport?) else {
            return None;
        };
        if udp.destination_port() != SERVER {
            return None;
        }
        let request = Request::read(udp.payload())?;
        let lease = self.leases.get(&request.client).filter(|lease| !is_group(lease.mac))?;
        let kind = reply(&request, lease.address, self.address)?;
        Some(self.frame(&request, lease, kind))
    }

    /// Writes the frame with an answer of this kind.
    fn frame(&self, request: &Request<'_>, lease: &Lease, kind: u8) -> Vec<u8> {
        let [a, b, c, _] = lease.address.octets();
        let (kind_bytes, server) = ([kind], self.address.octets());
        let mut options: Vec<(u8, &[u8])> = vec![(option::TYPE, &kind_bytes), (option::SERVER, &server)];
        let broadcast = [a, b, c, 255];
        if kind != message::NAK {
            if request.kind != message::INFORM {
                options.push((option::LEASE_TIME, &FOR_EVER));
            }
            options.push((option::SUBNET_MASK, &[255, 255, 255, 0]));
            options.push((option::BROADCAST, &broadcast));
            let name = lease.host_name.as_deref().filter(|name| (1..=LABEL).contains(&name.len()));
            options.extend(name.map(|name| (option::HOST_NAME, name.as_bytes())));
        }
        options.extend(request.identifier.map(|identifier| (option::CLIENT, identifier)));
        let given = match kind == message::NAK || request.kind == message::INFORM {
            true => Ipv4Addr::UNSPECIFIED,
            false => lease.address,
        };
        // Where the client can be reached: it may have no address yet, or a wrong one.
        let (card, address) = if kind == message::NAK {
            (EVERYBODY, Ipv4Addr::BROADCAST)
        } else if !request.current.is_unspecified() {
            (request.client, request.current)
        } else if request.wants_broadcast() {
            (EVERYBODY, Ipv4Addr::BROADCAST)
        } else {
            (request.client, lease.address)
        };
        let packet = PacketBuilder::ethernet2(self.card, card)
            .ipv4(self.address.octets(), address.octets(), 64)
            .udp(SERVER, CLIENT);
        let message = request.answer(given, &options);
        let mut frame = Vec::with_capacity(packet.size(message.len()));
        // A message of a few hundred bytes fits.
        let _ = packet.write_to_vec(&mut frame, &message);
        frame
    }
}

/// Returns the kind of the answer to a request. None if there is none to give.
fn reply(request: &Request<'_>, lease: Ipv4Addr, server: Ipv4Addr) -> Option<u8> {
    match request.kind {
        message::DISCOVER => Some(message::OFFER),
        // An answer to the offer of another server.
        message::REQUEST if request.server.is_some_and(|chosen| chosen != server) => None,
        message::REQUEST => {
            // A client that renews its lease names no address beside the one that it uses.
            let wanted = request.requested.unwrap_or(request.current);
            match wanted {
                Ipv4Addr::UNSPECIFIED => None,
                _ if wanted == lease => Some(message::ACK),
                _ => Some(message::NAK),
            }
        }
        // The client has an address by other means, and asks for the rest.
        message::INFORM => Some(message::ACK),
        // A released lease is still this client's, and so is one that it declines: there is no other address for it.
        _ => None,
    }
}
