//! Faults of links, with a clock of the tests.

use std::num::NonZero;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::sockets::Machine;
use super::{ALL, frame, mac, ports, vlan};
use crate::network::faults::{Chance, Faults, Latency, Seed};
use crate::network::forwarding::Forwarding;
use crate::network::{Key, LinkCounts, Switch};

const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn chance(probability: f64) -> Chance {
    Chance::new(probability).unwrap()
}

/// Two machines on VLAN 1, and a clock.
struct World {
    switch: Forwarding,
    now: Instant,
    sent: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut switch = Forwarding::with_seed(Seed(seed));
        (1..=2).for_each(|port| switch.add(Key(port), vlan(1), &format!("machine {port}")));
        Self { switch, now: Instant::now(), sent: 0 }
    }

    /// Changes the faults of the link from machine 1 to machine 2.
    fn change(&mut self, change: impl FnOnce(&mut Faults)) {
        self.switch.change((vlan(1), "machine 1", "machine 2"), change, self.now);
    }

    /// Machine 1 sends frames with the next numbers.
    fn send(&mut self, count: u32) {
        for _ in 0..count {
            let payload = [&self.sent.to_be_bytes()[..], &[0; 96]].concat();
            self.switch.receive(Key(1), &frame(ALL, mac(1), &payload), self.now);
            self.sent += 1;
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.switch.arrive_by(self.now);
    }

    /// The frames that machine 2 has got since the last call.
    fn frames(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.switch.sent(Key(2))).map(|frame| frame.to_vec()).collect()
    }

    /// Their numbers.
    fn got(&mut self) -> Vec<u32> {
        self.frames().iter().map(|frame| u32::from_be_bytes(frame[14..18].try_into().unwrap())).collect()
    }

    fn counts(&self) -> LinkCounts {
        let counted = self.switch.link_counts();
        counted.iter().find(|link| link.from == "machine 1").map(|link| link.counts).unwrap_or_default()
    }
}

#[test]
fn a_partition_is_one_way_and_loses_what_is_under_way() {
    let mut world = World::new(0);
    world.change(|faults| faults.latency = Latency { least: ms(10), most: ms(10) });
    world.send(2);
    world.change(|faults| faults.is_cut = true);
    world.send(3);
    world.switch.receive(Key(2), &frame(ALL, mac(2), b"back"), world.now);
    assert!(world.switch.sent(Key(1)).is_some(), "the other direction");
    world.change(|faults| faults.is_cut = false);
    world.wait(ms(20));
    assert_eq!(world.got(), [0_u32; 0]);
    world.send(1);
    world.wait(ms(10));
    assert_eq!(world.got(), [5]);
    let counts = world.counts();
    assert_eq!((counts.sent.frames, counts.delivered.frames, counts.dropped.frames), (6, 1, 5));
}

#[test]
fn frames_that_are_held_arrive_in_their_order_once_they_are_released() {
    let mut world = World::new(0);
    world.change(|faults| faults.is_held = true);
    world.send(3);
    world.wait(Duration::from_secs(3600));
    assert_eq!(world.got(), [0_u32; 0]);
    world.change(|faults| faults.latency = Latency { least: ms(5), most: ms(5) });
    world.send(1);
    world.change(|faults| faults.is_held = false);
    assert_eq!(world.got(), [0, 1, 2]);
    world.wait(ms(5));
    assert_eq!(world.got(), [3]);
    // Those that arrive in a hold are held, and a partition loses them.
    world.send(1);
    world.change(|faults| faults.is_held = true);
    world.wait(ms(5));
    world.change(|faults| faults.is_cut = true);
    world.switch.heal(None, world.now);
    world.wait(ms(500));
    assert_eq!(world.got(), [0_u32; 0]);
    assert_eq!((world.counts().held, world.counts().dropped.frames), (4, 1));
    assert!(world.switch.faulty().is_empty());
}

#[test]
fn latency_delays_every_frame_and_keeps_their_order() {
    let mut world = World::new(1);
    world.change(|faults| faults.latency = Latency { least: ms(20), most: ms(60) });
    let mut got = Vec::new();
    let mut most = ms(0);
    for number in 0..200 {
        world.send(1);
        let sent = world.now;
        while got.len() <= number {
            assert!(world.now < sent + ms(70), "frame {number} is late");
            world.wait(ms(1));
            got.extend(world.got());
        }
        assert!(world.now >= sent + ms(20), "frame {number} is early");
        most = most.max(world.now - sent);
    }
    assert!(most > ms(50), "the jitter is used: {most:?}");
    world.send(200);
    // The latency ends. A frame that comes then does not overtake those that are under way.
    world.change(|faults| *faults = Faults::default());
    world.send(1);
    got.extend(world.got());
    assert_eq!(got, (0..401).collect::<Vec<_>>());
    assert_eq!(world.counts().delayed, 400);
}

