//! The machine's network cards and the user-mode network behind them.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use serde_json::json;

use super::cards::{id_of, is_ours};
use super::{QMP_LIMIT, Qemu};
use crate::{Error, ErrorKind, Result};

/// The protocol of a forwarded port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl Qemu {
    /// Plugs the cable of every card on the networks of its scenario in, or pulls it. For a machine without such a card,
    /// this is about all of its cards.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the machine has no network card.
    pub(crate) async fn set_links(&self, up: bool) -> Result {
        let network = self.monitor("info network").await?;
        let cards = named(&network, "nic");
        if cards.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "the machine has no network card")
                .section("info network", network));
        }
        let ours = cards.iter().any(|card| is_ours(card));
        for card in cards.iter().filter(|card| !ours || is_ours(card)) {
            let arguments = json!({ "name": card, "up": up });
            self.qmp().execute("set_link", Some(arguments), QMP_LIMIT).await?;
        }
        Ok(())
    }

    /// Plugs the cable of the `number`th card on the networks of its scenario in, or pulls it. Cards count from 1.
    pub(crate) async fn set_link(&self, number: usize, up: bool) -> Result {
        let arguments = json!({ "name": id_of(number), "up": up });
        self.qmp().execute("set_link", Some(arguments), QMP_LIMIT).await.map(drop)
    }

    /// Forwards a port of this host on 127.0.0.1 to a port of the guest until the machine ends, and returns
    /// the address on this host. `host` 0 chooses a free port.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the machine has no user-mode network, [`ErrorKind::Host`] when the port is
    /// taken.
    pub(crate) async fn forward(&self, protocol: Protocol, host: u16, guest: u16) -> Result<SocketAddr> {
        let network = self.monitor("info network").await?;
        let backends = named(&network, "user");
        let Some(backend) = backends.first() else {
            return Err(Error::new(
                ErrorKind::Usage,
                "a port can't be forwarded: the machine has no user-mode network",
            )
            .section("info network", network));
        };
        // Two concurrent calls could not tell their ports apart.
        let _alone = self.forwarding.lock().await;
        let before = forwards(&self.monitor("info usernet").await?);
        let kind = protocol.name();
        let said = self.monitor(&format!("hostfwd_add {backend} {kind}:127.0.0.1:{host}-:{guest}")).await?;
        let after = forwards(&self.monitor("info usernet").await?);
        let fits = |forward: &&Forward| forward.protocol == kind && forward.guest == guest;
        let new = after.iter().filter(fits).find(|forward| !before.contains(forward));
        match new {
            Some(forward) => Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, forward.host).into()),
            None => Err(cannot_forward(host, guest, &said)),
        }
    }
}

impl Qemu {
    /// Returns the forwarded ports.
    pub(super) async fn forwards(&self) -> Result<Vec<Forward>> {
        Ok(forwards(&self.monitor("info usernet").await?))
    }

    /// Forwards the ports that the machine's previous QEMU had forwarded and this one has not.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] when a port is taken.
    pub(super) async fn forward_again(&self, wanted: impl Iterator<Item = &Forward>) -> Result {
        let mut there = self.forwards().await?;
        for forward in wanted {
            if there.iter().any(|its| its.is_at(forward)) {
                continue;
            }
            let said = self.monitor(&format!("hostfwd_add {} {}", forward.backend, forward.rule())).await?;
            if !said.trim().is_empty() {
                return Err(cannot_forward(forward.host, forward.guest, &said));
            }
            there.push(forward.clone());
        }
        Ok(())
    }
}

fn cannot_forward(host: u16, guest: u16, said: &str) -> Error {
    let error = Error::new(ErrorKind::Host, format!("could not forward port {host} of this host to {guest}"))
        .section("QEMU said", crate::console::shown(said.as_bytes(), 10));
    if guest == 0 {
        error.likely_cause("a guest has no port 0")
    } else {
        error
            .likely_cause("another program uses that port, or it needs root")
            .next_step("forward port 0: a free one is chosen and returned")
    }
}

