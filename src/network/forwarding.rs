//! What happens to a frame, without sockets: it is read at one port and waits at others.

use std::collections::HashMap;
use std::time::Instant;

use super::capture::Capture;
use super::faults::under_way::Sent;
use super::faults::{Faults, FaultyLink, Seed};
use super::frame::{self, Frame, Header};
use super::frozen::{Held, InFlight};
use super::links::{End, Link, Links};
use super::queue::Queue;
use super::stations::{Station, Stations};
use super::{CountedLink, Counts, Key, VlanId};

/// All ports of a switch, and what the switch knows of their VLANs.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    ports: HashMap<Key, Port>,
    vlans: HashMap<VlanId, Vlan>,
    links: Links,
    capture: Capture,
    /// The ports whose queues got their first frame since [`Forwarding::take_waiting`].
    waiting: Vec<Key>,
}

#[derive(Debug)]
struct Port {
    /// None once the other end is gone.
    vlan: Option<VlanId>,
    /// Who is at the other end.
    end: End,
    queue: Queue,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Vlan {
    ports: Vec<Key>,
    stations: Stations,
}

impl Forwarding {
    /// Returns a switch without ports, whose random choices come from a seed.
    pub(super) fn with_seed(seed: Seed) -> Self {
        Self { links: Links::with_seed(seed), ..Self::default() }
    }

    /// Adds a port to a VLAN. `name` is who is at its other end.
    pub(super) fn add(&mut self, port: Key, vlan: VlanId, name: &str) {
        let end = self.links.end(name);
        let state = Port { vlan: Some(vlan), end, queue: Queue::default(), counts: Counts::default() };
        self.ports.insert(port, state);
        self.vlans.entry(vlan).or_default().ports.push(port);
    }

    /// Takes a port whose other end is gone out of its VLAN. Its counts stay.
    pub(super) fn detach(&mut self, port: Key) {
        let Some(state) = self.ports.get_mut(&port) else { return };
        while let Some(frame) = state.queue.pop() {
            state.counts.dropped.add(frame.len());
        }
        if let Some(vlan) = state.vlan.take().and_then(|id| self.vlans.get_mut(&id)) {
            vlan.ports.retain(|other| *other != port);
            vlan.stations.forget(port);
        }
    }

    /// Removes a port and its counts.
    pub(super) fn remove(&mut self, port: Key) {
        self.detach(port);
        self.ports.remove(&port);
    }

    /// Takes a frame from the other end of a port to where it belongs: to the port of its destination, or to all other
    /// ports of the VLAN if the destination is a group or not known.
    pub(super) fn receive(&mut self, from: Key, bytes: &[u8], now: Instant) {
        let Some(port) = self.ports.get_mut(&from) else { return };
        let Some(id) = port.vlan else { return };
        let Some(vlan) = self.vlans.get_mut(&id) else { return };
        let Some(Header { destination, source, tags }) = Header::read(bytes) else {
            port.counts.refused += 1;
            return;
        };
        port.counts.received.add(bytes.len());
        if frame::changes_topology(bytes) {
            vlan.stations.clear();
        }
        // A group does not send frames. A machine that forges one must not become the port of the group.
        if !frame::is_group(source) {
            vlan.stations.learn(Station { address: source, tags }, from, now);
        }
        let known = match frame::is_group(destination) {
            true => None,
            false => vlan.stations.find(Station { address: destination, tags }, now),
        };
        let frame = Frame::from(bytes);
        let sender = port.end;
        match known {
            Some(to) if to == from => _ = self.capture.add_to_nobody(id, sender, &frame),
            Some(to) => self.send_on(id, from, to, frame, now),
            None => {
                let others: Vec<Key> = vlan.ports.iter().copied().filter(|to| *to != from).collect();
                if others.is_empty() {
                    self.capture.add_to_nobody(id, sender, &frame);
                }
                for to in others {
                    self.send_on(id, from, to, frame.clone(), now);
                }
            }
        }
    }

