//! What a wait found.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use super::pattern::{Groups, Pattern};
use super::search::{Hit, View};

/// What a wait found, and what came before it. Owns its bytes.
///
/// Text is what a person would read: no escape sequences, `\n` at the end of lines. Bytes that are
/// not UTF-8 are shown as U+FFFD; the `…_bytes` methods have them as they came.
#[derive(Clone)]
pub struct Match {
    /// What came before, then the match.
    pub(super) bytes: Vec<u8>,
    /// The groups, as spans of `bytes`; number 0 is the whole match.
    pub(super) groups: Groups,
    pub(super) raw: Vec<u8>,
    pub(super) dropped: u64,
}

impl Match {
    /// The match of `pattern` that a search in `view` tells of, without its raw bytes; what is missing
    /// before it is counted from `from`.
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

    /// The text between the end of the previous match and this one. At most what the console keeps
    /// (1 MiB by default, less the match); [`Match::dropped`] says how much is missing at its start.
    pub fn before(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.before_bytes())
    }

    /// [`Match::before`] as bytes.
    pub fn before_bytes(&self) -> &[u8] {
        self.bytes.get(..self.span().start).unwrap_or_default()
    }

    /// The text that matched.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.bytes())
    }

    /// [`Match::text`] as bytes.
    pub fn bytes(&self) -> &[u8] {
        self.group_bytes(0).unwrap_or_default()
    }

    /// The text of a group of a regular expression by its number, counted from 1; 0 is the whole
    /// match. `None` when there is no such group or it took no part in the match.
    pub fn group(&self, number: usize) -> Option<Cow<'_, str>> {
        self.group_bytes(number).map(String::from_utf8_lossy)
    }

    /// [`Match::group`] as bytes.
    pub fn group_bytes(&self, number: usize) -> Option<&[u8]> {
        self.bytes.get(self.groups.spans.get(number)?.clone()?)
    }

    /// The text of the group `(?P<name>…)`. `None` as with [`Match::group`].
    pub fn name(&self, name: &str) -> Option<Cow<'_, str>> {
        self.group(self.groups.number(name)?)
    }

    /// Every byte, escape sequences included, from the end of the previous match to the end of this
    /// one, as far back as the console keeps raw bytes (1 MiB by default). The whole is in the
    /// transcript.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// How many bytes of text are missing at the start of [`Match::before`], because more came than
    /// the console keeps.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// Without the text: it may hold what a log must not.
impl fmt::Debug for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Match")
            .field("before", &format_args!("{} bytes", self.span().start))
            .field("match", &format_args!("{} bytes", self.bytes().len()))
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}
