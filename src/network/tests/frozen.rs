//! A switch that is frozen and thawed.

use std::time::{Duration, Instant};

use super::sockets::Machine;
use super::{ALL, frame, mac, vlan};
use crate::hang::HANG;
use crate::network::frozen::{Held, MOST_BYTES, MOST_FRAMES};
use crate::network::{InFlight, Latency, Switch};

fn held(byte: u8, length: usize) -> Held {
    Held {
        port: None,
        from: Some("machine".into()),
        to: None,
        vlan: vlan(1),
        bytes: vec![byte; length].into(),
    }
}

fn drained(switch: &Switch) {
    let begun = Instant::now();
    while !switch.is_drained() {
        assert!(begun.elapsed() < HANG, "frames that were read are still waited for");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_sent_to_a_frozen_switch_comes_after_the_thaw_in_its_order() {
    let switch = Switch::start().unwrap();
    let [one, two] = ["one", "two"].map(|name| Machine::called(&switch, 1, name));
    one.send(&frame(ALL, mac(1), b"before"));
    assert_eq!(two.read()[14..], *b"before");
    switch.freeze();
    let sent: Vec<Vec<u8>> = (0..100).map(|number| frame(mac(2), mac(1), &[number])).collect();
    sent.iter().for_each(|frame| one.send(frame));
    // Also what the thread has not read yet.
    assert_eq!(switch.in_flight().len(), 100);
    assert!(two.has_nothing());
    switch.thaw();
    assert!(sent.iter().all(|frame| two.read() == *frame));
    one.send(&frame(ALL, mac(1), b"after"));
    assert_eq!(two.read()[14..], *b"after");
    assert!(switch.in_flight().is_empty());
}

#[test]
fn what_was_sent_before_is_drained_and_a_machine_that_does_not_read_shows() {
    let switch = Switch::start().unwrap();
    let [one, two] = ["one", "two"].map(|name| Machine::called(&switch, 1, name));
    for number in 0..50 {
        one.send(&frame(ALL, mac(1), &[number]));
    }
    one.has_sent(50);
    switch.freeze();
    assert!(!switch.is_drained());
    (0..50).for_each(|_| drop(two.read()));
    drained(&switch);
    assert!(switch.in_flight().is_empty());
}

#[test]
fn frames_of_one_set_of_machines_go_on_in_another() {
    let first = Switch::start().unwrap();
    let [one, _two] = ["one", "two"].map(|name| Machine::called(&first, 1, name));
    first.freeze();
    one.send(&frame(mac(2), mac(1), b"in flight"));
    let flight = InFlight::of_text(&first.in_flight().to_text()).unwrap();
    assert_eq!(flight.len(), 1);
    for _ in 0..2 {
        let clones = Switch::start().unwrap();
        clones.park(flight.clone());
        // The sender has no port yet.
        let two = Machine::called(&clones, 1, "two");
        let one = Machine::called(&clones, 1, "one");
        let elsewhere = Machine::called(&clones, 2, "two");
        assert!(two.has_nothing());
        clones.thaw();
        assert_eq!(two.read()[14..], *b"in flight");
        assert!(one.has_nothing() && elsewhere.has_nothing());
    }
}

#[test]
fn frames_that_faults_hold_back_are_in_flight_and_meet_the_faults_of_where_they_go_on() {
    for is_held in [true, false] {
        let first = Switch::start().unwrap();
        let [one, _two] = ["one", "two"].map(|name| Machine::called(&first, 1, name));
        let link = [(vlan(1), "one", "two")];
        let delay = |time| Latency { least: time, most: time };
        first.change_faults(&link, &|faults| match is_held {
            true => faults.is_held = true,
            false => faults.latency = delay(HANG * 2),
        });
        one.send(&frame(mac(2), mac(1), b"held back"));
        one.has_sent(1);
        first.freeze();
        one.send(&frame(mac(2), mac(1), b"later"));
        let flight = InFlight::of_text(&first.in_flight().to_text()).unwrap();
        assert_eq!(flight.len(), 2);
        // No fault is in force here.
        let clones = Switch::start().unwrap();
        let [two, three, _one] = ["two", "three", "one"].map(|name| Machine::called(&clones, 1, name));
        clones.park(flight.clone());
        clones.thaw();
        assert_eq!(two.read()[14..], *b"held back");
        assert_eq!(two.read()[14..], *b"later");
        // It was on the link to the second machine, and the other one was not sent yet.
        assert_eq!(three.read()[14..], *b"later");
        // Here it is delayed, and what is under way arrives although no frame comes.
        let slow = Switch::start().unwrap();
        let [two, _one] = ["two", "one"].map(|name| Machine::called(&slow, 1, name));
        slow.change_faults(&link, &|faults| faults.latency = delay(Duration::from_millis(5)));
        slow.park(flight);
        slow.thaw();
        assert_eq!(two.read()[14..], *b"held back");
    }
}

#[test]
fn a_frame_whose_sender_is_gone_is_not_forwarded() {
    let switch = Switch::start().unwrap();
    let two = Machine::called(&switch, 1, "two");
    let mut flight = InFlight::default();
    flight.hold(held(0xff, 60));
    switch.park(flight);
    switch.thaw();
    assert!(two.has_nothing() && switch.in_flight().is_empty());
}

#[test]
fn what_a_frozen_switch_holds_is_bounded_and_the_rest_is_counted() {
    let mut many = InFlight::default();
    (0..MOST_FRAMES + 3).for_each(|_| _ = many.hold(held(1, 60)));
    assert_eq!((many.len(), many.lost()), (MOST_FRAMES, 3));
    let mut large = InFlight::default();
    (0..=MOST_BYTES / 65_536).for_each(|_| _ = large.hold(held(1, 65_536)));
    assert_eq!((large.len(), large.lost()), (MOST_BYTES / 65_536, 1));
}

#[test]
fn no_frame_of_a_frozen_switch_is_lost_without_a_word_and_no_vlan_takes_the_room_of_another() {
    let switch = Switch::start().unwrap();
    switch.capture(64 << 20);
    let [one, _two] = ["one", "two"].map(|name| Machine::called(&switch, 1, name));
    let [three, four] = ["three", "four"].map(|name| Machine::called(&switch, 2, name));
    switch.freeze();
    for number in 0..MOST_FRAMES as u64 + 500 {
        one.send(&frame(ALL, mac(1), &number.to_le_bytes()));
        if number % 100 == 0 {
            switch.in_flight();
        }
    }
    three.send(&frame(ALL, mac(3), b"on VLAN 2"));
    assert_eq!(switch.in_flight().lost(), 500);
    switch.thaw();
    assert_eq!(four.read()[14..], *b"on VLAN 2");
    let all = switch.packets(Some(vlan(1))).unwrap();
    assert_eq!((all.passed, all.left_out), (MOST_FRAMES as u64 + 500, 0));
    assert_eq!(all.packets.iter().filter(|packet| packet.to.is_none() && packet.is_lost).count(), 500);
}

#[test]
fn what_waits_for_a_machine_that_does_not_read_is_in_flight() {
    let switch = Switch::start().unwrap();
    let [one, _two] = ["one", "two"].map(|name| Machine::called(&switch, 1, name));
    for number in 0..3000_u32 {
        one.send(&frame(ALL, mac(1), &number.to_le_bytes()));
    }
    one.has_sent(3000);
    switch.freeze();
    assert!(!switch.is_drained());
    let flight = InFlight::of_text(&switch.in_flight().to_text()).unwrap();
    assert!(!flight.is_empty());
    // In the clones' network it is there at once.
    let clones = Switch::start().unwrap();
    let [two, _one] = ["two", "one"].map(|name| Machine::called(&clones, 1, name));
    clones.park(flight.clone());
    clones.thaw();
    let got: Vec<_> = (0..flight.len()).map(|_| two.read()[14..18].to_vec()).collect();
    let last: Vec<_> =
        (3000 - flight.len() as u32..3000).map(|number| number.to_le_bytes().to_vec()).collect();
    assert_eq!(got, last);
}

#[test]
fn a_text_that_is_none_of_frames_is_refused() {
    let mut flight = InFlight::default();
    flight.hold(held(0xa5, 60));
    let text = flight.to_text();
    assert_eq!(InFlight::of_text(&text), Some(flight));
    assert_eq!(InFlight::of_text("[]"), Some(InFlight::default()));
    for bad in [
        "",
        "{}",
        &text[1..],
        r#"[{"from":"a","vlan":0,"frame":"00"}]"#,
        r#"[{"from":"a","vlan":1,"frame":"0"}]"#,
    ] {
        assert_eq!(InFlight::of_text(bad), None, "{bad}");
    }
    for digits in ["zz", "ää", &"0".repeat(140_000)] {
        assert_eq!(InFlight::of_text(&format!(r#"[{{"from":"a","vlan":1,"frame":"{digits}"}}]"#)), None);
    }
}
