//! Faults of the links between machines.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::group::Group;
use super::scenario_network::Network;
use crate::call::called;
use crate::event::{LinkFaults, MOST_LINKS};
use crate::machine::Machine;
use crate::network::{Chance, Faults, FaultyLink, Latency, VlanId};
use crate::{Error, ErrorKind, Event, Result, place, secrets};

/// The longest latency.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// How much later frames arrive: a [`Duration`], or a range of them for a latency with jitter, from which each frame has
/// one. Jitter does not change the order of frames.
///
/// ```
/// use nixvm_test::machine::LinkLatency;
/// use std::time::Duration;
///
/// let latency: LinkLatency = Duration::from_millis(100).into();
/// let with_jitter: LinkLatency = (Duration::from_millis(80)..=Duration::from_millis(120)).into();
/// # let _ = (latency, with_jitter);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkLatency(Latency);

impl From<Duration> for LinkLatency {
    fn from(latency: Duration) -> Self {
        Self(Latency { least: latency, most: latency })
    }
}

impl From<RangeInclusive<Duration>> for LinkLatency {
    fn from(latency: RangeInclusive<Duration>) -> Self {
        Self(Latency { least: *latency.start(), most: *latency.end() })
    }
}

/// # Faults
///
/// A fault is about the links between two machines, or between each machine of one group and each of another. It is
/// there when the method returns, and stays until it is taken back, also when a machine is started again. It is about
/// both directions and all VLANs that the machines share, unless the network is limited by [`Network::oneway`] or
/// [`Network::on`].
///
/// What two machines send to each other by way of a third one, such as a router, passes the links of that one.
///
/// What is a matter of chance comes from a seed, which is printed. With the same seed (`--seed`), the n-th frame of a link
/// has the same fate in each run.
///
/// Each of these methods has the errors of [`Network::partition`].
impl Network {
    /// Returns this network, limited to one VLAN: faults and counts are about it alone.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when no machine has a card on that VLAN.
    ///
    /// ```no_run
    /// # use nixvm_test::prelude::*;
    /// # fn example(one: Machine, two: Machine, network: Network) -> Result {
    /// network.on(2)?.partition(&one, &two)
    /// # }
    /// ```
    #[track_caller]
    pub fn on(&self, vlan: u8) -> Result<Self> {
        let limited = || {
            let vlan = crate::machine::networks::vlan(vlan)?;
            let machines = self.machines();
            let cards = machines.iter().flat_map(|machine| machine.networks().map(|its| &its.cards[..]));
            let vlans: BTreeSet<u8> = cards.flatten().map(|card| card.vlan.get()).collect();
            if !vlans.contains(&vlan.get()) {
                let summary = format!("no machine of the network has a card on VLAN {}", vlan.get());
                let vlans = vlans.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
                return Err(Error::new(ErrorKind::Usage, summary).section("the VLANs of the network", vlans));
            }
            Ok(Self { vlan: Some(vlan), ..self.clone() })
        };
        called(limited())
    }

    /// Returns this network, limited to one direction: faults are about what the first machines send to the second ones.
    ///
    /// ```no_run
    /// # use nixvm_test::prelude::*;
    /// # fn example(one: Machine, two: Machine, network: Network) -> Result {
    /// network.oneway().set_loss(&one, &two, 0.5)
    /// # }
    /// ```
    #[must_use]
    pub fn oneway(&self) -> Self {
        Self { is_oneway: true, ..self.clone() }
    }

    /// Cuts the links between machines: no frame passes, and those under way are lost. The guests see no change of their
    /// cards; [`Network::unplug`] pulls a cable. [`Network::repair`] ends it.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when two of the machines share no VLAN, or have no card on the one that the network is limited
    /// to; when a group is empty or a machine is in both, when a machine is not in this network, and for values that have
    /// no meaning. Nothing changes then.
    ///
    /// ```no_run
    /// # use nixvm_test::prelude::*;
    /// # async fn example(one: Machine, two: Machine, three: Machine, network: Network) -> Result {
    /// network.partition(&one, &two)?;
    /// network.partition(&[&one, &two], &[&three])?;
    /// network.heal_all()
    /// # }
    /// ```
    #[track_caller]
    pub fn partition(&self, one: &(impl Group + ?Sized), other: &(impl Group + ?Sized)) -> Result {
        called(self.change("partition", one, other, |faults| faults.is_cut = true))
    }

    /// Cuts the links from some machines to others. What these send back passes.
    #[track_caller]
    pub fn partition_oneway(&self, from: &(impl Group + ?Sized), to: &(impl Group + ?Sized)) -> Result {
        called(self.oneway().change("partition", from, to, |faults| faults.is_cut = true))
    }