#[test]
fn a_fault_that_ends_holds_up_no_frame_any_more() {
    let hour = Latency { least: Duration::from_secs(3600), most: Duration::from_secs(3600) };
    type Change = fn(&mut Faults);
    let (slow, fast): (Change, Change) =
        (|faults| faults.rate = NonZero::new(1000), |faults| faults.rate = NonZero::new(1_000_000_000));
    let late = move |faults: &mut Faults| faults.latency = hour;
    type Step<'a> = &'a dyn Fn(&mut Faults);
    let ends: [(Step<'_>, Step<'_>); 4] = [
        (&slow, &|faults| *faults = Faults::default()),
        (&slow, &fast),
        (&late, &|faults| *faults = Faults::default()),
        (&late, &|faults| faults.latency = Latency { least: ms(1), most: ms(1) }),
    ];
    for (at, (begin, end)) in ends.into_iter().enumerate() {
        let mut world = World::new(0);
        world.change(|faults| begin(faults));
        world.send(1);
        world.wait(ms(10));
        assert_eq!(world.got(), [0_u32; 0], "case {at}");
        world.change(|faults| end(faults));
        world.send(3);
        world.wait(ms(1));
        assert_eq!(world.got(), [0, 1, 2, 3], "case {at}");
        assert_eq!(world.counts().dropped.frames, 0, "case {at}");
    }
    // A rate that gets slower keeps what was under way as it was.
    let mut world = World::new(0);
    world.change(|faults| faults.rate = NonZero::new(1_000_000));
    world.send(5);
    world.change(slow);
    world.wait(ms(5));
    assert_eq!(world.got(), [0, 1, 2, 3, 4]);
}

#[test]
fn no_frame_waits_for_one_that_a_partition_or_a_restore_has_lost() {
    for is_partition in [true, false] {
        let mut world = World::new(0);
        let late = Latency { least: Duration::from_secs(20), most: Duration::from_secs(20) };
        world.change(|faults| (faults.latency, faults.rate) = (late, NonZero::new(100)));
        world.send(1);
        match is_partition {
            true => world.change(|faults| *faults = Faults { is_cut: true, ..Faults::default() }),
            false => world.switch.go_back(),
        }
        world.change(|faults| *faults = Faults { is_held: true, ..Faults::default() });
        world.send(1);
        world.wait(ms(1));
        assert_eq!(world.counts().held, 1);
        world.switch.heal(None, world.now);
        world.change(|faults| faults.rate = NonZero::new(1_000_000_000));
        world.send(1);
        world.wait(ms(1));
        assert_eq!(world.got(), [1, 2]);
        assert_eq!(world.counts().dropped.frames, 1);
    }
}

#[test]
fn a_scenario_begins_to_count_anew() {
    let mut world = World::new(0);
    world.send(5);
    world.switch.begin();
    world.send(1);
    assert_eq!(world.counts().sent.frames, 1);
}

#[test]
fn the_nth_frame_of_a_link_has_the_same_fate_for_the_same_seed() {
    /// The numbers of the frames that arrive, and the frames.
    fn run(seed: u64, pause: Duration) -> Vec<Vec<u8>> {
        let mut world = World::new(seed);
        world.change(|faults| {
            faults.loss = chance(0.2);
            faults.duplicate = chance(0.2);
            faults.corrupt = chance(0.2);
            faults.reorder = chance(0.2);
        });
        let mut frames = Vec::new();
        for _ in 0..500 {
            world.send(1);
            // Nothing of this changes what happens to the frames of the link.
            world.switch.receive(Key(2), &frame(ALL, mac(2), b"other"), world.now);
            world.wait(pause);
            frames.extend(world.frames());
        }
        world.wait(ms(200));
        frames.extend(world.frames());
        frames
    }
    assert_eq!(run(7, ms(0)), run(7, ms(1)));
    assert_ne!(run(7, ms(0)), run(8, ms(0)));
    // What is decided for a frame does not depend on what else may happen to it.
    let lost = |change: &dyn Fn(&mut Faults)| {
        let mut world = World::new(7);
        world.change(|faults| faults.loss = chance(0.3));
        world.change(change);
        world.send(300);
        let mut got = world.got();
        got.dedup();
        got
    };
    assert_eq!(lost(&|_| ()), lost(&|faults| faults.duplicate = chance(0.5)));
}

