//! Prepares later scenarios while others run: starts clones that wait for them.

use std::sync::{Mutex, MutexGuard};

use super::registry::Scenario;
use crate::Result;
use crate::mutex::lock;
use crate::template::Pool;

/// The scenarios that have not begun, and the clones that wait for them.
#[derive(Debug, Default)]
pub(super) struct Upcoming {
    /// `None` if there is only one scenario, or clones are disabled.
    pool: Option<Pool>,
    /// The scenarios in their order, and whether their machines were prepared.
    upcoming: Mutex<Vec<(&'static Scenario, bool)>>,
}

impl Upcoming {
    /// Expects these scenarios, in this order.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] when the system can't start a thread.
    pub fn of(scenarios: impl Iterator<Item = &'static Scenario>, templates: bool) -> Result<Self> {
        let upcoming: Vec<_> = scenarios.map(|scenario| (scenario, false)).collect();
        let pool = if templates && upcoming.len() > 1 { Some(Pool::new()?) } else { None };
        Ok(Self { pool, upcoming: Mutex::new(upcoming) })
    }

    /// Returns the pool of waiting clones.
    pub fn pool(&self) -> Option<&Pool> {
        self.pool.as_ref()
    }

    /// Records that a scenario begins.
    pub fn note_begun(&self, scenario: &'static Scenario) {
        self.upcoming().retain(|(other, _)| !std::ptr::eq(*other, scenario));
    }

    /// Returns the next scenario whose machines were not prepared. The caller prepares them.
    pub fn next(&self) -> Option<&'static Scenario> {
        let mut upcoming = self.upcoming();
        let (scenario, ready) = upcoming.iter_mut().find(|(_, ready)| !ready)?;
        *ready = true;
        Some(scenario)
    }

    /// Ends the clones that no scenario took, after the last scenario.
    pub fn end(&self) {
        if let Some(pool) = &self.pool {
            pool.end();
        }
    }

    fn upcoming(&self) -> MutexGuard<'_, Vec<(&'static Scenario, bool)>> {
        lock(&self.upcoming)
    }
}
