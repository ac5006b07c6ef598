//! Tests that the engine finds what it would find if the bytes came one at a time.

use std::sync::LazyLock;

use proptest::prelude::*;

use crate::console::engine::Engine;
use crate::console::{Match, Pattern, Watch};
use crate::environment;

/// The observable result of a wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    index: usize,
    before: Vec<u8>,
    groups: Vec<Option<Vec<u8>>>,
    raw: Vec<u8>,
    dropped: u64,
}

/// Converts a result. With a tiny window, raw bytes may be gone when a match is decided.
fn seen((index, found): (usize, Match), window: usize) -> Seen {
    let groups = (0..4).map(|number| found.group_bytes(number).map(<[u8]>::to_vec)).collect();
    Seen {
        index,
        before: found.before_bytes().to_vec(),
        groups,
        raw: if window < 100 { Vec::new() } else { found.raw().to_vec() },
        dropped: found.dropped(),
    }
}

/// Returns the first `most` matches of `patterns`, one after another, when the bytes come in `chunks`.
pub(super) fn all(patterns: &[Pattern], chunks: &[&[u8]], window: usize, most: usize) -> Vec<Seen> {
    let mut engine = Engine::new(window, Watch::Off, None);
    let mut all = Vec::new();
    engine.begin(patterns);
    let mut collect = |engine: &mut Engine| {
        while let Some(found) = engine.take_found() {
            // A pattern that matches the empty text would match it forever.
            let empty = found.1.bytes().is_empty() && found.1.before_bytes().is_empty();
            all.push(seen(found, window));
            if empty || all.len() >= most {
                return;
            }
            engine.begin(patterns);
        }
    };
    collect(&mut engine);
    for chunk in chunks {
        engine.push(chunk);
        collect(&mut engine);
    }
    all
}

fn split<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let mut chunks = Vec::new();
    let mut from = 0;
    for cut in cuts {
        chunks.push(&bytes[from..cut]);
        from = cut;
    }
    chunks.push(&bytes[from..]);
    chunks
}

/// Compiled once, because that takes longer than a search.
static PATTERNS: LazyLock<Vec<Vec<Pattern>>> = LazyLock::new(|| patterns(1 << 20));
/// With automata whose caches are cleared at nearly every byte.
static FORGETFUL: LazyLock<Vec<Vec<Pattern>>> = LazyLock::new(|| patterns(0));

fn patterns(cache: usize) -> Vec<Vec<Pattern>> {
    let regex = |source: &str| Pattern::compile(source, cache).unwrap();
    vec![
        vec!["login: ".into()],
        vec![regex(r"(\d+)\n")],
        vec![regex(r"(?m)^(\w+)@(\w+)[^\n]{0,10}\$ $")],
        vec![regex(r"(?m)^b+$"), "ab".into()],
        vec![regex(r"\b(ab)\b"), regex("b."), "é".into()],
        vec![regex(r"(?-u:\b)(a+)(?-u:\b)"), regex(r"(?s)b.*a")],
        vec![regex(r"^(a|b)+\n"), regex(r"(?:a$\n?){2}")],
        vec![regex(r"(a+?)(b*)"), "$ ".into(), regex(r"\A@|\z\n")],
        vec![regex(r"\Bé\B"), regex(r"\w+\b.?")],
        vec![regex(r"[^\n]\n\n"), regex(r"(?m)$"), "a".into()],
        vec![regex(r"(?s)(a[^@]{3}[12]|b.{5})7$")],
    ]
}

/// Generates bytes of consoles: what the patterns search for, complete and torn escape sequences, line ends.
fn console_bytes() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        &b"a"[..],
        b"b",
        b"ab",
        b"\n",
        b"\r\n",
        b"\r\r\n",
        b"\r",
        b" ",
        b"$ ",
        b"@",
        b"12",
        b"7\r\n",
        "é".as_bytes(),
        b"\xc3",
        b"\xa9",
        b"\xff",
        b"\x1b[1;32m",
        b"\x1b[0m",
        b"\x1b]0;title\x07",
        b"\x1b]3008;x\x1b\\",
        b"\x1b",
        b"[",
        b"\x1b(",
        b"\x1bP",
        b"\\",
        b"\x07",
        b"\x18",
        b"\0",
        b"\x08",
        b"login: ",
        b"login",
        b"alice@nixos:~]$ ",
        b"\x1b[?2004h\r\r\n",
        b"\x1b[",
        b"3;4",
    ]);
    prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

