//! What a wait searches for: a literal or a regular expression, compiled once.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use memchr::memmem::Finder;
use regex_automata::nfa::thompson::{self, pikevm::PikeVM};
use regex_automata::util::{captures::Captures, start, syntax};
use regex_automata::{Anchored, Input, MatchKind, hybrid::dfa, meta};
use regex_syntax::hir::{Hir, HirKind, Look};

use super::anchors;
use crate::call::called;
use crate::mutex::lock;
use crate::{Error, ErrorKind, Result, secrets};

/// What to wait for on a console. Plain text is a literal; [`Pattern::regex`] makes a regular expression.
/// Clones are cheap and share the compiled form, so keep a pattern that is used often.
///
/// A wait finds **what it would find if the bytes came one at a time**: the first place in the text at which
/// the pattern matches wins. The result is the same for every way in which the bytes really come. So a greedy
/// tail ends as early as possible: `(\d+)` on `42` finds `4`. Add what follows: `(\d+)\n`. For the same
/// reason `$` at the end of a pattern matches at any time; write `\n` to wait for the end of a line. A `\b`
/// at the end is decided when the next character has come.
///
/// The text has `\n` at the end of its lines, never `\r\n`, and no escape sequences. `^` without `(?m)` is
/// where the text of this wait begins: at the end of the previous match. `(?m)^` is the start of a line. A
/// match, including everything between its ends, can't be longer than what the console keeps (1 MiB by
/// default).
///
/// ```
/// use nixvm_test::console::Pattern;
/// let literal = Pattern::from("nixos login: ");
/// let prompt = Pattern::regex(r"(?m)^\[(\w+)@(\w+):[^\n]*\]\$ $")?;
/// # Ok::<(), nixvm_test::Error>(())
/// ```
#[derive(Clone)]
pub struct Pattern {
    kind: Arc<Kind>,
    /// Its name in texts for people.
    name: Option<&'static str>,
}

pub(super) enum Kind {
    Literal(Box<Finder<'static>>),
    Regex(Box<Regex>),
}

/// A compiled regular expression.
pub(super) struct Regex {
    source: String,
    /// Finds the groups once the end of a match is known.
    groups: meta::Regex,
    /// The pattern without the end anchors at its end, which the search uses.
    search: Hir,
    /// Finds the ends of matches in any number of chunks. `None` if there can be no such automaton, for
    /// example because it would be too large.
    pub(super) automaton: Option<dfa::DFA>,
    /// What the automaton has computed in the last wait with this pattern.
    cache: Mutex<Option<Box<dfa::Cache>>>,
    slow: OnceLock<Option<PikeVM>>,
    /// Whether the byte after a match affects it.
    pub(super) looks_ahead: bool,
    /// Whether an end anchor could not be removed, so that every byte has to be tried as the last one.
    pub(super) every_byte: bool,
    /// Whether `^` occurs without `(?m)`, so that the text before the wait must not be visible.
    pub(super) starts_afresh: bool,
}

/// How much of a text a hint shows, in bytes.
const SHOWN: usize = 200;

/// The size of the automaton's cache, in bytes. The states of a typical pattern take about 20 KiB.
const CACHE: usize = 1 << 20;

impl Pattern {
    /// Compiles a regular expression in the syntax of the crate [`regex`]. Flags are part of the pattern:
    /// `(?i)`.
    ///
    /// Memory and compile time are limited as in that crate.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when it is not a regular expression, with the position of the mistake.
    #[track_caller]
    pub fn regex(source: &str) -> Result<Self> {
        called(Self::compile(source, CACHE))
    }

    /// Returns the same pattern with a name for errors, because a long regular expression does not tell
    /// people what was waited for.
    #[must_use]
    pub fn called(self, name: &'static str) -> Self {
        Self { name: Some(name), ..self }
    }

