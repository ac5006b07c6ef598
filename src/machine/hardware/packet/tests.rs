use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::PacketBuilder;
use etherparse::icmpv4::CODE_DST_UNREACH_PORT as PORT;
use proptest::prelude::*;

use super::*;
use crate::network::VlanId;

const ONE: Mac = [0x52, 0x54, 0, 0x12, 1, 1];
const TWO: Mac = [0x52, 0x54, 0, 0x12, 1, 2];

fn packet(frame: &[u8]) -> Packet {
    Packet::of(Captured::made(VlanId::new(1).unwrap(), ("client", Some("server")), frame))
}

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&TWO[..], &ONE, &kind.to_be_bytes(), payload].concat()
}

/// An IPv4 packet with these flags and fragment offset.
fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len() as u16).to_be_bytes();
    let fragment = fragment.to_be_bytes();
    let header = [0x45, 0, length[0], length[1], 0, 0, fragment[0], fragment[1], 64, protocol, 0, 0];
    [&header[..], &[192, 168, 1, 1], &[192, 168, 1, 2], payload].concat()
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    let [from, to] = [1, 2].map(|number| Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, number).octets());
    [&[0x60, 0, 0, 0, length[0], length[1], next, 64][..], &from, &to, payload].concat()
}

/// A UDP datagram from port 5000 to port 53.
fn udp(payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len() as u16).to_be_bytes();
    [&[0x13, 0x88, 0, 53, length[0], length[1], 0, 0][..], payload].concat()
}

#[test]
fn what_a_packet_says_is_told_in_one_line() {
    let builder = || PacketBuilder::ethernet2(ONE, TWO);
    let built = |tcp: etherparse::PacketBuilderStep<etherparse::TcpHeader>, payload: &[u8]| {
        let mut frame = Vec::new();
        tcp.write_to_vec(&mut frame, payload).unwrap();
        frame
    };
    let addresses = ([192, 168, 1, 1], [192, 168, 1, 2]);
    let tcp = built(builder().ipv4(addresses.0, addresses.1, 64).tcp(41234, 80, 1, 1), b"GET /");
    let [six, seven] = [1, 2].map(|number| Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, number).octets());
    let syn = built(builder().ipv6(six, seven, 64).tcp(41234, 80, 1, 1).syn(), b"");
    let mut unreachable = Vec::new();
    let icmp = builder().ipv4(addresses.0, addresses.1, 64).icmpv4_raw(3, PORT, [0; 4]);
    icmp.write_to_vec(&mut unreachable, b"why").unwrap();
    // An Ethernet frame has at least 46 bytes after its header. What fills it up is not part of the datagram.
    let padded = [ipv4(17, 0, &udp(b"hi")), vec![0xee; 16]].concat();
    let tagged = |inner: &[u8]| ethernet(0x88a8, &[&[0, 10, 0x81, 0, 0, 5][..], inner].concat());
    let with = |kind: u16, rest: &[u8]| [&kind.to_be_bytes()[..], rest].concat();
    let fragment = |offset: u16, payload: &[u8]| {
        let header = [17, 0, (offset >> 8) as u8, offset as u8, 0, 0, 0, 1];
        ipv6(44, &[&header, payload].concat())
    };
    let rows: &[(Vec<u8>, &str, &[u8])] = &[
        (tcp, "TCP 192.168.1.1:41234 → 192.168.1.2:80, 59 bytes", b"GET /"),
        (syn, "TCP [2001:db8:1::1]:41234 → [2001:db8:1::2]:80, 74 bytes", b""),
        (unreachable, "ICMP 192.168.1.1 → 192.168.1.2, 45 bytes", b"why"),
        (ethernet(0x800, &padded), "UDP 192.168.1.1:5000 → 192.168.1.2:53, 60 bytes", b"hi"),
        (
            ethernet(0x86dd, &ipv6(17, &udp(b"hi"))),
            "UDP [2001:db8:1::1]:5000 → [2001:db8:1::2]:53, 64 bytes",
            b"hi",
        ),
        (
            tagged(&with(0x800, &ipv4(17, 0, &udp(b"hi")))),
            "UDP 192.168.1.1:5000 → 192.168.1.2:53, 52 bytes",
            b"hi",
        ),
        (ethernet(0x800, &ipv4(50, 0, b"secret")), "ESP 192.168.1.1 → 192.168.1.2, 40 bytes", b"secret"),
        (
            ethernet(0x800, &ipv4(132, 0, &[0x13, 0x88, 0, 53, 0, 0, 0, 0, 0, 0, 0, 0, 9])),
            "SCTP 192.168.1.1:5000 → 192.168.1.2:53, 47 bytes",
            &[9],
        ),
        (
            ethernet(0x800, &ipv4(89, 0, b"hello")),
            "IP protocol 89 192.168.1.1 → 192.168.1.2, 39 bytes",
            b"hello",
        ),
        // The first of several fragments has the ports, and no other one.
        (
            ethernet(0x800, &ipv4(17, 0x2000, &udp(b"first"))),
            "UDP 192.168.1.1:5000 → 192.168.1.2:53, 47 bytes",
            b"first",
        ),
        (
            ethernet(0x800, &ipv4(17, 1, &udp(b"later"))),
            "UDP 192.168.1.1 → 192.168.1.2, 47 bytes",
            &udp(b"later"),
        ),
        (
            ethernet(0x86dd, &fragment(1, &udp(b"first"))),
            "UDP [2001:db8:1::1]:5000 → [2001:db8:1::2]:53, 75 bytes",
            b"first",
        ),
        (
            ethernet(0x86dd, &fragment(8, &udp(b"later"))),
            "UDP 2001:db8:1::1 → 2001:db8:1::2, 75 bytes",
            &udp(b"later"),
        ),
        // Headers that are cut off.
        (
            ethernet(0x800, &ipv4(6, 0, &[0x13, 0x88, 0, 53, 1])),
            "TCP 192.168.1.1:5000 → 192.168.1.2:53, 39 bytes",
            &[0x13, 0x88, 0, 53, 1],
        ),
        (ethernet(0x800, &ipv4(17, 0, b"abc")), "UDP 192.168.1.1 → 192.168.1.2, 37 bytes", b"abc"),
        (ethernet(0x86dd, &ipv6(0, b"hop")), "IP protocol 0 2001:db8:1::1 → 2001:db8:1::2, 57 bytes", b"hop"),
        (
            ethernet(0x800, b"\x45"),
            "EtherType 0x0800 52:54:00:12:01:01 → 52:54:00:12:01:02, 15 bytes",
            b"\x45",
        ),
        (ethernet(0x806, b"who has"), "ARP 52:54:00:12:01:01 → 52:54:00:12:01:02, 21 bytes", b"who has"),
        (
            ethernet(0x88b5, b"\x1b[31m"),
            "EtherType 0x88b5 52:54:00:12:01:01 → 52:54:00:12:01:02, 19 bytes",
            b"\x1b[31m",
        ),
        (
            ethernet(3, b"\x42\x42\x03"),
            "EtherType 0x0003 52:54:00:12:01:01 → 52:54:00:12:01:02, 17 bytes",
            b"\x42\x42\x03",
        ),
    ];
    for (frame, line, payload) in rows {
        let packet = packet(frame);
        assert_eq!(packet.to_string(), format!("client → server {line}"));
        assert_eq!(packet.payload(), *payload, "{line}");
        assert_eq!(packet.is_syn(), line.contains(", 74 bytes"), "{line}");
    }
}

