//! An Ethernet switch in this process: it moves frames between the machines of a scenario.
//!
//! Each scenario has a [`Switch`] of its own, so the frames of two scenarios have no place where they could meet. The
//! switch runs on its own thread: a scenario that blocks stops no frames. It needs no privileges and leaves
//! nothing in the host's network.
//!
//! | file | what |
//! |---|---|
//! | `frame.rs`, `stations.rs`, `queue.rs`, `forwarding.rs` | what happens to a frame; no sockets |
//! | `capture/` | what passed, as far as there is room for it, and the file that Wireshark reads |
//! | `frozen.rs` | the frames in flight, while the switch is frozen |
//! | `links.rs`, `faults/` | what passes between two machines in one direction, and what goes wrong there on purpose |
//! | `lines.rs` | the sockets of ports, and who is served first |
//! | `worker.rs` | the thread |
//! | `vde.rs` | ports for programs that expect a vde switch |
//! | `dhcp/` | a DHCP server for machines that are told their addresses by no other means |
//!
//! The switch learns which port leads to an address, from the source of every frame. It floods frames to unknown
//! addresses and to groups, and changes nothing in a frame: tags, spanning tree and the like are the guests' business. A
//! frame has at most 65,557 bytes: the largest MTU of a virtio card and two tags.

use std::net::Ipv4Addr;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::Result;

use worker::Shared;

mod capture;
mod dhcp;
mod faults;
mod forwarding;
mod frame;
mod frozen;
mod lines;
mod links;
mod queue;
mod stations;
#[cfg(test)]
mod tests;
mod vde;
mod worker;

pub(crate) use capture::{Captured, Packets};
pub use faults::{Chance, Faults, FaultyLink, Latency, Seed};
pub use frame::Mac;
pub use frozen::InFlight;

/// The number of a VLAN: 1 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanId(NonZero<u8>);

impl VlanId {
    /// Returns the VLAN with this number. None for 0.
    pub const fn new(number: u8) -> Option<Self> {
        match NonZero::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0.get()
    }
}

/// Frames, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The number of frames.
    pub frames: u64,
    /// The sum of their lengths.
    pub bytes: u64,
}

impl Traffic {
    fn add(&mut self, length: usize) {
        self.frames += 1;
        self.bytes += length as u64;
    }

    fn plus(self, other: Self) -> Self {
        Self { frames: self.frames + other.frames, bytes: self.bytes + other.bytes }
    }
}

/// What passed a port. "Received" and "sent" are the switch's view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// The frames that the machine sent.
    pub received: Traffic,
    /// The frames that the machine was sent.
    pub sent: Traffic,
    /// The frames for the machine that were lost: it did not read, and its queue was full.
    pub dropped: Traffic,
    /// The messages of the machine that are not frames: too short for a header, or too long.
    pub refused: u64,
}

impl Counts {
    fn plus(self, other: Self) -> Self {
        Self {
            received: self.received.plus(other.received),
            sent: self.sent.plus(other.sent),
            dropped: self.dropped.plus(other.dropped),
            refused: self.refused + other.refused,
        }
    }
}

/// What passed the link from one machine to another on a VLAN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// The frames that the first machine sent to the second one, or to all.
    pub sent: Traffic,
    /// The frames that the second machine was given. One that was duplicated counts twice.
    pub delivered: Traffic,
    /// The frames that were lost: by a fault, or because the second machine did not read.
    pub dropped: Traffic,
    /// How many frames arrived later, by latency or a rate.
    pub delayed: u64,
    /// How many frames waited in a hold.
    pub held: u64,
    /// How many frames arrived twice.
    pub duplicated: u64,
    /// How many frames arrived behind the next one.
    pub reordered: u64,
    /// How many frames arrived with a wrong bit.
    pub corrupted: u64,
}

/// What passed one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedLink {
    /// The VLAN.
    pub vlan: VlanId,
    /// The machine that sent.
    pub from: String,
    /// The machine that received.
    pub to: String,
    /// What passed.
    pub counts: LinkCounts,
}

/// The address that the DHCP server gives to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The card.
    pub mac: Mac,
    /// Its address, in a network of 256 addresses.
    pub address: Ipv4Addr,
    /// The host name that the machine is offered.
    pub host_name: Option<String>,
}

/// Tells apart what the switch has sockets for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key(u64);

/// A switch with its thread. Dropping it ends the thread and closes all ports.
#[derive(Debug)]
pub struct Switch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Switch {
    /// Starts a switch without ports.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Host`] when the host has no thread for it, [`crate::ErrorKind::Io`] when it has no
    /// file descriptors.
    pub fn start() -> Result<Self> {
        Self::start_with(Seed::default())
    }