    /// Ends a partition. Other faults stay.
    #[track_caller]
    pub fn repair(&self, one: &(impl Group + ?Sized), other: &(impl Group + ?Sized)) -> Result {
        called(self.change("repair", one, other, |faults| faults.is_cut = false))
    }

    /// Holds frames back, in their order, until [`Network::release`]. A link holds up to 16,384 frames and 32 MiB; frames
    /// beyond that are lost, and counted.
    #[track_caller]
    pub fn hold(&self, one: &(impl Group + ?Sized), other: &(impl Group + ?Sized)) -> Result {
        called(self.change("hold", one, other, |faults| faults.is_held = true))
    }

    /// Ends a hold. The frames arrive at once, in their order.
    #[track_caller]
    pub fn release(&self, one: &(impl Group + ?Sized), other: &(impl Group + ?Sized)) -> Result {
        called(self.change("release", one, other, |faults| faults.is_held = false))
    }

    /// Lets frames arrive later: each direction by this time, so an answer takes twice as long. [`Duration::ZERO`] ends it.
    /// The longest latency is an hour. A link has up to 16,384 frames and 32 MiB under way; frames beyond that are lost.
    ///
    /// ```no_run
    /// # use nixvm_test::prelude::*;
    /// # use std::time::Duration;
    /// # fn example(one: Machine, two: Machine, network: Network) -> Result {
    /// network.set_latency(&one, &two, Duration::from_millis(100))?;
    /// let with_jitter = Duration::from_millis(80)..=Duration::from_millis(120);
    /// network.set_latency(&one, &two, with_jitter)
    /// # }
    /// ```
    #[track_caller]
    pub fn set_latency(
        &self,
        one: &(impl Group + ?Sized),
        other: &(impl Group + ?Sized),
        latency: impl Into<LinkLatency>,
    ) -> Result {
        let LinkLatency(latency) = latency.into();
        let set = || {
            if latency.least > latency.most || latency.most > LONGEST {
                let Latency { least, most } = latency;
                let summary = match least > most {
                    true => format!("a latency from {least:?} to {most:?} is no range"),
                    false => format!("a latency of {most:?} is longer than an hour"),
                };
                return Err(Error::new(ErrorKind::Usage, summary)
                    .next_step("give times from zero to an hour, the shorter one first"));
            }
            let words = Faults { latency, ..Faults::default() }.words();
            let what = words.first().map_or("latency 0", String::as_str);
            self.change(&format!("set {what}"), one, other, |faults| faults.latency = latency)
        };
        called(set())
    }

    /// Loses frames with this probability, from 0 (the end of it) to 1.
    #[track_caller]
    pub fn set_loss(
        &self,
        one: &(impl Group + ?Sized),
        other: &(impl Group + ?Sized),
        probability: f64,
    ) -> Result {
        called(self.with_chance("set loss", one, other, probability, |faults, chance| faults.loss = chance))
    }

    /// Lets frames arrive twice with this probability, from 0 to 1.
    #[track_caller]
    pub fn set_duplicate(
        &self,
        one: &(impl Group + ?Sized),
        other: &(impl Group + ?Sized),
        probability: f64,
    ) -> Result {
        let set = |faults: &mut Faults, chance| faults.duplicate = chance;
        called(self.with_chance("set duplicate", one, other, probability, set))
    }

    /// Lets frames arrive behind the next one of the same link, with this probability, from 0 to 1. A frame that no other
    /// one follows arrives 100 ms later.
    #[track_caller]
    pub fn set_reorder(
        &self,
        one: &(impl Group + ?Sized),
        other: &(impl Group + ?Sized),
        probability: f64,
    ) -> Result {
        let set = |faults: &mut Faults, chance| faults.reorder = chance;
        called(self.with_chance("set reorder", one, other, probability, set))
    }

    /// Flips one bit of frames with this probability, from 0 to 1: any bit behind the Ethernet header. Most protocols see
    /// that a checksum is wrong, and drop the frame.
    #[track_caller]
    pub fn set_corrupt(
        &self,
        one: &(impl Group + ?Sized),
        other: &(impl Group + ?Sized),
        probability: f64,
    ) -> Result {
        let set = |faults: &mut Faults, chance| faults.corrupt = chance;
        called(self.with_chance("set corrupt", one, other, probability, set))
    }

