//! Reports what a machine does until its console gets the terminal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::event::Reporter;
use crate::report;
use crate::settings::Settings;
use crate::signals;
use crate::{Events, Result};

use super::terminal::{self, Terminal};

/// A reporter that can be silenced. Clones share their state.
#[derive(Clone)]
pub struct StartupReporter {
    reporter: Arc<dyn Reporter>,
    over: Arc<AtomicBool>,
}

impl StartupReporter {
    /// Creates a reporter with the same output as a run.
    pub fn new(settings: &Settings) -> Self {
        Self { reporter: report::choose(settings), over: Arc::default() }
    }

    /// Creates a reporter that prints until a console gets the terminal. Checks that there is a terminal, and restores
    /// it after a signal.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) when there is no terminal, [`Host`](crate::ErrorKind::Host) when signal
    /// handlers can't be installed.
    pub fn before_a_console(settings: &Settings) -> Result<Self> {
        Terminal::require()?;
        let reporter = Self::new(settings);
        let at_signal = reporter.clone();
        signals::install(move |_| {
            at_signal.end();
            terminal::restore();
        })?;
        Ok(reporter)
    }

    /// Returns events that are shown until then.
    pub fn events(&self) -> Events {
        let (reporter, over) = (self.reporter.clone(), self.over.clone());
        Events::new(move |event| {
            if !over.load(Ordering::Relaxed) {
                reporter.event("", event);
            }
        })
    }

    /// Silences the reporter.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.reporter.finish();
    }
}
