//! The event stream, through which the engine reports everything.
//!
//! The record of a run is made of events, too. Their names and fields, as serde writes them, are the format
//! of `events.jsonl` (see [`crate::record`]), which other programs read. Fields may be added, but renaming
//! one needs a new [`crate::record::VERSION`].

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
        /// How many scenarios are to run.
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
        /// The signal that interrupted it: `SIGINT`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interrupted: Option<String>,
    },
    /// A line for the user: a choice that was made, and why.
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
    /// The build succeeded.
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
    /// How fast guests run on this host, as far as is known when the machine starts.
    HostSpeed {
        /// The machine's name.
        machine: String,
        /// `kvm` or `tcg`.
        accelerator: String,
        /// How many times slower than hardware virtualization. Time limits are scaled by it.
        factor: f64,
    },
    /// A machine reached a phase of its life: "kernel", "initrd", "services", "login prompt", "cloned", …
    Phase {
        /// The machine's name.
        machine: String,
        /// The phase.
        phase: String,
        /// Time since the machine was started.
        #[serde(with = "seconds")]
        at: Duration,
    },
    /// How long the last boot of a machine took, by its own clock. Sent if the scenario has a budget.
    BootTimes {
        /// The machine's name.
        machine: String,
        /// The time of the kernel.
        #[serde(with = "seconds")]
        kernel: Duration,
        /// The time of the initial ramdisk, if systemd reports it.
        #[serde(with = "seconds")]
        initrd: Duration,
        /// The time of systemd until everything was up.
        #[serde(with = "seconds")]
        userspace: Duration,
        /// The divisor that converts these times to those of a host whose kernel takes one second.
        calibration: f64,
    },
    /// A line on a machine's console, if they are shown (`-v`). It is not in the record, which has
    /// transcripts.
    ConsoleLine {
        /// The machine's name.
        machine: String,
        /// The line, without escape sequences, and with secrets masked.
        text: String,
    },
    /// A step of a scenario began: a login, a command, a wait.
    StepStarted {
        /// The machine's name.
        machine: String,
        /// A number that identifies the step within the scenario.
        step: u64,
        /// What is done. It never contains a secret.
        text: String,
        /// The line of the scenario's file, if that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        line: Option<u32>,
    },
    /// A step of a scenario ended.
    StepFinished {
        /// The machine's name.
        machine: String,
        /// The number of the step, as in [`Event::StepStarted`].
        step: u64,
        /// How long it took.
        #[serde(with = "seconds")]
        took: Duration,
        /// The output of its command, if it was a command that ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<StepOutput>,
    },
    /// A scenario changed the faults of its network.
    NetworkFaults {
        /// What it did: `partition: one | two, three`, or `set loss 10 %: one → two` for one direction.
        text: String,
        /// The line of the scenario's file, if that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        line: Option<u32>,
        /// The links that changed, as they are now.
        links: Vec<LinkFaults>,
        /// How many more links changed.
        #[serde(default, skip_serializing_if = "is_zero")]
        left_out: usize,
    },
    /// What passed the links of a scenario's network. Sent when the scenario is over, unless it hangs or is interrupted.
    NetworkCounts {
        /// The links on which a frame was sent.
        links: Vec<LinkTraffic>,
        /// How many more there were.
        #[serde(default, skip_serializing_if = "is_zero")]
        left_out: usize,
    },
    /// A machine has ended.
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
        /// Its file, as a path on this host.
        file: PathBuf,
        /// The line of its function.
        line: u32,
        /// The number of the try: 1, or more if it failed and is retried.
        attempt: u32,
    },
    /// The machines of a scenario are up, and its function begins.
    BodyStarted {
        /// How long it may take on this host.
        #[serde(with = "seconds")]
        limit: Duration,
    },
    /// The scenario's function has ended. What is done with its machines from here on is done by nixvm-test
    /// itself.
    BodyFinished {
        /// How long it took.
        #[serde(with = "seconds")]
        took: Duration,
    },
    /// A scenario ended.
    ScenarioFinished {
        /// The scenario's name.
        scenario: String,
        /// How long it took, including building and booting.
        #[serde(with = "seconds")]
        took: Duration,
        /// What failed; `None` if it passed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
        /// Whether it is retried.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        retried: bool,
    },
    /// A scenario is skipped.
    ScenarioSkipped {
        /// The scenario's name.
        scenario: String,
        /// The reason.
        why: String,
        /// Its file, as a path on this host.
        #[serde(default)]
        file: PathBuf,
        /// The line of its function.
        #[serde(default)]
        line: u32,
    },
    /// A file was added to the record of the run.
    FileKept {
        /// The machine that it belongs to; empty for a file of all machines of the scenario.
        machine: String,
        /// What it is.
        kind: FileKind,
        /// Its path, relative to the record's folder.
        path: PathBuf,
    },
}

