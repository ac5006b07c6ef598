//! Writes every event to the record as it happens.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{EVENTS, EventLine, Folder, VERSION};
use crate::event::Reporter;
use crate::{Error, Event, Result, environment};

/// The writer of `events.jsonl`.
#[derive(Debug)]
pub struct Writer {
    folder: Folder,
    file: File,
    suite: String,
}

/// Returns cargo-nextest's name of this test binary; empty without nextest. Several of its processes write to one
/// record.
pub(crate) fn suite() -> String {
    let is_nextest = environment::is_set("NEXTEST_RUN_ID");
    environment::text("NEXTEST_BINARY_ID").filter(|_| is_nextest).unwrap_or_default()
}

impl Writer {
    /// Creates a writer for the record in `folder`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] when the file can't be created.
    pub fn new(folder: Folder) -> Result<Self> {
        let file = folder.files().append(EVENTS, 0o600);
        let file = file.map_err(|error| Error::io("write down the events", &error))?;
        Ok(Self { folder, file, suite: suite() })
    }

    /// Returns the record's folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Returns the record's path.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Reporter for Writer {
    fn event(&self, scenario: &str, event: &Event) {
        if matches!(event, Event::ConsoleLine { .. }) {
            return;
        }
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let (scenario, suite) = (scenario.to_owned(), self.suite.clone());
        let line = EventLine { v: VERSION, time, scenario, suite, event: event.clone() };
        let written = serde_json::to_vec(&line).map_err(Into::into).and_then(|mut line| {
            line.push(b'\n');
            // One write to a file opened for appending, so that lines of several processes stay whole.
            (&self.file).write_all(&line)
        });
        if let Err(error) = written {
            super::incomplete(EVENTS, &error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_a_line_that_reads_back() {
        let base = tempfile::tempdir().unwrap();
        std::fs::write(base.path().join(EVENTS), "").unwrap();
        let folder = Folder::find(&base.path().display().to_string()).unwrap();
        let writer = Writer::new(folder).unwrap();
        let events = [
            Event::Note { text: "two\nlines \u{1b}[1m".into() },
            Event::Phase {
                machine: "server".into(),
                phase: "kernel".into(),
                at: std::time::Duration::from_millis(1500),
            },
            Event::ScenarioSkipped {
                scenario: "web::login".into(),
                why: "needs a moon".into(),
                file: "web.rs".into(),
                line: 3,
            },
        ];
        for event in &events {
            writer.event("web::login", event);
        }
        let text = std::fs::read_to_string(base.path().join(EVENTS)).unwrap();
        let lines: Vec<EventLine> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.iter().map(|line| line.event.clone()).collect::<Vec<_>>(), events);
        assert!(lines.iter().all(|line| line.v == VERSION && line.scenario == "web::login"));
        assert!(text.lines().all(|line| line.matches(r#""scenario":"#).count() == 1), "{text}");
        assert!(text.contains(r#""event":"phase","machine":"server","phase":"kernel","at":1.5"#), "{text}");
    }
}
