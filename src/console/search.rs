//! The running search for one pattern. It examines every byte once, for any sequence of chunks.

use super::automaton::{Automaton, GaveUp};
use super::pattern::{Groups, Kind, Pattern};
use super::ring::Ring;
use super::slow;

/// A search may return to matches that ended up to this many bytes before the last chunk's end, because it
/// needs a whole character after them.
pub(super) const UNDECIDED: u64 = 4;

/// The text for a search: what came since `from`. At most `window` bytes before the current place count.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) text: &'a Ring,
    pub(super) from: u64,
    pub(super) end: u64,
    pub(super) window: u64,
}

/// Where a pattern matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hit {
    /// How much text was needed to decide it.
    pub(super) decided: u64,
    /// Where the match ends.
    pub(super) end: u64,
}

impl<'a> View<'a> {
    /// Returns where the text begins that counts for a match that ends at `end`.
    pub(super) fn start(&self, end: u64) -> u64 {
        self.from.max(end.saturating_sub(self.window))
    }

    /// Returns the groups of the match of `pattern` that ends at `end`, and the stream position at which
    /// their spans begin.
    pub(super) fn groups(&self, pattern: &Pattern, end: u64) -> Option<(Groups, u64)> {
        let start = self.start(end);
        // The byte before the start decides about `(?m)^` and `\b` there.
        let seen = if self.afresh(pattern.kind()) && start == self.from {
            start
        } else {
            start.saturating_sub(1).max(self.text.start())
        };
        let text = self.text.slice(seen, self.end);
        let span = (start - seen) as usize..(end - seen) as usize;
        pattern.groups(text, span).map(|groups| (groups, seen))
    }

    fn afresh(&self, kind: &Kind) -> bool {
        matches!(kind, Kind::Regex(regex) if regex.starts_afresh)
    }

    pub(super) fn slice(&self, from: u64, to: u64) -> &'a [u8] {
        self.text.slice(from, to)
    }
}

/// The state of the search for one pattern.
pub(super) struct Search {
    pattern: Pattern,
    /// The end of the text that has been examined.
    scanned: u64,
    way: Way,
}

enum Way {
    Literal,
    Automaton(Automaton),
    Slow,
}

impl Search {
    /// Begins a search at `from`.
    pub(super) fn new(pattern: Pattern, from: u64) -> Self {
        let way = match pattern.kind() {
            Kind::Literal(_) => Way::Literal,
            Kind::Regex(regex) => match Automaton::new(&pattern, regex) {
                Some(automaton) => Way::Automaton(automaton),
                None => Way::Slow,
            },
        };
        Self { pattern, scanned: from, way }
    }

    pub(super) fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Searches the text that has come since the last call. The search is over after a hit.
    pub(super) fn scan(&mut self, view: View<'_>) -> Option<Hit> {
        if let Way::Automaton(automaton) = &mut self.way {
            match automaton.scan(self.scanned, view) {
                Ok(hit) => {
                    self.scanned = view.end;
                    return hit;
                }
                Err(GaveUp) => self.way = Way::Slow,
            }
        }
        let hit = match self.pattern.kind() {
            Kind::Literal(finder) => {
                let overlap = finder.needle().len().saturating_sub(1) as u64;
                let from = self.scanned.saturating_sub(overlap).max(view.from);
                finder.find(view.slice(from, view.end)).map(|at| {
                    let end = from + (at + finder.needle().len()) as u64;
                    Hit { decided: end, end }
                })
            }
            Kind::Regex(regex) => slow::scan(regex, &self.pattern, self.scanned, view),
        };
        self.scanned = view.end;
        hit
    }
}

/// Several concurrent searches. The first hit wins; for hits at the same place, the first pattern wins.
pub(super) struct Searches {
    searches: Vec<Search>,
    from: u64,
}

impl Searches {
    pub(super) fn new(patterns: &[Pattern], from: u64) -> Self {
        let searches = patterns.iter().map(|pattern| Search::new(pattern.clone(), from)).collect();
        Self { searches, from }
    }

    /// Returns where the text for the searches begins.
    pub(super) fn from(&self) -> u64 {
        self.from
    }

    pub(super) fn scan(&mut self, view: View<'_>) -> Option<(usize, Hit)> {
        let searches = self.searches.iter_mut().enumerate();
        let hits = searches.filter_map(|(index, search)| Some((index, search.scan(view)?)));
        hits.min_by_key(|&(index, hit)| (hit, index))
    }

    pub(super) fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.searches.iter().map(Search::pattern)
    }
}
