//! Prints plain lines, one per event, which are stable in CI logs and pipes.

use std::io::Write;
use std::sync::Mutex;

use super::tally::Tally;
use super::wording;
use crate::Event;
use crate::event::Reporter;
use crate::mutex::lock;

/// Writes `nixvm-test: SCENARIO: …` lines.
pub struct Lines(Mutex<Inner>);

struct Inner {
    out: Box<dyn Write + Send>,
    tally: Tally,
}

impl Lines {
    /// Makes a reporter that writes to `out`.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self(Mutex::new(Inner { out: Box::new(out), tally: Tally::default() }))
    }
}

impl Reporter for Lines {
    fn event(&self, scenario: &str, event: &Event) {
        let mut inner = lock(&self.0);
        inner.tally.event(event);
        let lines = wording::line(event).into_iter().chain(inner.tally.last_words(event));
        for line in lines.collect::<Vec<_>>() {
            let line = super::ci::broken_up(&match scenario {
                "" => format!("nixvm-test: {line}\n"),
                scenario => format!("nixvm-test: {scenario}: {line}\n"),
            });
            // A single write keeps the lines of several processes intact.
            let _ = inner.out.write_all(line.as_bytes()).and_then(|()| inner.out.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_event_is_one_plain_line() {
        let out = Shared::default();
        let lines = Lines::new(out.clone());
        let machine = || "server".to_owned();
        lines.event("", &Event::Note { text: "using \x1b[1mTCG\x1b[0m".into() });
        lines.event("login", &Event::BuildLine { text: "copying path\nof two lines".into() });
        lines.event(
            "login",
            &Event::Phase { machine: machine(), phase: "kernel".into(), at: Duration::from_secs(2) },
        );
        lines.event(
            "login",
            &Event::StepStarted { machine: machine(), text: "log in as alice".into(), step: 1, line: None },
        );
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            "nixvm-test: using TCG\n\
             nixvm-test: login: copying path of two lines\n\
             nixvm-test: login: server: kernel after 2.0 s\n\
             nixvm-test: login: server: log in as alice\n"
        );
    }
}
