//! Which machine of a scenario has which cards, addresses and names on its networks.
//!
//! Numbers, addresses and names of cards are those of NixOS's own tests (nixpkgs: nixos/lib/testing/network.nix), so the
//! literal addresses of such a test stay true.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::Deserialize;

use super::registry::{Dhcp, Scenario};
use crate::beneath::Beneath;
use crate::machine::{Addresses, Card, Networks, serve_dhcp};
use crate::network::{Lease, Seed, Switch, VlanId};
use crate::presence::is_absent;
use crate::{BuiltVm, Error, ErrorKind, Events, Result, text};

/// The file in which a system that was built with the network module says what its configuration demands.
const DECLARED: &str = "etc/nixvm-test/network.json";
/// The maximum size of that file, in bytes.
const LONGEST: u64 = 64 << 10;
/// The maximum size of a network card's name in Linux (`IFNAMSIZ`), in bytes.
const LONGEST_CARD_NAME: usize = 15;
/// The maximum number of machines on one network: the last part of their addresses.
const MACHINES: usize = 254;

/// The networks of a scenario.
pub(crate) struct Topology {
    machines: Vec<Wired>,
}

/// A machine and its cards.
struct Wired {
    name: String,
    declared: Declared,
    cards: Arc<[Card]>,
}

/// What a system says of its networks.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Declared {
    version: u32,
    /// `None` if the configuration sets none.
    host_name: Option<String>,
    domain: Option<String>,
    /// Whether it has IPv6: `networking.enableIPv6`.
    ipv6: bool,
    cards: Vec<DeclaredCard>,
    /// Whether it was built with the module. Without it, the guest gets its addresses from a DHCP server.
    #[serde(skip)]
    has_module: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeclaredCard {
    name: String,
    vlan: u64,
    #[serde(rename = "assignIP")]
    assign_ip: bool,
}

impl Topology {
    /// Returns the networks of `scenario`, or `None` if it has none. `vms` are the built VMs of its machines in their
    /// order; `None` for a VM that is not known.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for more than 254 machines, for VLANs of a parameter that is no machine, and for a built VM
    /// whose description can't be used; [`ErrorKind::Io`] when it can't be read.
    pub(super) fn of(scenario: &Scenario, vms: &[Option<&BuiltVm>]) -> Result<Option<Self>> {
        if !scenario.has_network() {
            return Ok(None);
        }
        let names: Vec<&str> = scenario.machines().map(|machine| machine.name).collect();
        let given = scenario.vlans.unwrap_or_default();
        if let Some((other, _)) = given.iter().find(|(name, _)| !names.contains(name)) {
            let summary = format!("`vlans({other} = …)`: `{other}` is not a machine of the scenario");
            return Err(Error::new(ErrorKind::Usage, summary));
        }
        Self::between(&names, vms, given, scenario.dhcp).map(Some)
    }

    /// Returns the networks between machines with these names. `given` are the VLANs that do not come from a
    /// configuration, by name.
    fn between(
        names: &[&str],
        vms: &[Option<&BuiltVm>],
        given: &[(&str, &[u8])],
        dhcp: Dhcp,
    ) -> Result<Self> {
        if names.len() > MACHINES {
            let summary = format!("{} machines: a network has room for {MACHINES}", names.len());
            return Err(Error::new(ErrorKind::Usage, summary));
        }
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let is_label = |name: &str| (1..=63).contains(&name.len()) && name.bytes().all(is_letter);
        if let Some(odd) = names.iter().find(|name| !is_label(name)) {
            let summary = format!("`{odd}` can't be the name of a machine on a network");
            return Err(Error::new(ErrorKind::Usage, summary).next_step(
                "give it 1 to 63 letters, digits and underscores of ASCII: it is a host name, too",
            ));
        }
        let mut sorted = names.to_vec();
        sorted.sort_unstable();
        let mut machines = Vec::new();
        for (name, vm) in names.iter().zip(vms) {
            // A VM that is not known is taken for one with the module, as a scenario builds it.
            let unknown = || Ok(Declared { has_module: true, ipv6: true, ..Declared::without_module() });
            let declared = vm.map_or_else(unknown, Declared::of)?;
            let number = sorted.iter().position(|other| other == name).unwrap_or_default() + 1;
            let number = u8::try_from(number).unwrap_or(u8::MAX);
            let vlans = given.iter().find(|(its, _)| its == name).map(|(_, vlans)| *vlans);
            let cards = cards(name, number, vlans, &declared, dhcp)?;
            machines.push(Wired { name: (*name).to_owned(), declared, cards });
        }
        Ok(Self { machines })
    }

