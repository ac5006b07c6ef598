//! The result of a wait.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use super::pattern::{Groups, Pattern};
use super::search::{Hit, View};

/// The result of a wait, and what came before it. It owns its bytes.
///
/// The text is what a person would read: no escape sequences, and `\n` at the end of lines. Bytes that are
/// not UTF-8 are shown as U+FFFD; the `…_bytes` methods return them unchanged.
#[derive(Clone)]
pub struct Match {
    /// What came before, followed by the match.
    pub(super) bytes: Vec<u8>,
    /// The groups as spans of `bytes`. Number 0 is the whole match.
    pub(super) groups: Groups,
    pub(super) raw: Vec<u8>,
    pub(super) dropped: u64,
}

impl Match {
    /// Returns the match of `pattern` that a search in `view` reports, without its raw bytes. `from` is where
    /// the preceding text begins, for counting what is missing.
    pub(super) fn of(pattern: &Pattern, hit: Hit, view: View<'_>, from: u64) -> Option<Self> {
        let (groups, counted_from) = view.groups(pattern, hit.end)?;
        let start = view.start(hit.end);
        let shift = (start - counted_from) as usize;
        let spans = groups
            .spans
            .into_iter()
            .map(|span| span.map(|span| span.start.saturating_sub(shift)..span.end.saturating_sub(shift)));
        Some(Self {
            bytes: view.slice(start, hit.end).to_vec(),
            groups: Groups { spans: spans.collect(), names: groups.names },
            raw: Vec::new(),
            dropped: start.saturating_sub(from),
        })
    }

    fn span(&self) -> Range<usize> {
        let whole = self.groups.spans.first().cloned().flatten();
        whole.unwrap_or(self.bytes.len()..self.bytes.len())
    }

    /// Returns the text between the end of the previous match and this one. It is limited to what the console
    /// keeps (1 MiB by default, less the match); [`Match::dropped`] returns how much is missing at its start.
    pub fn before(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.before_bytes())
    }

    /// Returns [`Match::before`] as bytes.
    pub fn before_bytes(&self) -> &[u8] {
        self.bytes.get(..self.span().start).unwrap_or_default()
    }

    /// Returns the text that matched.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.bytes())
    }

    /// Returns [`Match::text`] as bytes.
    pub fn bytes(&self) -> &[u8] {
        self.group_bytes(0).unwrap_or_default()
    }

    /// Returns the text of a group of a regular expression by its number, starting at 1; 0 is the whole
    /// match. Returns `None` if there is no such group or it took no part in the match.
    pub fn group(&self, number: usize) -> Option<Cow<'_, str>> {
        self.group_bytes(number).map(String::from_utf8_lossy)
    }

    /// Returns [`Match::group`] as bytes.
    pub fn group_bytes(&self, number: usize) -> Option<&[u8]> {
        self.bytes.get(self.groups.spans.get(number)?.clone()?)
    }

    /// Returns the text of the group `(?P<name>…)`, or `None` as in [`Match::group`].
    pub fn name(&self, name: &str) -> Option<Cow<'_, str>> {
        self.group(self.groups.number(name)?)
    }

    /// Returns every byte, including escape sequences, from the end of the previous match to the end of this
    /// one, as far as the console keeps raw bytes (1 MiB by default). The transcript has everything.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Returns how many bytes of text are missing at the start of [`Match::before`], because more came than
    /// the console keeps.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// The text is left out, because a log must not contain secrets.
impl fmt::Debug for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Match")
            .field("before", &format_args!("{} bytes", self.span().start))
            .field("match", &format_args!("{} bytes", self.bytes().len()))
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}