    /// Compiles a regular expression. `cache` is the size of the automaton's cache, in bytes, before it is
    /// cleared.
    pub(super) fn compile(source: &str, cache: usize) -> Result<Self> {
        let fail = |problem: &dyn fmt::Display| {
            Error::new(ErrorKind::Usage, "the pattern is not a regular expression")
                .section("the parser says", problem.to_string())
                .next_step("plain text needs no Pattern::regex: pass it as it is")
        };
        let syntax = syntax::Config::new().utf8(false);
        let hir = syntax::parse_with(source, &syntax).map_err(|e| fail(&e))?;
        let groups = meta::Builder::new()
            .configure(meta::Config::new().utf8_empty(false).nfa_size_limit(Some(10 << 20)))
            .build_from_hir(&hir)
            .map_err(|e| fail(&e))?;
        let search = anchors::without_end_anchors(&hir);
        let automaton = automaton(&search, cache);
        let unicode_words = hir.properties().look_set().contains_word_unicode();
        if anchors::ends_with_end_anchor(&search) && (automaton.is_none() || unicode_words) {
            return Err(fail(&"an end anchor within a repetition at the end, together with a Unicode \\b"));
        }
        let regex = Regex {
            source: source.to_owned(),
            groups,
            automaton,
            cache: Mutex::new(None),
            slow: OnceLock::new(),
            looks_ahead: anchors::ends_with_word_boundary(&search),
            every_byte: anchors::ends_with_end_anchor(&search),
            starts_afresh: hir.properties().look_set().contains(Look::Start),
            search,
        };
        Ok(Self { kind: Arc::new(Kind::Regex(Box::new(regex))), name: None })
    }

    /// Whether it matches anywhere in a complete text.
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self.kind() {
            Kind::Literal(finder) => finder.find(text.as_bytes()).is_some(),
            Kind::Regex(regex) => regex.groups.is_match(text.as_bytes()),
        }
    }

    /// Returns the plain text, unless it is a regular expression.
    pub(crate) fn text(&self) -> Option<Cow<'_, str>> {
        self.literal().map(String::from_utf8_lossy)
    }

    /// Adds a hint to the error of a failed wait, if the pattern is plain text that looks like a regular
    /// expression.
    pub(crate) fn hint(&self, error: Error) -> Error {
        // A pattern with a name belongs to the library.
        let text = self.text().filter(|text| self.name.is_none() && looks_like_a_regex(text));
        let Some(text) = text else { return error };
        let hashes = "#".repeat(usize::from(text.contains('"')));
        let text: String = secrets::line(&text).chars().take(SHOWN).collect();
        error.next_step(format!(
            "a text matches literally; for a regular expression: Pattern::regex(r{hashes}\"{text}\"{hashes})?"
        ))
    }

    pub(super) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Returns the literal, unless it is a regular expression.
    pub(super) fn literal(&self) -> Option<&[u8]> {
        match self.kind() {
            Kind::Literal(finder) => Some(finder.needle()),
            Kind::Regex(_) => None,
        }
    }

    /// Returns how much of the beginning of a line the expression can match before a match becomes
    /// impossible.
    pub(super) fn could_begin(&self, line: &[u8]) -> usize {
        let Kind::Regex(regex) = self.kind() else { return 0 };
        let Some(automaton) = &regex.automaton else { return 0 };
        let mut cache = automaton.create_cache();
        let config = start::Config::new().anchored(Anchored::Yes);
        let Ok(mut state) = automaton.start_state(&mut cache, &config) else { return 0 };
        for (at, &byte) in line.iter().enumerate() {
            match automaton.next_state(&mut cache, state, byte) {
                Ok(next) if !next.is_dead() && !next.is_quit() => state = next,
                _ => return at,
            }
        }
        line.len()
    }

    /// Returns the spans of the groups by their number, and their names. Returns `None` if `text[span]` has
    /// no match that ends at the end of the span.
    pub(super) fn groups(&self, text: &[u8], span: Range<usize>) -> Option<Groups> {
        match self.kind() {
            Kind::Literal(finder) => {
                let start = span.end.checked_sub(finder.needle().len())?;
                Some(Groups { spans: vec![Some(start..span.end)], names: None })
            }
            Kind::Regex(regex) => regex.groups(text, span),
        }
    }
}

/// Whether a text has a special meaning as a regular expression, apart from dots, which also end sentences.
fn looks_like_a_regex(text: &str) -> bool {
    let is_one = regex_syntax::parse(text)
        .is_ok_and(|hir| !matches!(hir.kind(), HirKind::Literal(_) | HirKind::Empty));
    is_one && text.contains(|c: char| "\\^$*+?()[]{}|".contains(c))
}

/// The groups of a match.
#[derive(Clone)]
pub(super) struct Groups {
    pub(super) spans: Vec<Option<Range<usize>>>,
    pub(super) names: Option<regex_automata::util::captures::GroupInfo>,
}

impl Groups {
    /// Returns the number of the group with this name.
    pub(super) fn number(&self, name: &str) -> Option<usize> {
        self.names.as_ref()?.to_index(regex_automata::PatternID::ZERO, name)
    }
}

