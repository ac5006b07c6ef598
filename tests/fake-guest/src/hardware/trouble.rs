//! What goes wrong, when it is planned to.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use nixvm_fake_guest::settings::{At, Moment};
use serde_json::Value;

use super::Machine;
use crate::firmware;

impl Machine {
    /// A moment of the guest's life has come: what was planned for it happens.
    pub(super) fn reached(self: &Arc<Self>, moment: Moment) {
        if self.settings.noise_from == moment {
            self.wire.noise_on();
        }
        type Plan = (Option<At>, fn(&Arc<Machine>));
        let plans: [Plan; 5] = [
            (self.settings.panic, |machine| machine.panic("Attempted to kill init! exitcode=0x0000000b")),
            (self.settings.die, |machine| machine.die(machine.settings.die_status)),
            (self.settings.stall, |machine| machine.wire.kill()),
            (self.settings.halt, |machine| machine.halt()),
            (self.settings.reset, |machine| machine.reset_itself()),
        ];
        for (at, act) in plans {
            match at {
                Some(at) if at.moment == moment && at.delay.is_zero() => act(self),
                Some(at) if at.moment == moment => self.background(move |machine| {
                    std::thread::sleep(at.delay);
                    act(machine);
                }),
                _ => {}
            }
        }
    }

    pub(super) fn panic(&self, reason: &str) {
        for line in firmware::panic_lines(reason) {
            self.wire.kernel(&line);
        }
        self.wire.kill();
        self.tell_init("freeze");
        let panic = self.append.split_whitespace().rev().find_map(|word| word.strip_prefix("panic="));
        match panic.and_then(|seconds| seconds.parse::<i64>().ok()) {
            None | Some(0) => {}
            Some(seconds) => {
                std::thread::sleep(Duration::from_secs(seconds.max(0).unsigned_abs()));
                self.reset();
            }
        }
    }

    /// QEMU stops the guest of its own accord.
    pub(super) fn halt(&self) {
        let done = self.settings.report.as_ref().map(|report| format!("{report}.halted"));
        if self.settings.halt_once
            && let Some(done) = done
            && std::fs::File::create_new(done).is_err()
        {
            return;
        }
        crate::complain!("{}", self.settings.halt_text);
        *self.halted.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.settings.halt_status);
        self.wire.pause(true);
        self.qmp.event("STOP", Value::Null);
    }

    /// The guest resets the machine.
    pub(super) fn reset_itself(&self) {
        if self.boots.load(Ordering::SeqCst) <= self.settings.reset_after {
            return;
        }
        if self.resets.fetch_add(1, Ordering::SeqCst) < self.settings.reset_limit {
            // A real machine takes longer than that from a reset to the next.
            std::thread::sleep(Duration::from_millis(20));
            self.wire.kill();
            self.reset_before_init.store(true, Ordering::SeqCst);
            self.reset();
        }
    }

    pub(super) fn die(&self, status: i32) -> ! {
        crate::complain!("{}", self.settings.die_text);
        if let Some(signal) = rustix::process::Signal::from_named_raw(-status) {
            let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
            // A signal that is handled ends the process on another thread.
            std::thread::sleep(self.settings.max_life);
        }
        self.exit(status)
    }

    pub(super) fn reset(&self) {
        self.tell_init("reset");
    }
}