    /// Holds a frame from the other end of a port, while the switch is frozen.
    pub(super) fn hold(&mut self, port: Key, bytes: &[u8], frozen: &mut InFlight) {
        let Some(state) = self.ports.get_mut(&port) else { return };
        let Some(vlan) = state.vlan else { return };
        if Header::read(bytes).is_none() {
            state.counts.refused += 1;
            return;
        }
        let (end, frame) = (state.end, Frame::from(bytes));
        let held =
            Held { port: Some(port), from: Some(self.links.name(end)), to: None, vlan, bytes: frame.clone() };
        if !frozen.hold(held) {
            state.counts.received.add(bytes.len());
            state.counts.dropped.add(bytes.len());
            let packet = self.capture.add_to_nobody(vlan, end, &frame);
            self.capture.lost(packet, "all machines are stopped to be saved, and too many frames wait");
        }
    }

    /// Returns the frames that wait for machines which do not read.
    pub(super) fn queued(&self) -> Vec<Held> {
        let mut ports: Vec<(&Key, &Port)> = self.ports.iter().collect();
        ports.sort_unstable_by_key(|(key, _)| **key);
        let queued = ports.into_iter().filter_map(|(_, port)| Some((port, port.vlan?)));
        let held = queued.flat_map(|(port, vlan)| {
            let to = self.links.name(port.end);
            port.queue.frames().map(move |frame| Held {
                port: None,
                from: None,
                to: Some(to.clone()),
                vlan,
                bytes: frame.clone(),
            })
        });
        held.collect()
    }

    /// Returns the frames that faults hold back.
    pub(super) fn held_back(&self) -> Vec<Held> {
        let held = self.links.held_back().into_iter().map(|sent| Held {
            port: None,
            from: Some(self.links.name(sent.link.from)),
            to: Some(self.links.name(sent.link.to)),
            vlan: sent.link.vlan,
            bytes: sent.frame.clone(),
        });
        held.collect()
    }

    /// Forwards a frame that was held. It is lost if a machine is not there any more.
    pub(super) fn forward(&mut self, held: &Held, now: Instant) {
        let Held { port, from, to, vlan, bytes } = held;
        let same = port.filter(|port| self.ports.get(port).is_some_and(|its| its.vlan == Some(*vlan)));
        let sender = same.or_else(|| self.port_of(*vlan, from.as_deref()?));
        let receiver = to.as_deref().map(|to| self.port_of(*vlan, to));
        match (sender, receiver, from) {
            (Some(from), None, _) => self.receive(from, bytes, now),
            (Some(from), Some(Some(to)), _) => self.send_on(*vlan, from, to, bytes.clone(), now),
            // It had passed its link.
            (None, Some(Some(to)), None) => _ = self.deliver(to, bytes.clone()),
            (_, _, from) => {
                let from = self.links.end(from.as_deref().unwrap_or_default());
                let packet = self.capture.add_to_nobody(*vlan, from, bytes);
                self.capture.lost(packet, "its sender or its receiver is gone");
            }
        }
    }

    /// Returns the last port of a machine on a VLAN.
    fn port_of(&self, vlan: VlanId, name: &str) -> Option<Key> {
        let is_its =
            |port: &&Key| self.ports.get(port).is_some_and(|port| *self.links.name(port.end) == *name);
        self.vlans.get(&vlan)?.ports.iter().rev().find(is_its).copied()
    }

    /// Sends a frame on the link from one port to another. Each frame passes here once for each port that it is for.
    fn send_on(&mut self, vlan: VlanId, from: Key, to: Key, frame: Frame, now: Instant) {
        let (Some(sender), Some(receiver)) = (self.ports.get(&from), self.ports.get(&to)) else { return };
        let link = Link { vlan, from: sender.end, to: receiver.end };
        let packet = self.capture.add(link, &frame);
        match self.links.send(Sent { link, to, frame, packet }, now, &mut self.capture) {
            Some(sent) => self.arrive(sent),
            None => self.arrive_by(now),
        }
    }

    /// Delivers the frames that were under way and have arrived by now.
    pub(super) fn arrive_by(&mut self, now: Instant) {
        while let Some(sent) = self.links.arrived(now, &mut self.capture) {
            self.arrive(sent);
        }
    }