impl Regex {
    fn groups(&self, text: &[u8], span: Range<usize>) -> Option<Groups> {
        // If the text is cut off at the end of the match, `$` matches there. If the next character affects
        // the match, it must stay visible.
        let cut = text.get(..span.end)?;
        let found = if self.looks_ahead {
            self.captures(text, span.clone()).or_else(|| self.captures(cut, span))
        } else {
            self.captures(cut, span)
        }?;
        let spans = found.iter().map(|span| span.map(|span| span.range())).collect();
        Some(Groups { spans, names: Some(found.group_info().clone()) })
    }

    fn captures(&self, text: &[u8], span: Range<usize>) -> Option<Captures> {
        let mut captures = self.groups.create_captures();
        self.groups.search_captures(&Input::new(text).range(span.clone()), &mut captures);
        (captures.get_match()?.end() == span.end).then_some(captures)
    }

    /// Returns a cache for the automaton: that of the last wait, unless another wait uses it.
    pub(super) fn take_cache(&self, automaton: &dfa::DFA) -> Box<dfa::Cache> {
        let kept = lock(&self.cache).take();
        kept.unwrap_or_else(|| Box::new(automaton.create_cache()))
    }

    pub(super) fn keep_cache(&self, cache: Box<dfa::Cache>) {
        *lock(&self.cache) = Some(cache);
    }

    /// Returns the search for expressions without an automaton. It is exact, but scans the whole text each
    /// time.
    pub(super) fn slow(&self) -> Option<&PikeVM> {
        let build = || {
            let nfa = thompson::Compiler::new()
                .configure(thompson::Config::new().utf8(false))
                .build_from_hir(&self.search)
                .ok()?;
            PikeVM::builder().configure(PikeVM::config().match_kind(MatchKind::All)).build_from_nfa(nfa).ok()
        };
        self.slow.get_or_init(build).as_ref()
    }
}

/// Builds the automaton that finds the ends of matches. It reports all of them, not only the leftmost-first
/// one: the first end counts, regardless of its branch.
fn automaton(hir: &Hir, cache: usize) -> Option<dfa::DFA> {
    let nfa = thompson::Compiler::new()
        .configure(
            thompson::Config::new()
                .utf8(false)
                .which_captures(thompson::WhichCaptures::None)
                .nfa_size_limit(Some(10 << 20)),
        )
        .build_from_hir(hir)
        .ok()?;
    dfa::Builder::new()
        .configure(
            dfa::Config::new()
                .match_kind(MatchKind::All)
                // At a Unicode \b, the automaton stops at the first byte that is not ASCII, and the slow
                // search continues.
                .unicode_word_boundary(true)
                .cache_capacity(cache)
                .skip_cache_capacity_check(true),
        )
        .build_from_nfa(nfa)
        .ok()
}

impl From<&str> for Pattern {
    fn from(literal: &str) -> Self {
        let kind = Kind::Literal(Box::new(Finder::new(literal).into_owned()));
        Self { kind: Arc::new(kind), name: None }
    }
}

impl From<String> for Pattern {
    fn from(literal: String) -> Self {
        Self::from(literal.as_str())
    }
}

impl From<&String> for Pattern {
    fn from(literal: &String) -> Self {
        Self::from(literal.as_str())
    }
}

impl From<&Pattern> for Pattern {
    fn from(pattern: &Pattern) -> Self {
        pattern.clone()
    }
}

/// Formats the pattern for an error: a literal in quotes, a regular expression between slashes.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.name {
            return f.write_str(name);
        }
        match self.kind() {
            Kind::Literal(finder) => write!(f, "{:?}", String::from_utf8_lossy(finder.needle())),
            Kind::Regex(regex) => write!(f, "/{}/", regex.source),
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_that_looks_like_a_regular_expression_is_hinted_at() {
        let hint = |pattern: Pattern| pattern.hint(Error::new(ErrorKind::Timeout, "in vain")).to_string();
        for text in [
            r"login: .*",
            r"worker process \d+",
            "^ready$",
            "up|down",
            "[0-9]+ rows",
            "(yes)?",
            "a{3}",
            r#"say ".*""#,
        ] {
            let said = hint(text.into());
            assert!(said.contains("Pattern::regex(r"), "{text}: {said}");
            assert!(!hint(Pattern::regex(text).unwrap()).contains("Pattern::regex"), "{text}");
        }
        for text in ["login: ", "127.0.0.1", "done.", "a{", "*** ready", "a\u{301}b", ""] {
            assert!(!hint(text.into()).contains("Pattern::regex"), "{text}");
        }
    }
}
