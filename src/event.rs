//! The event stream: the only way in which the engine tells anything to whoever shows it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Something that happened in a run. Only reporters turn events into text.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// One line that a person should know: a choice that was made, and why.
    Note(String),
    /// The build of a configuration began.
    BuildStarted {
        /// What is built, as the user named it.
        what: String,
    },
    /// A line of progress from the build.
    BuildLine(String),
    /// The build ended well.
    BuildFinished {
        /// What was built, as the user named it.
        what: String,
        /// The built VM.
        result: PathBuf,
        /// How long it took.
        took: Duration,
    },
    /// A machine's QEMU was started.
    MachineStarted {
        /// The machine's name.
        machine: String,
        /// QEMU's process id.
        pid: u32,
    },
    /// A machine reached a phase of its life: "kernel", "services", "login prompt", …
    Phase {
        /// The machine's name.
        machine: String,
        /// The phase it is in now.
        phase: &'static str,
        /// Time since the machine was started.
        at: Duration,
    },
    /// A step of a scenario began: a login, a command, a wait.
    Step {
        /// The machine's name.
        machine: String,
        /// What is being done; never holds a secret.
        text: String,
    },
    /// A machine is gone.
    MachineStopped {
        /// The machine's name.
        machine: String,
        /// How it ended: "powered off by sudo poweroff", "killed", …
        how: String,
    },
    /// A scenario began.
    ScenarioStarted {
        /// The scenario's name.
        scenario: String,
    },
    /// A scenario ended.
    ScenarioFinished {
        /// The scenario's name.
        scenario: String,
        /// How long it took, building and booting included.
        took: Duration,
        /// The report of what failed; `None` when it passed.
        failure: Option<String>,
    },
}

/// A handle to send events with; clones go to the same place.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(&Event) + Send + Sync>);

impl Events {
    /// Events go to `sink`, which is called from any thread and must not block for long.
    pub fn new(sink: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Events go nowhere.
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    /// Sends one event.
    pub fn send(&self, event: Event) {
        (self.0)(&event);
    }

    /// Sends a [`Event::Note`].
    pub fn note(&self, text: impl Into<String>) {
        self.send(Event::Note(text.into()));
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}
