//! Signals: read like other input, and not inherited by children.

use super::machine::{call, number};
use super::{Fd, checked};

const SIGHUP: u32 = 1;
const SIGINT: u32 = 2;
const SIGPIPE: u32 = 13;
const SIGTERM: u32 = 15;
const SIGCHLD: u32 = 17;
const SET_BYTES: usize = 8;

const fn set(signals: &[u32]) -> u64 {
    let mut bits = 0;
    let mut at = 0;
    while at < signals.len() {
        bits |= 1 << (signals[at] - 1);
        at += 1;
    }
    bits
}

/// The signals that the helper waits for.
pub struct Signals(Fd);

impl Signals {
    /// Starts to read the signals instead of having them delivered.
    pub fn new() -> Result<Signals, isize> {
        const SIG_SETMASK: usize = 2;
        // SFD_NONBLOCK | SFD_CLOEXEC
        const FLAGS: usize = 0o2004000;
        let mask = set(&[SIGHUP, SIGINT, SIGTERM, SIGCHLD]);
        let at = &raw const mask as usize;
        // SAFETY: both read one set of 64 signals.
        unsafe {
            call(number::SIGPROCMASK, [SIG_SETMASK, at, 0, SET_BYTES, 0, 0]);
            let fd = checked(|| call(number::SIGNALFD4, [usize::MAX, at, SET_BYTES, FLAGS, 0, 0]))?;
            Ok(Signals(Fd::inherited(fd as i32)))
        }
    }

    /// Returns the descriptor to wait for.
    pub fn number(&self) -> i32 {
        self.0.number()
    }

    /// Reads the pending signals. Returns whether one asks this process to end.
    pub fn asked_to_end(&self) -> bool {
        let mut asked = false;
        let mut info = [0u8; 128];
        while let Ok(128) = self.0.read(&mut info) {
            asked |= u32::from_ne_bytes([info[0], info[1], info[2], info[3]]) != SIGCHLD;
        }
        asked
    }
}

/// The kernel's layout (the same on both architectures).
#[repr(C)]
struct Action {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

fn act(signal: u32, handler: usize) {
    let action = Action { handler, flags: 0, restorer: 0, mask: 0 };
    // SAFETY: the handler is SIG_DFL or SIG_IGN: no code of ours runs.
    unsafe {
        call(number::SIGACTION, [signal as usize, &raw const action as usize, 0, SET_BYTES, 0, 0]);
    }
}

/// Makes a write to a pipe without a reader an error instead of the end of this process.
pub fn ignore_broken_pipes() {
    act(SIGPIPE, 1);
}

/// In a child, resets every signal to its default and unblocks it. A shell can't trap signals that were ignored when it
/// started.
pub fn defaults_for_child() {
    const SIG_SETMASK: usize = 2;
    for signal in 1..=64 {
        act(signal, 0);
    }
    let none = 0u64;
    // SAFETY: reads one set.
    unsafe { call(number::SIGPROCMASK, [SIG_SETMASK, &raw const none as usize, 0, SET_BYTES, 0, 0]) };
}