    /// Starts a switch whose random choices come from `seed`: the n-th frame of a link has the same fate for the same
    /// seed, as long as the faults are the same.
    ///
    /// # Errors
    /// Those of [`Switch::start`].
    pub fn start_with(seed: Seed) -> Result<Self> {
        let shared = Arc::new(Shared::new(seed)?);
        let thread = worker::start(shared.clone())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Adds a port to a VLAN, and returns it with the other end: a socket on which one message is one frame. It is meant
    /// for QEMU's `-netdev dgram,local.type=fd`. `name` is the machine's: what belongs to a link stays when the machine gets
    /// another port.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] when the host has no socket for it.
    pub fn plug(&self, vlan: VlanId, name: &str) -> Result<(Port, OwnedFd)> {
        let (key, theirs) = self.shared.plug(vlan, name)?;
        Ok((Port { shared: self.shared.clone(), key, vlan, name: name.to_owned() }, theirs))
    }

    /// Makes `folder`, to which programs connect as to a vde switch (`QEMU_VDE_SOCKET_1=FOLDER`). Each connection is a
    /// port of the VLAN. Only this user may connect.
    ///
    /// Choose a short path: with a socket's name it has at most 107 bytes. QEMU reads a comma in it as the end of the
    /// option.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] when the path is too long, [`crate::ErrorKind::Io`] when the folder exists or
    /// can't be made.
    pub fn serve_vde(&self, vlan: VlanId, folder: &Path) -> Result<VdeFolder> {
        let (key, folder) = self.shared.serve_vde(vlan, folder)?;
        Ok(VdeFolder { shared: self.shared.clone(), key, folder })
    }

    /// Counts frames of links, and tells of packets, from now on: what passed so far was before the scenario.
    pub fn begin(&self) {
        self.shared.begin();
    }

    /// Changes the faults of links: of each VLAN, from the first machine to the second one. They change at one moment, and
    /// stay when a machine gets another port. Frames that are lost by a change, or that were held and are released by it,
    /// are so when this returns.
    pub fn change_faults(&self, links: &[(VlanId, &str, &str)], change: &dyn Fn(&mut Faults)) {
        self.shared.change_faults(links, change);
    }

    /// Ends all faults on a VLAN, or on all VLANs.
    pub fn heal(&self, vlan: Option<VlanId>) {
        self.shared.heal(vlan);
    }

    /// Returns the links that have faults, sorted.
    pub fn faults(&self) -> Vec<FaultyLink> {
        self.shared.faults()
    }

    /// Returns what passed each link so far, sorted.
    pub fn link_counts(&self) -> Vec<CountedLink> {
        self.shared.link_counts()
    }

    /// Freezes the switch: it holds what machines send from now on, in its order, until [`Switch::thaw`]. What was
    /// sent before still reaches the machines that read. At most 16,384 frames and 32 MiB are held; later frames are
    /// lost and counted.
    pub fn freeze(&self) {
        self.shared.freeze();
    }

    /// Whether machines have read every frame that the switch had for them. A machine that does not read, because its
    /// card is not up, may never do so.
    pub fn is_drained(&self) -> bool {
        self.shared.is_drained()
    }

    /// Returns the frames in flight of a frozen switch, which go on being held. The machines must be stopped: what they
    /// sent at last is read first.
    pub fn in_flight(&self) -> InFlight {
        self.shared.in_flight()
    }

    /// Freezes the switch, and gives it these frames in place of those that it holds. [`Switch::thaw`] forwards each from
    /// the port that the machine with the name of its sender has then.
    pub fn park(&self, frames: InFlight) {
        self.shared.park(frames);
    }

    /// Forwards the frames that the switch holds in their order, and all later ones as they come.
    pub fn thaw(&self) {
        self.shared.thaw();
    }

    /// Answers DHCP requests on a VLAN with `leases`, which replace those of an earlier call. Requests of other cards, and
    /// those in tagged frames, are not answered. The leases don't end. They name no router and no name server.
    ///
    /// The server has the address 192.168.V.254 in its answers and the card 52:54:00:12:VV:FF. It does not answer ARP, so a
    /// guest can have that address.
    pub fn serve_dhcp(&self, vlan: VlanId, leases: Vec<Lease>) {
        self.shared.serve_dhcp(vlan, leases);
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.shared.end();
        // It ends after the event at hand, which takes it less than a second.
        self.thread.take().map(JoinHandle::join);
        self.shared.close();
    }
}

/// A port of a [`Switch`]. Dropping it unplugs it: the other end reads the end of the connection.
#[derive(Debug)]
pub struct Port {
    shared: Arc<Shared>,
    key: Key,
    vlan: VlanId,
    name: String,
}

impl Port {
    /// The VLAN that it is on.
    pub fn vlan(&self) -> VlanId {
        self.vlan
    }

    /// The name of the machine at its other end.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Closes it. What the other end has sent and the switch has not read is lost. The counts stay.
    pub fn close(&self) {
        self.shared.hang_up(self.key);
    }

    /// What passed it so far, also if the other end or the switch is gone.
    pub fn counts(&self) -> Counts {
        self.shared.counts(self.key)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.shared.unplug(self.key);
    }
}

/// A folder in which a [`Switch`] is found by programs that expect a vde switch. Dropping it closes its ports, and removes
/// their sockets and the folder.
#[derive(Debug)]
pub struct VdeFolder {
    shared: Arc<Shared>,
    key: Key,
    folder: PathBuf,
}

impl VdeFolder {
    /// Its path, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The sums of what passed its ports.
    pub fn counts(&self) -> Counts {
        self.shared.vde_counts(self.key)
    }
}

impl Drop for VdeFolder {
    fn drop(&mut self) {
        self.shared.end_vde(self.key);
    }
}
