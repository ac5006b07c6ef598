//! The running search of one pattern: looks at every byte once, however the bytes come.

use regex_automata::hybrid::{LazyStateID, dfa};
use regex_automata::util::start;
use regex_automata::{Anchored, Input};

use super::pattern::{Kind, Pattern, Regex};
use super::ring::Ring;

/// A search may come back to matches that ended up to so many bytes before the last chunk's end: it
/// had to see a whole character behind them.
pub(super) const UNDECIDED: u64 = 4;

/// The text that a search looks at: what came since `from`, of which at most `window` bytes before
/// the place it looks at count.
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
    /// How much text was needed to know it.
    pub(super) decided: u64,
    /// Where the match ends.
    pub(super) end: u64,
}

impl<'a> View<'a> {
    /// Where the text begins that counts for a match that ends at `end`.
    pub(super) fn start(&self, end: u64) -> u64 {
        self.from.max(end.saturating_sub(self.window))
    }

    /// The groups of the match of `pattern` that ends at `end`, and the position in the stream at
    /// which their spans begin to count.
    pub(super) fn groups(&self, pattern: &Pattern, end: u64) -> Option<(super::pattern::Groups, u64)> {
        let start = self.start(end);
        // What stands before the start decides about `(?m)^` and `\b` there.
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

    fn slice(&self, from: u64, to: u64) -> &'a [u8] {
        self.text.slice(from, to)
    }
}

/// The state of the search for one pattern.
pub(super) struct Search {
    pattern: Pattern,
    /// Up to here the text has been looked at.
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

    /// Looks at the text that has come since the last call. Once there is a hit the search is over.
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
            Kind::Regex(regex) => slow(regex, &self.pattern, self.scanned, view),
        };
        self.scanned = view.end;
        hit
    }
}

/// The automaton met a byte that it can't decide about.
struct GaveUp;

/// A lazy DFA in the middle of its work.
struct Automaton {
    pattern: Pattern,
    cache: Option<Box<dfa::Cache>>,
    /// The state after the bytes so far; `None` before the first.
    state: Option<LazyStateID>,
    loops: Loops,
}

impl Automaton {
    fn new(pattern: &Pattern, regex: &Regex) -> Option<Self> {
        let cache = Some(regex.take_cache(regex.automaton.as_ref()?));
        Some(Self { pattern: pattern.clone(), cache, state: None, loops: Loops::default() })
    }

    fn scan(&mut self, scanned: u64, view: View<'_>) -> Result<Option<Hit>, GaveUp> {
        let (Kind::Regex(regex), Some(cache)) = (self.pattern.kind(), self.cache.as_deref_mut()) else {
            return Err(GaveUp);
        };
        let dfa = regex.automaton.as_ref().ok_or(GaveUp)?;
        let mut run = Run { pattern: &self.pattern, regex, dfa, cache, loops: &mut self.loops };
        let mut state = match self.state {
            Some(state) => state,
            None => run.start(view, view.start(scanned))?,
        };
        if !regex.every_byte {
            let hit = run.chunk(&mut state, scanned, view)?;
            self.state = Some(state);
            return Ok(hit);
        }
        let mut at = scanned;
        loop {
            let next = (at + 1).min(view.end);
            let hit = run.chunk(&mut state, at, View { end: next, ..view })?;
            self.state = Some(state);
            if hit.is_some() || next == view.end {
                return Ok(hit);
            }
            at = next;
        }
    }
}

impl Drop for Automaton {
    fn drop(&mut self) {
        if let (Kind::Regex(regex), Some(cache)) = (self.pattern.kind(), self.cache.take()) {
            regex.keep_cache(cache);
        }
    }
}

/// One run of the automaton over a chunk.
struct Run<'a> {
    pattern: &'a Pattern,
    regex: &'a Regex,
    dfa: &'a dfa::DFA,
    cache: &'a mut dfa::Cache,
    loops: &'a mut Loops,
}

