//! The sockets at which the ports of a switch have their machines, and what is done when one of them is ready.
//!
//! A machine is read a bounded number of frames at a time, in turn with all others, so one that floods its VLAN does not
//! hold up the others. A machine is always read: QEMU would wait otherwise. What it is sent waits in a bounded queue.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, ioctl};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair, sockopt,
};

use super::capture::Capture;
use super::dhcp::Server;
use super::forwarding::Forwarding;
use super::frozen::InFlight;
use super::links::Links;
use super::vde::{Control, Folder, Said, SocketFile};
use super::{CountedLink, Counts, Faults, FaultyLink, Key, Lease, Seed, VlanId};
use crate::{Error, Result};

/// How many frames of one machine are read before it is another's turn, and how many bytes.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 128 << 10;

/// How many such batches are read of a program that has ended, or for a caller who asks what was sent: more than the
/// kernel keeps, so that a machine that floods its VLAN ends neither.
const LAST: usize = 64;

/// How much the kernel keeps for a machine, in bytes with its own overhead, if the host allows it.
const BUFFER: usize = 1 << 20;

/// How long no new connections are taken when the host has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// The names of ports that are not those of machines. No machine is called so: these are no host names.
const DHCP_SERVER: &str = "the DHCP server";
const VDE: &str = "a vde connection";

/// What the thread waits with.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
    /// A vde folder takes no connections for now.
    paused: AtomicBool,
}

impl Poller {
    pub(super) fn new(epoll: OwnedFd) -> Self {
        Self { epoll, paused: AtomicBool::new(false) }
    }

    /// How long the thread waits for sockets, if not for ever.
    pub(super) fn limit(&self) -> Option<Duration> {
        self.paused.load(Ordering::Relaxed).then_some(PAUSE)
    }

