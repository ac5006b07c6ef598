//! The links of a switch: the ways from one machine to another on a VLAN, each in one direction.
//!
//! A machine that is started again gets new ports. So a link is known by the names of its machines, which stay, and its
//! faults and counts stay, too.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::capture::Capture;
use super::faults::fate::{Dice, Seed};
use super::faults::under_way::{Arrival, Sent, UnderWay};
use super::faults::{Faults, FaultyLink};
use super::frame::{self, Frame};
use super::{CountedLink, LinkCounts, VlanId};

/// How many frames of a link are under way at once, or held, and how many bytes.
pub(super) const MOST_FRAMES: usize = 16 << 10;
const MOST_BYTES: usize = 32 << 20;

/// How long frames wait for each other on a link with a rate.
const BUFFER: Duration = Duration::from_secs(1);

/// How late a frame is at most that is to arrive behind the next one.
const OVERTAKEN: Duration = Duration::from_millis(100);

/// A name that ports have, as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct End(u32);

/// The way of frames from one end to another on a VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Link {
    pub(super) vlan: VlanId,
    pub(super) from: End,
    pub(super) to: End,
}

/// All links on which a frame was sent, or which have faults.
#[derive(Debug, Default)]
pub(super) struct Links {
    seed: Seed,
    names: Vec<Arc<str>>,
    states: HashMap<Link, State>,
    under_way: UnderWay,
}

/// A link: its faults, and what happens on it.
#[derive(Debug)]
struct State {
    faults: Faults,
    dice: Dice,
    /// How many frames were sent on it.
    number: u64,
    counts: LinkCounts,
    /// What is under way or held.
    waiting: Waiting,
    held: VecDeque<Sent>,
    /// When the last frame that keeps its place arrives.
    last: Option<Instant>,
    /// When the last frame has passed, on a link with a rate.
    free: Option<Instant>,
    /// The copies of a frame that are to arrive behind the next one.
    aside: Vec<Arrival>,
}

/// How much waits on a link.
#[derive(Debug, Default)]
struct Waiting {
    frames: usize,
    bytes: usize,
}

impl Waiting {
    fn has_room(&self, length: usize) -> bool {
        self.frames < MOST_FRAMES && self.bytes + length <= MOST_BYTES
    }

    fn add(&mut self, length: usize) {
        self.frames += 1;
        self.bytes += length;
    }

    fn remove(&mut self, length: usize) {
        self.frames -= 1;
        self.bytes -= length;
    }
}

impl Links {
    pub(super) fn with_seed(seed: Seed) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Returns the end with this name.
    pub(super) fn end(&mut self, name: &str) -> End {
        let at = self.names.iter().position(|known| **known == *name).unwrap_or_else(|| {
            self.names.push(name.into());
            self.names.len() - 1
        });
        // A name needs a port or a machine, and there are less than 2^32 of both.
        End(u32::try_from(at).unwrap_or(u32::MAX))
    }

    /// Returns the name of an end.
    pub(super) fn name(&self, End(number): End) -> Arc<str> {
        self.names.get(number as usize).cloned().unwrap_or_default()
    }

    fn state(&mut self, link: Link) -> &mut State {
        let (names, seed) = (&self.names, self.seed);
        self.states.entry(link).or_insert_with(|| {
            let [from, to] =
                [link.from, link.to].map(|End(at)| names.get(at as usize).map_or("", |name| name));
            State {
                dice: Dice::of(seed, link.vlan, from, to),
                faults: Faults::default(),
                number: 0,
                counts: LinkCounts::default(),
                waiting: Waiting::default(),
                held: VecDeque::new(),
                last: None,
                free: None,
                aside: Vec::new(),
            }
        })
    }

