//! A search with a lazy automaton. It continues from chunk to chunk, and processes each byte once.

use regex_automata::Anchored;
use regex_automata::hybrid::{LazyStateID, dfa};
use regex_automata::util::start;

use super::pattern::{Kind, Pattern, Regex};
use super::search::{Hit, View};

/// The automaton met a byte that it can't handle.
pub(super) struct GaveUp;

/// A lazy DFA during a search.
pub(super) struct Automaton {
    pattern: Pattern,
    cache: Option<Box<dfa::Cache>>,
    /// The state after the bytes so far; `None` before the first byte.
    state: Option<LazyStateID>,
    loops: Loops,
}

impl Automaton {
    pub(super) fn new(pattern: &Pattern, regex: &Regex) -> Option<Self> {
        let cache = Some(regex.take_cache(regex.automaton.as_ref()?));
        Some(Self { pattern: pattern.clone(), cache, state: None, loops: Loops::default() })
    }

    /// Processes the bytes from `scanned` to the end of the view.
    pub(super) fn scan(&mut self, scanned: u64, view: View<'_>) -> Result<Option<Hit>, GaveUp> {
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

/// A run of the automaton over a chunk.
struct Run<'a> {
    pattern: &'a Pattern,
    regex: &'a Regex,
    dfa: &'a dfa::DFA,
    cache: &'a mut dfa::Cache,
    loops: &'a mut Loops,
}

impl Run<'_> {
    /// Returns the state before the byte at `from`.
    fn start(&mut self, view: View<'_>, from: u64) -> Result<LazyStateID, GaveUp> {
        let behind = match from.checked_sub(1) {
            Some(_) if self.regex.starts_afresh && from == view.from => None,
            Some(before) => view.text.get(before),
            None => None,
        };
        let config = start::Config::new().anchored(Anchored::No).look_behind(behind);
        self.dfa.start_state(self.cache, &config).map_err(|_| GaveUp)
    }

    /// Processes the bytes from `from` on. The automaton reports a match one byte late.
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
            if same == LOOP_LENGTH || self.loops.last == Some(next) {
                same = 0;
                at += self.skip(state, &bytes[at..], from + at as u64, view)?;
            }
        }
        if late == 0 && !state.is_dead() {
            return self.at_the_end(state, view);
        }
        Ok(None)
    }

    /// Whether a match ends at the present end of the text.
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

    /// Restores the state at `at` if the cache was cleared, with every state in it, since it had been cleared
    /// `clears` times. The crate can't keep a state across that, so the window is processed again. Matches
    /// from before the window don't count anyway.
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

    /// Returns how many of `bytes` can be skipped because they leave the automaton in `state`.
    fn skip(
        &mut self,
        state: &mut LazyStateID,
        bytes: &[u8],
        at: u64,
        view: View<'_>,
    ) -> Result<usize, GaveUp> {
        let clears = self.cache.clear_count();
        if self.loops.clears != clears {
            *self.loops = Loops { clears, ..Loops::default() };
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
        self.loops.last = if matches!(exits, Exits::Many) { None } else { Some(*state) };
        Ok(match exits {
            Exits::Many => 0,
            Exits::None => bytes.len(),
            Exits::One(a) => memchr::memchr(a, bytes).unwrap_or(bytes.len()),
            Exits::Two(a, b) => memchr::memchr2(a, b, bytes).unwrap_or(bytes.len()),
            Exits::Three(a, b, c) => memchr::memchr3(a, b, c, bytes).unwrap_or(bytes.len()),
        })
    }

    /// Returns the bytes that lead out of a state that otherwise leads to itself.
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

/// After this many bytes in one state, it is worth finding out what leads out of it.
const LOOP_LENGTH: u32 = 8;
/// How many such states are remembered.
const LOOPS_KNOWN: usize = 16;

/// States that most bytes lead back to, such as "not a prompt, wait for the next line". `memchr` skips these
/// bytes ten times faster than the automaton.
#[derive(Default)]
struct Loops {
    /// The number of cache clears for which the states are valid.
    clears: usize,
    known: Vec<(LazyStateID, Exits)>,
    /// The state that was last used for skipping. It is checked first, because it is most likely the next
    /// one, too.
    last: Option<LazyStateID>,
}

#[derive(Clone, Copy)]
enum Exits {
    None,
    One(u8),
    Two(u8, u8),
    Three(u8, u8, u8),
    Many,
}
