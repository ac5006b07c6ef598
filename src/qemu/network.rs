//! The machine's network cards and the user-mode network behind them.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use serde_json::json;

use super::{QMP_LIMIT, Qemu};
use crate::{Error, ErrorKind, Result};

/// What a forwarded port speaks.
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
    /// Plugs the cable of every network card in, or pulls it.
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
        for card in cards {
            let arguments = json!({ "name": card, "up": up });
            self.qmp().execute("set_link", Some(arguments), QMP_LIMIT).await?;
        }
        Ok(())
    }

    /// Forwards a port of this host (`0`: any that is free) on 127.0.0.1 to a port of the guest, until the
    /// machine ends; returns the address on this host.
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
        // Two at once could not tell whose port is whose.
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

fn cannot_forward(host: u16, guest: u16, said: &str) -> Error {
    let error = Error::new(ErrorKind::Host, format!("could not forward port {host} of this host to {guest}"))
        .section("QEMU said", crate::console::shown(said.as_bytes(), 10));
    if guest == 0 {
        error.likely_cause("0 is no port of a guest")
    } else {
        error
            .likely_cause("another program has that port, or it needs root")
            .next_step("forward port 0: a free one is chosen and returned")
    }
}

/// The names of the network clients of a type in `info network`: `NAME: index=0,type=nic,…`, perhaps behind
/// ` \ ` and the port of a hub.
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

/// A line of `info usernet`: `TCP[HOST_FORWARD] 21 127.0.0.1 46325 10.0.2.15 22 0 0`.
#[derive(Debug, PartialEq, Eq)]
struct Forward {
    protocol: String,
    host: u16,
    guest: u16,
}

fn forwards(usernet: &str) -> Vec<Forward> {
    let forward = |line: &str| {
        let mut fields = line.split_whitespace();
        let protocol = fields.next()?.strip_suffix("[HOST_FORWARD]")?.to_ascii_lowercase();
        let host = fields.nth(2)?.parse().ok()?;
        let guest = fields.nth(1)?.parse().ok()?;
        Some(Forward { protocol, host, guest })
    };
    usernet.lines().filter_map(forward).collect()
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
        let tcp = Forward { protocol: "tcp".to_owned(), host: 46325, guest: 22 };
        let udp = Forward { protocol: "udp".to_owned(), host: 5353, guest: 53 };
        assert_eq!(told, [tcp, udp]);
    }
}