    /// Sends a frame. Returns it if it arrives at once. Otherwise it arrives later, or never ([`Links::arrived`]).
    pub(super) fn send(&mut self, sent: Sent, now: Instant, capture: &mut Capture) -> Option<Sent> {
        let (link, length) = (sent.link, sent.frame.len());
        let state = self.state(link);
        let number = state.number;
        state.number += 1;
        state.counts.sent.add(length);
        if state.faults.are_none() && state.waiting.frames == 0 {
            return Some(sent);
        }
        let fate = state.dice.fate(number, &state.faults, length);
        if state.faults.is_cut || fate.is_lost {
            state.counts.dropped.add(length);
            capture.lost(sent.packet, if state.faults.is_cut { "partition" } else { "loss" });
            return None;
        }
        let Some(passed) = state.passed(length, now) else {
            state.counts.dropped.add(length);
            capture.lost(sent.packet, "rate: too many frames wait before it");
            return None;
        };
        let due = (passed + fate.latency).max(state.last.unwrap_or(now));
        let frame = match fate.corrupted {
            Some(bit) => {
                state.counts.corrupted += 1;
                capture.comment(sent.packet, "corrupted: it arrives with one bit flipped");
                corrupted(&sent.frame, bit)
            }
            None => sent.frame,
        };
        let is_aside = fate.is_reordered && state.aside.is_empty();
        match is_aside {
            true => {
                state.counts.reordered += 1;
                capture.comment(sent.packet, "reordered: it arrives behind the next one");
            }
            false if due > now => {
                state.counts.delayed += 1;
                let delay = due.duration_since(now).as_secs_f64() * 1000.0;
                capture.comment(sent.packet, &format!("delayed by {delay:.1} ms"));
            }
            false => {}
        }
        if fate.is_duplicated {
            state.counts.duplicated += 1;
            capture.comment(sent.packet, "duplicated");
        }
        let mut arrivals = Vec::new();
        for _ in 0..1 + u8::from(fate.is_duplicated) {
            let state = self.state(link);
            if !state.waiting.has_room(length) {
                state.counts.dropped.add(length);
                continue;
            }
            state.waiting.add(length);
            let copy = Sent { link, to: sent.to, frame: frame.clone(), packet: sent.packet };
            arrivals.push(self.under_way.add(if is_aside { due + OVERTAKEN } else { due }, copy));
        }
        if arrivals.is_empty() {
            capture.lost(sent.packet, "too many frames are under way");
        }
        if is_aside {
            self.state(link).aside = arrivals;
            return None;
        }
        let state = self.state(link);
        state.last = Some(due);
        for overtaken in std::mem::take(&mut state.aside) {
            self.under_way.postpone(overtaken, due);
        }
        None
    }

    /// Returns the next frame that has arrived by now.
    pub(super) fn arrived(&mut self, now: Instant, capture: &mut Capture) -> Option<Sent> {
        loop {
            let sent = self.under_way.arrived(now)?;
            let state = self.state(sent.link);
            if state.faults.is_held {
                state.counts.held += 1;
                capture.comment(sent.packet, "held");
                state.held.push_back(sent);
                continue;
            }
            state.waiting.remove(sent.frame.len());
            return Some(sent);
        }
    }

