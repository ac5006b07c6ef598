//! Writes answers down.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::line::{Came, Line, START, Start};
use crate::console::Console;
use crate::{Error, Result};

/// A longer answer is not kept, in bytes of JSON.
const LONGEST: usize = 4 << 20;
/// So much is written for one start of a machine; what comes then is not kept.
const MOST: usize = 256 << 20;

/// The file that a machine's answers are written to.
#[derive(Debug)]
pub(in crate::machine) struct Book(Mutex<Option<Open>>);

#[derive(Debug)]
struct Open {
    file: File,
    written: usize,
}

/// A question that was asked.
#[derive(Debug)]
pub(in crate::machine) struct Page<'a> {
    book: &'a Book,
    console: &'a Console,
    asked: String,
    from: u64,
    passed: bool,
}

impl Book {
    /// Goes on in the file at `path`. Where that can't be, nothing is written: no run fails for it.
    pub(in crate::machine) fn open(path: &Path) -> Self {
        let file = File::options().create(true).append(true).open(path);
        let file = file.inspect_err(|error| tracing::warn!(%error, "answers are not written down")).ok();
        Self(Mutex::new(file.map(|file| Open { file, written: 0 })))
    }

    /// The machine is up, or did not come up.
    pub(in crate::machine) fn started(&self, start: Result<Start, &Error>, console: &Console) {
        let answer = match start {
            Ok(start) => Came::Answer(start),
            Err(error) => Came::Error(error.into()),
        };
        let (asked, to) = (START.to_owned(), console.written());
        // Nothing is hidden in it: it is read before any secret is known.
        let line = written(&Line { asked, from: 0, to, passed: true, answer });
        self.write(&(line.unwrap_or_default() + "\n"));
    }

    /// `question` is being asked.
    pub(in crate::machine) fn page<'a>(
        &'a self,
        console: &'a Console,
        question: &str,
        passed: bool,
    ) -> Page<'a> {
        Page { book: self, console, asked: question.to_owned(), from: console.written(), passed }
    }

    /// A full disk must not end the run.
    fn write(&self, line: &str) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Open { file, written }) = &mut *open else { return };
        *written += line.len();
        let outcome = if *written > MOST { Ok(()) } else { file.write_all(line.as_bytes()) };
        if let Err(error) = outcome {
            tracing::warn!(%error, "no answers are written down from here on");
            *open = None;
        }
    }
}

impl Page<'_> {
    /// This came.
    pub(in crate::machine) fn answered<T: Serialize>(self, answer: &Result<T>) {
        self.write(match answer {
            Ok(answer) => Came::Answer(answer),
            Err(error) => Came::Error(error.into()),
        });
    }

    /// This had come when whoever asked wanted to know no more.
    pub(in crate::machine) fn was_enough<T: Serialize>(self, answer: &T) {
        self.write(Came::Enough(answer));
    }

    fn write<T: Serialize>(self, answer: Came<&T>) {
        let Self { book, console, asked, from, passed } = self;
        let line = Line { asked, from, to: console.written(), passed, answer };
        let text = written(&line).unwrap_or_else(|| {
            let answer = Came::<()>::TooLong(LONGEST);
            written(&Line { asked: line.asked, from, to: line.to, passed, answer }).unwrap_or_default()
        });
        book.write(&(console.hidden(&text) + "\n"));
    }
}

/// The line as JSON; `None` if it is too long.
fn written<A: Serialize>(line: &Line<A>) -> Option<String> {
    let mut text = Limited(Vec::new());
    serde_json::to_writer(&mut text, line).ok()?;
    String::from_utf8(text.0).ok()
}

/// Takes no more than [`LONGEST`] bytes: what is too long is not written out first.
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
