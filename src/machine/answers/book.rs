//! Writes answers down.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;

use super::line::{Came, Line, START, Start};
use crate::console::Console;
use crate::{Error, Result};

/// A longer answer is not kept, in bytes of JSON.
const LONGEST: usize = 16 << 20;
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
            Ok(start) => Came::Answer(value(&start)),
            Err(error) => Came::Error(error.into()),
        };
        let (asked, to) = (START.to_owned(), console.written());
        // Nothing is hidden in it: it is read before any secret is known.
        self.write(&(written(&Line { asked, from: 0, to, passed: true, answer }) + "\n"));
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
        let answer = match answer {
            Ok(answer) => Came::Answer(value(answer)),
            Err(error) => Came::Error(error.into()),
        };
        self.write(answer);
    }

    /// This had come when whoever asked wanted to know no more.
    pub(in crate::machine) fn was_enough<T: Serialize>(self, answer: &T) {
        self.write(Came::Enough(value(answer)));
    }

    fn write(self, answer: Came) {
        let Self { book, console, asked, from, passed } = self;
        let mut line = Line { asked, from, to: console.written(), passed, answer };
        let mut text = written(&line);
        if text.len() > LONGEST {
            line.answer = Came::TooLong(text.len());
            text = written(&line);
        }
        book.write(&(console.hidden(&text) + "\n"));
    }
}

fn value<T: Serialize>(answer: &T) -> Value {
    // What is answered are texts, numbers and lists of them: all of it can be JSON.
    serde_json::to_value(answer).unwrap_or_default()
}

fn written(line: &Line) -> String {
    serde_json::to_string(line).unwrap_or_default()
}