/// Returns the names of the network clients of a type in `info network`: `NAME: index=0,type=nic,…`, possibly
/// after ` \ ` and the port of a hub.
fn named(network: &str, kind: &str) -> Vec<String> {
    let kind = format!(",type={kind},");
    let name = |line: &str| {
        let (before, after) = line.split_once(": index=")?;
        let after = format!("{after},");
        let name = before.rsplit([' ', '\\']).next()?;
        after.contains(&kind).then(|| name.to_owned())
    };
    network.lines().filter_map(name).collect()
}

/// A forwarded port, as in `info usernet`: `TCP[HOST_FORWARD] 21 127.0.0.1 46325 10.0.2.15 22 0 0` below `Hub
/// -1 (user.0):`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Forward {
    backend: String,
    protocol: String,
    /// The host's address; `*` for all addresses.
    from: String,
    host: u16,
    to: String,
    guest: u16,
}

impl Forward {
    /// Returns the monitor's syntax for it.
    fn rule(&self) -> String {
        let Self { protocol, from, host, to, guest, .. } = self;
        let from = if from == "*" { "" } else { from };
        format!("{protocol}:{from}:{host}-{to}:{guest}")
    }

    /// Whether both use the same port of the host.
    fn is_at(&self, other: &Self) -> bool {
        (&self.protocol, self.host) == (&other.protocol, other.host)
    }
}

fn forwards(usernet: &str) -> Vec<Forward> {
    let mut backend = "";
    let mut forwards = Vec::new();
    for line in usernet.lines() {
        if let Some((_, name)) = line.strip_suffix("):").and_then(|line| line.split_once(" (")) {
            backend = name;
        }
        let mut fields = line.split_whitespace();
        let mut forward = || {
            let protocol = fields.next()?.strip_suffix("[HOST_FORWARD]")?.to_ascii_lowercase();
            let from = fields.nth(1)?.to_owned();
            let host = fields.next()?.parse().ok()?;
            let to = fields.next()?.to_owned();
            let guest = fields.next()?.parse().ok()?;
            Some(Forward { backend: backend.to_owned(), protocol, from, host, to, guest })
        };
        forwards.extend(forward());
    }
    forwards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_and_networks_have_names() {
        let plain = "virtio-net-pci.0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56\n \\ user.0: index=0,type=user,net=10.0.2.0,restrict=off\n";
        assert_eq!(named(plain, "nic"), ["virtio-net-pci.0"]);
        assert_eq!(named(plain, "user"), ["user.0"]);
        let hub = "hub 0\n \\ hub0port1: user.0: index=0,type=user,net=10.0.2.0\n \\ hub0port0: e1000.0: index=0,type=nic,model=e1000\nnet1: index=1,type=nic,model=e1000\n";
        assert_eq!(named(hub, "nic"), ["e1000.0", "net1"]);
        assert_eq!(named("", "nic"), [""; 0]);
    }

    #[test]
    fn forwarded_ports_are_read() {
        let said = "Hub -1 (user.0):\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n  TCP[HOST_FORWARD]  21       127.0.0.1 46325       10.0.2.15    22     0     0\n  UDP[HOST_FORWARD]  22       127.0.0.1 5353       10.0.2.15    53     0     0\n  TCP[ESTABLISHED]  23       127.0.0.1 46325       10.0.2.15    22     0     0\n";
        let told = forwards(said);
        let forward = |protocol: &str, host, guest| Forward {
            backend: "user.0".to_owned(),
            protocol: protocol.to_owned(),
            from: "127.0.0.1".to_owned(),
            host,
            to: "10.0.2.15".to_owned(),
            guest,
        };
        assert_eq!(told, [forward("tcp", 46325, 22), forward("udp", 5353, 53)]);
        assert_eq!(told[0].rule(), "tcp:127.0.0.1:46325-10.0.2.15:22");
        let open = forwards("Hub -1 (net):\n  TCP[HOST_FORWARD]  21  *  2222  10.0.2.15  22  0  0\n");
        assert_eq!((open[0].rule().as_str(), open[0].backend.as_str()), ("tcp::2222-10.0.2.15:22", "net"));
    }
}