    /// Limits how many bits pass each link in a second; `None` ends it. Frames wait for each other for up to a second, and
    /// those that would wait longer are lost, as in a router.
    ///
    /// ```no_run
    /// # use nixvm_test::prelude::*;
    /// # fn example(one: Machine, two: Machine, network: Network) -> Result {
    /// network.set_rate(&one, &two, 1_000_000)?;
    /// network.set_rate(&one, &two, None)
    /// # }
    /// ```
    #[track_caller]
    pub fn set_rate(
        &self,
        one: &(impl Group + ?Sized),
        other: &(impl Group + ?Sized),
        bits_per_second: impl Into<Option<u64>>,
    ) -> Result {
        let set = || {
            let rate = match bits_per_second.into().map(NonZero::new) {
                Some(None) => {
                    return Err(Error::new(ErrorKind::Usage, "a rate of 0 bits a second passes nothing")
                        .next_step("`partition` cuts a link; `set_rate(…, None)` ends a rate"));
                }
                rate => rate.flatten(),
            };
            let what = rate.map_or_else(|| "end rate".to_owned(), |rate| format!("set rate {rate} bit/s"));
            self.change(&what, one, other, |faults| faults.rate = rate)
        };
        called(set())
    }

    /// Ends all faults of all links: on the VLAN that the network is limited to, or on all. Frames that were held arrive.
    ///
    /// # Errors
    /// None at present.
    #[track_caller]
    pub fn heal_all(&self) -> Result {
        let Some(switch) = &self.shared.switch else { return Ok(()) };
        let before = switch.faults();
        let healed = before.iter().filter(|link| self.vlan.is_none_or(|vlan| vlan == link.vlan));
        let healed: Vec<NamedLink<'_>> = healed.map(named).collect();
        switch.heal(self.vlan);
        self.tell(format!("heal all{}", self.limited_to()), &healed, &switch.faults());
        Ok(())
    }

    /// Returns the faults that are there now, in words, one for each link that has some:
    /// `one → two on VLAN 1: loss 10 %`. A replay has none.
    pub fn faults(&self) -> Vec<String> {
        let faults = self.shared.switch.as_ref().map(|switch| switch.faults()).unwrap_or_default();
        let (mut lines, more) = in_words(&faults);
        lines.extend((more > 0).then(|| format!("{more} more")));
        lines
    }

    /// Returns the seed of all random choices, if some were made.
    pub(crate) fn used_seed(&self) -> Option<u64> {
        self.shared.is_random.load(Ordering::Relaxed).then_some(self.shared.seed)
    }

    fn with_chance(
        &self,
        what: &str,
        one: &(impl Group + ?Sized),
        other: &(impl Group + ?Sized),
        probability: f64,
        set: impl Fn(&mut Faults, Chance),
    ) -> Result {
        let chance = Chance::new(probability).ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("{probability} is no probability"))
                .next_step("give a number from 0 (never) to 1 (always)")
        })?;
        self.change(&format!("{what} {chance}"), one, other, |faults| set(faults, chance))
    }

    /// Changes the faults of all links between the machines. `what` is done to them, in words: `partition`, `set loss 10 %`.
    fn change(
        &self,
        what: &str,
        one: &(impl Group + ?Sized),
        other: &(impl Group + ?Sized),
        change: impl Fn(&mut Faults),
    ) -> Result {
        let (one, other) = (one.machines(), other.machines());
        let links = self.links(&one, &other)?;
        // A replay has no network, and its machines answer as they did.
        let Some(switch) = &self.shared.switch else { return Ok(()) };
        let links: Vec<NamedLink<'_>> =
            links.iter().map(|(vlan, from, to)| (*vlan, from.name(), to.name())).collect();
        switch.change_faults(&links, &change);
        let now = switch.faults();
        if now.iter().any(|link| link.faults.are_random())
            && !self.shared.is_random.swap(true, Ordering::Relaxed)
        {
            let seed = self.shared.seed;
            self.shared
                .events
                .note(format!("faults of the network have the seed {seed} (--seed {seed} repeats them)"));
        }
        let names = |group: &[&Machine]| {
            let mut names: Vec<&str> = group.iter().map(|its| its.name()).collect();
            names.dedup();
            names.join(", ")
        };
        let arrow = if self.is_oneway { "→" } else { "|" };
        self.tell(
            format!("{what}: {} {arrow} {}{}", names(&one), names(&other), self.limited_to()),
            &links,
            &now,
        );
        Ok(())
    }

    pub(super) fn limited_to(&self) -> String {
        self.vlan.map_or_else(String::new, |vlan| format!(" on VLAN {}", vlan.get()))
    }

    /// Reports that the faults of these links have changed. `now` has all faults that are there.
    fn tell(&self, what: String, links: &[NamedLink<'_>], now: &[FaultyLink]) {
        let now = by_name(now);
        let told = |link: &NamedLink<'_>| LinkFaults {
            vlan: link.0.get(),
            from: link.1.to_owned(),
            to: link.2.to_owned(),
            faults: now.get(link).map(|faults| faults.words()).unwrap_or_default(),
        };
        let left_out = links.len().saturating_sub(MOST_LINKS);
        let links = links.iter().take(MOST_LINKS).map(told).collect();
        let text = secrets::own(&what);
        let line = place::line_of_a_step();
        self.shared.events.send(Event::NetworkFaults { text, line, links, left_out });
    }

    /// Returns the links from each machine of one group to each of the other: and back, unless the network is limited to
    /// one direction.
    pub(super) fn links<'a>(
        &self,
        one: &[&'a Machine],
        other: &[&'a Machine],
    ) -> Result<Vec<(VlanId, &'a Machine, &'a Machine)>> {
        if one.is_empty() || other.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "a group without machines has no links"));
        }
        let mut links = Vec::new();
        let mut seen = BTreeSet::new();
        for from in one {
            for to in other {
                let shared = self.shared_vlans(from, to)?;
                let directions = [(*from, *to), (*to, *from)];
                for (from, to) in directions.into_iter().take(if self.is_oneway { 1 } else { 2 }) {
                    for vlan in &shared {
                        if seen.insert((*vlan, from.name(), to.name())) {
                            links.push((*vlan, from, to));
                        }
                    }
                }
            }
        }
        Ok(links)
    }

    /// Returns the VLANs that two machines share, of those that the network is limited to.
    fn shared_vlans(&self, one: &Machine, other: &Machine) -> Result<Vec<VlanId>> {
        let [its, others] = [self.cards(one)?, self.cards(other)?];
        if one.name() == other.name() {
            let summary = format!("{} has no link to itself", one.name());
            return Err(Error::new(ErrorKind::Usage, summary)
                .next_step("give two machines, or two groups without a machine in both"));
        }
        if let Some(vlan) = self.vlan {
            its.card_on(vlan, one.name())?;
            others.card_on(vlan, other.name())?;
            return Ok(vec![vlan]);
        }
        let is_shared = |vlan: &VlanId| others.cards.iter().any(|card| card.vlan == *vlan);
        let shared: Vec<VlanId> = its.cards.iter().map(|card| card.vlan).filter(is_shared).collect();
        if shared.is_empty() {
            let vlans = |networks: &crate::machine::Networks| {
                let vlans: Vec<String> =
                    networks.cards.iter().map(|card| card.vlan.get().to_string()).collect();
                match vlans.is_empty() {
                    true => "no VLAN".to_owned(),
                    false => format!("VLAN {}", vlans.join(", ")),
                }
            };
            let (one_is, other_is) = (vlans(its), vlans(others));
            let (one, other) = (one.name(), other.name());
            let summary =
                format!("{one} and {other} share no VLAN: {one} is on {one_is}, {other} is on {other_is}");
            return Err(Error::new(ErrorKind::Usage, summary)
                .next_step("what they send to each other passes a third machine: name that one"));
        }
        Ok(shared)
    }
}

