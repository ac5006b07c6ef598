//! A step of a scenario, for observers: it has a beginning, an end, and the output of its command.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::secrets::bytes::{MARGIN, part_without_words};
use crate::{Event, Events, StepOutput, secrets};

/// Maximum number of bytes reported of each output: its end.
const TOLD: usize = 16 << 10;

/// A step in progress. Dropping it ends it.
pub(super) struct Step {
    machine: String,
    events: Events,
    number: u64,
    begun: Instant,
    output: Option<StepOutput>,
}

impl Step {
    /// Begins a step. `own` is our own text; `text` comes from a scenario or a guest.
    pub(super) fn begin(machine: &str, events: &Events, own: &str, text: &str) -> Self {
        let text = format!("{}{}", secrets::own(own), secrets::words(text));
        // Unique per process, which is enough: two steps of a scenario must not share it.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let machine = machine.to_owned();
        let line = crate::place::line_of_a_step();
        events.send(Event::StepStarted { machine: machine.clone(), step: number, text, line });
        Self { machine, events: events.clone(), number, begun: Instant::now(), output: None }
    }

    /// Reports its command's output, and its status if it ended. Passwords are masked.
    pub(super) fn gave(&mut self, stdout: &[u8], stderr: &[u8], status: Option<i32>) {
        let (stdout, cut) = told(stdout);
        let (stderr, also_cut) = told(stderr);
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

/// Returns the end of an output, and the number of bytes that are left out.
fn told(bytes: &[u8]) -> (String, usize) {
    let cut = bytes.len().saturating_sub(TOLD);
    // Masked before the cut, because a cut-off password would not be found.
    let around = &bytes[cut.saturating_sub(MARGIN)..];
    let masked = part_without_words(around, cut.min(MARGIN)..around.len());
    let text = crate::text::strip_escapes(&masked);
    (secrets::words(&String::from_utf8_lossy(&text)), cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_password_is_left_where_an_output_is_cut() {
        crate::secrets::know("Cut-0ff-Pw");
        for left in 0..12 {
            for between in ["", "\x07", "\x1b[1m"] {
                let secret = format!("Cut-0{between}ff-Pw");
                let output = format!("{}{secret}{}", "x ".repeat(9000), " ".repeat(TOLD - left));
                let (told, cut) = told(output.as_bytes());
                assert_eq!(cut, output.len() - TOLD);
                let told = told.trim();
                assert!(
                    told.trim_start_matches(['x', ' ']).trim_start_matches(crate::secrets::MASK).is_empty(),
                    "{told:?}"
                );
            }
        }
        let said = told(b"a Cut-0\xfff\xc2\x9b1mf-Pw Cut-0\0ff-Pw b").0;
        assert_eq!(said, "a **** **** b");
    }

    #[test]
    fn a_step_keeps_the_name_of_its_user() {
        crate::secrets::know("alison");
        let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let sink = told.clone();
        let events = Events::new(move |event| sink.lock().unwrap().push(event.clone().masked()));
        drop(Step::begin("alison", &events, "alison: ", "echo alison"));
        let Event::StepStarted { text, machine, .. } = &told.lock().unwrap()[0] else { panic!("{told:?}") };
        assert_eq!((&**text, &**machine), ("alison: echo ****", "alison"));
    }
}