    /// Returns the networks of machines that a person starts together, in their order, as if they were those of a
    /// scenario.
    ///
    /// # Errors
    /// Those of [`Topology::of`] and [`Topology::start`].
    pub(crate) fn by_hand(names: &[&str], vms: &[&BuiltVm], events: &Events) -> Result<Vec<Networks>> {
        let vms: Vec<Option<&BuiltVm>> = vms.iter().copied().map(Some).collect();
        let topology = Self::between(names, &vms, &[], Dhcp::On)?;
        let switch = topology.start(0, events)?;
        Ok(topology.networks(Some(&switch)))
    }

    /// Returns the networks of each machine, in their order. `switch` is what they are plugged into.
    pub(super) fn networks(&self, switch: Option<&Arc<Switch>>) -> Vec<Networks> {
        let networks = |machine: &Wired| Networks {
            switch: switch.cloned(),
            cards: Arc::clone(&machine.cards),
            told: machine.declared.has_module.then(|| self.told(machine).into()),
            leases: self.leases(machine).into(),
        };
        self.machines.iter().map(networks).collect()
    }

    /// Starts the switch of the scenario. Its random choices come from `seed`.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] when the system can't start a thread.
    pub(super) fn start(&self, seed: u64, events: &Events) -> Result<Arc<Switch>> {
        let switch = Switch::start_with(Seed(seed))?;
        let leases: Vec<_> = self.machines.iter().flat_map(|machine| self.leases(machine)).collect();
        serve_dhcp(&switch, leases.iter());
        for machine in self.machines.iter().filter(|machine| !machine.declared.has_module) {
            let name = &machine.name;
            let how = match self.leases(machine).is_empty() {
                _ if machine.cards.is_empty() => continue,
                false => "its addresses come by DHCP",
                true => "it gets no address",
            };
            let cards = machine.cards.iter().map(|card| card.vlan.get().to_string());
            let vlans = cards.collect::<Vec<_>>().join(", ");
            events.note(format!(
                "{name} does not know the names of the other machines: it was built without nixvm-test's network \
                 module, so {how}, and the VLANs of its configuration are not known (it is on {vlans}; `vlans(…)` \
                 chooses)"
            ));
        }
        Ok(Arc::new(switch))
    }

    /// Returns the addresses that a machine without the module gets from a DHCP server.
    fn leases(&self, machine: &Wired) -> Vec<(VlanId, Lease)> {
        let lease = |card: &Card| {
            let (address, host_name) = (card.addresses?.ipv4, Some(machine.host_name()));
            Some((card.vlan, Lease { mac: octets(&card.mac)?, address, host_name }))
        };
        let cards = machine.cards.iter().filter(|_| !machine.declared.has_module);
        cards.filter_map(lease).collect()
    }

    /// Returns what the guest of `machine` is told: see `src/nix/network.nix`, which reads it.
    fn told(&self, machine: &Wired) -> String {
        let mut told = format!("name={}", machine.host_name());
        for card in machine.cards.iter() {
            let Card { mac, name, addresses, .. } = card;
            let ipv4 = addresses.map_or_else(String::new, |its| its.ipv4.to_string());
            let ipv6 = addresses.and_then(|its| its.ipv6).map_or_else(String::new, |ipv6| ipv6.to_string());
            let _ = write!(told, ";card={mac}/{name}/{ipv4}/{ipv6}");
        }
        let is_on = |vlan: &u8| machine.cards.iter().any(|card| card.vlan.get() == *vlan);
        let all = self.machines.iter().flat_map(|other| other.cards.iter().map(|card| card.vlan.get()));
        for vlan in all.filter(|vlan| !is_on(vlan)).collect::<BTreeSet<u8>>() {
            let _ = write!(told, ";away=192.168.{vlan}.0/24;away=2001:db8:{vlan}::/64");
        }
        // By name, so that the order of a scenario's parameters makes no difference.
        let mut others: Vec<&Wired> = self.machines.iter().collect();
        others.sort_unstable_by_key(|other| &other.name);
        for other in others {
            let Some(Addresses { ipv4, ipv6 }) = other.address_for(machine) else { continue };
            let names = self.names(other).join("/");
            let _ = write!(told, ";host={ipv4}/{names}");
            if let Some(ipv6) = ipv6 {
                let _ = write!(told, ";host={ipv6}/{names}");
            }
        }
        told
    }

