//! What passed the links between machines.

use nixvm_test_macros::tracked;

use super::scenario_network::Network;
use crate::event::{LinkTraffic, MOST_LINKS};
use crate::machine::Machine;
use crate::network;
use crate::{Error, ErrorKind, Event, Result};

/// How many frames passed the link from one machine to another since the scenario began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LinkCounts {
    /// Frames that the first machine sent to the second one, or to all.
    pub sent: u64,
    /// Frames that the second machine was given. A frame that was duplicated counts twice.
    pub delivered: u64,
    /// Frames that were lost: by a fault, or because the second machine did not read.
    pub dropped: u64,
    /// Frames that arrived later, by latency or a rate.
    pub delayed: u64,
    /// Frames that a hold held back.
    pub held: u64,
    /// Frames that arrived twice.
    pub duplicated: u64,
    /// Frames that arrived behind the next one.
    pub reordered: u64,
    /// Frames that arrived with a wrong bit.
    pub corrupted: u64,
}

impl LinkCounts {
    /// Returns the counts as a record has them.
    fn to_answer(self) -> [u64; 8] {
        let Self { sent, delivered, dropped, delayed, held, duplicated, reordered, corrupted } = self;
        [sent, delivered, dropped, delayed, held, duplicated, reordered, corrupted]
    }

    fn of_answer(answer: [u64; 8]) -> Self {
        let [sent, delivered, dropped, delayed, held, duplicated, reordered, corrupted] = answer;
        Self { sent, delivered, dropped, delayed, held, duplicated, reordered, corrupted }
    }

    fn add(&mut self, counts: &network::LinkCounts) {
        self.sent += counts.sent.frames;
        self.delivered += counts.delivered.frames;
        self.dropped += counts.dropped.frames;
        self.delayed += counts.delayed;
        self.held += counts.held;
        self.duplicated += counts.duplicated;
        self.reordered += counts.reordered;
        self.corrupted += counts.corrupted;
    }
}

impl Network {
    /// Returns what passed from one machine to another: on all VLANs that they share, or on the one that the network is
    /// limited to by [`Network::on`].
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when they share no VLAN, or are not in this network.
    ///
    /// ```no_run
    /// # use nixvm_test::prelude::*;
    /// # async fn example(server: Machine, client: Machine, network: Network) -> Result {
    /// network.set_loss(&server, &client, 0.1)?;
    /// client.succeed("curl -f http://server/").await?;
    /// let counts = network.counts(&server, &client).await?;
    /// assert_eq!(counts.sent, counts.delivered + counts.dropped);
    /// # Ok(()) }
    /// ```
    #[tracked]
    pub async fn counts(&self, from: &Machine, to: &Machine) -> Result<LinkCounts> {
        let links = self.oneway().links(&[from], &[to])?;
        let count = async {
            let switch = self.shared.switch.as_ref();
            let switch = switch.ok_or_else(|| Error::new(ErrorKind::Usage, "a replay has no network"))?;
            let mut sum = LinkCounts::default();
            for link in switch.link_counts() {
                let is_asked = |(vlan, from, to): &(network::VlanId, &Machine, &Machine)| {
                    (*vlan, from.name(), to.name()) == (link.vlan, &*link.from, &*link.to)
                };
                if links.iter().any(is_asked) {
                    sum.add(&link.counts);
                }
            }
            Ok(sum.to_answer())
        };
        let question = format!("count the frames to {}{}", to.name(), self.limited_to());
        from.life().answer_of_qemu(&question, count).await.map(LinkCounts::of_answer)
    }

    /// Reports what passed each link, when the scenario is over.
    pub(crate) fn tell_counts(&self) {
        let Some(switch) = &self.shared.switch else { return };
        let counted = switch.link_counts();
        if counted.is_empty() {
            return;
        }
        let left_out = counted.len().saturating_sub(MOST_LINKS);
        let told = |link: network::CountedLink| {
            let mut counts = LinkCounts::default();
            counts.add(&link.counts);
            LinkTraffic {
                vlan: link.vlan.get(),
                from: link.from,
                to: link.to,
                sent: counts.sent,
                delivered: counts.delivered,
                dropped: counts.dropped,
                delayed: counts.delayed,
                held: counts.held,
                duplicated: counts.duplicated,
                reordered: counts.reordered,
                corrupted: counts.corrupted,
            }
        };
        let links = counted.into_iter().take(MOST_LINKS).map(told).collect();
        self.shared.events.send(Event::NetworkCounts { links, left_out });
    }
}
