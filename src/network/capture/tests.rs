use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::kept::{COMMENT, OVERHEAD};
use super::reading::PAGE;
use super::*;
use crate::network::Key;
use crate::network::faults::{Chance, Faults, Latency};
use crate::network::forwarding::Forwarding;
use crate::network::tests::{ALL, frame, mac, ports, vlan};

/// A switch with the ports 1 to `count` on VLAN 1, which keeps what passes.
fn capturing(count: u64, size: usize) -> Forwarding {
    let mut switch = ports(count);
    switch.capture().0.start(size);
    switch
}

/// All packets of a switch.
fn read(switch: &mut Forwarding, only: Option<VlanId>) -> Packets {
    let (capture, links) = switch.capture();
    let mut all = capture.page(links, Of::Scenario(only), 0).unwrap();
    loop {
        let page = capture.page(links, Of::Scenario(only), all.next).unwrap();
        if page.packets.is_empty() {
            return all;
        }
        (all.next, all.passed, all.left_out) = (page.next, page.passed, page.left_out);
        all.packets.extend(page.packets);
    }
}

/// Each packet as `FROM → TO`, with the numbers of the ports.
fn ways(packets: &Packets) -> Vec<String> {
    let short = |name: &str| name.trim_start_matches("machine ").to_owned();
    let way = |packet: &Captured| {
        format!("{} → {}", short(&packet.from), packet.to.as_deref().map_or("nobody".into(), short))
    };
    packets.packets.iter().map(way).collect()
}

#[test]
fn a_frame_is_one_packet_for_each_receiver_and_one_to_nobody_if_there_is_none() {
    let (mut switch, now) = (capturing(3, 1 << 20), Instant::now());
    switch.receive(Key(1), &frame(ALL, mac(1), b"to all"), now);
    switch.receive(Key(2), &frame(mac(1), mac(2), b"to one"), now);
    // Two stations behind a bridge at port 1.
    switch.receive(Key(1), &frame(ALL, mac(8), b"to all"), now);
    switch.receive(Key(1), &frame(mac(8), mac(1), b"to its own port"), now);
    switch.receive(Key(1), b"no frame", now);
    switch.add(Key(4), vlan(2), "machine 4");
    switch.receive(Key(4), &frame(ALL, mac(4), b"alone"), now);
    let all = read(&mut switch, None);
    assert_eq!(ways(&all), ["1 → 2", "1 → 3", "2 → 1", "1 → 2", "1 → 3", "1 → nobody", "4 → nobody"]);
    assert_eq!((all.passed, all.left_out), (7, 0));
    assert!(all.packets.iter().all(|packet| !packet.is_lost && packet.comment.is_none()));
    // The receivers share the frame.
    assert!(Arc::ptr_eq(&all.packets[0].frame, &all.packets[1].frame));
    let second = read(&mut switch, Some(vlan(2)));
    assert_eq!((ways(&second), second.passed), (vec!["4 → nobody".to_owned()], 1));
    assert_eq!(switch.capture().0.vlans(), [vlan(1), vlan(2)]);
}

#[test]
fn a_switch_keeps_nothing_until_it_is_told_to() {
    let (mut switch, now) = (ports(2), Instant::now());
    switch.receive(Key(1), &frame(ALL, mac(1), b"before"), now);
    let (capture, links) = switch.capture();
    assert!(capture.page(links, Of::Scenario(None), 0).is_none() && capture.vlans.is_empty());
    capture.start(1 << 20);
    switch.receive(Key(1), &frame(ALL, mac(1), b"after"), now);
    assert_eq!(read(&mut switch, None).packets[0].frame[14..], *b"after");
}

#[test]
fn a_frame_for_a_full_queue_is_a_lost_packet_with_the_reason() {
    let (mut switch, now) = (capturing(2, 8 << 20), Instant::now());
    let large = frame(ALL, mac(1), &[0; 60_000]);
    while switch.counts(Key(2)).dropped.frames == 0 {
        switch.receive(Key(1), &large, now);
    }
    let all = read(&mut switch, None);
    let (last, before) = all.packets.split_last().unwrap();
    assert!(before.iter().all(|packet| !packet.is_lost && packet.comment.is_none()));
    assert!(last.is_lost);
    assert_eq!(
        last.comment.as_deref(),
        Some("the receiver does not read and its queue is full, or it is gone")
    );
}