    fn add(&self, key: Key, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(key.0), EventFlags::IN)?)
    }

    /// Waits for other events of a socket. The descriptors are there and known, so this can't fail.
    fn wait_for(&self, key: Key, socket: impl AsFd, flags: EventFlags) {
        let _ = epoll::modify(&self.epoll, socket, EventData::new_u64(key.0), flags);
    }

    /// Waits no longer for a socket. Closing it is not enough while a process that was just forked holds it, too.
    fn remove(&self, socket: impl AsFd) {
        let _ = epoll::delete(&self.epoll, socket);
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// The socket of a port.
#[derive(Debug)]
struct Line {
    socket: OwnedFd,
    /// The machine takes no more frames for now.
    full: bool,
    /// The socket's names, if it has some.
    _files: Vec<SocketFile>,
}

/// All sockets of a switch.
#[derive(Debug)]
pub(super) struct Lines {
    poller: Arc<Poller>,
    last: u64,
    forwarding: Forwarding,
    lines: HashMap<Key, Line>,
    servers: HashMap<VlanId, (Key, Server)>,
    folders: HashMap<Key, Folder>,
    controls: HashMap<Key, Control>,
    /// While the switch is frozen: what machines have sent since then.
    frozen: Option<InFlight>,
}

impl Lines {
    pub(super) fn new(poller: Arc<Poller>, seed: Seed) -> Self {
        Self {
            poller,
            last: 0,
            forwarding: Forwarding::with_seed(seed),
            lines: HashMap::new(),
            servers: HashMap::new(),
            folders: HashMap::new(),
            controls: HashMap::new(),
            frozen: None,
        }
    }

    fn next(&mut self) -> Key {
        self.last += 1;
        Key(self.last)
    }

    /// Adds a port with a socket of its own, and returns the other end.
    pub(super) fn plug(&mut self, vlan: VlanId, name: &str) -> io::Result<(Key, OwnedFd)> {
        // Of the kinds that keep messages apart this one also shows that the other end is gone.
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        for end in [&ours, &theirs] {
            widen(end);
        }
        Ok((self.add(vlan, name, ours, Vec::new())?, theirs))
    }

    fn add(&mut self, vlan: VlanId, name: &str, socket: OwnedFd, files: Vec<SocketFile>) -> io::Result<Key> {
        let key = self.next();
        self.poller.add(key, &socket)?;
        self.forwarding.add(key, vlan, name);
        self.lines.insert(key, Line { socket, full: false, _files: files });
        Ok(key)
    }

    /// Removes a port.
    pub(super) fn unplug(&mut self, port: Key) {
        self.hang_up(port);
        self.forwarding.remove(port);
    }

    /// Closes the socket of a port. Its counts stay.
    pub(super) fn hang_up(&mut self, port: Key) {
        if let Some(line) = self.lines.remove(&port) {
            self.poller.remove(&line.socket);
        }
        self.forwarding.detach(port);
    }

    pub(super) fn counts(&self, port: Key) -> Counts {
        self.forwarding.counts(port)
    }

    pub(super) fn change_faults(&mut self, links: &[(VlanId, &str, &str)], change: &dyn Fn(&mut Faults)) {
        let now = Instant::now();
        for link in links {
            self.forwarding.change(*link, change, now);
        }
        self.send_waiting();
    }

    pub(super) fn heal(&mut self, vlan: Option<VlanId>) {
        self.forwarding.heal(vlan, Instant::now());
        self.send_waiting();
    }

    pub(super) fn faults(&self) -> Vec<FaultyLink> {
        self.forwarding.faulty()
    }

    pub(super) fn link_counts(&self) -> Vec<CountedLink> {
        self.forwarding.link_counts()
    }

    /// When the next frame arrives that is under way. None arrives while the switch is frozen.
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        self.frozen.is_none().then(|| self.forwarding.next_arrival()).flatten()
    }

    /// Delivers the frames that were under way and have arrived.
    pub(super) fn arrive(&mut self) {
        if self.frozen.is_none() {
            self.forwarding.arrive_by(Instant::now());
            self.send_waiting();
        }
    }

    /// Begins to count and to tell of packets anew.
    pub(super) fn begin(&mut self) {
        self.forwarding.begin();
    }

    pub(super) fn capture(&mut self) -> (&mut Capture, &Links) {
        self.forwarding.capture()
    }

    /// Reads what machines have sent so far.
    pub(super) fn read_all(&mut self, buffer: &mut [u8]) {
        let ports: Vec<Key> = self.lines.keys().copied().collect();
        for port in ports {
            let Some(has_ended) = self.lines.get(&port).and_then(|line| has_ended(&line.socket)) else {
                continue;
            };
            for _ in 0..LAST {
                if !self.readable(port, has_ended, buffer) {
                    break;
                }
            }
        }
        self.send_waiting();
    }

    /// Holds what machines send from now on. What is queued for machines still goes out.
    pub(super) fn freeze(&mut self) {
        self.frozen.get_or_insert_default();
    }

    /// Whether machines have read every frame that was queued for them.
    pub(super) fn is_drained(&self) -> bool {
        self.lines.iter().all(|(port, line)| {
            // A host that does not tell is taken for one that keeps nothing.
            self.forwarding.first(*port).is_none() && unread(&line.socket).unwrap_or(0) == 0
        })
    }

    /// Returns the frames in flight of a frozen switch, whose machines are stopped: what they have sent is read first.
    /// `buffer` is longer than the longest frame.
    pub(super) fn in_flight(&mut self, buffer: &mut [u8]) -> InFlight {
        self.read_all(buffer);
        let mut flight = InFlight::default();
        // These were sent before.
        for held in self.forwarding.queued().into_iter().chain(self.forwarding.held_back()) {
            flight.hold(held);
        }
        if let Some(frozen) = &self.frozen {
            flight.extend(frozen);
        }
        flight
    }

    /// Gives a frozen switch these frames in place of those that it holds, and of those that faults hold back.
    pub(super) fn park(&mut self, frames: InFlight) {
        self.forwarding.go_back();
        self.frozen = Some(frames);
    }

    /// Forwards the frames that a frozen switch holds, and all later ones.
    pub(super) fn thaw(&mut self) {
        let now = Instant::now();
        for held in self.frozen.take().into_iter().flat_map(|frozen| frozen.frames) {
            self.forwarding.forward(&held, now);
            // One after another: what a machine has room for in its socket takes no room in its queue.
            self.send_waiting();
        }
    }

    /// Adds the DHCP server of a VLAN, or gives it other leases.
    pub(super) fn serve_dhcp(&mut self, vlan: VlanId, leases: Vec<Lease>) {
        let key = match self.servers.get(&vlan) {
            Some((key, _)) => *key,
            None => {
                let key = self.next();
                self.forwarding.add(key, vlan, DHCP_SERVER);
                key
            }
        };
        self.servers.insert(vlan, (key, Server::new(vlan, leases)));
    }

    /// Makes a folder for vde connections.
    pub(super) fn serve_vde(&mut self, vlan: VlanId, path: &Path) -> Result<(Key, PathBuf)> {
        let folder = Folder::make(vlan, path)?;
        let key = self.next();
        let path = folder.path().to_owned();
        let failed = |error| Error::io(format_args!("wait for the vde folder {}", path.display()), &error);
        self.poller.add(key, folder.listener()).map_err(failed)?;
        self.folders.insert(key, folder);
        Ok((key, path))
    }

    /// The sums of what passed the ports of a folder.
    pub(super) fn vde_counts(&self, key: Key) -> Counts {
        let past = self.folders.get(&key).map(|folder| folder.past).unwrap_or_default();
        let ports = self.controls.values().filter(|control| control.folder() == key);
        ports.filter_map(|control| control.port).fold(past, |sum, port| sum.plus(self.counts(port)))
    }

    /// Closes the ports of a folder, and removes it.
    pub(super) fn end_vde(&mut self, key: Key) {
        let controls: Vec<Key> = self
            .controls
            .iter()
            .filter(|(_, control)| control.folder() == key)
            .map(|(key, _)| *key)
            .collect();
        controls.into_iter().for_each(|control| self.end_control(control));
        if let Some(folder) = self.folders.remove(&key) {
            self.poller.remove(folder.listener());
        }
    }

    /// Closes everything. The counts stay.
    pub(super) fn close(&mut self) {
        let folders: Vec<Key> = self.folders.keys().copied().collect();
        folders.into_iter().for_each(|folder| self.end_vde(folder));
        let ports: Vec<Key> = self.lines.keys().copied().collect();
        ports.into_iter().for_each(|port| self.hang_up(port));
        self.servers.clear();
    }

    /// Handles a socket that is ready. `buffer` is longer than the longest frame.
    pub(super) fn ready(&mut self, key: Key, flags: EventFlags, buffer: &mut [u8]) {
        if flags.contains(EventFlags::OUT) {
            self.writable(key);
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            if self.lines.contains_key(&key) {
                self.readable(key, flags.contains(EventFlags::HUP), buffer);
            } else if self.folders.contains_key(&key) {
                self.connect(key);
            } else if self.controls.contains_key(&key) {
                self.control(key, buffer);
            }
        }
        self.send_waiting();
    }

    /// Reads the frames of a machine, but not too many of them. Returns whether there may be more.
    fn readable(&mut self, port: Key, hung_up: bool, buffer: &mut [u8]) -> bool {
        let Some(line) = self.lines.get(&port) else { return false };
        let (now, mut bytes, mut read) = (Instant::now(), 0, 0);
        while read < BATCH {
            match recv(&line.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                // A message may be empty, and an end looks like one.
                Ok((0, _)) if hung_up => break,
                Ok((length, _)) => {
                    match &mut self.frozen {
                        None => self.forwarding.receive(port, &buffer[..length], now),
                        Some(frozen) => self.forwarding.hold(port, &buffer[..length], frozen),
                    }
                    bytes += length;
                    if bytes >= BATCH_BYTES {
                        return true;
                    }
                }
                Err(Errno::AGAIN) if !hung_up => return false,
                // The other end was closed before it had read everything. What it sent before that is still there.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(_) => break,
            }
            read += 1;
        }
        if read == BATCH {
            return true;
        }
        self.hang_up(port);
        false
    }

    /// Sends what has waited for a machine that takes frames again.
    fn writable(&mut self, port: Key) {
        let Some(line) = self.lines.get_mut(&port) else { return };
        line.full = false;
        self.poller.wait_for(port, &line.socket, EventFlags::IN);
        self.send(port);
    }

    /// Sends the frames that were just queued.
    fn send_waiting(&mut self) {
        loop {
            let waiting = self.forwarding.take_waiting();
            if waiting.is_empty() {
                return;
            }
            for port in waiting {
                match self.lines.contains_key(&port) {
                    true => self.send(port),
                    false => self.answer(port),
                }
            }
        }
    }

    /// Sends a machine as many of its frames as it takes.
    fn send(&mut self, port: Key) {
        let Some(line) = self.lines.get_mut(&port).filter(|line| !line.full) else { return };
        while let Some(frame) = self.forwarding.first(port) {
            match send(&line.socket, frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(_) => drop(self.forwarding.sent(port)),
                Err(Errno::AGAIN) => {
                    line.full = true;
                    self.poller.wait_for(port, &line.socket, EventFlags::IN | EventFlags::OUT);
                    return;
                }
                Err(Errno::INTR) => {}
                // The host has no memory for this frame, or the machine is gone. What it sent at last is read all the same.
                Err(_) => self.forwarding.drop_first(port),
            }
        }
    }

    /// Has the DHCP server at this port answer its frames.
    fn answer(&mut self, port: Key) {
        let Some((_, server)) = self.servers.values().find(|(key, _)| *key == port) else { return };
        let now = Instant::now();
        while let Some(request) = self.forwarding.sent(port) {
            if let Some(answer) = server.answer(&request) {
                self.forwarding.receive(port, &answer, now);
            }
        }
    }

    /// Takes the new connections of a vde folder, but not too many of them.
    fn connect(&mut self, folder_key: Key) {
        for _ in 0..BATCH {
            let Some(folder) = self.folders.get(&folder_key) else { return };
            let control = match folder.accept(folder_key, &self.controls) {
                Ok(Some(control)) => control,
                Ok(None) => continue,
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(_) => {
                    // The connection stays where it is, and would wake the thread again and again.
                    self.poller.wait_for(folder_key, folder.listener(), EventFlags::empty());
                    return self.poller.paused.store(true, Ordering::Relaxed);
                }
            };
            let key = self.next();
            if self.poller.add(key, control.socket()).is_ok() {
                self.controls.insert(key, control);
            }
        }
    }

    /// Takes new connections again.
    pub(super) fn listen_again(&mut self) {
        self.poller.paused.store(false, Ordering::Relaxed);
        for (key, folder) in &self.folders {
            self.poller.wait_for(*key, folder.listener(), EventFlags::IN);
        }
    }

    /// Reads what a vde connection says. It asks for a port once, and lives as long as the port.
    fn control(&mut self, key: Key, buffer: &mut [u8]) {
        let Some(control) = self.controls.get_mut(&key) else { return };
        let said = match recv(control.socket(), &mut *buffer, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => return,
            Ok((length @ 1.., _)) => control.says(&buffer[..length]),
            Ok((0, _)) | Err(_) => Said::Nonsense,
        };
        let kept = match said {
            Said::Nothing => true,
            Said::Request(peer) => self.connect_port(key, &peer).is_some(),
            Said::Nonsense => false,
        };
        if !kept {
            // What the program sent at last.
            if let Some(port) = self.controls.get(&key).and_then(|control| control.port) {
                // `any` ends with the first batch that is not full.
                let _ = (0..LAST).any(|_| !self.readable(port, false, buffer));
            }
            self.end_control(key);
        }
    }

    /// Makes the port that a vde connection asked for. None if that is not possible.
    fn connect_port(&mut self, key: Key, peer: &[u8]) -> Option<()> {
        let folder = self.folders.get(&self.controls.get(&key)?.folder())?;
        let (vlan, (socket, files)) = (folder.vlan(), folder.connect(key, peer)?);
        widen(&socket);
        let port = self.add(vlan, VDE, socket, files).ok()?;
        let control = self.controls.get_mut(&key)?;
        control.port = Some(port);
        self.folders.get(&control.folder())?.greet(control, key)
    }

    /// Closes a vde connection and its port.
    fn end_control(&mut self, key: Key) {
        let Some(control) = self.controls.remove(&key) else { return };
        self.poller.remove(control.socket());
        let Some(port) = control.port else { return };
        let counts = self.counts(port);
        if let Some(folder) = self.folders.get_mut(&control.folder()) {
            folder.past = folder.past.plus(counts);
        }
        self.unplug(port);
    }
}

/// Returns whether the other end of a socket is gone, if there is something to read. `None` if there is nothing.
fn has_ended(socket: &OwnedFd) -> Option<bool> {
    let mut polled = [PollFd::new(socket, PollFlags::IN)];
    // It waits for nothing, so the worst is a signal. The frames are read when the thread gets to them.
    poll(&mut polled, Some(&Timespec::default())).ok().filter(|ready| *ready > 0)?;
    let [polled] = polled;
    Some(polled.revents().contains(PollFlags::HUP))
}

/// Returns how much of what was sent on a socket the other end has not read, in bytes with the kernel's overhead.
fn unread(socket: &OwnedFd) -> io::Result<u32> {
    /// SIOCOUTQ (unix(7), and linux/sockios.h).
    const OUTQ: Opcode = 0x5411;
    // SAFETY: the kernel writes one int.
    let asked = unsafe { Getter::<OUTQ, u32>::new() };
    // SAFETY: the request changes nothing, and the descriptor is open.
    Ok(unsafe { ioctl(socket, asked) }?)
}

/// Gives a socket a larger buffer for what it sends. A host that allows no more leaves it as it is.
fn widen(socket: &OwnedFd) {
    let _ = sockopt::set_socket_send_buffer_size(socket, BUFFER);
}
