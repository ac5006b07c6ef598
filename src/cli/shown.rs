//! What a machine does until the terminal is its console's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nixvm_test::Events;
use nixvm_test::build::Settings;
use nixvm_test::report::{self, Reporter};

/// A reporter that falls silent. Clones are the same.
#[derive(Clone)]
pub struct Shown {
    reporter: Arc<dyn Reporter>,
    over: Arc<AtomicBool>,
}

impl Shown {
    /// Shows it as any run does.
    pub fn new(settings: &Settings) -> Self {
        Self { reporter: report::choose(settings), over: Arc::default() }
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