/// Each case costs as much as twenty of another test, so there are fewer by default.
fn cases() -> u32 {
    if environment::is_set("PROPTEST_CASES") { ProptestConfig::default().cases } else { 48 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_the_same_bytes_gives_the_same_result(
        bytes in console_bytes(),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        for patterns in PATTERNS.iter() {
            // With a small window only the first wait is tested: the next one begins when the match is
            // noticed, and by then more may have come than the window holds.
            for (window, most) in [(12, 1), (4096, 50)] {
                let whole = all(patterns, &[&bytes], window, most);
                prop_assert_eq!(&all(patterns, &split(&bytes, &cuts), window, most), &whole, "{:?}", patterns);
                let single: Vec<&[u8]> = bytes.chunks(1).collect();
                prop_assert_eq!(&all(patterns, &single, window, most), &whole, "{:?}", patterns);
            }
        }
    }

    #[test]
    fn an_automaton_that_forgets_finds_the_same(
        bytes in console_bytes(),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        for (patterns, forgetful) in PATTERNS.iter().zip(FORGETFUL.iter()) {
            let chunks = split(&bytes, &cuts);
            let whole = all(patterns, &[&bytes], 4096, 50);
            prop_assert_eq!(&all(forgetful, &chunks, 4096, 50), &whole, "{:?}", patterns);
        }
    }

    /// Compares with the plain meaning of the rule: tries every prefix of the text with the crate `regex`.
    #[test]
    fn the_first_end_is_the_shortest_text_that_matches(bytes in console_bytes()) {
        for source in [r"(\d+)\n", r"(?m)^(\w+)@(\w+)[^\n]{0,10}\$ $", r"(a+?)(b*)", r"(?s)b.*a", r"(?:a$\n?){2}", r"[^\n]\n\n"] {
            let mut engine = Engine::new(1 << 16, Watch::Off, None);
            engine.push(&bytes);
            let text = engine.text_since(0).0.to_vec();
            let plain = regex::bytes::Regex::new(source).unwrap();
            let expected = (0..=text.len()).find_map(|end| plain.captures(&text[..end]));
            engine.begin(&[Pattern::regex(source).unwrap()]);
            let found = engine.take_found();
            prop_assert_eq!(found.is_some(), expected.is_some(), "{}", source);
            if let (Some((_, found)), Some(expected)) = (found, expected) {
                for group in 0..expected.len() {
                    let expected = expected.get(group).map(|group| group.as_bytes());
                    prop_assert_eq!(found.group_bytes(group), expected, "group {} of {}", group, source);
                }
            }
        }
    }
}

#[test]
fn the_start_of_a_wait_is_the_start_of_a_line_only_if_it_is_one() {
    let find = |source: &str| {
        let mut engine = Engine::new(1 << 16, Watch::Off, None);
        engine.push(b"login: ab\nab ");
        engine.begin(&["login: ".into()]);
        engine.take_found().unwrap();
        engine.begin(&[Pattern::regex(source).unwrap()]);
        engine.take_found().map(|(_, found)| (found.before().into_owned(), found.text().into_owned()))
    };
    let found = |before: &str, text: &str| Some((before.to_owned(), text.to_owned()));
    assert_eq!(find(r"(?m)^ab"), found("ab\n", "ab"));
    assert_eq!(find(r"(?m)(^a)?b"), found("a", "b"));
    assert_eq!(find(r"^ab"), found("", "ab"), "^ without (?m) is where the wait begins");
    assert_eq!(find(r"\Bab"), None);
}

#[test]
fn a_match_that_nobody_took_has_not_happened() {
    let mut engine = Engine::new(1 << 16, Watch::Off, None);
    engine.begin(&["login: ".into()]);
    engine.push(b"nixos login: ");
    engine.abandon();
    engine.begin(&["login: ".into()]);
    assert_eq!(engine.take_found().unwrap().1.before(), "nixos ");
}
