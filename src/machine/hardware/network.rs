//! Controls the machine's network from the host.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use nixvm_test_macros::tracked;

use crate::Result;
use crate::machine::{Machine, Networks, networks};
use crate::qemu::Protocol;

/// # Network
impl Machine {
    /// Returns the machine's IPv4 address on the networks of its scenario: that of its first card with one. It is
    /// `192.168.V.N`, where V is the number of the VLAN, and N is the machine's place in the alphabetical list of the
    /// scenario's machines, from 1.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] when it has no such card, or no address there.
    ///
    /// ```no_run
    /// # async fn example(server: nixvm_test::machine::Machine, client: nixvm_test::machine::Machine) -> nixvm_test::Result {
    /// client.succeed(format!("curl -f http://{}/", server.address()?)).await?;
    /// # Ok(()) }
    /// ```
    pub fn address(&self) -> Result<Ipv4Addr> {
        Ok(self.networks()?.addresses(None, self.name())?.ipv4)
    }

    /// Returns its IPv4 address on a VLAN, `192.168.V.N`.
    ///
    /// # Errors
    /// Those of [`Machine::address`].
    pub fn address_on(&self, vlan: u8) -> Result<Ipv4Addr> {
        Ok(self.networks()?.addresses(Some(networks::vlan(vlan)?), self.name())?.ipv4)
    }

    /// Returns its IPv6 address on the networks of its scenario, `2001:db8:V::N`.
    ///
    /// # Errors
    /// Those of [`Machine::address`].
    pub fn ipv6_address(&self) -> Result<Ipv6Addr> {
        self.networks()?.ipv6(None, self.name())
    }

    /// Returns its IPv6 address on a VLAN, `2001:db8:V::N`.
    ///
    /// # Errors
    /// Those of [`Machine::address`].
    pub fn ipv6_address_on(&self, vlan: u8) -> Result<Ipv6Addr> {
        self.networks()?.ipv6(Some(networks::vlan(vlan)?), self.name())
    }

    pub(super) fn networks(&self) -> Result<&Networks> {
        self.shared.plan.networks.as_ref().ok_or_else(|| networks::no_card(self.name(), None, &[]))
    }

    /// Cuts the network: unplugs the cable of every card on a network of the scenario, as the NixOS test driver does. The
    /// guest sees that the link is down. For a machine without such a card, it unplugs every network card, and forwarded
    /// ports don't work either, until [`Machine::unblock`]. [`Network::unplug`](crate::machine::Network::unplug) is about one VLAN.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] when the machine has no network card, [`crate::ErrorKind::QemuGone`].
    #[tracked]
    pub async fn block(&self) -> Result {
        let life = self.life();
        let _step = life.step("cut the network");
        life.answer_of_qemu("cut the network", self.qemu().set_links(false)).await
    }

    /// Undoes [`Machine::block`]. The guest requests its address again, which takes a moment.
    ///
    /// # Errors
    /// Those of [`Machine::block`].
    #[tracked]
    pub async fn unblock(&self) -> Result {
        let life = self.life();
        let _step = life.step("restore the network");
        life.answer_of_qemu("restore the network", self.qemu().set_links(true)).await
    }

    /// Forwards a TCP port of this host to the guest, until the machine ends. Returns its address, which is on
    /// 127.0.0.1. It stays after [`Machine::restore`]. `host` is the host's port; 0 chooses a free one, so that
    /// concurrent scenarios don't conflict.
    ///
    /// The connection reaches the guest from 10.0.2.2, through its firewall. This does not wait for a listener in the
    /// guest: QEMU accepts a connection first, and closes it when the guest refuses.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Host`] when the port of this host is taken, [`crate::ErrorKind::Usage`] when the
    /// machine has no user-mode network.
    ///
    /// ```no_run
    /// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
    /// let web = machine.forward_port(0, 80).await?;
    /// let connection = std::net::TcpStream::connect(web)?;
    /// # Ok(()) }
    /// ```
    #[tracked]
    pub async fn forward_port(&self, host: u16, guest: u16) -> Result<SocketAddr> {
        let _step = self.life().step(format!("forward a port to {guest}"));
        self.life().require_machine("a forwarded port")?;
        self.qemu().forward(Protocol::Tcp, host, guest).await
    }

    /// Like [`Machine::forward_port`], for UDP.
    ///
    /// # Errors
    /// Those of [`Machine::forward_port`].
    #[tracked]
    pub async fn forward_udp_port(&self, host: u16, guest: u16) -> Result<SocketAddr> {
        let _step = self.life().step(format!("forward a UDP port to {guest}"));
        self.life().require_machine("a forwarded port")?;
        self.qemu().forward(Protocol::Udp, host, guest).await
    }
}
