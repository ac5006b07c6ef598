//! A step of a scenario, for those who look on: it has a beginning, an end, and what its command gave.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::console::Console;
use crate::{Event, Events, StepOutput};

/// As much of each output is told: its end.
const TOLD: usize = 16 << 10;

/// A step under way. Dropping it ends it.
pub(super) struct Step {
    machine: String,
    events: Events,
    number: u64,
    begun: Instant,
    output: Option<StepOutput>,
}

impl Step {
    pub(super) fn begin(machine: &str, events: &Events, text: String) -> Self {
        // Of this process: all that matters is that no two of a scenario are alike.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let machine = machine.to_owned();
        let line = crate::place::line();
        events.send(Event::StepStarted { machine: machine.clone(), step: number, text, line });
        Self { machine, events: events.clone(), number, begun: Instant::now(), output: None }
    }

    /// What its command printed, and its status if it ended. Secrets that `console` knows are masked.
    pub(super) fn gave(&mut self, stdout: &[u8], stderr: &[u8], status: Option<i32>, console: &Console) {
        let (stdout, cut) = told(stdout, console);
        let (stderr, also_cut) = told(stderr, console);
        self.output = Some(StepOutput { stdout, stderr, cut: cut + also_cut, status });
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.events.send(Event::StepFinished {
            machine: std::mem::take(&mut self.machine),
            step: self.number,
            took: self.begun.elapsed(),
            output: self.output.take(),
        });
    }
}

/// The end of an output, and how much of it is left out.
fn told(bytes: &[u8], console: &Console) -> (String, usize) {
    let cut = bytes.len().saturating_sub(TOLD);
    let text = crate::text::strip_escapes(&bytes[cut..]);
    (console.masked(String::from_utf8_lossy(&text).into_owned()), cut)
}
