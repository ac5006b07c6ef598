//! The switch with real sockets.

use std::os::fd::OwnedFd;

use rustix::net::sockopt::{self, Timeout};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::{ALL, frame, mac, vlan};
use crate::hang::HANG;
use crate::network::queue::MOST_FRAMES;
use crate::network::{Port, Switch};

/// A machine, which waits for frames as long as a hang takes.
pub(super) struct Machine {
    port: Port,
    socket: OwnedFd,
}

impl Machine {
    pub(super) fn new(switch: &Switch, number: u8) -> Self {
        Self::called(switch, number, "machine")
    }

    pub(super) fn called(switch: &Switch, number: u8, name: &str) -> Self {
        let (port, socket) = switch.plug(vlan(number), name).unwrap();
        sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(HANG)).unwrap();
        sockopt::set_socket_timeout(&socket, Timeout::Send, Some(HANG)).unwrap();
        Self { port, socket }
    }

    pub(super) fn send(&self, frame: &[u8]) {
        assert_eq!(send(&self.socket, frame, SendFlags::empty()).unwrap(), frame.len());
    }

    /// The next message: empty at the end of the connection.
    pub(super) fn read(&self) -> Vec<u8> {
        let mut buffer = vec![0; 70_000];
        let (length, _) = recv(&self.socket, &mut buffer[..], RecvFlags::empty()).unwrap();
        buffer.truncate(length);
        buffer
    }

    /// Waits until the switch has read this number of frames.
    pub(super) fn has_sent(&self, frames: u64) {
        while self.port.counts().received.frames < frames {
            std::thread::yield_now();
        }
    }

    pub(super) fn has_nothing(&self) -> bool {
        recv(&self.socket, &mut [0; 1][..], RecvFlags::DONTWAIT | RecvFlags::PEEK).is_err()
    }
}

#[test]
fn machines_on_a_vlan_reach_each_other_and_no_others() {
    let (switch, other_switch) = (Switch::start().unwrap(), Switch::start().unwrap());
    let [one, two, three] = [1, 1, 2].map(|number| Machine::new(&switch, number));
    let stranger = Machine::new(&other_switch, 1);
    let jumbo = frame(ALL, mac(1), &[1; 65_535]);
    one.send(&jumbo);
    assert_eq!(two.read(), jumbo);
    two.send(&frame(mac(1), mac(2), b"answer"));
    assert_eq!(one.read()[14..], *b"answer");
    // What these get next is not the frame of another network.
    let [four, five] = [(&switch, 2), (&other_switch, 1)].map(|(switch, vlan)| Machine::new(switch, vlan));
    four.send(&frame(ALL, mac(4), b"on VLAN 2"));
    five.send(&frame(ALL, mac(5), b"on another switch"));
    assert_eq!(three.read()[14..], *b"on VLAN 2");
    assert_eq!(stranger.read()[14..], *b"on another switch");
    let counts = two.port.counts();
    assert_eq!((counts.sent.frames, counts.sent.bytes), (1, jumbo.len() as u64));
    assert_eq!((counts.received.frames, counts.received.bytes), (1, 20));
    assert!(one.has_nothing() && two.has_nothing());
}

#[test]
fn what_is_no_frame_does_no_harm() {
    let switch = Switch::start().unwrap();
    let [one, two] = [1, 1].map(|number| Machine::new(&switch, number));
    one.send(&[]);
    one.send(&[0; 13]);
    one.send(&vec![0; 65_558]);
    one.send(&vec![0; 100_000]);
    one.send(&frame(ALL, mac(1), b"good"));
    assert_eq!(two.read()[14..], *b"good");
    assert_eq!(one.port.counts().refused, 4);
}

#[test]
fn a_machine_that_does_not_read_stops_nobody_and_gets_what_its_queue_holds() {
    let switch = Switch::start().unwrap();
    let [flooding, deaf, hearing] = [1, 1, 1].map(|number| Machine::new(&switch, number));
    let [here, there] = [2, 2].map(|number| Machine::new(&switch, number));
    let count = 4 * MOST_FRAMES as u32;
    for number in 0..count {
        flooding.send(&frame(ALL, mac(1), &number.to_be_bytes()));
        if number % 32 == 31 {
            here.send(&frame(ALL, mac(2), b"goes on"));
            assert_eq!(there.read()[14..], *b"goes on");
            (number - 31..=number).for_each(|number| assert_eq!(hearing.read()[14..], number.to_be_bytes()));
        }
    }
    assert_eq!(hearing.port.counts().dropped.frames, 0);
    let lost = deaf.port.counts().dropped.frames;
    assert!(lost > 0);
    // Once it reads again it gets the first frames, in their order, and what comes then.
    for number in 0..count - lost as u32 {
        assert_eq!(deaf.read()[14..], number.to_be_bytes());
    }
    flooding.send(&frame(ALL, mac(1), b"later"));
    assert_eq!(deaf.read()[14..], *b"later");
    assert_eq!(deaf.port.counts().sent.frames, u64::from(count) - lost + 1);
}

