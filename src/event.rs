//! The event stream: the only way in which the engine tells anything to whoever shows it.
//!
//! Events are what the record of a run is made of, too: their names and fields, as serde writes them, are the
//! format of `events.jsonl` (see [`crate::record`]), which others read. A field is added, never renamed, without
//! a new [`crate::record::VERSION`].

use std::fmt;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{ErrorKind, secrets};

/// Something that happened in a run. Only reporters turn events into text.
///
/// Times are written as seconds, with a fraction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A suite began to run.
    RunStarted {
        /// The command line of the suite.
        arguments: Vec<String>,
        /// The version of this library.
        version: String,
        /// The host's name.
        host: String,
        /// How many processors the host has.
        processors: usize,
        /// How many scenarios are to be run.
        scenarios: usize,
        /// The folder of the run's record, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        record: Option<PathBuf>,
    },
    /// A suite has run.
    RunFinished {
        /// How long it took.
        #[serde(with = "seconds")]
        took: Duration,
        /// The signal that ended it before its time: `SIGINT`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interrupted: Option<String>,
    },
    /// One line that a person should know: a choice that was made, and why.
    Note {
        /// The line.
        text: String,
    },
    /// The build of a configuration began.
    BuildStarted {
        /// What is built, as the user named it.
        what: String,
    },
    /// A line of progress from the build.
    BuildLine {
        /// The line.
        text: String,
    },
    /// The build ended well.
    BuildFinished {
        /// What was built, as the user named it.
        what: String,
        /// The built VM.
        result: PathBuf,
        /// How long it took.
        #[serde(with = "seconds")]
        took: Duration,
    },
    /// A machine's QEMU was started.
    MachineStarted {
        /// The machine's name.
        machine: String,
        /// QEMU's process id.
        pid: u32,
    },
    /// How fast guests run on this host, as far as is known when the machine is started.
    HostSpeed {
        /// The machine's name.
        machine: String,
        /// `kvm` or `tcg`.
        accelerator: String,
        /// How many times slower than hardware virtualization; time limits are scaled by it.
        factor: f64,
    },
    /// A machine reached a phase of its life: "kernel", "initrd", "services", "login prompt", "cloned", …
    Phase {
        /// The machine's name.
        machine: String,
        /// The phase it is in now.
        phase: String,
        /// Time since the machine was started.
        #[serde(with = "seconds")]
        at: Duration,
    },
    /// How long the last boot of a machine took, by its own clock; asked of it where a scenario has a budget.
    BootTimes {
        /// The machine's name.
        machine: String,
        /// What the kernel took.
        #[serde(with = "seconds")]
        kernel: Duration,
        /// What the initial ramdisk took, where systemd tells.
        #[serde(with = "seconds")]
        initrd: Duration,
        /// What systemd took until everything was up.
        #[serde(with = "seconds")]
        userspace: Duration,
        /// By what the times are divided to be those of a host on which the kernel takes one second.
        calibration: f64,
    },
    /// A line on a machine's console, where it was asked for that (`-v`); not in the record, which has transcripts.
    ConsoleLine {
        /// The machine's name.
        machine: String,
        /// The line, without escape sequences; secrets are masked.
        text: String,
    },
    /// A step of a scenario began: a login, a command, a wait.
    StepStarted {
        /// The machine's name.
        machine: String,
        /// Tells the step from the others of the scenario.
        step: u64,
        /// What is being done; never holds a secret.
        text: String,
        /// The line of the scenario's file from which it is done, if that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        line: Option<u32>,
    },
    /// A step of a scenario is over.
    StepFinished {
        /// The machine's name.
        machine: String,
        /// Which: as in [`Event::StepStarted`].
        step: u64,
        /// How long it took.
        #[serde(with = "seconds")]
        took: Duration,
        /// What its command gave, if it was one that ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<StepOutput>,
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
        /// Its doc comment.
        about: String,
        /// The file it stands in, as a path on this host.
        file: PathBuf,
        /// The line of its function.
        line: u32,
        /// Which try this is: 1, unless it failed and is tried again.
        attempt: u32,
    },
    /// The machines of a scenario are up, and its function begins.
    BodyStarted {
        /// How long it may take on this host.
        #[serde(with = "seconds")]
        limit: Duration,
    },
    /// The scenario's function is over; what is done with its machines from here on is done by nixvm-test itself.
    BodyFinished {
        /// How long it took.
        #[serde(with = "seconds")]
        took: Duration,
    },
    /// A scenario ended.
    ScenarioFinished {
        /// The scenario's name.
        scenario: String,
        /// How long it took, building and booting included.
        #[serde(with = "seconds")]
        took: Duration,
        /// What failed; `None` when it passed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
        /// Whether it is tried again.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        retried: bool,
    },
    /// A scenario is left out.
    ScenarioSkipped {
        /// The scenario's name.
        scenario: String,
        /// Why.
        why: String,
        /// The file it stands in, as a path on this host.
        #[serde(default)]
        file: PathBuf,
        /// The line of its function.
        #[serde(default)]
        line: u32,
    },
    /// A file was added to the record of the run.
    FileKept {
        /// The machine it is about.
        machine: String,
        /// What it is.
        kind: FileKind,
        /// Where it is, from the record's folder.
        path: PathBuf,
    },
}