impl Run<'_> {
    /// The state before the byte at `from`.
    fn start(&mut self, view: View<'_>, from: u64) -> Result<LazyStateID, GaveUp> {
        let behind = match from.checked_sub(1) {
            Some(_) if self.regex.starts_afresh && from == view.from => None,
            Some(before) => view.text.get(before),
            None => None,
        };
        let config = start::Config::new().anchored(Anchored::No).look_behind(behind);
        self.dfa.start_state(self.cache, &config).map_err(|_| GaveUp)
    }

    /// Steps over the bytes from `from` on. The automaton tells of a match one byte late.
    fn chunk(&mut self, state: &mut LazyStateID, from: u64, view: View<'_>) -> Result<Option<Hit>, GaveUp> {
        let late = u64::from(self.regex.looks_ahead);
        let bytes = view.slice(from, view.end);
        let mut at = 0;
        let mut same = 0u32;
        while let Some(&byte) = bytes.get(at) {
            let mut next = *state;
            if !next.is_tagged() {
                next = self.dfa.next_state_untagged(self.cache, *state, byte);
            }
            if next.is_tagged() {
                next = self.dfa.next_state(self.cache, *state, byte).map_err(|_| GaveUp)?;
                if next.is_quit() {
                    return Err(GaveUp);
                }
                if next.is_dead() {
                    *state = next;
                    return Ok(None);
                }
                if next.is_match() {
                    let end = from + at as u64;
                    if view.groups(self.pattern, end).is_some() {
                        return Ok(Some(Hit { decided: end + late, end }));
                    }
                }
            }
            at += 1;
            same = if next == *state { same + 1 } else { 0 };
            *state = next;
            if same == LOOP_LENGTH {
                same = 0;
                at += self.skip(state, &bytes[at..], from + at as u64, view)?;
            }
        }
        if late == 0 && !state.is_dead() {
            return self.at_the_end(state, view);
        }
        Ok(None)
    }

    /// Whether a match ends where the text ends now.
    fn at_the_end(&mut self, state: &mut LazyStateID, view: View<'_>) -> Result<Option<Hit>, GaveUp> {
        let end = view.end;
        let clears = self.cache.clear_count();
        let last = self.dfa.next_eoi_state(self.cache, *state).map_err(|_| GaveUp)?;
        if last.is_match() && view.groups(self.pattern, end).is_some() {
            return Ok(Some(Hit { decided: end, end }));
        }
        self.keep(state, clears, end, view)?;
        Ok(None)
    }

    /// Comes back to the state at `at` if the cache, and every state in it, was thrown away since it
    /// had been cleared `clears` times. The crate offers no way to hold a state over that, so the
    /// window is run through again; matches from before the window don't count anyway.
    fn keep(
        &mut self,
        state: &mut LazyStateID,
        clears: usize,
        at: u64,
        view: View<'_>,
    ) -> Result<bool, GaveUp> {
        if self.cache.clear_count() == clears {
            return Ok(false);
        }
        let from = view.start(at);
        *state = self.start(view, from)?;
        for &byte in view.slice(from, at) {
            *state = self.dfa.next_state(self.cache, *state, byte).map_err(|_| GaveUp)?;
            if state.is_quit() {
                return Err(GaveUp);
            }
            if state.is_dead() {
                break;
            }
        }
        Ok(true)
    }

    /// How many of `bytes` can be passed over, since they leave the automaton in `state`.
    fn skip(
        &mut self,
        state: &mut LazyStateID,
        bytes: &[u8],
        at: u64,
        view: View<'_>,
    ) -> Result<usize, GaveUp> {
        let clears = self.cache.clear_count();
        if self.loops.clears != clears {
            *self.loops = Loops { clears, known: Vec::new() };
        }
        let known = self.loops.known.iter().find(|(known, _)| known == state);
        let exits = match known {
            Some((_, exits)) => *exits,
            None => {
                let exits = self.exits(*state)?;
                if self.keep(state, clears, at, view)? {
                    return Ok(0);
                }
                if self.loops.known.len() < LOOPS_KNOWN {
                    self.loops.known.push((*state, exits));
                }
                exits
            }
        };
        Ok(match exits {
            Exits::Many => 0,
            Exits::None => bytes.len(),
            Exits::One(a) => memchr::memchr(a, bytes).unwrap_or(bytes.len()),
            Exits::Two(a, b) => memchr::memchr2(a, b, bytes).unwrap_or(bytes.len()),
            Exits::Three(a, b, c) => memchr::memchr3(a, b, c, bytes).unwrap_or(bytes.len()),
        })
    }

    /// The bytes that lead out of a state which leads to itself otherwise.
    fn exits(&mut self, state: LazyStateID) -> Result<Exits, GaveUp> {
        let mut exits = Vec::new();
        if state.is_tagged() {
            return Ok(Exits::Many);
        }
        let clears = self.cache.clear_count();
        for byte in 0..=u8::MAX {
            let next = self.dfa.next_state(self.cache, state, byte).map_err(|_| GaveUp)?;
            if self.cache.clear_count() != clears {
                return Ok(Exits::Many);
            }
            if next != state {
                exits.push(byte);
            }
            if exits.len() > 3 {
                return Ok(Exits::Many);
            }
        }
        Ok(match exits[..] {
            [] => Exits::None,
            [a] => Exits::One(a),
            [a, b] => Exits::Two(a, b),
            [a, b, c] => Exits::Three(a, b, c),
            _ => Exits::Many,
        })
    }
}