#[test]
fn the_last_frames_of_a_machine_that_ends_arrive() {
    let switch = Switch::start().unwrap();
    let [one, two] = [1, 1].map(|number| Machine::new(&switch, number));
    // It does not read what it was sent, so its end is an error for the switch.
    two.send(&frame(ALL, mac(2), b"unread"));
    for number in 0..150_u8 {
        one.send(&frame(ALL, mac(1), &[number]));
    }
    let Machine { port, socket } = one;
    drop(socket);
    for number in 0..150 {
        assert_eq!(two.read()[14..], [number]);
    }
    // The port of a machine that has ended is no hindrance, and its counts stay.
    two.send(&frame(ALL, mac(2), b"to nobody"));
    two.has_sent(2);
    let three = Machine::new(&switch, 1);
    two.send(&frame(ALL, mac(2), b"to the third"));
    assert_eq!(three.read()[14..], *b"to the third");
    assert_eq!(port.counts().received.frames, 150);
}

#[test]
fn a_port_that_is_dropped_and_a_switch_that_ends_are_seen_at_the_other_end() {
    let switch = Switch::start().unwrap();
    let [one, two] = [1, 1].map(|number| Machine::new(&switch, number));
    let Machine { port, socket } = one;
    drop(port);
    assert!(recv(&socket, &mut [0; 10][..], RecvFlags::empty()).is_ok_and(|(length, _)| length == 0));
    two.send(&frame(ALL, mac(2), b"counted"));
    two.has_sent(1);
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    drop(switch);
    assert!(two.read().is_empty());
    assert_eq!(two.port.counts().received.frames, 1);
    assert!(threads() < before || !crate::environment::is_set("NEXTEST"));
}

#[test]
fn callers_get_their_turn_while_frames_flood_in() {
    let switch = Switch::start().unwrap();
    let [flooding, _deaf] = [1, 1].map(|number| Machine::new(&switch, number));
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let junk = frame(ALL, mac(1), &[0; 1400]);
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                flooding.send(&junk);
            }
        });
        for round in 1..=200 {
            flooding.has_sent(round);
            drop(Machine::new(&switch, 1));
        }
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn descriptors_are_not_left_open() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    let switch = Switch::start().unwrap();
    for _ in 0..20 {
        drop(Machine::new(&switch, 1));
    }
    drop(switch);
    assert!(open() <= before || !crate::environment::is_set("NEXTEST"));
}

#[test]
fn what_was_sent_is_counted_and_captured_for_whoever_asks_then() {
    for _ in 0..50 {
        let switch = Switch::start().unwrap();
        switch.capture(1 << 20);
        let [one, _two] = ["one", "two"].map(|name| Machine::called(&switch, 1, name));
        (0..20).for_each(|number| one.send(&frame(ALL, mac(1), &[number])));
        assert_eq!(switch.packets(None).unwrap().packets.len(), 20);
        one.send(&frame(ALL, mac(1), b"one more"));
        assert_eq!(one.port.counts().received.frames, 21);
        one.send(&frame(ALL, mac(1), b"and one more"));
        assert_eq!(switch.link_counts()[0].counts.sent.frames, 22);
    }
}

#[test]
fn a_frame_that_arrives_where_nobody_is_any_more_is_lost() {
    let switch = Switch::start().unwrap();
    switch.capture(1 << 20);
    let [one, two] = ["one", "two"].map(|name| Machine::called(&switch, 1, name));
    let held = [(vlan(1), "one", "two")];
    switch.change_faults(&held, &|faults| faults.is_held = true);
    one.send(&frame(ALL, mac(1), b"late"));
    one.has_sent(1);
    two.port.close();
    switch.heal(None);
    let counts = switch.link_counts()[0].counts;
    assert_eq!((counts.delivered.frames, counts.dropped.frames), (0, 1));
    assert!(switch.packets(None).unwrap().packets[0].is_lost);
}

#[test]
fn a_scenario_is_told_what_passed_since_it_began_and_the_file_has_all() {
    let switch = Switch::start().unwrap();
    switch.capture(1 << 20);
    let [one, _two] = ["one", "two"].map(|name| Machine::called(&switch, 1, name));
    one.send(&frame(ALL, mac(1), b"boot"));
    switch.begin();
    one.send(&frame(ALL, mac(1), b"scenario"));
    let told = switch.packets(None).unwrap();
    assert_eq!((told.packets.len(), told.passed, &told.packets[0].frame[14..]), (1, 1, &b"scenario"[..]));
    let mut file = Vec::new();
    switch.write_capture(vlan(1), &mut file).unwrap();
    assert!(
        [&b"boot"[..], b"scenario"].iter().all(|text| file.windows(text.len()).any(|part| part == *text))
    );
}