    /// Returns the names under which the other machines know `machine`. A host name that another machine has as well, or
    /// is named by, would lead to the wrong one.
    fn names(&self, machine: &Wired) -> Vec<String> {
        let host = machine.host_name();
        let is_others = |other: &&Wired| {
            other.name != machine.name && [&other.name, &other.label(), &other.host_name()].contains(&&host)
        };
        let host = (!self.machines.iter().any(|other| is_others(&other))).then_some(host);
        let full = machine.declared.domain.as_ref().zip(host.as_ref());
        let full = full.map(|(domain, host)| format!("{host}.{domain}"));
        let mut names: Vec<String> = Vec::new();
        for name in full.into_iter().chain(host).chain([machine.label(), machine.name.clone()]) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

impl Wired {
    /// Returns the host name that it has.
    fn host_name(&self) -> String {
        self.declared.host_name.clone().unwrap_or_else(|| self.label())
    }

    /// Returns its name as a host name, which has no underscore (RFC 952) and no dash at its ends.
    fn label(&self) -> String {
        self.name.replace('_', "-").trim_matches('-').to_owned()
    }

    /// Returns the addresses under which `other` finds it: on the first VLAN that both are on, else its first ones.
    fn address_for(&self, other: &Self) -> Option<Addresses> {
        let is_shared = |card: &&Card| other.cards.iter().any(|its| its.vlan == card.vlan);
        let with_address = || self.cards.iter().filter(|card| card.addresses.is_some());
        with_address().find(is_shared).or_else(|| with_address().next())?.addresses
    }
}

/// Returns the cards of the `number`th machine. `vlans` are those of the scenario's attribute.
fn cards(
    machine: &str,
    number: u8,
    vlans: Option<&[u8]>,
    declared: &Declared,
    dhcp: Dhcp,
) -> Result<Arc<[Card]>> {
    let card = |name: String, vlan: u64, assign_ip: bool| {
        let known = u8::try_from(vlan).ok().and_then(|vlan| Some((vlan, VlanId::new(vlan)?)));
        let (vlan, id) = known.ok_or_else(|| {
            let summary = format!(
                "the configuration of {machine} has a card on VLAN {vlan}: they are numbered from 1 to 255"
            );
            Error::new(ErrorKind::Usage, summary)
        })?;
        if name.len() > LONGEST_CARD_NAME {
            let summary = format!(
                "the configuration of {machine} has the network card {name}: Linux takes at most {LONGEST_CARD_NAME} characters"
            );
            return Err(Error::new(ErrorKind::Usage, summary)
                .next_step("give the card of `virtualisation.interfaces` a shorter name"));
        }
        // The digits are decimal ones in both, as in NixOS's tests.
        let ipv6 = format!("2001:db8:{vlan}::{number}").parse();
        let ipv4 = Ipv4Addr::new(192, 168, vlan, number);
        let addresses = match (assign_ip, declared.has_module) {
            (true, true) => Some(Addresses { ipv4, ipv6: ipv6.ok().filter(|_| declared.ipv6) }),
            (true, false) if dhcp.is_on(vlan) => Some(Addresses { ipv4, ipv6: None }),
            _ => None,
        };
        Ok(Card { name, vlan: id, mac: format!("52:54:00:12:{vlan:02x}:{number:02x}"), addresses })
    };
    let cards: Vec<Card> = match vlans {
        Some(vlans) => {
            let numbered = (1..).zip(vlans);
            numbered
                .map(|(place, vlan)| card(format!("eth{place}"), u64::from(*vlan), true))
                .collect::<Result<_>>()?
        }
        None => {
            let declared = declared.cards.iter();
            declared.map(|its| card(its.name.clone(), its.vlan, its.assign_ip)).collect::<Result<_>>()?
        }
    };
    for (at, card) in cards.iter().enumerate() {
        let before = &cards[..at];
        // The MAC address of a card is that of the machine on the VLAN.
        if before.iter().any(|other| other.vlan == card.vlan || other.name == card.name) {
            let (name, vlan) = (&card.name, card.vlan.get());
            let summary = format!(
                "the configuration of {machine} has two cards with one VLAN or name: {name} on VLAN {vlan}"
            );
            return Err(Error::new(ErrorKind::Usage, summary)
                .likely_cause(
                    "`virtualisation.vlans` and `virtualisation.interfaces` give a name or a VLAN twice",
                )
                .next_step("a machine has one card on each of its VLANs, each with a name of its own"));
        }
    }
    Ok(cards.into())
}

fn octets(mac: &str) -> Option<[u8; 6]> {
    let octets: Vec<u8> =
        mac.split(':').map(|octet| u8::from_str_radix(octet, 16).ok()).collect::<Option<_>>()?;
    octets.try_into().ok()
}

impl Declared {
    /// For a VM that was built without the module: one card, as in NixOS's tests.
    fn without_module() -> Self {
        let card = DeclaredCard { name: "eth1".to_owned(), vlan: 1, assign_ip: true };
        Self { cards: vec![card], ..Self::default() }
    }

    /// Reads what a built VM says.
    fn of(vm: &BuiltVm) -> Result<Self> {
        let Some(system) = vm.system() else { return Ok(Self::without_module()) };
        let path = system.join(DECLARED);
        // NixOS links the files of /etc into the store.
        let path = match path.canonicalize() {
            Ok(path) => path,
            Err(error) if is_absent(&error) => return Ok(Self::without_module()),
            Err(error) => return Err(Error::io(format_args!("read {}", path.display()), &error)),
        };
        let (folder, name) = (path.parent().unwrap_or(&path), path.file_name().unwrap_or_default());
        let read = Beneath::open(folder).and_then(|folder| folder.read(name, LONGEST));
        let read = read.map_err(|error| Error::io(format_args!("read {}", path.display()), &error))?;
        Self::parse(&read).map_err(|why| {
            let summary = format!("{} does not describe the networks of a machine: {why}", path.display());
            Error::new(ErrorKind::Usage, summary)
                .likely_cause("the VM was built by another version of nixvm-test")
                .next_step("build it again")
        })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut declared: Self =
            serde_json::from_slice(bytes).map_err(|error| text::line(&error.to_string()))?;
        if declared.version != 1 {
            return Err(format!("its version is {}, expected 1", declared.version));
        }
        // A configuration with an empty host name takes it from DHCP, and one with an empty domain has none.
        declared.host_name = declared.host_name.filter(|name| !name.is_empty());
        declared.domain = declared.domain.filter(|name| !name.is_empty());
        let names = declared.cards.iter().map(|card| &card.name);
        let mut names = names.chain(&declared.host_name).chain(&declared.domain);
        // They become words of QEMU's options and of the guest's files.
        let is_name = |name: &str| {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            (1..=255).contains(&name.len()) && name.bytes().all(is_part)
        };
        if let Some(odd) = names.find(|name| !is_name(name)) {
            return Err(format!("{} is no name", text::line(&format!("{odd:?}"))));
        }
        Ok(Self { has_module: true, ..declared })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::registry::{Kind, Parameter};
    use super::*;

    const fn machine(name: &'static str) -> Parameter {
        Parameter { name, kind: Kind::Machine, source: None, nixpkgs: None }
    }

    static THREE: [Parameter; 3] = [machine("web_server"), machine("client"), machine("db")];

    fn three() -> Scenario {
        Scenario { parameters: &THREE, ..Scenario::sample() }
    }

    /// A built VM whose system has this description.
    fn built(description: Option<&str>) -> (tempfile::TempDir, BuiltVm) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::create_dir_all(path.join("bin")).unwrap();
        std::fs::create_dir_all(path.join("system/etc/nixvm-test")).unwrap();
        let script = path.join("bin/run-x-vm");
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        if let Some(description) = description {
            std::fs::write(path.join("system").join(DECLARED), description).unwrap();
        }
        let vm = BuiltVm::open(path).unwrap();
        (folder, vm)
    }

    const PLAIN: &str = r#"{"version":1,"hostName":null,"domain":null,"ipv6":true,"cards":[{"name":"eth1","vlan":1,"assignIP":true}]}"#;

    #[test]
    fn machines_are_numbered_by_their_names_and_know_each_other() {
        let (_folder, plain) = built(Some(PLAIN));
        // An empty host name is one that is set elsewhere.
        let empty =
            Declared::parse(PLAIN.replacen("null,\"domain\":null", "\"\",\"domain\":\"\"", 1).as_bytes());
        let empty = empty.unwrap();
        assert_eq!((empty.host_name, empty.domain), (None, None));
        let named = r#"{"version":1,"hostName":"store","domain":"example.org","ipv6":true,"cards":[
            {"name":"eth1","vlan":1,"assignIP":true},{"name":"lan","vlan":20,"assignIP":false}]}"#;
        let (_other, named) = built(Some(named));
        let topology = Topology::of(&three(), &[Some(&plain), Some(&plain), Some(&named)]).unwrap().unwrap();
        let networks = topology.networks(None);
        assert_eq!(
            networks[1].told.as_deref().unwrap(),
            "name=client;card=52:54:00:12:01:01/eth1/192.168.1.1/2001:db8:1::1;\
             away=192.168.20.0/24;away=2001:db8:20::/64;\
             host=192.168.1.1/client;host=2001:db8:1::1/client;\
             host=192.168.1.2/store.example.org/store/db;host=2001:db8:1::2/store.example.org/store/db;\
             host=192.168.1.3/web-server/web_server;host=2001:db8:1::3/web-server/web_server"
        );
        let of_db = networks[2].told.as_deref().unwrap();
        assert!(of_db.starts_with("name=store;card=52:54:00:12:01:02/eth1/"), "{of_db}");
        assert!(of_db.contains(";card=52:54:00:12:14:02/lan//;"), "{of_db}");
        assert!(networks[0].key() != networks[1].key());
        assert!(networks.iter().all(|its| !its.told.as_deref().unwrap().contains([' ', ','])));
    }

