//! Single frames, as guests on real Ethernet send them.

use std::time::{Duration, Instant};

use super::{ALL, frame, mac, ports, send, tagged, vlan};
use crate::network::Key;
use crate::network::frame::{LONGEST, Mac};
use crate::network::queue::{MOST_BYTES, MOST_FRAMES};
use crate::network::stations::MOST;

#[test]
fn a_frame_goes_to_all_others_until_the_port_of_its_destination_is_known() {
    let (mut switch, now) = (ports(3), Instant::now());
    assert_eq!(send(&mut switch, 1, &frame(mac(2), mac(1), b"?"), now), [2, 3]);
    assert_eq!(send(&mut switch, 2, &frame(mac(1), mac(2), b"!"), now), [1]);
    assert_eq!(send(&mut switch, 1, &frame(mac(2), mac(1), b"."), now), [2]);
    assert_eq!(send(&mut switch, 1, &frame(ALL, mac(1), b"all"), now), [2, 3]);
}

#[test]
fn a_station_that_moves_is_found_at_its_new_port_from_its_first_frame_on() {
    let (mut switch, now) = (ports(3), Instant::now());
    send(&mut switch, 1, &frame(ALL, mac(9), b"first master"), now);
    assert_eq!(send(&mut switch, 3, &frame(mac(9), mac(3), b""), now), [1]);
    // The gratuitous ARP of another master.
    send(&mut switch, 2, &frame(ALL, mac(9), b"second master"), now);
    assert_eq!(send(&mut switch, 3, &frame(mac(9), mac(3), b""), now), [2]);
    // The port of a machine that is gone leads nowhere.
    switch.detach(Key(2));
    assert_eq!(send(&mut switch, 3, &frame(mac(9), mac(3), b""), now), [1]);
}

#[test]
fn a_frame_for_a_station_at_its_own_port_goes_nowhere() {
    let (mut switch, now) = (ports(3), Instant::now());
    // Two stations behind a bridge in a guest.
    send(&mut switch, 1, &frame(ALL, mac(8), b""), now);
    assert!(send(&mut switch, 1, &frame(mac(8), mac(9), b""), now).is_empty());
}

#[test]
fn the_same_address_under_two_tags_is_two_stations() {
    let (mut switch, now) = (ports(3), Instant::now());
    // The guest at port 2 bridges tag 5 of port 1 to tag 6, where the same station appears again.
    send(&mut switch, 1, &tagged(ALL, mac(1), 5, b""), now);
    send(&mut switch, 2, &tagged(ALL, mac(1), 6, b""), now);
    assert_eq!(send(&mut switch, 3, &tagged(mac(1), mac(3), 5, b"to the station"), now), [1]);
    assert_eq!(send(&mut switch, 3, &tagged(mac(1), mac(3), 6, b"to the bridge"), now), [2]);
    // Without a tag it was never seen.
    assert_eq!(send(&mut switch, 3, &frame(mac(1), mac(3), b""), now), [1, 2]);
}

#[test]
fn a_priority_tag_and_stacked_tags_are_read() {
    let (mut switch, now) = (ports(3), Instant::now());
    send(&mut switch, 1, &tagged(ALL, mac(1), 0, b"a priority and no VLAN"), now);
    assert_eq!(send(&mut switch, 2, &frame(mac(1), mac(2), b""), now), [1]);
    let stacked = |inner: u8, destination: Mac, source: Mac| {
        let tags = [0x88, 0xa8, 0, 10, 0x81, 0, 0, inner, 0x88, 0xb5];
        [&destination[..], &source, &tags].concat()
    };
    send(&mut switch, 1, &stacked(5, ALL, mac(4)), now);
    send(&mut switch, 2, &stacked(6, ALL, mac(4)), now);
    assert_eq!(send(&mut switch, 3, &stacked(5, mac(4), mac(3)), now), [1]);
    assert_eq!(send(&mut switch, 3, &stacked(6, mac(4), mac(3)), now), [2]);
    // A tag that is cut off is no tag, and the frame passes.
    let cut = [&ALL[..], &mac(1), &[0x81, 0]].concat();
    assert_eq!(send(&mut switch, 1, &cut, now), [2, 3]);
}

#[test]
fn frames_to_groups_reach_all_others_and_no_group_is_learned() {
    let (mut switch, now) = (ports(3), Instant::now());
    let groups = [
        [0x33, 0x33, 0xff, 0, 0, 1],
        [0x01, 0, 0x5e, 0, 0, 18],
        [0x01, 0x80, 0xc2, 0, 0, 0],
        [0x01, 0x80, 0xc2, 0, 0, 2],
        [0x01, 0x80, 0xc2, 0, 0, 14],
    ];
    for group in groups {
        // Somebody at port 1 claims to be the group.
        send(&mut switch, 1, &frame(ALL, group, b""), now);
        assert_eq!(send(&mut switch, 2, &frame(group, mac(2), b""), now), [1, 3]);
    }
    assert_eq!(switch.stations(vlan(1)), 1);
}

