//! A file of answers. Lines with secrets are readable once the secrets are known.

use std::io;
use std::ops::Range;
use std::path::Path;

use super::MOST;
use super::entry::{Entry, Heading};
use crate::beneath::Beneath;
use crate::console::Console;

/// Maximum number of lines that are read. The shortest useful line has 50 bytes, and few have less than 100.
const LINES: usize = 1 << 20;

/// The lines of a file of answers. The file is not trusted.
#[derive(Debug)]
pub(super) struct AnswerFile {
    bytes: Vec<u8>,
    lines: Vec<IndexedLine>,
}

/// A line: its position, and its heading as far as it can be read.
#[derive(Debug)]
struct IndexedLine {
    place: Range<usize>,
    heading: Option<Heading>,
}

impl AnswerFile {
    /// Reads the file `name` of a record.
    pub(super) fn read(record: &Beneath, name: &Path) -> io::Result<Self> {
        let bytes = record.read(name, MOST)?;
        let mut lines = Vec::new();
        let mut from = 0;
        while from < bytes.len() && lines.len() < LINES {
            let until = memchr::memchr(b'\n', &bytes[from..]).map_or(bytes.len(), |end| from + end);
            lines.push(IndexedLine { place: from..until, heading: None });
            from = until + 1;
        }
        let mut read = Self { bytes, lines };
        for at in 0..read.len() {
            read.lines[at].heading = read.parsed(at, str::to_owned);
        }
        Ok(read)
    }

    /// Returns the number of lines.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Returns the heading of the line at `at`, if it can be read.
    pub(super) fn heading(&self, at: usize) -> Option<&Heading> {
        self.lines.get(at)?.heading.as_ref()
    }

    /// Returns the whole line.
    pub(super) fn line(&self, at: usize, console: Option<&Console>) -> Option<Entry> {
        self.parsed(at, |text| console.map_or_else(|| text.to_owned(), |console| console.revealed(text)))
    }

    /// Parses the headings again, with the secrets that are known by now.
    pub(super) fn reveal(&mut self, console: &Console) {
        for at in 0..self.len() {
            self.lines[at].heading = self.parsed(at, |text| console.revealed(text));
        }
    }

    fn parsed<T: serde::de::DeserializeOwned>(
        &self,
        at: usize,
        reveal: impl Fn(&str) -> String,
    ) -> Option<T> {
        let text = self.bytes.get(self.lines.get(at)?.place.clone())?;
        serde_json::from_str(&reveal(std::str::from_utf8(text).ok()?)).ok()
    }
}
