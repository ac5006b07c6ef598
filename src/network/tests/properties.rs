//! What holds for all frames in any interleaving of sending, reading, plugging in and unplugging.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use proptest::prelude::*;

use super::{ALL, mac, tagged, vlan};
use crate::environment;
use crate::network::Key;
use crate::network::forwarding::Forwarding;
use crate::network::frame::Mac;

/// One step of a history. Ports and stations are chosen from small numbers, so that they meet.
#[derive(Debug, Clone)]
enum Step {
    Send { port: usize, source: u8, destination: Option<u8>, tag: u16 },
    Read { port: usize, count: usize },
    Plug { vlan: u8 },
    Unplug { port: usize },
    HangUp { port: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..12_usize, 0..6_u8, proptest::option::of(0..6_u8), 0..3_u16)
            .prop_map(|(port, source, destination, tag)| Step::Send { port, source, destination, tag }),
        4 => (0..12_usize, 1..20_usize).prop_map(|(port, count)| Step::Read { port, count }),
        1 => (1..4_u8).prop_map(|vlan| Step::Plug { vlan }),
        1 => (0..12_usize).prop_map(|port| Step::Unplug { port }),
        1 => (0..12_usize).prop_map(|port| Step::HangUp { port }),
    ];
    proptest::collection::vec(step, 0..150)
}

/// A port as its machine sees it.
#[derive(Debug)]
struct Machine {
    key: Key,
    vlan: u8,
    /// The numbers of the frames that it must get.
    due: HashSet<u32>,
    /// The numbers of those that it may get.
    possible: HashSet<u32>,
    /// The last frame of each flow that it got.
    last: HashMap<(Mac, Mac, u16), u32>,
}

#[derive(Debug, Default)]
struct World {
    switch: Forwarding,
    machines: Vec<Machine>,
    next_port: u64,
    next_frame: u32,
    /// At which port a station has last sent a frame, by VLAN, address and tag.
    seen: HashMap<(u8, u8, u16), Key>,
}

impl World {
    fn plug(&mut self, number: u8) {
        self.next_port += 1;
        let key = Key(self.next_port);
        self.switch.add(key, vlan(number), &format!("machine {key:?}"));
        let (due, possible, last) = Default::default();
        self.machines.push(Machine { key, vlan: number, due, possible, last });
    }

    fn send(&mut self, port: usize, source: u8, destination: Option<u8>, tag: u16) {
        let Some(Machine { key: from, vlan, .. }) = self.machines.get(port) else { return };
        let (from, vlan, number) = (*from, *vlan, self.next_frame);
        self.next_frame += 1;
        self.seen.insert((vlan, source, tag), from);
        let known = destination.and_then(|station| self.seen.get(&(vlan, station, tag)));
        for machine in self.machines.iter_mut().filter(|machine| machine.vlan == vlan && machine.key != from)
        {
            match known {
                Some(port) if *port != machine.key => {}
                _ => drop(machine.due.insert(number)),
            }
            machine.possible.insert(number);
        }
        let to = destination.map_or(ALL, mac);
        self.switch.receive(from, &tagged(to, mac(source), tag, &number.to_be_bytes()), Instant::now());
    }

    fn read(&mut self, port: usize, count: usize) {
        let Some(machine) = self.machines.get_mut(port) else { return };
        for _ in 0..count {
            let Some(frame) = self.switch.sent(machine.key) else { return };
            let number = u32::from_be_bytes(frame[18..].try_into().unwrap());
            assert!(machine.possible.remove(&number), "a frame of another VLAN, its own, or one twice");
            machine.due.remove(&number);
            let flow = (frame[..6].try_into().unwrap(), frame[6..12].try_into().unwrap(), {
                u16::from_be_bytes(frame[14..16].try_into().unwrap())
            });
            let before = machine.last.insert(flow, number);
            assert!(before < Some(number), "the order of a flow has changed");
        }
    }

    fn unplug(&mut self, port: usize) -> Option<Key> {
        let machine = (port < self.machines.len()).then(|| self.machines.remove(port))?;
        self.seen.retain(|_, seen| *seen != machine.key);
        Some(machine.key)
    }
}

/// Each case costs as much as ten of another test, so there are fewer by default.
fn cases() -> u32 {
    if environment::is_set("PROPTEST_CASES") { ProptestConfig::default().cases } else { 64 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_frame_gets_lost_or_out_of_its_vlan_or_order(steps in steps()) {
        let mut world = World::default();
        [1, 1, 1, 2, 2, 3].into_iter().for_each(|vlan| world.plug(vlan));
        for step in steps {
            match step {
                Step::Send { port, source, destination, tag } => world.send(port, source, destination, tag),
                Step::Read { port, count } => world.read(port, count),
                Step::Plug { vlan } => world.plug(vlan),
                Step::Unplug { port } => drop(world.unplug(port).map(|key| world.switch.remove(key))),
                Step::HangUp { port } => drop(world.unplug(port).map(|key| world.switch.detach(key))),
            }
        }
        for port in 0..world.machines.len() {
            world.read(port, usize::MAX);
            prop_assert!(world.machines[port].due.is_empty(), "lost: {:?}", world.machines[port]);
        }
    }

    #[test]
    fn any_bytes_are_a_frame_or_none(
        frames in proptest::collection::vec((1..4_u64, proptest::collection::vec(any::<u8>(), 0..40)), 0..50)
    ) {
        let mut switch = super::ports(3);
        for (port, bytes) in frames {
            let before = switch.counts(Key(port));
            let got = super::send(&mut switch, port, &bytes, Instant::now());
            let after = switch.counts(Key(port));
            prop_assert!(!got.contains(&port));
            let is_frame = bytes.len() >= 14;
            prop_assert_eq!(after.received.frames - before.received.frames, u64::from(is_frame));
            prop_assert_eq!(after.refused - before.refused, u64::from(!is_frame));
        }
    }
}
