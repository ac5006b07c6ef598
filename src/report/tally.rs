//! Counts how many scenarios have passed and failed, for the last line of a run.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::wording::{printable, seconds};
use crate::Event;

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Tally {
    expected: usize,
    passed: usize,
    failed: usize,
    skipped: usize,
    under_way: BTreeSet<String>,
    record: Option<PathBuf>,
}

impl Tally {
    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::RunStarted { scenarios, record, .. } => {
                self.expected = *scenarios;
                self.record.clone_from(record);
            }
            Event::ScenarioStarted { scenario, .. } => {
                self.under_way.insert(scenario.clone());
            }
            Event::ScenarioFinished { scenario, failure, retried, .. } => {
                self.under_way.remove(scenario);
                match failure {
                    None => self.passed += 1,
                    Some(_) if *retried => {}
                    Some(_) => self.failed += 1,
                }
            }
            Event::ScenarioSkipped { .. } => self.skipped += 1,
            _ => {}
        }
    }

    /// Returns the lines to show at the end of the run. libtest-mimic prints how many scenarios passed, but
    /// not if the run was interrupted.
    pub(super) fn last_words(&self, event: &Event) -> Vec<String> {
        let Event::RunFinished { took, interrupted } = event else { return Vec::new() };
        let mut lines = Vec::new();
        if let Some(signal) = interrupted {
            let begun = self.passed + self.failed + self.skipped + self.under_way.len();
            let mut line = format!(
                "interrupted by {} after {}: {} passed, {} failed, {} running",
                printable(signal),
                seconds(*took),
                self.passed,
                self.failed,
                self.under_way.len()
            );
            if !self.under_way.is_empty() {
                let names: Vec<String> = self.under_way.iter().map(|name| printable(name)).collect();
                line.push_str(&format!(" ({})", names.join(", ")));
            }
            line.push_str(&format!(", {} not begun", self.expected.saturating_sub(begun)));
            lines.push(line);
        }
        if let Some(record) = &self.record
            && (self.failed > 0 || interrupted.is_some())
        {
            lines.push(format!("record of the run: {}", printable(&record.display().to_string())));
        }
        lines
    }
}