impl Event {
    /// The event, masked where it holds what a scenario, a guest or a build said. Names, and words of our own, stay.
    pub(crate) fn masked(mut self) -> Self {
        match &mut self {
            Self::Note { text } | Self::BuildLine { text } | Self::ConsoleLine { text, .. } => {
                *text = secrets::words(text)
            }
            Self::MachineStopped { how, .. } => *how = secrets::words(how),
            Self::StepFinished { output: Some(StepOutput { stdout, stderr, .. }), .. } => {
                (*stdout, *stderr) = (secrets::words(stdout), secrets::words(stderr));
            }
            // A step and a failure are masked part by part, where they are put together.
            _ => {}
        }
        self
    }
}

/// What a command gave, as far as it is kept in an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepOutput {
    /// The end of its standard output (of a session's command: of all it printed), without escape sequences.
    pub stdout: String,
    /// The end of its standard error.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr: String,
    /// How many bytes of both are left out before that.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut: usize,
    /// Its exit status; `None` when it did not end by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<i32>,
}

/// Why a scenario failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// In one line: what was expected, and what came.
    pub summary: String,
    /// The kind of the error: `Timeout`, `CommandFailed`, …
    pub kind: FailureKind,
    /// All that is known, as it is printed.
    pub report: String,
    /// The file with the line that failed.
    pub file: PathBuf,
    /// That line; the scenario's own where nothing better is known.
    pub line: u32,
}

/// The kind of the error of a [`Failure`]. Another version of this library may have kinds that this one does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FailureKind {
    /// One that this version knows.
    Known(ErrorKind),
    /// The name of any other.
    Unknown(String),
}

impl FailureKind {
    /// The kind of an error that is made of it.
    pub(crate) fn known(&self) -> ErrorKind {
        match self {
            Self::Known(kind) => *kind,
            Self::Unknown(_) => ErrorKind::Other,
        }
    }
}

impl From<ErrorKind> for FailureKind {
    fn from(kind: ErrorKind) -> Self {
        Self::Known(kind)
    }
}

/// Its name in the record.
impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// What a file in the record of a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FileKind {
    /// Every byte of a console. Beside it `FILE.times` says when each came.
    Transcript,
    /// A console as asciicast v2.
    Cast,
    /// The transcript as lines, with the times of host and guest.
    Log,
    /// The last screen of a console, as SVG.
    Screen,
    /// A picture of a machine's display, as PNG.
    Screenshot,
    /// The journal of a machine whose scenario failed.
    Journal,
    /// A folder with the machine as it stood when its scenario failed.
    Moment,
}

/// A consumer of events.
pub trait Reporter: Send + Sync {
    /// Something happened in `scenario`, or, if that is empty, in the run as a whole. Called from
    /// any thread, and must not block for long.
    fn event(&self, scenario: &str, event: &Event);

    /// Whether something on the screen moves, so that what others print must go through
    /// [`Reporter::print`].
    fn is_live(&self) -> bool {
        false
    }

    /// Prints `text`, whole lines, to standard output without disturbing the reporter's own picture.
    fn print(&self, text: &[u8]) {
        let mut stdout = std::io::stdout().lock();
        // A reader that went away is no reason to end the run.
        let _ = stdout.write_all(text).and_then(|()| stdout.flush());
    }

    /// The run is over, or about to be ended: leaves the terminal as it was.
    fn finish(&self) {}
}

/// A handle to send events with; clones go to the same place.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(&Event) + Send + Sync>);

impl Events {
    /// Events go to `sink`, which is called from any thread and must not block for long.
    pub fn new(sink: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// The events of the run as a whole go to `reporter`.
    pub fn to(reporter: &Arc<dyn Reporter>) -> Self {
        let reporter = reporter.clone();
        Self::new(move |event| reporter.event("", event))
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
        self.send(Event::Note { text: text.into() });
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// A time as seconds, to the microsecond.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_micros() as f64 / 1e6)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
