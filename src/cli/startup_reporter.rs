//! What a machine does until the terminal is its console's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::event::Reporter;
use crate::report;
use crate::settings::Settings;
use crate::signals;
use crate::{Events, Result};

use super::terminal::{self, Terminal};

/// A reporter that falls silent. Clones are the same.
#[derive(Clone)]
pub struct StartupReporter {
    reporter: Arc<dyn Reporter>,
    over: Arc<AtomicBool>,
}

impl StartupReporter {
    /// Shows it as any run does.
    pub fn new(settings: &Settings) -> Self {
        Self { reporter: report::choose(settings), over: Arc::default() }
    }

    /// Shows it until a console gets the terminal: makes sure that there is one, and that a signal leaves it as it was.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) when there is no terminal, [`Host`](crate::ErrorKind::Host) when
    /// signals can't be watched for.
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

    /// Events that are shown until then.
    pub fn events(&self) -> Events {
        let (reporter, over) = (self.reporter.clone(), self.over.clone());
        Events::new(move |event| {
            if !over.load(Ordering::Relaxed) {
                reporter.event("", event);
            }
        })
    }

    /// From now on nothing is shown.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.reporter.finish();
    }
}
