//! A live picture on a terminal: one line for each scenario under way, with what it does and for
//! how long.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{Reporter, wording};
use crate::Event;

/// Draws on standard error.
pub struct Live {
    picture: MultiProgress,
    bars: Mutex<HashMap<String, ProgressBar>>,
}

impl Default for Live {
    fn default() -> Self {
        Self::new()
    }
}

impl Live {
    /// An empty picture.
    pub fn new() -> Self {
        Self { picture: MultiProgress::new(), bars: Mutex::default() }
    }

    /// The line of `scenario`, made when it is first needed.
    fn bar(&self, scenario: &str) -> ProgressBar {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = bars.get(scenario) {
            return bar.clone();
        }
        let bar = self.picture.add(ProgressBar::new_spinner());
        let template = "{spinner:.cyan} {prefix:.bold}{wide_msg} {elapsed:.dim}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(if scenario.is_empty() { String::new() } else { format!("{scenario}  ") });
        bar.enable_steady_tick(Duration::from_millis(120));
        bars.insert(scenario.to_owned(), bar.clone());
        bar
    }

    fn remove(&self, scenario: &str) {
        let bar = self.bars.lock().unwrap_or_else(PoisonError::into_inner).remove(scenario);
        if let Some(bar) = bar {
            bar.finish_and_clear();
            self.picture.remove(&bar);
        }
    }
}

impl Reporter for Live {
    fn event(&self, scenario: &str, event: &Event) {
        match event {
            Event::ScenarioFinished { .. } => self.remove(scenario),
            Event::BuildFinished { .. } if scenario.is_empty() => self.remove(scenario),
            Event::Note(_) => {
                if let Some(line) = wording::line(event) {
                    // Fails only if the terminal is gone, and then nobody reads it.
                    let _ = self.picture.println(format!("  {line}"));
                }
            }
            event => {
                let bar = self.bar(scenario);
                if let Some(line) = wording::line(event) {
                    bar.set_message(line);
                }
            }
        }
    }

    fn is_live(&self) -> bool {
        true
    }

    fn print(&self, text: &[u8]) {
        self.picture.suspend(|| {
            let mut stdout = std::io::stdout().lock();
            let _ = stdout.write_all(text).and_then(|()| stdout.flush());
        });
    }

    fn finish(&self) {
        let bars = std::mem::take(&mut *self.bars.lock().unwrap_or_else(PoisonError::into_inner));
        for bar in bars.into_values() {
            bar.finish_and_clear();
        }
        let _ = self.picture.clear();
    }
}
