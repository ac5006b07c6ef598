//! Records answers.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde::Serialize;

use super::MOST;
use super::entry::{Came, Entry, Heading, MOMENT, START, Start};
use crate::console::Console;
use crate::machine::Life;
use crate::mutex::lock;
use crate::record::Keeper;
use crate::{Error, Result};

/// Maximum size of an answer in bytes of JSON. A longer answer is not kept.
pub(super) const LONGEST: usize = 4 << 20;

/// The file that a machine's answers are written to.
#[derive(Debug, Clone)]
pub(in crate::machine) struct Writer(Arc<Mutex<Option<Open>>>);

#[derive(Debug)]
struct Open {
    file: File,
    /// The same in the record, if there is one: it stays if this process is killed.
    kept: Option<Arc<File>>,
    written: u64,
    /// Number of questions answered since the start.
    answers: usize,
}

/// A question without an answer so far.
#[derive(Debug)]
pub(in crate::machine) struct OpenQuestion<'a> {
    writer: &'a Writer,
    life: &'a Life,
    heading: Heading,
}

/// Options of a question.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::machine) struct Asking<'a> {
    /// The answer is read from the console: the output up to there is skipped.
    pub(in crate::machine) on_console: bool,
    /// The question uses this secret.
    pub(in crate::machine) secret: Option<&'a str>,
}

impl Writer {
    /// Opens the file at `path` to append answers. If that fails, nothing is recorded: no run fails for it.
    pub(in crate::machine) fn open(path: &Path) -> Self {
        let file = File::options().create(true).append(true).open(path);
        let file =
            file.and_then(|file| Ok(Open { written: file.metadata()?.len(), file, kept: None, answers: 0 }));
        let file = file.inspect_err(|error| tracing::warn!(%error, "answers are not recorded")).ok();
        Self(Arc::new(Mutex::new(file)))
    }

    /// Writes them to the record of the run as well, as they come. `path` is the file that they go to.
    pub(in crate::machine) fn keep(&self, machine: &str, path: &Path, keeper: &Keeper) {
        let mut open = lock(&self.0);
        let Some(open) = &mut *open else { return };
        match keeper.begin_answers(machine, path) {
            Ok(file) => open.kept = Some(Arc::new(file)),
            Err(error) => crate::record::incomplete("the answers of a machine", &error),
        }
    }

    /// Does the same for a file that another writer began.
    pub(in crate::machine) fn keep_with(&self, other: &Self) {
        let kept = lock(&other.0).as_ref().and_then(|open| open.kept.clone());
        if let Some(open) = &mut *lock(&self.0) {
            open.kept = kept;
        }
    }

    /// Records that the machine is up, or did not come up.
    pub(in crate::machine) fn started(&self, start: Result<Start, &Error>, console: &Console) {
        self.begun(START, start, console);
    }

    /// Records that the scenario begins here; earlier answers do not belong to it.
    pub(in crate::machine) fn moment(&self, start: Start, console: &Console) {
        self.begun(MOMENT, Ok(start), console);
    }

    fn begun(&self, asked: &str, start: Result<Start, &Error>, console: &Console) {
        let answer = match start {
            Ok(start) => Came::Answer(start),
            Err(error) => Came::Error(error.into()),
        };
        let heading =
            Heading { asked: asked.to_owned(), to: console.written(), passed: true, ..Heading::default() };
        // Secrets are not masked here: the line is read before any secret is known.
        if let Some(line) = written(&Entry { heading, answer }) {
            self.write(&line);
        }
    }

    /// Begins `question`.
    pub(in crate::machine) fn open_question<'a>(
        &'a self,
        life: &'a Life,
        question: &str,
        asking: Asking<'_>,
    ) -> OpenQuestion<'a> {
        let after = lock(&self.0);
        let after = after.as_ref().map_or(0, |open| open.answers);
        let heading = Heading {
            asked: question.to_owned(),
            from: life.console.written(),
            after,
            passed: asking.on_console,
            secret: asking.secret.and_then(|secret| life.console.number_of(secret)),
            ..Heading::default()
        };
        OpenQuestion { writer: self, life, heading }
    }

    /// Writes a line. A full disk must not end the run.
    fn write(&self, line: &str) {
        let mut open = lock(&self.0);
        let Some(Open { file, kept, written, answers }) = &mut *open else { return };
        let before = *written;
        *written += line.len() as u64 + 1;
        if *written > MOST {
            if before <= MOST {
                crate::record::incomplete(
                    "what a machine answered",
                    &format!("{} MiB of it are kept", MOST >> 20),
                );
            }
            return;
        }
        let line = format!("{line}\n");
        // At the end of the run the record gets all of them.
        if kept.as_deref().is_some_and(|mut kept| kept.write_all(line.as_bytes()).is_err()) {
            *kept = None;
        }
        if let Err(error) = file.write_all(line.as_bytes()) {
            crate::record::incomplete("the later answers of a machine", &error);
            *open = None;
            return;
        }
        *answers += 1;
    }
}

impl OpenQuestion<'_> {
    /// Records the answer.
    pub(in crate::machine) fn answered<T: Serialize>(self, answer: &Result<T>) {
        self.write(match answer {
            Ok(answer) => Came::Answer(answer),
            Err(error) => Came::Error(error.into()),
        });
    }

    /// Records the output up to the point where the caller stopped early.
    pub(in crate::machine) fn was_enough<T: Serialize>(self, answer: &T) {
        self.write(Came::Enough(answer));
    }

    fn write<T: Serialize>(self, answer: Came<&T>) {
        let Self { writer, life, mut heading } = self;
        heading.to = life.console.written();
        heading.off = life.qemu.off().map(|exit| exit.status.success() && !life.qemu.ended_by_host());
        let line = Entry { heading, answer };
        let text = written(&line).or_else(|| {
            let answer = Came::<()>::TooLong(LONGEST);
            written(&Entry { heading: line.heading, answer })
        });
        // A question that is too long by itself is not kept.
        if let Some(text) = text {
            writer.write(&life.console.hidden(&text));
        }
    }
}

/// Returns the line as JSON; `None` if it is too long.
fn written<A: Serialize>(line: &Entry<A>) -> Option<String> {
    let mut text = Limited(Vec::new());
    serde_json::to_writer(&mut text, line).ok()?;
    String::from_utf8(text.0).ok()
}

/// Accepts at most [`LONGEST`] bytes, so that a long answer is not serialised completely.
struct Limited(Vec<u8>);

impl std::io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