    /// When the next frame arrives that is under way.
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        self.links.next_arrival()
    }

    fn arrive(&mut self, Sent { link, to, frame, packet }: Sent) {
        let length = frame.len();
        let is_delivered = self.deliver(to, frame);
        if !is_delivered {
            self.capture.lost(packet, "the receiver does not read and its queue is full, or it is gone");
        }
        self.links.count(link, length, is_delivered);
    }

    /// Takes a frame to the queue of a port. False if it is lost: the queue is full, or the other end is gone.
    fn deliver(&mut self, to: Key, frame: Frame) -> bool {
        let Some(port) = self.ports.get_mut(&to) else { return false };
        let length = frame.len();
        if port.vlan.is_none() || !port.queue.push(frame) {
            port.counts.dropped.add(length);
            return false;
        }
        if port.queue.len() == 1 {
            self.waiting.push(to);
        }
        true
    }

    /// Changes the faults of the link from one machine to another on a VLAN.
    pub(super) fn change(
        &mut self,
        (vlan, from, to): (VlanId, &str, &str),
        change: impl FnOnce(&mut Faults),
        now: Instant,
    ) {
        let link = Link { vlan, from: self.links.end(from), to: self.links.end(to) };
        self.change_link(link, change, now);
    }

    fn change_link(&mut self, link: Link, change: impl FnOnce(&mut Faults), now: Instant) {
        for sent in self.links.change(link, change, now, &mut self.capture) {
            self.arrive(sent);
        }
        self.arrive_by(now);
    }

    /// Ends all faults on these VLANs, or on all.
    pub(super) fn heal(&mut self, vlan: Option<VlanId>, now: Instant) {
        for (link, _) in self.links.faulty() {
            if vlan.is_none_or(|vlan| vlan == link.vlan) {
                self.change_link(link, |faults| *faults = Faults::default(), now);
            }
        }
    }

    /// Loses all frames that are under way or held.
    pub(super) fn go_back(&mut self) {
        self.links.go_back(&mut self.capture);
    }

    /// Begins to count and to tell of packets anew: what passed so far was before the scenario.
    pub(super) fn begin(&mut self) {
        self.links.begin();
        self.capture.begin();
    }

    /// Returns the links that have faults.
    pub(super) fn faulty(&self) -> Vec<FaultyLink> {
        self.links.faulty().into_iter().map(|(_, faulty)| faulty).collect()
    }

    /// Returns what passed each link so far.
    pub(super) fn link_counts(&self) -> Vec<CountedLink> {
        self.links.counts()
    }

    /// What passed so far, and the links that it names.
    pub(super) fn capture(&mut self) -> (&mut Capture, &Links) {
        (&mut self.capture, &self.links)
    }

    /// Returns the ports that got frames since the last call.
    pub(super) fn take_waiting(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.waiting)
    }

    /// The frame that is next for a port.
    pub(super) fn first(&self, port: Key) -> Option<&Frame> {
        self.ports.get(&port)?.queue.first()
    }

    /// Removes the frame that is next for a port, which was sent.
    pub(super) fn sent(&mut self, port: Key) -> Option<Frame> {
        let port = self.ports.get_mut(&port)?;
        let frame = port.queue.pop()?;
        port.counts.sent.add(frame.len());
        Some(frame)
    }

    /// Removes the frame that is next for a port, which the other end can't take.
    pub(super) fn drop_first(&mut self, port: Key) {
        let Some(port) = self.ports.get_mut(&port) else { return };
        if let Some(frame) = port.queue.pop() {
            port.counts.dropped.add(frame.len());
        }
    }

    /// What passed a port so far.
    pub(super) fn counts(&self, port: Key) -> Counts {
        self.ports.get(&port).map(|port| port.counts).unwrap_or_default()
    }

    /// How many stations of a VLAN are known.
    #[cfg(test)]
    pub(super) fn stations(&self, vlan: VlanId) -> usize {
        self.vlans.get(&vlan).map_or(0, |vlan| vlan.stations.len())
    }
}
