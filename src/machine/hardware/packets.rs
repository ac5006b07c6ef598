//! The packets that passed a scenario's network.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use nixvm_test_macros::tracked;

use crate::call::called;
use crate::machine::commands::user::COMMAND;
use crate::machine::{Network, Packet};
use crate::network::{Packets, Switch, VlanId};
use crate::stopped::{Instant, timeout_at};
use crate::{Error, ErrorKind, Result};

/// How many of the last packets an error shows.
const SHOWN: usize = 10;

/// # Packets
impl Network {
    /// Returns the packets that passed the network since the scenario's function began, in their order: all of them, or those
    /// of the VLAN that the network is limited to by [`Network::on`]. Faults are comments of the packets, which are as they
    /// were sent. What machines have sent is there, also if it is still on its way.
    ///
    /// An assertion over all packets passes if there are none: wait for one first, or count them.
    ///
    /// # Errors
    /// [`ErrorKind::Incomplete`] when packets were left out, because there was no room for all of them: an assertion over
    /// those that are there could be wrong. [`ErrorKind::Usage`] when nothing is captured (`capture-network` is off);
    /// [`ErrorKind::NotRecorded`] in a replay.
    ///
    /// ```no_run
    /// # use nixvm_test::prelude::*;
    /// # fn example(network: Network) -> Result {
    /// // What leaves for the other site by TCP is encrypted: VLAN 2 is between the sites.
    /// let between = network.on(2)?.packets()?;
    /// assert!(between.iter().any(|packet| packet.protocol() == Protocol::Esp));
    /// assert!(between.iter().all(|packet| packet.protocol() != Protocol::Tcp));
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn packets(&self) -> Result<Vec<Packet>> {
        called(self.captured())
    }

    /// Waits for a packet for which `predicate` returns true, and returns it. It looks at all packets so far, and then at
    /// each that comes, once: a packet that is delayed may be lost later. The limit is 15 minutes on a
    /// fast host, as for other waits, or that of [`Network::within`].
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after the limit, with the last packets that passed; [`ErrorKind::Incomplete`] instead if
    /// packets were left out before the predicate saw them. [`ErrorKind::Usage`] when nothing is captured
    /// (`capture-network` is off); [`ErrorKind::NotRecorded`] in a replay.
    ///
    /// ```no_run
    /// # use nixvm_test::prelude::*;
    /// # async fn example(network: Network) -> Result {
    /// let syn = network.wait_for_packet(|packet| packet.is_syn() && packet.destination_port() == Some(80)).await?;
    /// assert_eq!((syn.from(), syn.to()), ("client", Some("server")));
    /// # Ok(()) }
    /// ```
    #[tracked]
    pub async fn wait_for_packet(&self, predicate: impl FnMut(&Packet) -> bool) -> Result<Packet> {
        let switch = self.capturing()?;
        let limit = self.speed.scale(self.limit.unwrap_or(COMMAND));
        let begun = Instant::now();
        let mut watch =
            Watch { switch, vlan: self.vlan, predicate, next: 0, looked: 0, last: VecDeque::new() };
        if let Ok(found) = timeout_at(begun + limit, watch.find()).await {
            return found;
        }
        // What came at last is not told of as if it had been left out.
        let mut passed = None;
        let looked = loop {
            let page = watch.look()?;
            if let Some(found) = page.found {
                return Ok(found);
            }
            // What comes from now on is not waited for.
            let passed = *passed.get_or_insert(page.passed);
            if page.is_empty || watch.looked >= passed {
                break watch.looked;
            }
        };
        let passed = passed.unwrap_or_default();
        let summary =
            format!("timed out waiting for a packet: none of the {looked} that passed is the expected one");
        let last: String = watch.last.iter().map(|packet| format!("{packet}\n")).collect();
        let error = Error::new(ErrorKind::Timeout, summary).took(begun.elapsed(), limit);
        let error = error.section("the last packets", last);
        Err(match passed.saturating_sub(looked) {
            0 => error,
            missed => error
                .because_incomplete(&format!(
                    "there was no room to keep {missed} more until they were looked at"
                ))
                .next_step(MORE_ROOM),
        })
    }

