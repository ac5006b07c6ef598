//! What is done for scenarios to come while others run: their clones are started, and wait for them.

use std::sync::{Mutex, MutexGuard};

use super::registry::Scenario;
use crate::Result;
use crate::mutex::lock;
use crate::template::Pool;

/// The scenarios that have not begun, and the clones that wait for them.
#[derive(Debug, Default)]
pub(super) struct Upcoming {
    /// None where no scenario comes after another, or none may have clones.
    pool: Option<Pool>,
    /// In their order, and whether anybody got their machines ready.
    upcoming: Mutex<Vec<(&'static Scenario, bool)>>,
}

impl Upcoming {
    /// For these, which are to be run in this order.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] when the system has no more threads.
    pub fn of(scenarios: impl Iterator<Item = &'static Scenario>, templates: bool) -> Result<Self> {
        let upcoming: Vec<_> = scenarios.map(|scenario| (scenario, false)).collect();
        let pool = if templates && upcoming.len() > 1 { Some(Pool::new()?) } else { None };
        Ok(Self { pool, upcoming: Mutex::new(upcoming) })
    }

    /// Where clones wait.
    pub fn pool(&self) -> Option<&Pool> {
        self.pool.as_ref()
    }

    /// A scenario begins.
    pub fn note_begun(&self, scenario: &'static Scenario) {
        self.upcoming().retain(|(other, _)| !std::ptr::eq(*other, scenario));
    }

    /// The next one whose machines nobody got ready; the caller does.
    pub fn next(&self) -> Option<&'static Scenario> {
        let mut upcoming = self.upcoming();
        let (scenario, ready) = upcoming.iter_mut().find(|(_, ready)| !ready)?;
        *ready = true;
        Some(scenario)
    }

    /// All are over: clones that nobody took are ended.
    pub fn end(&self) {
        if let Some(pool) = &self.pool {
            pool.end();
        }
    }

    fn upcoming(&self) -> MutexGuard<'_, Vec<(&'static Scenario, bool)>> {
        lock(&self.upcoming)
    }
}
