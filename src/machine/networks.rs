//! The networks of a scenario, as one of its machines sees them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::network::{Lease, Port, Switch, VlanId};
use crate::qemu::Cards;
use crate::{Error, ErrorKind, Result};

/// Part of the key of a template. Change it with every change of what QEMU is told of a card.
const CARDS: &str = "cards 1";

/// A machine's cards on the networks of its scenario, and the switch that they are plugged into.
#[derive(Debug, Clone)]
pub(crate) struct Networks {
    /// `None` in a replay, and while only the key of a template is asked for.
    pub(crate) switch: Option<Arc<Switch>>,
    pub(crate) cards: Arc<[Card]>,
    /// What the guest is told of its name and addresses; `None` for a VM that was built without our module.
    pub(crate) told: Option<Arc<str>>,
    /// What a DHCP server gives it instead, by VLAN.
    pub(crate) leases: Arc<[(VlanId, Lease)]>,
}

/// A machine's card on a VLAN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Card {
    /// Its name in the guest.
    pub(crate) name: String,
    #[serde(with = "number")]
    pub(crate) vlan: VlanId,
    /// Its MAC address in lower case.
    pub(crate) mac: String,
    /// `None` for a card that gets no address.
    pub(crate) addresses: Option<Addresses>,
}

/// The addresses of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) ipv4: Ipv4Addr,
    /// `None` for one that comes by DHCP.
    pub(crate) ipv6: Option<Ipv6Addr>,
}

/// A VLAN as its number.
mod number {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::network::VlanId;

    pub(super) fn serialize<S: Serializer>(vlan: &VlanId, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u8(vlan.get())
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<VlanId, D::Error> {
        VlanId::new(u8::deserialize(from)?).ok_or_else(|| D::Error::custom("there is no VLAN 0"))
    }
}

impl Networks {
    /// Plugs the machine in. Returns what QEMU gets, and the ports, which unplug it when they are dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] and [`ErrorKind::Io`] when the host has no descriptor left.
    pub(crate) fn plug(&self, machine: &str) -> Result<(Cards, Vec<Port>)> {
        let switch = self.switch.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("{machine} has no network: it is replayed from a record"))
        })?;
        let mut cards = Cards { told: self.told.as_deref().map(str::to_owned), ..Cards::default() };
        let mut ports = Vec::new();
        for card in self.cards.iter() {
            let (port, socket) = switch.plug(card.vlan, machine)?;
            cards.cards.push((card.mac.to_uppercase(), socket));
            ports.push(port);
        }
        Ok((cards, ports))
    }

    /// Returns the same cards of all of them on networks without any other machine, and the switch of these.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] when the system can't start a thread.
    pub(crate) fn together(all: &[&Self]) -> Result<(Arc<Switch>, Vec<Self>)> {
        let switch = Arc::new(Switch::start()?);
        serve_dhcp(&switch, all.iter().flat_map(|networks| networks.leases.iter()));
        let plugged = |networks: &&Self| Self { switch: Some(Arc::clone(&switch)), ..(*networks).clone() };
        let networks = all.iter().map(plugged).collect();
        Ok((switch, networks))
    }

    /// Returns what distinguishes it in the key of a template.
    pub(crate) fn key(&self) -> String {
        let cards = self.cards.iter().map(|card| format!("{} {} {}", card.name, card.vlan.get(), card.mac));
        let cards = cards.collect::<Vec<_>>().join(" ");
        let leases: String =
            self.leases.iter().map(|(vlan, lease)| format!("{} {lease:?} ", vlan.get())).collect();
        format!("{CARDS} {cards} {leases}{}", self.told.as_deref().unwrap_or_default())
    }

    /// Returns the position of the machine's card on a VLAN, and the card.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when it has none.
    pub(crate) fn card_on(&self, vlan: VlanId, machine: &str) -> Result<(usize, &Card)> {
        let found = self.cards.iter().enumerate().find(|(_, card)| card.vlan == vlan);
        found.ok_or_else(|| no_card(machine, Some(vlan), &self.cards))
    }

    /// Returns the first card with an address, of those on `vlan` if that is given.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when there is none.
    pub(crate) fn addresses(&self, vlan: Option<VlanId>, machine: &str) -> Result<Addresses> {
        let mut cards = self.cards.iter().filter(|card| vlan.is_none_or(|vlan| card.vlan == vlan)).peekable();
        if cards.peek().is_none() {
            return Err(no_card(machine, vlan, &self.cards));
        }
        cards.find_map(|card| card.addresses).ok_or_else(|| {
            let summary = format!("{machine} has no address of the scenario's network there");
            Error::new(ErrorKind::Usage, summary).likely_cause(
                "its configuration says so (`virtualisation.interfaces.<name>.assignIP = false`), or it was built without \
                 nixvm-test's network module and `dhcp = false`",
            )
        })
    }

    /// Returns the IPv6 address of the first such card.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when there is none.
    pub(crate) fn ipv6(&self, vlan: Option<VlanId>, machine: &str) -> Result<Ipv6Addr> {
        self.addresses(vlan, machine)?.ipv6.ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("{machine} has no IPv6 address of the scenario's network"))
                .likely_cause(
                    "its configuration has no IPv6 (`networking.enableIPv6 = false`), or it was built without \
                     nixvm-test's network module, and DHCP gives it an IPv4 address alone",
                )
                .next_step("a VM that is built by hand gets the module with `nixvm-test build --network`")
        })
    }
}

/// Makes a switch answer with these leases.
pub(crate) fn serve_dhcp<'a>(switch: &Switch, leases: impl Iterator<Item = &'a (VlanId, Lease)>) {
    let mut by_vlan: BTreeMap<VlanId, Vec<Lease>> = BTreeMap::new();
    for (vlan, lease) in leases {
        by_vlan.entry(*vlan).or_default().push(lease.clone());
    }
    for (vlan, leases) in by_vlan {
        switch.serve_dhcp(vlan, leases);
    }
}

/// Returns the error for a machine without a card.
pub(crate) fn no_card(machine: &str, vlan: Option<VlanId>, cards: &[Card]) -> Error {
    let on =
        vlan.map_or_else(|| "a network of the scenario".to_owned(), |vlan| format!("VLAN {}", vlan.get()));
    let error = Error::new(ErrorKind::Usage, format!("{machine} has no card on {on}"));
    match cards {
        [] => error.next_step(
            "give it one: `virtualisation.vlans` in its configuration, or `#[scenario(vlans(…))]`; a scenario with one \
             machine has a network if it takes a `Network`",
        ),
        cards => {
            let its = cards.iter().map(|card| format!("{} on VLAN {}", card.name, card.vlan.get()));
            error.section("its cards", its.collect::<Vec<_>>().join("\n"))
        }
    }
}

/// Returns a VLAN by its number.
///
/// # Errors
/// [`ErrorKind::Usage`] for 0.
pub(crate) fn vlan(number: u8) -> Result<VlanId> {
    VlanId::new(number)
        .ok_or_else(|| Error::new(ErrorKind::Usage, "there is no VLAN 0: they are numbered from 1 to 255"))
}
