//! The DHCP server, with the requests of clients and with malformed ones.

use std::net::Ipv4Addr;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::{ALL, mac, vlan};
use crate::network::dhcp::Server;
use crate::network::{Lease, Mac};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 3, 254);
const LEASED: Ipv4Addr = Ipv4Addr::new(192, 168, 3, 7);

fn server() -> Server {
    let named = |mac, address, host_name| Lease { mac, address, host_name };
    let other = Ipv4Addr::new(192, 168, 3, 8);
    Server::new(
        vlan(3),
        vec![named(mac(7), LEASED, Some("web".to_owned())), named(mac(8), other, Some("x".repeat(64)))],
    )
}

/// A request, and how it travels.
#[derive(Clone)]
struct Request {
    card: Mac,
    kind: u8,
    current: Ipv4Addr,
    broadcast: bool,
    relay: Ipv4Addr,
    port: u16,
    tag: Option<u16>,
    options: Vec<u8>,
}

impl Request {
    fn new(kind: u8) -> Self {
        let none = Ipv4Addr::UNSPECIFIED;
        let options = Vec::new();
        Self {
            card: mac(7),
            kind,
            current: none,
            broadcast: false,
            relay: none,
            port: 67,
            tag: None,
            options,
        }
    }

    fn option(mut self, number: u8, value: &[u8]) -> Self {
        self.options.extend([number, value.len() as u8]);
        self.options.extend(value);
        self
    }

    fn message(&self) -> Vec<u8> {
        let mut message = vec![0; 236];
        message[..4].copy_from_slice(&[1, 1, 6, 0]);
        message[4..8].copy_from_slice(b"xid!");
        message[10] = u8::from(self.broadcast) << 7;
        message[12..16].copy_from_slice(&self.current.octets());
        message[24..28].copy_from_slice(&self.relay.octets());
        message[28..34].copy_from_slice(&self.card);
        message.extend([99, 130, 83, 99, 0, 53, 1, self.kind]);
        message.extend(&self.options);
        message.push(255);
        message
    }

    fn frame(&self) -> Vec<u8> {
        let message = self.message();
        let mut frame = Vec::new();
        let packet = PacketBuilder::ethernet2(self.card, ALL)
            .ipv4(self.current.octets(), [255; 4], 64)
            .udp(68, self.port);
        packet.write_to_vec(&mut frame, &message).unwrap();
        if let Some(tag) = self.tag {
            let tag = [[0x81, 0], tag.to_be_bytes()].concat();
            frame.splice(12..12, tag);
        }
        frame
    }
}

/// What a client without an address says first.
pub(super) fn discover(card: Mac) -> Vec<u8> {
    Request { card, ..Request::new(1) }.frame()
}

/// An answer as its client reads it.
#[derive(Debug)]
struct Answer {
    card: Mac,
    to: Ipv4Addr,
    given: Ipv4Addr,
    options: Vec<(u8, Vec<u8>)>,
}

impl Answer {
    fn option(&self, number: u8) -> Option<&[u8]> {
        self.options.iter().find(|(other, _)| *other == number).map(|(_, value)| &value[..])
    }

    fn kind(&self) -> u8 {
        self.option(53).unwrap()[0]
    }
}

fn ask(request: &Request) -> Option<Answer> {
    let frame = server().answer(&request.frame())?;
    assert_eq!(frame[6..12], [0x52, 0x54, 0, 0x12, 3, 0xff]);
    let packet = SlicedPacket::from_ethernet(&frame).unwrap();
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (packet.net, packet.transport) else {
        panic!("no UDP");
    };
    assert_eq!((udp.source_port(), udp.destination_port()), (67, 68));
    let header = ip.header().to_header();
    assert_eq!(Ipv4Addr::from(header.source), SERVER);
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    let sum = udp.to_header().calc_checksum_ipv4(&header, udp.payload()).unwrap();
    assert_eq!(udp.checksum(), sum);
    let message = udp.payload();
    assert!(
        message.len() >= 300 && message[..8] == *b"\x02\x01\x06\0xid!" && message[28..34] == request.card
    );
    let (mut options, mut rest) = (Vec::new(), message[236..].strip_prefix(&[99, 130, 83, 99]).unwrap());
    while rest[0] != 255 {
        let (value, behind) = rest[2..].split_at(rest[1].into());
        options.push((rest[0], value.to_vec()));
        rest = behind;
    }
    Some(Answer {
        card: frame[..6].try_into().unwrap(),
        to: header.destination.into(),
        given: Ipv4Addr::new(message[16], message[17], message[18], message[19]),
        options,
    })
}

