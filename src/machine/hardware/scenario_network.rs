//! The network of a scenario's machines, as the scenario sees it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use nixvm_test_macros::tracked;

use crate::machine::hardware::members::Members;
use crate::machine::{Machine, Networks, networks};
use crate::network::{Switch, VlanId};
use crate::{Error, ErrorKind, Events, Result, Speed};

/// The network of a scenario's machines: VLANs, each with the cards of the machines that are on it. The frames of a VLAN
/// reach every machine on it, and no other machine.
///
/// A scenario takes it as a parameter. Several machines are on a network without the parameter, too; it is for what a
/// scenario does with the network itself.
///
/// ```no_run
/// use nixvm_test::prelude::*;
///
/// #[scenario(server = "server.nix", client = "client.nix", vlans(server = [1, 2], client = [1]))]
/// async fn the_page_needs_vlan_1(server: Machine, client: Machine, network: Network) -> Result {
///     client.succeed("curl -f http://server/").await?;
///     network.unplug(&server, 1).await?;
///     client.fail("curl -f -m 2 http://server/").await.map(drop)
/// }
///
/// nixvm_test::main!();
/// ```
#[derive(Debug, Clone)]
pub struct Network {
    pub(super) shared: Arc<Shared>,
    /// The VLAN that it is limited to.
    pub(super) vlan: Option<VlanId>,
    /// Whether faults are about one direction.
    pub(super) is_oneway: bool,
    /// That of the slowest machine.
    pub(super) speed: Speed,
    /// The limit of a wait on a fast host; `None` for the default.
    pub(super) limit: Option<Duration>,
}

/// What all handles of a network share.
#[derive(Debug)]
pub(super) struct Shared {
    /// `None` in a replay.
    pub(super) switch: Option<Arc<Switch>>,
    pub(super) members: Members,
    pub(super) events: Events,
    /// The seed of the switch's random choices.
    pub(super) seed: u64,
    /// Whether there were some.
    pub(super) is_random: AtomicBool,
}

/// What a machine sent to a VLAN and got from it, since it was started. A frame that is too short or too long is counted
/// as dropped, as is one for a machine that does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct FrameCounts {
    /// Frames that the machine sent.
    pub sent: u64,
    /// Frames that were delivered to the machine.
    pub received: u64,
    /// Frames from or to the machine that were dropped.
    pub dropped: u64,
}

impl Network {
    /// Returns the network of machines that are plugged into `switch`, whose random choices come from `seed`.
    pub(crate) fn of(switch: Option<Arc<Switch>>, seed: u64, events: &Events) -> Self {
        let (members, events) = (Members::default(), events.clone());
        let shared = Shared { switch, members, events, seed, is_random: AtomicBool::new(false) };
        Self { shared: Arc::new(shared), vlan: None, is_oneway: false, speed: Speed::new(1.0), limit: None }
    }

    /// Makes the scenario begin here: what passed the network so far is neither counted nor told.
    pub(crate) fn begin(&self) {
        if let Some(switch) = &self.shared.switch {
            switch.begin();
        }
    }

    /// Sets how fast the machines are.
    pub(crate) fn at(self, speed: Speed) -> Self {
        Self { speed, ..self }
    }

    /// Returns this network with another time limit for waits. The limit is for a fast host and is scaled by the speed of the
    /// slowest machine, as that of [`Machine::within`].
    ///
    /// ```no_run
    /// # use nixvm_test::prelude::*;
    /// # async fn example(network: Network) -> Result {
    /// use std::time::Duration;
    /// network.within(Duration::from_secs(5)).wait_for_packet(|packet| packet.is_syn()).await.map(drop)
    /// # }
    /// ```
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self.clone() }
    }

    /// Pulls the cable of a machine's card on a VLAN. The guest sees that the link is down. [`Machine::block`] is about
    /// all VLANs.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the machine has no card on that VLAN, or is not in this network;
    /// [`ErrorKind::QemuGone`].
    #[tracked]
    pub async fn unplug(&self, machine: &Machine, vlan: u8) -> Result {
        self.set_link(machine, vlan, false).await
    }

    /// Plugs the cable in again.
    ///
    /// # Errors
    /// Those of [`Network::unplug`].
    #[tracked]
    pub async fn plug(&self, machine: &Machine, vlan: u8) -> Result {
        self.set_link(machine, vlan, true).await
    }

    async fn set_link(&self, machine: &Machine, vlan: u8, up: bool) -> Result {
        let number = self.card(machine, vlan)? + 1;
        let life = machine.life();
        if life.replay().is_none() && life.qemu.exit().borrow().is_some() {
            let summary = format!("{} is off: its cables can't be changed", machine.name());
            return Err(Error::new(ErrorKind::SessionEnded, summary).next_step("start it: `start()`"));
        }
        let what = match up {
            true => format!("plug into VLAN {vlan}"),
            false => format!("unplug from VLAN {vlan}"),
        };
        let _step = life.step(&what);
        life.answer_of_qemu(&what, machine.qemu().set_link(number, up)).await
    }

    /// Returns what a machine sent to a VLAN and got from it, since it was started. [`Network::counts`] is about two machines.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the machine has no card on that VLAN, or is not in this network.
    ///
    /// ```no_run
    /// # use nixvm_test::prelude::*;
    /// # async fn example(server: Machine, network: Network) -> Result {
    /// assert_eq!(network.card_counts(&server, 1).await?.dropped, 0);
    /// # Ok(()) }
    /// ```
    #[tracked]
    pub async fn card_counts(&self, machine: &Machine, vlan: u8) -> Result<FrameCounts> {
        let number = self.card(machine, vlan)?;
        let life = machine.life();
        let count = async {
            let port = life.ports.get(number).ok_or_else(|| {
                Error::new(ErrorKind::Usage, format!("{} is not plugged in", machine.name()))
            })?;
            let counts = port.counts();
            // The switch receives what the machine sends.
            let dropped = counts.dropped.frames.saturating_add(counts.refused);
            Ok((counts.received.frames, counts.sent.frames, dropped))
        };
        let counted = life.answer_of_qemu(&format!("count the frames on VLAN {vlan}"), count).await?;
        let (sent, received, dropped) = counted;
        Ok(FrameCounts { sent, received, dropped })
    }

    /// Returns the position of the machine's card on a VLAN.
    fn card(&self, machine: &Machine, vlan: u8) -> Result<usize> {
        let vlan = networks::vlan(vlan)?;
        self.cards(machine)?.card_on(vlan, machine.name()).map(|(position, _)| position)
    }

    /// Returns the cards of a machine of this network.
    pub(super) fn cards<'a>(&self, machine: &'a Machine) -> Result<&'a Networks> {
        let its = machine.networks()?;
        let same = match (&its.switch, &self.shared.switch) {
            (Some(its), Some(ours)) => Arc::ptr_eq(its, ours),
            (None, None) => true,
            _ => false,
        };
        match same {
            true => Ok(its),
            false => {
                let summary = format!("{} is not a machine of this network", machine.name());
                Err(Error::new(ErrorKind::Usage, summary)
                    .next_step("give the `Network` and the machines of the same scenario"))
            }
        }
    }
}