/// A link by its VLAN, the machine that sends and the one that receives.
type NamedLink<'a> = (VlanId, &'a str, &'a str);

fn named(link: &FaultyLink) -> NamedLink<'_> {
    (link.vlan, &link.from, &link.to)
}

fn by_name(faults: &[FaultyLink]) -> HashMap<NamedLink<'_>, Faults> {
    faults.iter().map(|link| (named(link), link.faults)).collect()
}

/// Returns faults in words, one line for each link, and how many are left out. Two directions with the same faults are
/// one line.
fn in_words(faults: &[FaultyLink]) -> (Vec<String>, usize) {
    let by_name = by_name(faults);
    let mut lines = Vec::new();
    for link in faults {
        let has_back = by_name.get(&(link.vlan, &*link.to, &*link.from)) == Some(&link.faults);
        if has_back && link.from > link.to {
            continue;
        }
        let arrow = if has_back { "↔" } else { "→" };
        let (vlan, words) = (link.vlan.get(), link.faults.words().join(", "));
        lines.push(format!("{} {arrow} {} on VLAN {vlan}: {words}", link.from, link.to));
    }
    let more = lines.len().saturating_sub(MOST_LINKS);
    lines.truncate(MOST_LINKS);
    (lines, more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_with_the_same_faults_are_one_line() {
        let cut = Faults { is_cut: true, ..Faults::default() };
        let lossy = Faults {
            loss: Chance::new(0.1).unwrap(),
            latency: Latency { least: Duration::from_millis(5), most: Duration::from_millis(9) },
            rate: NonZero::new(1000),
            ..Faults::default()
        };
        let link = |from: &str, to: &str, faults| FaultyLink {
            vlan: VlanId::new(2).unwrap(),
            from: from.to_owned(),
            to: to.to_owned(),
            faults,
        };
        let faults = [link("a", "b", cut), link("a", "c", lossy), link("b", "a", cut), link("c", "a", cut)];
        let expected = [
            "a ↔ b on VLAN 2: partition",
            "a → c on VLAN 2: latency 5ms to 9ms, rate 1000 bit/s, loss 10 %",
            "c → a on VLAN 2: partition",
        ];
        assert_eq!(in_words(&faults), (expected.map(str::to_owned).to_vec(), 0));
    }
}
