//! Controls the machine's network from the host.

use std::net::SocketAddr;

use nixvm_test_macros::tracked;

use crate::Result;
use crate::machine::Machine;
use crate::qemu::Protocol;

/// # Network
impl Machine {
    /// Cuts the network: unplugs the cable of every network card. The guest sees that the link is down. Forwarded ports
    /// don't work either, until [`Machine::unblock`].
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
