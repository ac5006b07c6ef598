//! The serial line as the hardware sees it: bytes leave here, cut, slowed down and with the kernel's messages
//! in between. The kernel writes past the terminal, straight to the line, so its messages can stand at any byte
//! of what a program prints.

use std::fs::File;
use std::io::Write as _;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nixvm_fake_guest::settings::{Chunk, Noise, Settings};

/// The line towards the host.
pub struct Wire {
    state: Mutex<State>,
    resumed: Condvar,
    chunk: Chunk,
    delay: Duration,
    caller_id: bool,
    noise_text: String,
    /// The uptime at which `/proc/uptime` counts from, against CLOCK_BOOTTIME.
    clock_offset: f64,
    /// How far the kernel's clock is ahead of that, in seconds.
    kernel_clock: f64,
}

struct State {
    out: File,
    log: Option<File>,
    random: u64,
    paused: bool,
    dead: bool,
    noise: Noise,
    noise_left: usize,
    noise_on: bool,
    since_noise: usize,
}

impl Wire {
    /// A line that writes to `out` as `settings` say, and keeps the kernel's messages in `log`.
    pub fn new(out: File, log: Option<File>, settings: &Settings) -> Self {
        Self {
            state: Mutex::new(State {
                out,
                log,
                random: settings.seed.max(1),
                paused: false,
                dead: false,
                noise: settings.noise,
                noise_left: settings.noise_limit,
                noise_on: false,
                since_noise: 0,
            }),
            resumed: Condvar::new(),
            chunk: settings.chunk,
            delay: settings.delay,
            caller_id: settings.caller_id,
            noise_text: settings.noise_text.clone(),
            clock_offset: clock_offset(),
            kernel_clock: settings.kernel_clock as f64 / 1e3,
        }
    }

    /// What the guest's terminal puts on the line.
    pub fn terminal(&self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let mut state = self.lock();
            let mut size = rest.len();
            let mut due = false;
            if let (true, Noise::Bytes(every)) = (state.noise_on && state.noise_left > 0, state.noise) {
                size = size.min(every.saturating_sub(state.since_noise).max(1));
                due = state.since_noise + size >= every;
                state.since_noise = if due { 0 } else { state.since_noise + size };
            }
            let (now, later) = rest.split_at(size);
            rest = later;
            state = self.put(state, now);
            if due {
                self.noise_line(state);
            }
        }
    }

    /// A kernel message, stamped with the time at which it is printed.
    pub fn kernel(&self, text: &str) {
        let (_, stamp) = self.clocks();
        self.kernel_at(stamp, text);
    }

    /// A kernel message with a time stamp of its own, in seconds.
    pub fn kernel_at(&self, stamp: f64, text: &str) {
        let state = self.lock();
        drop(self.kernel_line(state, stamp, text));
    }

    /// Prints one message of the noise that the settings ask for. False: there is no more to come.
    pub fn noise(&self) -> bool {
        let state = self.lock();
        if state.dead || state.noise_left == 0 {
            return false;
        }
        if state.noise_on {
            self.noise_line(state);
        }
        true
    }

    /// Lets the noise begin.
    pub fn noise_on(&self) {
        self.lock().noise_on = true;
    }

    /// The noise that is asked for now.
    pub fn noise_now(&self) -> Noise {
        self.lock().noise
    }

    /// Changes the noise, and lets it begin.
    pub fn set_noise(&self, noise: Noise) {
        let mut state = self.lock();
        state.noise = noise;
        state.noise_on = true;
    }

    /// Nothing more is ever printed: the guest is dead.
    pub fn kill(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).dead = true;
    }

    /// Whether the guest is dead.
    pub fn is_dead(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).dead
    }

    /// A new boot on the same line.
    pub fn revive(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).dead = false;
    }

    /// Holds the line (QMP `stop`), or lets it go on (`cont`).
    pub fn pause(&self, paused: bool) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).paused = paused;
        self.resumed.notify_all();
    }

    /// Whether the line is held.
    pub fn is_paused(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).paused
    }

    /// Waits until the line is not held any more.
    pub fn wait_while_paused(&self) {
        drop(self.lock());
    }

    /// The uptime, and what the kernel's clock shows, in seconds.
    pub fn clocks(&self) -> (f64, f64) {
        let uptime = self.uptime();
        (uptime, (uptime + self.kernel_clock).max(0.0))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.paused {
            state = self.resumed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn noise_line(&self, mut state: MutexGuard<'_, State>) {
        state.noise_left -= 1;
        let (_, stamp) = self.clocks();
        let text = self.noise_text.clone();
        drop(self.kernel_line(state, stamp, &text));
    }

    /// A kernel console writes each message whole: nothing of the terminal comes in between.
    fn kernel_line<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        stamp: f64,
        text: &str,
    ) -> MutexGuard<'a, State> {
        let caller = if self.caller_id { "[    T1]" } else { "" };
        let line = format!("[{stamp:>12.6}]{caller} {text}");
        if let Some(log) = &mut state.log {
            let _ = writeln!(log, "{line}");
        }
        let mut bytes = line.into_bytes();
        bytes.extend_from_slice(b"\r\n");
        let mut rest: &[u8] = &bytes;
        while !rest.is_empty() && !state.dead {
            let size = self.size(&mut state).min(rest.len());
            let (now, later) = rest.split_at(size);
            rest = later;
            let _ = state.out.write_all(now);
            if !self.delay.is_zero() {
                std::thread::sleep(self.delay);
            }
        }
        state
    }

    /// Writes terminal output in the pieces asked for; between two of them a kernel message may come.
    fn put<'a>(&'a self, mut state: MutexGuard<'a, State>, bytes: &[u8]) -> MutexGuard<'a, State> {
        let mut rest = bytes;
        while !rest.is_empty() && !state.dead {
            let size = self.size(&mut state).min(rest.len());
            let (now, later) = rest.split_at(size);
            rest = later;
            // An error means that nobody listens; QEMU goes on then, and so does this.
            let _ = state.out.write_all(now);
            if !self.delay.is_zero() || (!rest.is_empty() && matches!(state.noise, Noise::Every(_))) {
                drop(state);
                std::thread::sleep(self.delay);
                state = self.lock();
            }
        }
        state
    }

    fn size(&self, state: &mut State) -> usize {
        match self.chunk {
            Chunk::All => usize::MAX,
            Chunk::Bytes(n) => n,
            Chunk::Random => {
                // xorshift64: the same seed gives the same cuts.
                state.random ^= state.random << 13;
                state.random ^= state.random >> 7;
                state.random ^= state.random << 17;
                1 + (state.random % 40) as usize
            }
        }
    }

    /// Seconds since the boot, by the clock that the guest's shell sees in /proc/uptime.
    fn uptime(&self) -> f64 {
        boot_time() + self.clock_offset
    }
}

fn boot_time() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// In a container /proc/uptime can be the container's (lxcfs) while the clock is the machine's.
fn clock_offset() -> f64 {
    let shown = std::fs::read_to_string("/proc/uptime")
        .ok()
        .and_then(|text| text.split_whitespace().next().and_then(|first| first.parse::<f64>().ok()));
    match shown.map(|shown| shown - boot_time()) {
        Some(offset) if offset.abs() > 0.5 => offset,
        _ => 0.0,
    }
}