impl Event {
    /// Returns the event with passwords masked in text from a scenario, a guest or a build. Names, and texts
    /// of this program, stay.
    pub(crate) fn masked(mut self) -> Self {
        match &mut self {
            Self::Note { text } | Self::BuildLine { text } | Self::ConsoleLine { text, .. } => {
                *text = secrets::words(text)
            }
            Self::MachineStopped { how, .. } => *how = secrets::words(how),
            Self::StepFinished { output: Some(StepOutput { stdout, stderr, .. }), .. } => {
                (*stdout, *stderr) = (secrets::words(stdout), secrets::words(stderr));
            }
            // Steps and failures are masked in parts, when they are put together.
            _ => {}
        }
        self
    }
}

/// The output of a command, as far as an event holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepOutput {
    /// The end of its standard output, without escape sequences. For a command in a session, the end of
    /// everything that it printed.
    pub stdout: String,
    /// The end of its standard error.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr: String,
    /// How many bytes of both were cut off before that.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut: usize,
    /// Its exit status; `None` if it did not end by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<i32>,
}

/// How many links an event lists.
pub(crate) const MOST_LINKS: usize = 1000;

/// The faults of the link from one machine to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkFaults {
    /// The number of the VLAN.
    pub vlan: u8,
    /// The machine that sends.
    pub from: String,
    /// The machine that receives.
    pub to: String,
    /// Its faults in words: `partition`, `loss 10 %`. Empty when it has none.
    pub faults: Vec<String>,
}

/// How many frames passed the link from one machine to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkTraffic {
    /// The number of the VLAN.
    pub vlan: u8,
    /// The machine that sent.
    pub from: String,
    /// The machine that received.
    pub to: String,
    /// Frames that were sent.
    pub sent: u64,
    /// Frames that were delivered.
    pub delivered: u64,
    /// Frames that were lost.
    pub dropped: u64,
    /// Frames that arrived later.
    pub delayed: u64,
    /// Frames that were held back.
    pub held: u64,
    /// Frames that arrived twice.
    pub duplicated: u64,
    /// Frames that arrived behind the next one.
    pub reordered: u64,
    /// Frames that arrived with a wrong bit.
    pub corrupted: u64,
}

/// Why a scenario failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// In one line: what was expected, and what came.
    pub summary: String,
    /// The kind of the error: `Timeout`, `CommandFailed`, …
    pub kind: FailureKind,
    /// Everything that is known, as it is printed.
    pub report: String,
    /// The file with the line that failed.
    pub file: PathBuf,
    /// That line, or the scenario's line if it is not known.
    pub line: u32,
}

/// The kind of the error of a [`Failure`]. Another version of this library may have kinds that this one does
/// not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FailureKind {
    /// A kind that this version knows.
    Known(ErrorKind),
    /// The name of another kind.
    Unknown(String),
}

impl FailureKind {
    /// Returns the kind for an error that is made from it.
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

/// Writes its name in the record.
impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// The kind of a file in the record of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FileKind {
    /// Every byte of a console. `FILE.times` beside it holds when each byte came.
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
    /// A folder with the machine in the state in which its scenario failed.
    Moment,
    /// The packets that passed a VLAN of the scenario, as pcapng.
    Packets,
}

/// A consumer of events.
pub trait Reporter: Send + Sync {
    /// Handles an event of `scenario`, or of the whole run if that is empty. It is called from any thread,
    /// and must not block for long.
    fn event(&self, scenario: &str, event: &Event);

    /// Whether the reporter draws a moving display, so that other output must go through [`Reporter::print`].
    fn is_live(&self) -> bool {
        false
    }

    /// Prints `text`, whole lines, to standard output without disturbing the reporter's display.
    fn print(&self, text: &[u8]) {
        let mut stdout = std::io::stdout().lock();
        // A reader that has gone away is not a reason to end the run.
        let _ = stdout.write_all(text).and_then(|()| stdout.flush());
    }

    /// Restores the terminal, because the run is over or about to be interrupted.
    fn finish(&self) {}
}

/// A handle for sending events. Clones send to the same place.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(&Event) + Send + Sync>);

impl Events {
    /// Sends events to `sink`, which is called from any thread and must not block for long.
    pub fn new(sink: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Sends the events to `reporter`, as events of the whole run.
    pub fn to(reporter: &Arc<dyn Reporter>) -> Self {
        let reporter = reporter.clone();
        Self::new(move |event| reporter.event("", event))
    }

    /// Discards events.
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

/// Reads and writes a time as seconds, with a resolution of a microsecond.
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
