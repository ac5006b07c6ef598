//! Shows a live display on a terminal: one line for each scenario under way, with its phase, its current
//! step, its elapsed time and its limit.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use super::tally::Tally;
use super::wording;
use super::wording::{printable, seconds};
use crate::Event;
use crate::event::Reporter;
use crate::mutex::lock;

/// A reporter that draws on standard error.
pub struct Live {
    picture: MultiProgress,
    /// The original standard output. While the display is shown, standard output is a pipe, whose content is
    /// printed here.
    out: Mutex<Box<dyn std::io::Write + Send>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rows: HashMap<String, Row>,
    tally: Tally,
    /// How long each ended scenario took, for its line in the results.
    took: HashMap<String, Duration>,
}

/// The line of one scenario.
struct Row {
    bar: ProgressBar,
    /// Its time limit, once that applies.
    limit: Arc<Mutex<Option<Duration>>>,
    /// The text in brackets: the accelerator and the host's speed, and whether machines were cloned.
    host: Option<String>,
    cloned: bool,
}

impl Row {
    fn new(picture: &MultiProgress, scenario: &str) -> Self {
        let bar = picture.add(ProgressBar::new_spinner());
        let limit = Arc::new(Mutex::new(None));
        let shown = limit.clone();
        let template = "{spinner:.cyan} {prefix:.bold}{wide_msg} {elapsed:.dim}{limit:.dim}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            let of = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
                if let Some(limit) = *lock(&shown) {
                    let _ = write!(out, " of {}", seconds(limit));
                }
            };
            bar.set_style(style.with_key("limit", of));
        }
        bar.set_prefix(if scenario.is_empty() {
            String::new()
        } else {
            format!("{}  ", printable(scenario))
        });
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, limit, host: None, cloned: false }
    }

    fn show(&mut self, event: &Event) {
        match event {
            Event::HostSpeed { accelerator, factor, .. } => {
                let slower = match accelerator.as_str() {
                    _ if *factor < 1.5 => String::new(),
                    // Under KVM no guest is slower than another, but limits are longer.
                    "kvm" => format!(", limits {factor:.0} times as long"),
                    _ => format!(", {factor:.0} times slower"),
                };
                self.host = Some(printable(accelerator) + &slower);
            }
            Event::Phase { phase, .. } if phase == "cloned" => self.cloned = true,
            Event::BodyStarted { limit } => {
                // The limit is for the scenario itself. Building and booting have their own.
                self.bar.reset_elapsed();
                *lock(&self.limit) = Some(*limit);
            }
            _ => {}
        }
        let Some(mut line) = wording::line(event) else { return };
        if let Some(host) = &self.host {
            let how = if self.cloned { "a clone" } else { "booted" };
            let _ = write!(line, "  ({host}; {how})");
        }
        self.bar.set_message(line);
    }
}

impl Default for Live {
    fn default() -> Self {
        Self::new()
    }
}

impl Live {
    /// Makes an empty display.
    pub fn new() -> Self {
        let out: Box<dyn std::io::Write + Send> = match rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), 3)
        {
            Ok(copy) => Box::new(std::fs::File::from(copy)),
            Err(_) => Box::new(std::io::stdout()),
        };
        Self { picture: MultiProgress::new(), out: Mutex::new(out), state: Mutex::default() }
    }

    fn say(&self, line: &str) {
        // It fails only if the terminal is gone, and then there is no reader.
        let _ = self.picture.println(super::ci::broken_up(&format!("  {line}")));
    }

    fn remove(&self, state: &mut State, scenario: &str) {
        if let Some(row) = state.rows.remove(scenario) {
            row.bar.finish_and_clear();
            self.picture.remove(&row.bar);
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Reporter for Live {
    fn event(&self, scenario: &str, event: &Event) {
        let mut state = self.state();
        state.tally.event(event);
        match event {
            Event::ScenarioFinished { took, .. } => {
                state.took.insert(scenario.to_owned(), *took);
                self.remove(&mut state, scenario);
            }
            Event::BuildFinished { .. } if scenario.is_empty() => self.remove(&mut state, scenario),
            Event::RunFinished { .. } => state.tally.last_words(event).iter().for_each(|line| self.say(line)),
            Event::RunStarted { .. } | Event::ScenarioSkipped { .. } | Event::FileKept { .. } => {}
            Event::Note { .. } | Event::ConsoleLine { .. } => {
                if let Some(line) = wording::line(event) {
                    self.say(&line);
                }
            }
            event => {
                let row = state.rows.entry(scenario.to_owned());
                row.or_insert_with(|| Row::new(&self.picture, scenario)).show(event);
            }
        }
    }

    fn is_live(&self) -> bool {
        true
    }

    fn print(&self, text: &[u8]) {
        let text = with_times(text, &self.state().took);
        self.picture.suspend(|| {
            let mut out = lock(&self.out);
            let _ = out.write_all(&text).and_then(|()| out.flush());
        });
    }

    fn finish(&self) {
        let rows = std::mem::take(&mut self.state().rows);
        for row in rows.into_values() {
            row.bar.finish_and_clear();
        }
        let _ = self.picture.clear();
    }
}

/// Adds the time to each result, because libtest-mimic's own lines lack it.
fn with_times(text: &[u8], took: &HashMap<String, Duration>) -> Vec<u8> {
    let mut timed = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let name = line.strip_prefix(b"test ").and_then(|rest| rest.split(|byte| *byte == b' ').next());
        let name = name.and_then(|name| std::str::from_utf8(name).ok());
        match (name.and_then(|name| took.get(name)), line.strip_suffix(b"\n")) {
            (Some(took), Some(line)) if !line.ends_with(b"...") => {
                timed.extend_from_slice(line);
                timed.extend_from_slice(format!("  {}\n", seconds(*took)).as_bytes());
            }
            _ => timed.extend_from_slice(line),
        }
    }
    timed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_fast_the_host_is_and_whether_the_machine_is_a_clone() {
        let picture = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden());
        let mut row = Row::new(&picture, "login");
        let speed = |accelerator: &str, factor| Event::HostSpeed {
            machine: "m".into(),
            accelerator: accelerator.into(),
            factor,
        };
        let phase =
            |phase: &str| Event::Phase { machine: "m".into(), phase: phase.into(), at: Duration::ZERO };
        row.show(&phase("booting"));
        assert!(!row.bar.message().contains('('), "{}", row.bar.message());
        for (accelerator, factor, said) in [
            ("tcg", 12.3, "  (tcg, 12 times slower; booted)"),
            ("kvm", 2.4, "  (kvm, limits 2 times as long; booted)"),
            ("kvm", 1.2, "  (kvm; booted)"),
        ] {
            row.show(&speed(accelerator, factor));
            row.show(&phase("booting"));
            assert!(row.bar.message().ends_with(said), "{}", row.bar.message());
        }
        row.show(&phase("cloned"));
        assert!(row.bar.message().ends_with("  (kvm; a clone)"), "{}", row.bar.message());
    }

    #[test]
    fn a_result_has_the_time_it_took_and_other_lines_stay() {
        let took = HashMap::from([("web::login".to_owned(), Duration::from_millis(4_210))]);
        let text =
            b"running 1 test\ntest web::login ... ok\ntest other ... ok\n\ntest result: ok. 1 passed\n";
        let timed = with_times(text, &took);
        let expected =
            "running 1 test\ntest web::login ... ok  4.2 s\ntest other ... ok\n\ntest result: ok. 1 passed\n";
        assert_eq!(String::from_utf8(timed).unwrap(), expected);
    }
}