#[test]
fn each_part_of_a_packet_can_be_asked_for() {
    let frame = ethernet(0x800, &ipv4(17, 0, &udp(b"the password")));
    let packet = packet(&frame);
    assert_eq!((packet.vlan(), packet.from(), packet.to()), (1, "client", Some("server")));
    assert_eq!((packet.source_mac(), packet.destination_mac()), (ONE, TWO));
    assert_eq!(packet.source(), Some(Ipv4Addr::new(192, 168, 1, 1).into()));
    assert_eq!(packet.destination(), Some(Ipv4Addr::new(192, 168, 1, 2).into()));
    assert_eq!((packet.source_port(), packet.destination_port()), (Some(5000), Some(53)));
    assert_eq!((packet.protocol(), packet.bytes()), (Protocol::Udp, &frame[..]));
    assert!(packet.contains("password") && packet.contains(TWO) && !packet.contains("passwords"));
    assert!(!packet.was_lost() && packet.comment().is_none());
    assert!(packet.at().elapsed().unwrap().as_secs() < 60);

    let comment = Some("held\u{202e} back".into());
    let lost =
        Captured { is_lost: true, comment, ..Captured::made(VlanId::new(2).unwrap(), ("a", None), &frame) };
    let lost = Packet::of(lost);
    let line = "a → nobody UDP 192.168.1.1:5000 → 192.168.1.2:53, 54 bytes, lost (held\u{fffd} back)";
    assert_eq!((lost.to_string().as_str(), lost.was_lost(), lost.to()), (line, true, None));
}

/// Frames that look like packets, with any bytes in them.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..120);
    let kinds = || {
        proptest::sample::select(vec![0x800_u16, 0x86dd, 0x806, 0x8100, 0x88a8, 0x88e5, 0x9100, 0x88b5, 0])
    };
    let protocols =
        || proptest::sample::select(vec![0_u8, 1, 2, 6, 17, 43, 44, 50, 51, 58, 60, 112, 132, 135]);
    let four = (protocols(), any::<u16>(), bytes())
        .prop_map(|(protocol, fragment, bytes)| ethernet(0x800, &ipv4(protocol, fragment, &bytes)));
    let six = (protocols(), bytes()).prop_map(|(next, bytes)| ethernet(0x86dd, &ipv6(next, &bytes)));
    let valid =
        prop_oneof![four, six, (kinds(), bytes()).prop_map(|(kind, bytes)| ethernet(kind, &bytes)), bytes()];
    // With changed bytes, and cut off.
    let changes = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6);
    (valid, changes, any::<proptest::sample::Index>(), any::<bool>()).prop_map(
        |(mut frame, changes, end, is_cut)| {
            for (at, byte) in changes {
                if let Some(place) = frame.len().checked_sub(1) {
                    frame[at.index(place + 1)] = byte;
                }
            }
            if is_cut {
                frame.truncate(end.index(frame.len() + 1));
            }
            frame
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_decoded_and_shown_in_neutral_characters(frame in frames()) {
        let packet = packet(&frame);
        let shown = packet.to_string();
        prop_assert_eq!(&text::line(&shown), &shown);
        prop_assert!(shown.len() < 300, "{}", shown);
        prop_assert!(packet.payload().len() <= frame.len());
        prop_assert!(frame.ends_with(packet.payload()) || packet.contains(packet.payload()));
        prop_assert_eq!(packet.source().is_some(), packet.destination().is_some());
        prop_assert!(packet.source_port().is_none() || packet.source().is_some());
        let _ = (packet.source_mac(), packet.destination_mac(), packet.protocol());
    }
}