/// After so many bytes in one state it is worth asking what leads out of it.
const LOOP_LENGTH: u32 = 8;
/// So many such states are remembered.
const LOOPS_KNOWN: usize = 16;

/// States that most bytes lead back to, such as "not a prompt, wait for the next line": `memchr`
/// passes over them ten times faster than stepping does.
#[derive(Default)]
struct Loops {
    /// The state of the cache that the states belong to.
    clears: usize,
    known: Vec<(LazyStateID, Exits)>,
}

#[derive(Clone, Copy)]
enum Exits {
    None,
    One(u8),
    Two(u8, u8),
    Three(u8, u8, u8),
    Many,
}

/// The search where no automaton can be had: looks at the whole window at every call.
fn slow(regex: &Regex, pattern: &Pattern, scanned: u64, view: View<'_>) -> Option<Hit> {
    let vm = regex.slow()?;
    // A character is looked at once it is complete, so that chunks make no difference.
    let end = view.end - incomplete(view.slice(view.end.saturating_sub(3).max(view.from), view.end)) as u64;
    let mut cache = vm.create_cache();
    // The last call may have left open what ends within the last, incomplete character.
    let mut from = view.start(scanned.saturating_sub(UNDECIDED));
    let late = u64::from(regex.looks_ahead);
    loop {
        let seen = if regex.starts_afresh && from == view.from {
            from
        } else {
            from.saturating_sub(1).max(view.text.start())
        };
        let text = view.slice(seen, end);
        let input = Input::new(text).range((from - seen) as usize..).earliest(true);
        let mut slots = [None; 2];
        vm.search_slots(&mut cache, &input, &mut slots)?;
        let found = seen + slots[1]?.get() as u64;
        if found + late > end {
            return None;
        }
        if found + UNDECIDED >= scanned && view.groups(pattern, found).is_some() {
            return Some(Hit { decided: known_at(view, found, late), end: found });
        }
        // It began before the window that counts for its end.
        from = view.start(found).max(from + 1);
        if from > end {
            return None;
        }
    }
}

/// How much text was needed to know of a match that ends at `end`: the characters up to there, and
/// the next one if it has a say, complete.
fn known_at(view: View<'_>, end: u64, late: u64) -> u64 {
    (end + late..view.end)
        .take(4)
        .find(|&at| at - incomplete(view.slice(at.saturating_sub(3).max(view.from), at)) as u64 >= end + late)
        .unwrap_or(view.end)
}

/// How many bytes at the end are the beginning of a UTF-8 character whose rest may still come.
fn incomplete(bytes: &[u8]) -> usize {
    (1..=bytes.len().min(3))
        .find(|&count| match std::str::from_utf8(&bytes[bytes.len() - count..]) {
            Ok(_) => false,
            Err(error) => error.valid_up_to() == 0 && error.error_len().is_none(),
        })
        .unwrap_or(0)
}

/// Several searches at once: the first hit wins, and of hits at the same place the first pattern.
pub(super) struct Searches {
    searches: Vec<Search>,
    from: u64,
}

impl Searches {
    pub(super) fn new(patterns: &[Pattern], from: u64) -> Self {
        let searches = patterns.iter().map(|pattern| Search::new(pattern.clone(), from)).collect();
        Self { searches, from }
    }

    /// Where the text begins that counts.
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
