//! Tests of the switch.

use std::time::Instant;

use super::frame::{Frame, Mac};
use super::{Key, VlanId, forwarding::Forwarding};

mod cases;
mod dhcp;
mod faults;
mod frozen;
mod hostile;
mod properties;
mod sockets;
mod vde;

/// The broadcast address.
pub(super) const ALL: Mac = [0xff; 6];

pub(super) fn vlan(number: u8) -> VlanId {
    VlanId::new(number).unwrap()
}

/// A station of the tests.
pub(super) fn mac(number: u8) -> Mac {
    [0x52, 0x54, 0, 0x12, 0, number]
}

/// An untagged frame.
pub(super) fn frame(destination: Mac, source: Mac, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &[0x88, 0xb5], payload].concat()
}

/// A frame with a tag of 802.1Q, with priority 5.
fn tagged(destination: Mac, source: Mac, id: u16, payload: &[u8]) -> Vec<u8> {
    let tag = (id | 5 << 13).to_be_bytes();
    [&destination[..], &source, &[0x81, 0], &tag, &[0x88, 0xb5], payload].concat()
}

/// The ports 1 to `count` on VLAN 1.
pub(super) fn ports(count: u64) -> Forwarding {
    let mut forwarding = Forwarding::default();
    (1..=count).for_each(|port| forwarding.add(Key(port), vlan(1), &format!("machine {port}")));
    forwarding
}

/// Sends a frame, and returns the ports that got it. They get nothing else.
fn send(forwarding: &mut Forwarding, from: u64, frame: &[u8], now: Instant) -> Vec<u64> {
    forwarding.receive(Key(from), frame, now);
    let mut got = Vec::new();
    for port in forwarding.take_waiting() {
        assert_eq!(forwarding.sent(port).as_deref(), Some(frame), "a frame does not change");
        assert_eq!(forwarding.sent(port), None::<Frame>);
        got.push(port.0);
    }
    got.sort_unstable();
    got
}