#[test]
fn a_change_of_the_topology_makes_stations_unknown() {
    let (mut switch, now) = (ports(3), Instant::now());
    let bridges = [0x01, 0x80, 0xc2, 0, 0, 0];
    let message = |kind: u8, flags: u8| {
        [&bridges, &mac(2), &[0, 38][..], &[0x42, 0x42, 3, 0, 0, 0, kind, flags], &[0; 33]].concat()
    };
    let known = |switch: &mut _| send(switch, 3, &frame(mac(1), mac(3), b""), now) == [1];
    for (sent, forgets) in [(message(0, 0), false), (message(0, 1), true), (message(0x80, 0), true)] {
        send(&mut switch, 1, &frame(ALL, mac(1), b""), now);
        assert!(known(&mut switch));
        assert_eq!(send(&mut switch, 2, &sent, now), [1, 3]);
        assert_eq!(known(&mut switch), !forgets, "{sent:x?}");
    }
}

#[test]
fn a_station_that_was_silent_for_long_is_unknown() {
    let (mut switch, now) = (ports(3), Instant::now());
    send(&mut switch, 1, &frame(ALL, mac(1), b""), now);
    let after = |seconds| now + Duration::from_secs(seconds);
    assert_eq!(send(&mut switch, 2, &frame(mac(1), mac(2), b""), after(300)), [1]);
    assert_eq!(send(&mut switch, 2, &frame(mac(1), mac(2), b""), after(301)), [1, 3]);
}

#[test]
fn jumbo_frames_pass_and_what_is_no_frame_is_counted() {
    let (mut switch, now) = (ports(2), Instant::now());
    let whole = frame(ALL, mac(1), &vec![7; LONGEST - 14]);
    assert_eq!(send(&mut switch, 1, &whole, now), [2]);
    // 65,535 bytes, the largest MTU, with two tags.
    assert_eq!(whole.len(), 65_535 + 14 + 8);
    assert_eq!(send(&mut switch, 1, &whole[..14], now), [2]);
    let long = frame(ALL, mac(1), &vec![7; LONGEST - 13]);
    for no_frame in [&[][..], &whole[..1], &whole[..13], &long] {
        assert!(send(&mut switch, 1, no_frame, now).is_empty());
    }
    let counts = switch.counts(Key(1));
    assert_eq!((counts.received.frames, counts.refused), (2, 4));
    assert_eq!(counts.received.bytes, 65_557 + 14);
}

#[test]
fn a_queue_that_is_full_loses_and_counts_frames_and_keeps_the_order_of_the_rest() {
    let (mut switch, now) = (ports(3), Instant::now());
    for number in 0..MOST_FRAMES as u32 + 10 {
        switch.receive(Key(1), &frame(ALL, mac(1), &number.to_be_bytes()), now);
        // Port 3 reads, port 2 does not.
        assert!(switch.sent(Key(3)).is_some());
    }
    assert_eq!(switch.counts(Key(2)).dropped.frames, 10);
    assert_eq!(switch.counts(Key(2)).dropped.bytes, 10 * 18);
    assert_eq!(switch.counts(Key(3)).dropped.frames, 0);
    for number in 0..MOST_FRAMES as u32 {
        assert_eq!(switch.sent(Key(2)).unwrap()[14..], number.to_be_bytes());
    }
    let large = frame(ALL, mac(1), &vec![0; LONGEST - 14]);
    for _ in 0..MOST_BYTES / LONGEST + 10 {
        switch.receive(Key(1), &large, now);
    }
    let mut waiting = 0;
    while let Some(frame) = switch.sent(Key(2)) {
        waiting += frame.len();
    }
    assert!((MOST_BYTES - LONGEST..=MOST_BYTES).contains(&waiting), "{waiting}");
}

#[test]
fn a_flood_of_forged_addresses_costs_only_its_own_port() {
    let (mut switch, now) = (ports(3), Instant::now());
    send(&mut switch, 1, &frame(ALL, mac(1), b""), now);
    for number in 0..20 * MOST as u32 {
        let [a, b, c, d] = number.to_be_bytes();
        send(&mut switch, 3, &frame(mac(1), [2, 1, a, b, c, d], b""), now);
        assert!(switch.stations(vlan(1)) <= MOST + 1);
    }
    assert_eq!(send(&mut switch, 2, &frame(mac(1), mac(2), b""), now), [1]);
    // Stations that move to and fro are counted once.
    for round in 0..3 * MOST as u32 {
        let [a, b, c, d] = (round / 2).to_be_bytes();
        send(&mut switch, 1 + u64::from(round % 2), &frame(ALL, [6, 1, a, b, c, d], b""), now);
        assert!(switch.stations(vlan(1)) <= 3 * MOST);
    }
}
