//! The thread of a switch: it waits for sockets, and hands what happens there to `lines.rs`.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

use super::capture::Capture;
use super::frozen::InFlight;
use super::lines::{Lines, Poller};
use super::links::Links;
use super::{CountedLink, Counts, Faults, FaultyLink, Key, Lease, Seed, VlanId, frame};
use crate::mutex::lock;
use crate::{Error, Result, threads};

/// How many sockets are looked at in one go.
const EVENTS: usize = 64;

/// The data of the event that ends the thread. No key is 0.
const WAKE: u64 = 0;

/// What the thread and the handles of a switch share.
#[derive(Debug)]
pub(super) struct Shared {
    poller: Arc<Poller>,
    lines: Mutex<Lines>,
    /// Held by a caller from before it asks for `lines` until it has them. A thread that is flooded with frames would
    /// take `lines` again at once, and no caller would ever get them.
    turn: Mutex<()>,
    wake: OwnedFd,
    ended: AtomicBool,
}

impl Shared {
    pub(super) fn new(seed: Seed) -> Result<Self> {
        let made = || -> io::Result<_> {
            let epoll = epoll::create(CreateFlags::CLOEXEC)?;
            let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
            Ok((Arc::new(Poller::new(epoll)), wake))
        };
        let (poller, wake) = made().map_err(|error| Error::io("make the switch of a network", &error))?;
        Ok(Self {
            lines: Mutex::new(Lines::new(poller.clone(), seed)),
            poller,
            turn: Mutex::new(()),
            wake,
            ended: AtomicBool::new(false),
        })
    }

    /// Locks the lines for a caller.
    fn lines(&self) -> MutexGuard<'_, Lines> {
        let _turn = lock(&self.turn);
        lock(&self.lines)
    }

    /// Locks the lines for a caller who asks what was sent: the thread may not have read it yet.
    fn lines_with_all_read(&self) -> MutexGuard<'_, Lines> {
        let mut lines = self.lines();
        lines.read_all(&mut vec![0; frame::LONGEST + 1]);
        // A frame that was read may arrive later, and the thread has to wait for that.
        self.wake();
        lines
    }

    /// Locks the lines for the thread, after the callers that wait for them.
    fn lines_after_callers(&self) -> MutexGuard<'_, Lines> {
        drop(lock(&self.turn));
        lock(&self.lines)
    }

    pub(super) fn plug(&self, vlan: VlanId, name: &str) -> Result<(Key, OwnedFd)> {
        self.lines().plug(vlan, name).map_err(|error| Error::io("make a port of a network", &error))
    }

    pub(super) fn unplug(&self, port: Key) {
        self.lines().unplug(port);
    }

    pub(super) fn hang_up(&self, port: Key) {
        self.lines().hang_up(port);
    }

    pub(super) fn counts(&self, port: Key) -> Counts {
        self.lines_with_all_read().counts(port)
    }

    pub(super) fn change_faults(&self, links: &[(VlanId, &str, &str)], change: &dyn Fn(&mut Faults)) {
        self.lines().change_faults(links, change);
        // A frame may arrive sooner now.
        self.wake();
    }

    pub(super) fn heal(&self, vlan: Option<VlanId>) {
        self.lines().heal(vlan);
        self.wake();
    }

    pub(super) fn faults(&self) -> Vec<FaultyLink> {
        self.lines().faults()
    }

    pub(super) fn link_counts(&self) -> Vec<CountedLink> {
        self.lines_with_all_read().link_counts()
    }

    pub(super) fn with_capture<T>(&self, use_it: impl FnOnce(&mut Capture, &Links) -> T) -> T {
        let mut lines = self.lines_with_all_read();
        let (capture, links) = lines.capture();
        use_it(capture, links)
    }

    pub(super) fn begin(&self) {
        self.lines_with_all_read().begin();
    }

    pub(super) fn freeze(&self) {
        self.lines().freeze();
    }

    pub(super) fn is_drained(&self) -> bool {
        self.lines().is_drained()
    }

    pub(super) fn in_flight(&self) -> InFlight {
        self.lines().in_flight(&mut vec![0; frame::LONGEST + 1])
    }

    pub(super) fn park(&self, frames: InFlight) {
        self.lines().park(frames);
    }

    pub(super) fn thaw(&self) {
        self.lines().thaw();
        // A frame may arrive before the next socket is ready.
        self.wake();
    }

    pub(super) fn serve_dhcp(&self, vlan: VlanId, leases: Vec<Lease>) {
        self.lines().serve_dhcp(vlan, leases);
    }

    pub(super) fn serve_vde(&self, vlan: VlanId, folder: &Path) -> Result<(Key, PathBuf)> {
        self.lines().serve_vde(vlan, folder)
    }

    pub(super) fn vde_counts(&self, folder: Key) -> Counts {
        self.lines().vde_counts(folder)
    }

    pub(super) fn end_vde(&self, folder: Key) {
        self.lines().end_vde(folder);
    }

    /// Tells the thread to end.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.wake();
    }

    /// Makes the thread look again what it waits for.
    fn wake(&self) {
        // The descriptor has room for 2^64 - 2 such words.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Closes all sockets.
    pub(super) fn close(&self) {
        self.lines().close();
    }

    /// Waits until a socket is ready or a frame arrives that was under way, and handles it.
    fn turn(&self, events: &mut [MaybeUninit<Event>], buffer: &mut [u8]) -> Result<(), Errno> {
        let paused = self.poller.limit();
        let next = self.lines_after_callers().next_arrival();
        let until_next = next.map(|next| next.saturating_duration_since(Instant::now()));
        let limit = paused.into_iter().chain(until_next).min().map(|limit| Timespec {
            tv_sec: limit.as_secs().cast_signed(),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let (ready, _) = match epoll::wait(self.poller.as_fd(), events, limit.as_ref()) {
            Err(Errno::INTR) => return Ok(()),
            waited => waited?,
        };
        for event in ready.iter() {
            if event.data.u64() == WAKE {
                let _ = rustix::io::read(&self.wake, &mut [0; 8]);
                continue;
            }
            self.lines_after_callers().ready(Key(event.data.u64()), event.flags, buffer);
        }
        if next.is_some() {
            self.lines_after_callers().arrive();
        }
        if paused.is_some() {
            self.lines_after_callers().listen_again();
        }
        Ok(())
    }
}

/// Starts the thread of a switch.
pub(super) fn start(shared: Arc<Shared>) -> Result<JoinHandle<()>> {
    let work = move || {
        // One byte more shows that a frame is too long.
        let mut buffer = vec![0; frame::LONGEST + 1];
        let mut events = [MaybeUninit::uninit(); EVENTS];
        while !shared.ended.load(Ordering::Acquire) {
            // It fails only for a descriptor that is none, and there would be no use in trying again.
            if shared.turn(&mut events, &mut buffer).is_err() {
                break;
            }
        }
    };
    Builder::new().name("switch".to_owned()).spawn(work).map_err(|source| threads::refused_thread(&source))
}
