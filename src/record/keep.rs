//! Keeps what a machine leaves: its consoles' transcripts go from the run directory, which vanishes, to the record.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{Event, Events, FileKind};

/// As much of a transcript is kept: the beginning of it, which its times are for.
const MOST: u64 = 64 << 20;

/// Puts files of one scenario into the record.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    /// The record's folder, and the scenario's in it.
    record: PathBuf,
    folder: PathBuf,
    events: Events,
}

impl Keeper {
    /// Files go to `folder`, which is in the record `record`.
    pub(crate) fn new(record: &Path, folder: PathBuf, events: Events) -> Self {
        Self { record: record.to_owned(), folder, events }
    }

    /// The record's folder.
    pub(crate) fn record(&self) -> &Path {
        &self.record
    }

    /// The scenario's folder in the record. It may not be there yet.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Copies the transcripts of the machine `machine`, whose run directory this is.
    pub(crate) fn transcripts(&self, machine: &str, run_directory: &Path) {
        let name = super::in_a_path(machine);
        for number in 1.. {
            let (from, to) = match number {
                1 => ("transcript".to_owned(), format!("{name}.transcript")),
                _ => (format!("transcript.{number}"), format!("{name}.{number}.transcript")),
            };
            let from = run_directory.join(from);
            if !from.exists() {
                break;
            }
            self.transcript(machine, &from, &to);
        }
    }

    /// Copies one transcript, with its times.
    pub(crate) fn transcript(&self, machine: &str, from: &Path, name: &str) {
        let to = self.folder.join(name);
        let times = |path: &Path| PathBuf::from(format!("{}.times", path.display()));
        let copied = fs::create_dir_all(&self.folder)
            .and_then(|()| copy(&times(from), &times(&to)))
            .and_then(|()| copy(from, &to));
        match copied {
            Ok(()) => self.kept(machine, FileKind::Transcript, &to),
            Err(error) => tracing::warn!(%error, from = %from.display(), "a transcript is not in the record"),
        }
    }

    /// Says that a file is in the record.
    pub(crate) fn kept(&self, machine: &str, kind: FileKind, path: &Path) {
        let path = path.strip_prefix(&self.record).unwrap_or(path).to_owned();
        self.events.send(Event::FileKept { machine: machine.to_owned(), kind, path });
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    use std::io::Read as _;
    let mut from = fs::File::open(from)?.take(MOST);
    io::copy(&mut from, &mut fs::File::create(to)?).map(drop)
}