    #[test]
    fn a_scenario_decides_over_the_vlans_of_a_configuration() {
        let (_folder, plain) = built(Some(PLAIN));
        let scenario = Scenario { vlans: Some(&[("web_server", &[2, 1]), ("db", &[])]), ..three() };
        let topology = Topology::of(&scenario, &[Some(&plain); 3]).unwrap().unwrap();
        let networks = topology.networks(None);
        let cards = |at: usize| -> Vec<(String, u8)> {
            networks[at].cards.iter().map(|card| (card.name.clone(), card.vlan.get())).collect()
        };
        assert_eq!(cards(0), [("eth1".to_owned(), 2), ("eth2".to_owned(), 1)]);
        assert_eq!(cards(1), [("eth1".to_owned(), 1)]);
        assert_eq!(cards(2), []);
        // The client finds the server on the VLAN that both are on.
        let told = networks[1].told.as_deref().unwrap();
        assert!(
            told.contains("host=192.168.1.3/web-server/") && !told.contains("host=192.168.2.3"),
            "{told}"
        );
        assert!(!told.contains("/db"), "a machine without a card has no address: {told}");
        // db is on no VLAN, and knows the first addresses of the others.
        let told = networks[2].told.as_deref().unwrap();
        assert!(told.contains("host=192.168.2.3/web-server/"), "{told}");
        // A network that it is not on is not behind another card of it.
        let away = |at: usize| {
            let told = networks[at].told.as_deref().unwrap();
            told.split(';').filter_map(|entry| entry.strip_prefix("away=")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(away(2), "192.168.1.0/24 2001:db8:1::/64 192.168.2.0/24 2001:db8:2::/64");
        assert_eq!((away(0), away(1)), (String::new(), "192.168.2.0/24 2001:db8:2::/64".to_owned()));
    }

    #[test]
    fn a_machine_without_the_module_gets_its_address_by_dhcp() {
        let (_folder, plain) = built(Some(PLAIN));
        let (_other, without) = built(None);
        let topology =
            Topology::of(&three(), &[Some(&plain), Some(&without), Some(&without)]).unwrap().unwrap();
        let networks = topology.networks(None);
        let leases = |at: usize| -> Vec<_> {
            networks[at].leases.iter().map(|(_, lease)| (lease.mac[5], lease.address)).collect()
        };
        assert_eq!((leases(0), networks[0].told.is_some()), (Vec::new(), true));
        assert_eq!(
            (leases(1), networks[1].told.is_some()),
            (vec![(1, Ipv4Addr::new(192, 168, 1, 1))], false)
        );
        // It gets no IPv6 address, and the others are told of none.
        assert!(
            networks[0].told.as_deref().unwrap().contains("host=192.168.1.1/client;host=192.168.1.2/db;")
        );
        assert_eq!(leases(2), [(2, Ipv4Addr::new(192, 168, 1, 2))]);
        for dhcp in [Dhcp::Off, Dhcp::OffOn(&[1])] {
            let scenario = Scenario { dhcp, ..three() };
            let topology = Topology::of(&scenario, &[Some(&without); 3]).unwrap().unwrap();
            let networks = topology.networks(None);
            assert!(networks.iter().all(|its| its.leases.is_empty()), "{dhcp:?}");
        }
    }

    #[test]
    fn a_machine_without_ipv6_has_no_such_address_for_the_others() {
        let (_folder, plain) = built(Some(PLAIN));
        let (_other, without) = built(Some(&PLAIN.replace("\"ipv6\":true", "\"ipv6\":false")));
        let topology =
            Topology::of(&three(), &[Some(&plain), Some(&without), Some(&plain)]).unwrap().unwrap();
        let told = |at: usize| topology.networks(None)[at].told.as_deref().unwrap().to_owned();
        assert!(told(1).starts_with("name=client;card=52:54:00:12:01:01/eth1/192.168.1.1/;"), "{}", told(1));
        assert!(
            told(0).contains("host=192.168.1.1/client;host=192.168.1.2/db;host=2001:db8:1::2/db;"),
            "{}",
            told(0)
        );
    }

    #[test]
    fn a_host_name_that_two_machines_could_have_is_neither_of_them() {
        let named = |name: &str| {
            format!(
                r#"{{"version":1,"hostName":{name:?},"domain":null,"ipv6":true,"cards":[{{"name":"eth1","vlan":1,"assignIP":true}}]}}"#
            )
        };
        let (_one, db) = built(Some(&named("db")));
        let (_two, store) = built(Some(&named("store")));
        let topology = Topology::of(&three(), &[Some(&db), Some(&store), Some(&store)]).unwrap().unwrap();
        let told = topology.networks(None)[1].told.as_deref().unwrap().to_owned();
        // The web server's host name is the parameter of another machine.
        assert!(told.contains("host=192.168.1.3/web-server/web_server;"), "{told}");
        assert!(told.contains("host=192.168.1.1/client;") && told.contains("host=192.168.1.2/db;"), "{told}");
    }

    #[test]
    fn templates_of_machines_with_other_leases_are_told_apart() {
        let (_folder, without) = built(None);
        let key = |dhcp: Dhcp, parameters: &'static [Parameter]| {
            let vlans: &[(&str, &[u8])] = &[("client", &[1, 2])];
            let scenario = Scenario { dhcp, parameters, vlans: Some(vlans), ..Scenario::sample() };
            let topology = Topology::of(&scenario, &vec![Some(&without); parameters.len()]).unwrap().unwrap();
            topology.networks(None)[0].key()
        };
        static CLIENT: [Parameter; 1] = [machine("client")];
        let all = key(Dhcp::On, &CLIENT);
        assert_ne!(all, key(Dhcp::OffOn(&[2]), &CLIENT));
        assert_ne!(key(Dhcp::Off, &CLIENT), key(Dhcp::OffOn(&[2]), &CLIENT));
    }

    #[test]
    fn a_name_that_is_no_host_name_is_an_error() {
        static ODD: [Parameter; 2] = [machine("größe"), machine("client")];
        let scenario = Scenario { parameters: &ODD, ..Scenario::sample() };
        let error = Topology::of(&scenario, &[None; 2]).err().unwrap();
        assert!(error.to_string().contains("`größe` can't be the name of a machine"), "{error}");
    }

    #[test]
    fn one_machine_alone_has_no_network_unless_the_scenario_asks_for_one() {
        static ONE: [Parameter; 1] = [machine("machine")];
        static WITH: [Parameter; 2] =
            [machine("machine"), Parameter { kind: Kind::Network, ..machine("network") }];
        let of = |scenario: &Scenario| Topology::of(scenario, &[None]).unwrap().is_some();
        let one = Scenario { parameters: &ONE, ..Scenario::sample() };
        assert!(!of(&one));
        assert!(of(&Scenario { vlans: Some(&[("machine", &[1])]), ..one }));
        assert!(of(&Scenario { parameters: &WITH, ..Scenario::sample() }));
    }

    #[test]
    fn a_machine_whose_host_name_or_domain_is_empty_has_its_parameter_s_name() {
        let text = r#"{"version":1,"hostName":"","domain":"","ipv6":true,"cards":[]}"#;
        let (_folder, vm) = built(Some(text));
        let topology = Topology::of(&three(), &[Some(&vm), None, None]).unwrap().unwrap();
        assert_eq!(topology.names(&topology.machines[0]), ["web-server", "web_server"]);
    }

    #[test]
    fn a_description_that_can_not_be_used_is_an_error() {
        for (text, why) in [
            ("{", "EOF"),
            (r#"{"version":2,"hostName":null,"domain":null,"ipv6":true,"cards":[]}"#, "version is 2"),
            (r#"{"version":1,"hostName":"a b","domain":null,"ipv6":true,"cards":[]}"#, "is no name"),
            (r#"{"version":1,"hostName":"a,b","domain":null,"ipv6":true,"cards":[]}"#, "is no name"),
            (
                r#"{"version":1,"hostName":null,"domain":null,"ipv6":true,"cards":[{"name":"sixteen-letters-","vlan":1,"assignIP":true}]}"#,
                "the network card sixteen-letters-: Linux takes at most 15 characters",
            ),
            (r#"{"version":1,"hostName":null,"domain":"a b","ipv6":true,"cards":[]}"#, "is no name"),
            (
                r#"{"version":1,"hostName":null,"domain":null,"ipv6":true,"cards":[{"name":"a;b","vlan":1,"assignIP":true}]}"#,
                "is no name",
            ),
        ] {
            let (_folder, vm) = built(Some(text));
            let error = Topology::of(&three(), &[Some(&vm), None, None]).err().unwrap();
            assert!(error.to_string().contains(why), "{error}");
        }
        let twice = r#"{"version":1,"hostName":null,"domain":null,"ipv6":true,"cards":[{"name":"eth1","vlan":1,"assignIP":true},
            {"name":"eth2","vlan":1,"assignIP":true}]}"#;
        let (_folder, vm) = built(Some(twice));
        let error = Topology::of(&three(), &[Some(&vm), None, None]).err().unwrap();
        assert!(error.to_string().contains("two cards with one VLAN or name: eth2 on VLAN 1"), "{error}");
        let none = r#"{"version":1,"hostName":null,"domain":null,"ipv6":true,"cards":[{"name":"eth1","vlan":0,"assignIP":true}]}"#;
        let (_folder, vm) = built(Some(none));
        assert!(
            Topology::of(&three(), &[Some(&vm), None, None]).err().unwrap().to_string().contains("VLAN 0")
        );
        let scenario = Scenario { vlans: Some(&[("other", &[1])]), ..three() };
        let error = Topology::of(&scenario, &[None; 3]).err().unwrap();
        assert!(error.to_string().contains("`other` is not a machine"), "{error}");
    }
}
