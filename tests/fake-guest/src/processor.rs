//! The guest's processors, as far as QEMU tells of it: its thread, and its registers.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// So many of them share one thread, whose time counts for each: a host under load gives it little.
const PROCESSORS: usize = 32;

/// A processor that uses the time of a thread, where it is planned to.
#[derive(Debug, Default)]
pub struct Processor {
    thread: AtomicI32,
    place: AtomicU64,
}

impl Processor {
    /// Uses all the time of this thread; each time it goes on, its registers change.
    pub fn spin(&self, life: Duration, goes_on: bool) {
        let begun = Instant::now();
        self.thread.store(rustix::thread::gettid().as_raw_pid(), Ordering::SeqCst);
        while begun.elapsed() < life {
            self.place.fetch_add(u64::from(goes_on), Ordering::Relaxed);
        }
    }

    /// What `query-cpus-fast` says.
    pub fn threads(&self) -> Value {
        let thread = self.thread.load(Ordering::SeqCst);
        (0..PROCESSORS).map(|index| json!({"cpu-index": index, "thread-id": thread})).collect()
    }

    /// What `info registers` prints.
    pub fn registers(&self) -> String {
        format!("RAX=0 RBX=0\r\nRIP={:016x} RFL=00000002\r\n", self.place.load(Ordering::Relaxed))
    }
}
