//! The record of a run: a folder in which the run writes everything down as it happens, so that it can be examined
//! later.
//!
//! ```text
//! RUN/events.jsonl                   every event, one per line
//! RUN/junit.xml, RUN/report.html     written again after each scenario
//! RUN/SCENARIO/MACHINE.transcript    every byte of a console; MACHINE.2.transcript after a second start
//! RUN/SCENARIO/MACHINE.transcript.times
//!                                    lines "MICROSECONDS OFFSET": the bytes from OFFSET on came at that time
//! RUN/SCENARIO/MACHINE.cast          the console as asciicast v2
//! RUN/SCENARIO/MACHINE.svg           its last screen
//! RUN/SCENARIO/MACHINE.log           the transcript as lines: host's time, guest's uptime, text
//! RUN/SCENARIO/MACHINE.film          its pictures, for report.html
//! RUN/SCENARIO/MACHINE.answers       the answers to the scenario, for a replay without the machine
//! RUN/SCENARIO/MACHINE.journal       the journal, if the scenario failed
//! RUN/SCENARIO/MACHINE.moment/       the saved machine, if the scenario failed
//! RUN/SCENARIO/*.png                 screenshots
//! RUN/SCENARIO/vlanV.pcapng          the packets that passed the VLAN V
//! ```
//!
//! `SCENARIO` is the scenario's name with `.` for `::`, and `_` for special characters; the folder of a retry has the
//! suffix `.2`.
//!
//! Transcripts and answers are written as they come, so they remain after a run was interrupted or killed. The files made from
//! them (`.cast`, `.log`, `.svg`, `.film`) are made when a signal ends the run, or by the next command that reads the
//! record.
//!
//! The folder has mode 0700 and its files 0600, since they contain what guests printed. A run does not make a record in
//! a folder of another user. `report`, `replay`, `diff` and `--against` read regular files beneath the folder, follow
//! no symbolic link, and limit sizes and counts. A record of another user is only read, and its page is made in the
//! cache. The reports of a record that was copied here are made again, without lines of scenarios' files: these are
//! read only for records in the user's own folder of runs.
//!
//! # events.jsonl
//! One JSON object per line, in UTF-8. Each is written with one system call, so that several processes can write to one
//! record (cargo-nextest runs each scenario in its own process) and a reader sees whole lines. The last line may be cut
//! if the host lost power. Every object has
//!
//! | key | is |
//! |---|---|
//! | `v` | the version of this format: 1 |
//! | `time` | seconds since 1970, UTC, with a fraction |
//! | `scenario` | the scenario's name; empty if the event is about the whole run |
//! | `suite` | the test binary, as cargo-nextest calls it (`machines::web`), whose processes share a record; optional |
//! | `event` | the event's name: [`Event`]'s variants in snake case (`scenario_started`) |
//!
//! and the fields of its [`Event`]; durations are seconds with a fraction. Ignore unknown events and keys, since new
//! ones may be added without a new version.
//!
//! ```
//! use nixvm_test::internals::{Event, record::EventLine};
//! let line = r#"{"v":1,"time":1795448683.25,"scenario":"login","event":"note","text":"using TCG"}"#;
//! let line: EventLine = serde_json::from_str(line)?;
//! assert_eq!(line.event, Event::Note { text: "using TCG".into() });
//! # Ok::<(), serde_json::Error>(())
//! ```

mod cast;
pub mod film;
mod folder;
pub mod history;
mod incomplete;
mod keep;
mod log;
mod picture;
pub mod screen;
mod tape;
mod unfinished;
mod writer;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Event;

pub use folder::RUN;
pub(crate) use folder::base;
pub use folder::{Folder, in_a_path};
pub use history::History;
pub(crate) use incomplete::{fall_silent, incomplete, tell};
pub(crate) use keep::{Keeper, MOST as LONGEST_TRANSCRIPT};
pub use tape::Tape;
pub(crate) use unfinished::complete;
pub use writer::Writer;
pub(crate) use writer::suite;

/// The version of the format of `events.jsonl`.
pub const VERSION: u32 = 1;

/// The file with the events.
pub const EVENTS: &str = "events.jsonl";

/// The extension of a console's film, for the report.
pub(crate) const FILM: &str = "film";

/// A line of `events.jsonl`.
#[derive(Debug, Clone, PartialEq)]
pub struct EventLine {
    /// [`VERSION`].
    pub v: u32,
    /// The time of the event: seconds since 1970, UTC.
    pub time: f64,
    /// Its scenario; empty for the whole run.
    pub scenario: String,
    /// Its test binary, if cargo-nextest names it, since another one may have a scenario of that name; else empty.
    pub suite: String,
    /// The event.
    pub event: Event,
}

// Some events have their own `scenario` with the same value, so a line contains it only once.
impl Serialize for EventLine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct EventFields<'a> {
            v: u32,
            time: f64,
            #[serde(skip_serializing_if = "Option::is_none")]
            scenario: Option<&'a str>,
            #[serde(skip_serializing_if = "str::is_empty")]
            suite: &'a str,
            #[serde(flatten)]
            event: &'a Event,
        }
        let names_it = matches!(
            self.event,
            Event::ScenarioStarted { .. } | Event::ScenarioFinished { .. } | Event::ScenarioSkipped { .. }
        );
        let scenario = (!names_it).then_some(self.scenario.as_str());
        EventFields { v: self.v, time: self.time, scenario, suite: &self.suite, event: &self.event }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for EventLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Common {
            v: u32,
            time: f64,
            scenario: String,
            #[serde(default)]
            suite: String,
        }
        let line = serde_json::Value::deserialize(deserializer)?;
        let Common { v, time, scenario, suite } = Common::deserialize(&line).map_err(D::Error::custom)?;
        let event = Event::deserialize(line).map_err(D::Error::custom)?;
        Ok(Self { v, time, scenario, suite, event })
    }
}