#[test]
fn comments_are_joined_and_neutral_and_bounded_and_what_is_left_out_gets_none() {
    let (mut capture, mut links) = (Capture::default(), Links::default());
    let link = Link { vlan: vlan(1), from: links.end("client"), to: links.end("server") };
    let frame = Frame::from(&frame(ALL, mac(1), b"")[..]);
    // Nothing is kept yet.
    let id = capture.add(link, &frame);
    capture.lost(id, "never seen");
    assert_eq!(capture.next, 0);

    // Room for one first packet, and for one last packet with a comment.
    capture.start(2 * OVERHEAD);
    let ids: Vec<PacketId> = (0..3).map(|_| capture.add(link, &frame)).collect();
    for id in &ids {
        capture.comment(*id, "delayed by 20 ms");
        capture.lost(*id, "\x1b[31mred\nline");
    }
    let all = capture.page(&links, Of::Scenario(None), 0).unwrap();
    assert_eq!((all.packets.len(), all.passed, all.left_out), (2, 3, 1));
    for packet in &all.packets {
        assert_eq!(packet.comment.as_deref(), Some("delayed by 20 ms; red line"));
        assert!(packet.is_lost);
    }
    for number in 0..1000 {
        capture.comment(ids[0], &format!("ünd {number}"));
    }
    // A last packet whose comment grows beyond the room is left out.
    capture.comment(ids[2], &"long ".repeat(1000));
    let all = capture.page(&links, Of::Scenario(None), 0).unwrap();
    assert_eq!((all.packets.len(), all.left_out), (1, 2));
    let comment = all.packets[0].comment.as_deref().unwrap();
    assert_eq!(comment.chars().count(), COMMENT);
    assert!(comment.starts_with("delayed by 20 ms; red line; ünd 0; ünd 1") && comment.ends_with('…'));
}