#[test]
fn a_card_with_a_lease_is_offered_and_given_its_address() {
    let offer = ask(&Request::new(1).option(61, b"\x01client")).unwrap();
    assert_eq!((offer.kind(), offer.given, offer.to, offer.card), (2, LEASED, LEASED, mac(7)));
    assert_eq!(offer.option(54), Some(&SERVER.octets()[..]));
    assert_eq!(offer.option(51), Some(&[0xff; 4][..]));
    assert_eq!(offer.option(1), Some(&[255, 255, 255, 0][..]));
    assert_eq!(offer.option(28), Some(&[192, 168, 3, 255][..]));
    assert_eq!(offer.option(12), Some(&b"web"[..]));
    assert_eq!(offer.option(61), Some(&b"\x01client"[..]));
    for no_such in [3, 6, 15] {
        assert_eq!(offer.option(no_such), None);
    }
    let chosen = Request::new(3).option(50, &LEASED.octets()).option(54, &SERVER.octets());
    let answer = ask(&chosen).unwrap();
    assert_eq!((answer.kind(), answer.given), (5, LEASED));
    let answer = ask(&Request { broadcast: true, ..chosen }).unwrap();
    assert_eq!((answer.to, answer.card), (Ipv4Addr::BROADCAST, ALL));
}

#[test]
fn a_client_that_knows_its_address_keeps_it_and_a_wrong_one_is_refused() {
    // After a reboot, and when a lease is renewed.
    let rebooted = ask(&Request::new(3).option(50, &LEASED.octets())).unwrap();
    let renewed = ask(&Request { current: LEASED, ..Request::new(3) }).unwrap();
    assert_eq!((rebooted.kind(), renewed.kind(), renewed.to), (5, 5, LEASED));
    let wrong = ask(&Request::new(3).option(50, &[10, 0, 2, 15])).unwrap();
    assert_eq!((wrong.kind(), wrong.given, wrong.card), (6, Ipv4Addr::UNSPECIFIED, ALL));
    assert_eq!((wrong.option(51), wrong.option(1)), (None, None));
    let informed = ask(&Request { current: LEASED, ..Request::new(8) }).unwrap();
    assert_eq!((informed.kind(), informed.given, informed.option(51)), (5, Ipv4Addr::UNSPECIFIED, None));
    // A name that can't be one is left out.
    assert_eq!(ask(&Request { card: mac(8), ..Request::new(1) }).unwrap().option(12), None);
}

#[test]
fn requests_that_are_for_others_get_no_answer() {
    let discover = Request::new(1);
    assert!(ask(&discover).is_some());
    assert!(ask(&Request { tag: Some(0xa000), ..discover.clone() }).is_some(), "a priority is no VLAN");
    for ignored in [
        Request { card: mac(9), ..discover.clone() },
        Request { tag: Some(5), ..discover.clone() },
        Request { port: 68, ..discover.clone() },
        Request { relay: Ipv4Addr::new(192, 168, 1, 1), ..discover },
        Request::new(3).option(50, &LEASED.octets()).option(54, &[192, 168, 3, 1]),
        Request::new(3),
        // What servers say, DECLINE, RELEASE, and no type of message.
        Request::new(2),
        Request::new(4),
        Request::new(5),
        Request::new(7),
        Request::new(0),
        Request::new(255),
    ] {
        assert!(ask(&ignored).is_none(), "{ignored:?}", ignored = (ignored.kind, ignored.card));
    }
}

proptest! {
    #[test]
    fn a_damaged_request_does_no_harm(
        changes in proptest::collection::vec((0..330_usize, any::<u8>()), 0..8),
        length in 0..400_usize,
        options in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut frame = Request { options, ..Request::new(3) }.frame();
        for (at, byte) in changes {
            if let Some(old) = frame.get_mut(at) {
                *old = byte;
            }
        }
        frame.truncate(length);
        if let Some(answer) = server().answer(&frame) {
            prop_assert!(answer.len() < 1000);
        }
    }
}
