//! Handles a scenario that ends the process (`std::process::exit(0)`). Otherwise the run would end with the
//! status that the scenario chose, although neither it nor the later ones have an outcome.

use std::collections::BTreeSet;
use std::ffi::c_int;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::exit::Exit;
use crate::mutex::lock;
use crate::signals;

// SAFETY: both are declared as in POSIX. `atexit` takes a function without arguments, which lives as long as
// the process, and `_exit` takes any status. No call of either can do harm.
unsafe extern "C" {
    safe fn atexit(function: extern "C" fn()) -> c_int;
    safe fn _exit(status: c_int) -> !;
}

/// The process whose run is under way, or 0. A child that was forked has another process id.
static UNDER_WAY: AtomicU32 = AtomicU32::new(0);

static NAMES: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A run that is under way. Until this is dropped, the end of the process is a failure.
#[must_use]
pub(super) struct UnderWay(());

impl UnderWay {
    pub fn begin() -> Self {
        static REGISTERED: Mutex<bool> = Mutex::new(false);
        let mut registered = lock(&REGISTERED);
        if !*registered {
            *registered = atexit(at_exit) == 0;
        }
        UNDER_WAY.store(std::process::id(), Ordering::SeqCst);
        Self(())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.store(0, Ordering::SeqCst);
    }
}

/// A scenario that is under way, until this is dropped.
#[must_use]
pub(super) struct Running(String);

impl Running {
    pub fn begin(name: String) -> Self {
        lock(&NAMES).insert(name.clone());
        Self(name)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        lock(&NAMES).remove(&self.0);
    }
}

/// Reports the failure. The watchdog ends the machines, as after any sudden end.
extern "C" fn at_exit() {
    // A signal ends the process with a status of its own.
    if UNDER_WAY.load(Ordering::SeqCst) != std::process::id() || signals::is_ending() {
        return;
    }
    // Does not wait for the lock, because its holder may have ended the process.
    let names = NAMES.try_lock().map(|names| names.iter().cloned().collect::<Vec<_>>().join(", "));
    let names = names.unwrap_or_default();
    let text = format!(
        "\nerror: a scenario ended the process, so the run has no result\n  running: {names}\n  next \
         step: return from \
         the scenario, or panic, instead of calling `std::process::exit`\n"
    );
    // Avoids the lock of Rust's stderr for the same reason.
    let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
    _exit(Exit::Failed.code().into())
}