#[test]
fn links_of_one_seed_have_fates_of_their_own() {
    let mut switch = ports(3);
    for to in ["machine 2", "machine 3"] {
        switch.change((vlan(1), "machine 1", to), |faults| faults.loss = chance(0.5), Instant::now());
    }
    let now = Instant::now();
    (0..100_u8).for_each(|number| switch.receive(Key(1), &frame(ALL, mac(1), &[number]), now));
    let mut got =
        |port| -> Vec<u8> { std::iter::from_fn(|| switch.sent(Key(port))).map(|frame| frame[14]).collect() };
    assert_ne!(got(2), got(3));
}

#[test]
fn chances_are_as_likely_as_they_say() {
    type Change = fn(&mut Faults, Chance);
    type Count = fn(&LinkCounts) -> u64;
    let kinds: [(Change, Count, u64); 4] = [
        (|faults, chance| faults.loss = chance, |counts| counts.dropped.frames, 4000),
        (|faults, chance| faults.duplicate = chance, |counts| counts.duplicated, 4000),
        (|faults, chance| faults.corrupt = chance, |counts| counts.corrupted, 4000),
        // A frame behind which another one arrives can't arrive behind the next one.
        (|faults, chance| faults.reorder = chance, |counts| counts.reordered, 2000),
    ];
    for (at, (change, count, all)) in kinds.into_iter().enumerate() {
        for probability in [0.0, 0.1, 0.5, 1.0] {
            let mut world = World::new(3);
            world.change(|faults| change(faults, chance(probability)));
            let mut got = 0;
            for _ in 0..40 {
                world.send(100);
                world.wait(ms(1));
                got += world.frames().len() as u64;
            }
            world.wait(ms(200));
            got += world.frames().len() as u64;
            let counts = world.counts();
            // A share p of frames that are not aside: p / (1 + p) of all of them.
            let expected = match at {
                3 => 4000.0 * probability / (1.0 + probability),
                _ => 4000.0 * probability,
            };
            let found = count(&counts) as f64;
            assert!((found - expected).abs() <= 130.0, "{at}: {found} of {expected}");
            if probability == 1.0 {
                assert_eq!(count(&counts), all);
            }
            assert_eq!(got, 4000 + counts.duplicated - counts.dropped.frames);
        }
    }
}

#[test]
fn a_frame_out_of_order_arrives_behind_the_next_one_or_a_little_later() {
    let mut world = World::new(0);
    world.change(|faults| faults.reorder = chance(1.0));
    world.send(5);
    assert_eq!(world.got(), [1, 0, 3, 2]);
    world.wait(ms(99));
    assert_eq!(world.got(), [0_u32; 0]);
    world.wait(ms(1));
    assert_eq!(world.got(), [4]);
}

#[test]
fn a_wrong_bit_is_behind_the_header() {
    let mut world = World::new(0);
    world.change(|faults| faults.corrupt = chance(1.0));
    world.send(50);
    for (number, got) in (0_u32..).zip(world.frames()) {
        let payload = [&number.to_be_bytes()[..], &[0; 96]].concat();
        let sent = frame(ALL, mac(1), &payload);
        let wrong: u32 = sent.iter().zip(&got).map(|(one, other)| (one ^ other).count_ones()).sum();
        assert_eq!((wrong, &got[..14], got.len()), (1, &sent[..14], sent.len()));
    }
    // A frame that is a header has no bit that may be wrong.
    world.switch.receive(Key(1), &frame(ALL, mac(1), b"")[..14], world.now);
    assert_eq!(world.frames()[0].len(), 14);
}

#[test]
fn a_rate_spreads_frames_and_loses_those_that_would_wait_longer_than_a_second() {
    let mut world = World::new(0);
    // Frames of 114 bytes: ten in a second.
    world.change(|faults| faults.rate = NonZero::new(9120));
    world.send(30);
    let mut got = Vec::new();
    for tenth in 1..=12 {
        world.wait(ms(100));
        got.push(world.got().len());
        assert!(tenth < 12 || world.counts().dropped.frames == 19, "{:?}", world.counts());
    }
    assert_eq!(got, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]);
    // A frame that takes longer than a second passes where nothing else waits.
    world.change(|faults| faults.rate = NonZero::new(1));
    world.send(2);
    world.wait(Duration::from_secs(912));
    assert_eq!(world.got().len(), 1);
}

