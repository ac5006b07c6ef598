//! The progress of a rehearsal, without the commands of which its steps consist.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::mutex::lock;
use crate::{Event, Events};

/// Returns events that `to` gets, other than the beginning of a step within another step.
pub(super) fn outer_steps(to: Events) -> Events {
    let open = Mutex::new(BTreeSet::new());
    Events::new(move |event| {
        let mut open = lock(&open);
        match event {
            Event::StepStarted { step, .. } => {
                let is_within = !open.is_empty();
                open.insert(*step);
                if is_within {
                    return;
                }
            }
            Event::StepFinished { step, .. } => drop(open.remove(step)),
            _ => {}
        }
        to.send(event.clone());
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn steps_within_a_step_are_left_out() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&seen);
        let events = outer_steps(Events::new(move |event| {
            if let Event::StepStarted { text, .. } = event {
                lock(&keep).push(text.clone());
            }
        }));
        let machine = || "nixos".to_owned();
        let begin = |step, text: &str| {
            events.send(Event::StepStarted { machine: machine(), step, text: text.to_owned(), line: None });
        };
        let end = |step| {
            events.send(Event::StepFinished { machine: machine(), step, took: Duration::ZERO, output: None });
        };
        begin(1, "switch");
        begin(2, "look");
        end(2);
        begin(3, "set the profile");
        end(3);
        end(1);
        begin(4, "reboot");
        assert_eq!(*lock(&seen), ["switch", "reboot"]);
    }
}