#[test]
fn what_faults_do_to_a_packet_is_its_comment() {
    fn always() -> Chance {
        Chance::new(1.0).unwrap()
    }
    type Row = (fn(&mut Faults), &'static str, bool);
    const LATE: Duration = Duration::from_millis(20);
    let rows: [Row; 7] = [
        (|faults| faults.is_cut = true, "partition", true),
        (|faults| faults.loss = always(), "loss", true),
        (|faults| faults.latency = Latency { least: LATE, most: LATE }, "delayed by 20.0 ms", false),
        (|faults| faults.duplicate = always(), "duplicated", false),
        (|faults| faults.reorder = always(), "reordered: it arrives behind the next one", false),
        (|faults| faults.corrupt = always(), "corrupted: it arrives with one bit flipped", false),
        (|faults| faults.is_held = true, "held", false),
    ];
    for (change, comment, is_lost) in rows {
        let (mut switch, now) = (capturing(2, 1 << 20), Instant::now());
        switch.change((vlan(1), "machine 1", "machine 2"), change, Instant::now());
        let sent = frame(ALL, mac(1), b"payload");
        switch.receive(Key(1), &sent, now);
        let [packet] = &read(&mut switch, None).packets[..] else { panic!("one packet") };
        assert_eq!((packet.comment.as_deref(), packet.is_lost), (Some(comment), is_lost));
        // As it was sent.
        assert_eq!(*packet.frame, sent);
    }
}

#[test]
fn a_packet_under_way_is_lost_when_its_link_is_cut() {
    let (mut switch, now) = (capturing(2, 1 << 20), Instant::now());
    let link = (vlan(1), "machine 1", "machine 2");
    switch.change(link, |faults| faults.is_held = true, Instant::now());
    switch.receive(Key(1), &frame(ALL, mac(1), b""), now);
    switch.change(link, |faults| faults.is_cut = true, Instant::now());
    let all = read(&mut switch, None);
    assert_eq!(all.packets[0].comment.as_deref(), Some("held; partition"));
    assert!(all.packets[0].is_lost);
}

#[test]
fn packets_are_read_in_pages_and_in_order_over_all_vlans() {
    let (mut switch, now) = (capturing(2, 8 << 20), Instant::now());
    (3..=4).for_each(|port| switch.add(Key(port), vlan(2), "other"));
    let count = 3 * PAGE as u32 + 7;
    for number in 0..count {
        let port = if number % 3 == 0 { 3 } else { 1 };
        switch.receive(Key(port), &frame(ALL, mac(1), &number.to_be_bytes()), now);
    }
    let numbers = |packets: &Packets| -> Vec<u32> {
        packets
            .packets
            .iter()
            .map(|packet| u32::from_be_bytes(packet.frame[14..].try_into().unwrap()))
            .collect()
    };
    assert_eq!(numbers(&read(&mut switch, None)), (0..count).collect::<Vec<_>>());
    let second: Vec<u32> = (0..count).filter(|number| number % 3 == 0).collect();
    assert_eq!(numbers(&read(&mut switch, Some(vlan(2)))), second);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_first_and_the_last_packets_are_kept_within_the_bounds(
        size in 0..20_000_usize,
        lengths in proptest::collection::vec(prop_oneof![Just(14), 14..100_usize, 14..5_000_usize], 0..300),
    ) {
        let (mut switch, now) = (capturing(2, size), Instant::now());
        for (number, length) in lengths.iter().enumerate() {
            let mut bytes = frame(ALL, mac(1), &(number as u32).to_be_bytes());
            bytes.resize((*length).max(18), 0);
            switch.receive(Key(1), &bytes, now);
            // Nobody reads the frames, which are shared.
            switch.sent(Key(2));
        }
        let all = read(&mut switch, None);
        let kept: Vec<usize> = all
            .packets
            .iter()
            .map(|packet| u32::from_be_bytes(packet.frame[14..18].try_into().unwrap()) as usize)
            .collect();
        // The same by a simpler way: as many as fit from the front, and then as many of the rest as fit from the back.
        let room = |number: &usize| OVERHEAD + lengths[*number].max(18);
        let fitting = |numbers: &mut dyn Iterator<Item = usize>| {
            let mut left = size;
            numbers.take_while(|number| left.checked_sub(room(number)).map(|rest| left = rest).is_some()).collect::<Vec<_>>()
        };
        let first = fitting(&mut (0..lengths.len()));
        let mut last = fitting(&mut (first.len()..lengths.len()).rev());
        last.reverse();
        let expected: Vec<usize> = first.iter().chain(&last).copied().collect();
        prop_assert_eq!(&kept, &expected);
        prop_assert_eq!(all.passed, lengths.len() as u64);
        prop_assert_eq!(all.left_out, (lengths.len() - expected.len()) as u64);
        let gaps: Vec<(usize, u64)> =
            all.packets.iter().enumerate().filter(|(_, packet)| packet.left_out > 0).map(|(at, packet)| (at, packet.left_out)).collect();
        let gap = (all.left_out > 0 && !last.is_empty()).then_some((first.len(), all.left_out));
        prop_assert_eq!(gaps, gap.into_iter().collect::<Vec<_>>());
        if let Some(packets) = switch.capture().0.vlans.get(&vlan(1)) {
            prop_assert!(packets.bytes().iter().all(|bytes| *bytes <= size), "{:?}", packets.bytes());
        }
    }

    #[test]
    fn a_file_is_made_of_whole_blocks_whatever_the_packets_are(
        packets in proptest::collection::vec(
            (".{0,300}", proptest::option::of(".{0,20}"), proptest::collection::vec(any::<u8>(), 0..70), any::<bool>(), proptest::option::of(".{0,300}")),
            0..20,
        ),
        left_out in 0..3_u64,
    ) {
        let captured = |(from, to, bytes, is_lost, comment): (String, Option<String>, Vec<u8>, bool, Option<String>)| {
            let comment = comment.map(Into::into);
            Captured { is_lost, comment, left_out, ..Captured::made(vlan(1), (&from, to.as_deref()), &bytes) }
        };
        let packets: Vec<Captured> = packets.into_iter().map(captured).collect();
        let (count, passed) = (packets.len(), packets.len() as u64 + left_out);
        let mut links: Vec<_> = packets.iter().map(|packet| (packet.from.clone(), packet.to.clone())).collect();
        links.sort();
        links.dedup();
        let mut file = Vec::new();
        pcapng::write(&Packets { packets, next: passed, passed, left_out }, &mut file).unwrap();
        let (mut kinds, mut rest) = (Vec::new(), &file[..]);
        while !rest.is_empty() {
            let number = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
            let length = number(4) as usize;
            prop_assert!(length.is_multiple_of(4));
            prop_assert_eq!(number(length - 4) as usize, length);
            kinds.push(number(0));
            rest = &rest[length..];
        }
        let expected = std::iter::once(0x0a0d_0d0a).chain(vec![1; links.len()]).chain(vec![6; count]);
        prop_assert_eq!(kinds, expected.collect::<Vec<u32>>());
    }
}