#[test]
fn what_is_under_way_is_bounded() {
    let mut world = World::new(0);
    world.change(|faults| faults.is_held = true);
    world.send(3 * crate::network::links::MOST_FRAMES as u32);
    let counts = world.counts();
    assert_eq!(counts.held, crate::network::links::MOST_FRAMES as u64);
    assert_eq!(counts.dropped.frames, 2 * crate::network::links::MOST_FRAMES as u64);
}

#[test]
fn faults_stay_when_a_machine_gets_another_port() {
    let mut world = World::new(0);
    world.change(|faults| faults.is_cut = true);
    world.switch.remove(Key(2));
    world.switch.add(Key(3), vlan(1), "machine 2");
    world.send(1);
    assert!(world.switch.sent(Key(3)).is_none());
    world.switch.heal(Some(vlan(2)), world.now);
    assert_eq!(world.switch.faulty().len(), 1);
    world.switch.heal(Some(vlan(1)), world.now);
    world.send(1);
    assert!(world.switch.sent(Key(3)).is_some());
}

#[test]
fn frames_arrive_on_time_although_nothing_else_happens() {
    let switch = Switch::start().unwrap();
    let [one, two] = ["one", "two"].map(|name| Machine::called(&switch, 1, name));
    let link = [(vlan(1), "one", "two")];
    switch.change_faults(&link, &|faults| faults.latency = Latency { least: ms(50), most: ms(50) });
    let begun = Instant::now();
    one.send(&frame(ALL, mac(1), b"late"));
    assert_eq!(two.read()[14..], *b"late");
    assert!(begun.elapsed() >= ms(50), "{:?}", begun.elapsed());
    // What a hold kept is sent by the one who ends it.
    switch.change_faults(&link, &|faults| *faults = Faults { is_held: true, ..Faults::default() });
    one.send(&frame(ALL, mac(1), b"held"));
    one.has_sent(2);
    switch.heal(None);
    assert_eq!(two.read()[14..], *b"held");
    let counts = switch.link_counts().remove(0);
    assert_eq!((&*counts.from, &*counts.to, counts.counts.delivered.frames), ("one", "two", 2));
}

fn faults() -> impl Strategy<Value = Faults> {
    let chance = || prop_oneof![3 => Just(0.0), 1 => 0.0..=1.0].prop_map(chance);
    let parts =
        (any::<[bool; 3]>(), 0..50_u64, 0..50_u64, 0..200_000_u64, [chance(), chance(), chance(), chance()]);
    parts.prop_map(|([is_cut, other, is_held], least, jitter, rate, [loss, duplicate, reorder, corrupt])| {
        Faults {
            is_cut: is_cut && other,
            is_held,
            latency: Latency { least: ms(least), most: ms(least + jitter) },
            rate: NonZero::new(rate),
            loss,
            duplicate,
            reorder,
            corrupt,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_frame_is_delivered_or_counted_and_keeps_its_place(
        history in proptest::collection::vec((proptest::option::of(faults()), 0..20_u32, 0..80_u64), 0..40)
    ) {
        let mut world = World::new(9);
        let (mut got, mut has_reordered) = (Vec::new(), false);
        for (change, count, wait) in history {
            if let Some(faults) = change {
                has_reordered |= faults.reorder != Chance::NEVER || faults.corrupt != Chance::NEVER;
                world.change(|its| *its = faults);
            }
            world.send(count);
            world.wait(ms(wait));
            got.extend(world.got());
        }
        world.switch.heal(None, world.now);
        world.wait(Duration::from_secs(10_000));
        got.extend(world.got());
        let counts = world.counts();
        prop_assert_eq!(counts.sent.frames, u64::from(world.sent));
        prop_assert_eq!(counts.delivered.frames, got.len() as u64);
        prop_assert_eq!(counts.sent.frames + counts.duplicated, counts.delivered.frames + counts.dropped.frames);
        prop_assert_eq!(world.switch.next_arrival(), None);
        if !has_reordered {
            prop_assert!(got.is_sorted(), "{:?}", got);
        }
    }
}