    /// When the next frame arrives that is under way.
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        self.under_way.next()
    }

    /// Returns the frames that faults hold back: those that are held, and those that are under way, in the order in which
    /// they arrive.
    pub(super) fn held_back(&self) -> Vec<&Sent> {
        let mut held: Vec<(&Link, &State)> =
            self.states.iter().filter(|(_, state)| !state.held.is_empty()).collect();
        held.sort_unstable_by_key(|(link, _)| **link);
        held.into_iter().flat_map(|(_, state)| &state.held).chain(self.under_way.all()).collect()
    }

    /// Begins to count anew. The faults stay.
    pub(super) fn begin(&mut self) {
        for state in self.states.values_mut() {
            (state.number, state.counts) = (0, LinkCounts::default());
        }
    }

    /// Counts a frame that has arrived: whether the machine was given it.
    pub(super) fn count(&mut self, link: Link, length: usize, is_delivered: bool) {
        let counts = &mut self.state(link).counts;
        match is_delivered {
            true => counts.delivered.add(length),
            false => counts.dropped.add(length),
        }
    }

    /// Changes the faults of a link. Returns frames that were held and arrive now. Frames under way arrive sooner if that is
    /// what the new faults mean.
    pub(super) fn change(
        &mut self,
        link: Link,
        change: impl FnOnce(&mut Faults),
        now: Instant,
        capture: &mut Capture,
    ) -> VecDeque<Sent> {
        let state = self.state(link);
        let before = state.faults;
        change(&mut state.faults);
        let after = state.faults;
        if after.is_cut {
            let held = std::mem::take(&mut state.held);
            let under_way = self.under_way.remove(link).into_values();
            let lost: Vec<Sent> = held.into_iter().chain(under_way).collect();
            self.state(link).lose(lost, "partition", capture);
        }
        let is_faster = after.rate.is_none_or(|rate| before.rate.is_some_and(|before| before < rate));
        if (is_faster && after.rate != before.rate) || after.latency.most < before.latency.most {
            self.hasten(link, before.latency.most.saturating_sub(after.latency.most), is_faster, now);
        }
        let state = self.state(link);
        if state.faults.is_held {
            return VecDeque::new();
        }
        let released = std::mem::take(&mut state.held);
        released.iter().for_each(|sent| state.waiting.remove(sent.frame.len()));
        released
    }

    /// Loses all frames that are under way or held: those to whom they were sent have gone back to another moment.
    pub(super) fn go_back(&mut self, capture: &mut Capture) {
        let links: Vec<Link> = self.states.keys().copied().collect();
        for link in links {
            let under_way = self.under_way.remove(link).into_values();
            let held = std::mem::take(&mut self.state(link).held);
            let lost: Vec<Sent> = held.into_iter().chain(under_way).collect();
            self.state(link).lose(lost, "the machines were restored to a snapshot", capture);
        }
    }

    /// Lets frames that are under way arrive sooner, in their order: by this time, and as the present rate allows if that
    /// `is_faster` than before.
    fn hasten(&mut self, link: Link, by: Duration, is_faster: bool, now: Instant) {
        let frames = self.under_way.remove(link);
        let state = self.state(link);
        // Those that were to arrive behind another one keep the place that they have.
        state.aside.clear();
        state.last = None;
        if is_faster {
            state.free = None;
        }
        for ((due, _), sent) in frames {
            let state = self.state(link);
            let mut due = due.checked_sub(by).unwrap_or(now).max(now);
            if is_faster {
                due = due.min(state.occupied(sent.frame.len(), now) + state.faults.latency.most);
            }
            let due = due.max(state.last.unwrap_or(now));
            state.last = Some(due);
            self.under_way.add(due, sent);
        }
    }

    /// Returns the links that have faults, sorted.
    pub(super) fn faulty(&self) -> Vec<(Link, FaultyLink)> {
        let faulty = self.states.iter().filter(|(_, state)| !state.faults.are_none());
        let mut faulty: Vec<_> = faulty
            .map(|(link, state)| {
                let [from, to] = [link.from, link.to].map(|end| self.name(end).to_string());
                (*link, FaultyLink { vlan: link.vlan, from, to, faults: state.faults })
            })
            .collect();
        faulty.sort_by(|(_, one), (_, other)| {
            (one.vlan, &one.from, &one.to).cmp(&(other.vlan, &other.from, &other.to))
        });
        faulty
    }

    /// Returns what passed each link, sorted.
    pub(super) fn counts(&self) -> Vec<CountedLink> {
        let counted = self.states.iter().filter(|(_, state)| state.number > 0);
        let mut counted: Vec<CountedLink> = counted
            .map(|(link, state)| {
                let [from, to] = [link.from, link.to].map(|end| self.name(end).to_string());
                CountedLink { vlan: link.vlan, from, to, counts: state.counts }
            })
            .collect();
        counted
            .sort_by(|one, other| (one.vlan, &one.from, &one.to).cmp(&(other.vlan, &other.from, &other.to)));
        counted
    }
}

impl State {
    /// Loses all frames that are under way or held, so that later ones wait for none of them.
    fn lose(&mut self, all: Vec<Sent>, why: &str, capture: &mut Capture) {
        for sent in all {
            self.waiting.remove(sent.frame.len());
            self.counts.dropped.add(sent.frame.len());
            capture.lost(sent.packet, why);
        }
        (self.last, self.free) = (None, None);
        self.aside.clear();
    }

    /// When a frame has passed that was sent now, if the link has a rate. None if it does not wait for that.
    fn passed(&mut self, length: usize, now: Instant) -> Option<Instant> {
        let has_room = |free: Instant| free.saturating_duration_since(now) <= BUFFER;
        (self.faults.rate.is_none() || self.free.is_none_or(has_room)).then(|| self.occupied(length, now))
    }

    /// Returns when a frame has passed behind those that wait before it.
    fn occupied(&mut self, length: usize, now: Instant) -> Instant {
        let Some(rate) = self.faults.rate else { return now };
        let begins = self.free.map_or(now, |free| free.max(now));
        // A frame has less than 2^20 bits: the product fits, and the time is at most 2^20 s.
        let nanos = 8 * length as u64 * 1_000_000_000 / rate;
        let ends = begins + Duration::from_nanos(nanos);
        self.free = Some(ends);
        ends
    }
}

/// Returns a frame with one bit of its payload wrong.
fn corrupted(frame: &Frame, bit: u64) -> Frame {
    let mut bytes = frame.to_vec();
    let at = frame::HEADER + usize::try_from(bit / 8).unwrap_or(usize::MAX);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << (bit % 8);
    }
    bytes.into()
}