    fn captured(&self) -> Result<Vec<Packet>> {
        let Packets { packets, passed, left_out, .. } =
            self.capturing()?.packets(self.vlan).ok_or_else(off)?;
        if left_out > 0 {
            let summary =
                format!("{left_out} of {passed} packets are not known: there was no room for all of them");
            return Err(Error::new(ErrorKind::Incomplete, summary)
                .likely_cause("of each VLAN only the first and the last packets are kept")
                .next_step(MORE_ROOM));
        }
        Ok(packets.into_iter().map(Packet::of).collect())
    }

    fn capturing(&self) -> Result<&Arc<Switch>> {
        self.shared.switch.as_ref().ok_or_else(|| {
            let summary = "packets need a network: a record can't answer what passed it";
            Error::new(ErrorKind::NotRecorded, summary)
                .next_step("run the scenario on machines, without --against")
        })
    }
}

const MORE_ROOM: &str = "keep more of them: --capture-network-size, NIXVM_CAPTURE_NETWORK_SIZE, or capture-network-size in nixvm.toml";

/// Returns the error for a network of which nothing is captured.
fn off() -> Error {
    Error::new(ErrorKind::Usage, "the packets of the network are not captured")
        .likely_cause("capture-network is off, by --no-capture-network, NIXVM_CAPTURE_NETWORK or nixvm.toml")
        .next_step("run the scenario with --capture-network")
}

/// A search for a packet, in those that passed and those that come.
struct Watch<'a, P> {
    switch: &'a Switch,
    /// The VLAN that it is limited to.
    vlan: Option<VlanId>,
    predicate: P,
    /// The number of the packet that is looked at next.
    next: u64,
    /// How many packets the predicate has looked at.
    looked: u64,
    /// The last ones of them.
    last: VecDeque<Packet>,
}

/// Some packets that were looked at.
struct Page {
    found: Option<Packet>,
    is_empty: bool,
    /// How many packets have passed so far.
    passed: u64,
}

impl<P: FnMut(&Packet) -> bool> Watch<'_, P> {
    async fn find(&mut self) -> Result<Packet> {
        let came = self.switch.packet_came();
        loop {
            // From here on a packet that comes is noticed.
            let mut next = pin!(came.notified());
            next.as_mut().enable();
            match self.look()? {
                Page { found: Some(found), .. } => return Ok(found),
                Page { is_empty: true, .. } => next.await,
                // A flood must not keep the limit from being noticed.
                Page { .. } => tokio::task::yield_now().await,
            }
        }
    }

    /// Looks at the next packets, until one is found.
    fn look(&mut self) -> Result<Page> {
        let Packets { packets, next, passed, .. } =
            self.switch.packets_from(self.vlan, self.next).ok_or_else(off)?;
        (self.next, self.looked) = (next, self.looked + packets.len() as u64);
        let is_empty = packets.is_empty();
        for captured in packets {
            let packet = Packet::of(captured);
            if (self.predicate)(&packet) {
                return Ok(Page { found: Some(packet), is_empty, passed });
            }
            if self.last.len() == SHOWN {
                self.last.pop_front();
            }
            self.last.push_back(packet);
        }
        Ok(Page { found: None, is_empty, passed })
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use rustix::net::{SendFlags, send};

    use super::*;
    use crate::hang::HANG;
    use crate::machine::Protocol;
    use crate::network::Port;
    use crate::{Events, Speed};

    /// A network of two machines, with the ends of their cards.
    struct Wires {
        network: Network,
        switch: Arc<Switch>,
        ports: Vec<(Port, OwnedFd)>,
    }

    impl Wires {
        fn new(size: Option<usize>) -> Self {
            let switch = Arc::new(Switch::start().unwrap());
            if let Some(size) = size {
                switch.capture(size);
            }
            let plug = |name| switch.plug(VlanId::new(1).unwrap(), name).unwrap();
            let ports = ["client", "server"].map(plug).into();
            Self { network: Network::of(Some(switch.clone()), 0, &Events::none()), switch, ports }
        }

        /// Sends a frame from the client to all, and waits until the switch has it.
        fn send(&self, payload: &[u8]) {
            let before = self.ports[0].0.counts().received.frames;
            let frame = [&[0xff; 6][..], &[0x52, 0x54, 0, 0x12, 1, 1], &[0x88, 0xb5], payload].concat();
            send(&self.ports[0].1, &frame, SendFlags::empty()).unwrap();
            while self.ports[0].0.counts().received.frames == before {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn all_packets_so_far_are_returned_in_their_order() {
        let wires = Wires::new(Some(1 << 20));
        assert!(wires.network.packets().unwrap().is_empty());
        ["one", "two"].iter().for_each(|text| wires.send(text.as_bytes()));
        let packets = wires.network.packets().unwrap();
        assert_eq!(packets.iter().map(Packet::payload).collect::<Vec<_>>(), [b"one", b"two"]);
        assert!(packets.iter().all(|packet| packet.protocol() == Protocol::Ethernet(0x88b5)));
        assert_eq!((packets[0].from(), packets[0].to()), ("client", Some("server")));
    }

    #[tokio::test]
    async fn a_wait_sees_what_passed_and_what_comes_and_a_packet_wakes_it() {
        let wires = Wires::new(Some(1 << 20));
        wires.send(b"before");
        let found = wires.network.wait_for_packet(|packet| packet.contains("before")).await.unwrap();
        assert_eq!(found.payload(), b"before");
        let mut looked = Vec::new();
        let wait = wires.network.wait_for_packet(|packet| {
            looked.push(packet.payload().to_vec());
            packet.payload() == b"third"
        });
        let sends = async {
            for payload in ["first", "second", "third"] {
                // The wait goes on until it has nothing to look at.
                tokio::task::yield_now().await;
                wires.send(payload.as_bytes());
            }
        };
        let both = async { tokio::join!(wait, sends).0 };
        let found = tokio::time::timeout(HANG, both).await.unwrap().unwrap();
        assert_eq!(found.payload(), b"third");
        assert_eq!(looked, [&b"before"[..], b"first", b"second", b"third"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_in_vain_ends_at_its_limit_and_shows_the_last_packets() {
        let wires = Wires::new(Some(1 << 20));
        (0..12).for_each(|number: u8| wires.send(&vec![0; number.into()]));
        let slow = wires.network.clone().at(Speed::new(2.0));
        let begun = tokio::time::Instant::now();
        let error = slow.wait_for_packet(Packet::is_syn).await.unwrap_err();
        assert_eq!(begun.elapsed().as_secs(), 2 * COMMAND.as_secs());
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let shown = error.to_string();
        assert!(shown.contains("none of the 12 that passed"), "{shown}");
        assert!(
            !shown.contains(" 15 bytes") && shown.contains(" 16 bytes") && shown.contains(" 25 bytes"),
            "{shown}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn packets_that_were_left_out_are_an_error_and_never_an_answer() {
        // Room for one first packet, and for one last one.
        let wires = Wires::new(Some(300));
        (0..5).for_each(|_| wires.send(b""));
        let error = wires.network.packets().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incomplete);
        let shown = error.to_string();
        assert!(shown.contains("3 of 5 packets") && shown.contains("--capture-network-size"), "{shown}");
        let error = wires.network.wait_for_packet(|_| false).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incomplete);
        assert!(error.to_string().contains("no room to keep 3 more"), "{error}");
        // A packet that is there is an answer.
        assert!(wires.network.wait_for_packet(|_| true).await.is_ok());
        drop(wires.switch);
    }

    #[tokio::test]
    async fn without_packets_the_error_says_why() {
        let off = Wires::new(None).network;
        let replay = Network::of(None, 0, &Events::none());
        for (network, kind, why) in
            [(off, ErrorKind::Usage, "capture-network"), (replay, ErrorKind::NotRecorded, "--against")]
        {
            for error in
                [network.packets().unwrap_err(), network.wait_for_packet(|_| true).await.unwrap_err()]
            {
                assert_eq!(error.kind(), kind);
                assert!(error.to_string().contains(why), "{error}");
            }
        }
    }
}
