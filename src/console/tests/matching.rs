//! The engine finds what it would find if the bytes came one at a time.

use std::sync::LazyLock;

use proptest::prelude::*;

use crate::console::engine::Engine;
use crate::console::{Match, Pattern, Watch};

/// What there is to say about the result of a wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    index: usize,
    before: Vec<u8>,
    groups: Vec<Option<Vec<u8>>>,
    raw: Vec<u8>,
    dropped: u64,
}

/// With a tiny window, raw bytes may be gone by the time that a match is decided.
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

/// The first `most` matches of `patterns`, one after the other, when the bytes come in `chunks`.
pub(super) fn all(patterns: &[Pattern], chunks: &[&[u8]], window: usize, most: usize) -> Vec<Seen> {
    let mut engine = Engine::new(window, Watch::Off, None);
    let mut all = Vec::new();
    engine.begin(patterns);
    let mut collect = |engine: &mut Engine| {
        while let Some(found) = engine.take_found() {
            // A pattern that matches nothing would match it for ever.
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

/// Compiled once: that takes longer than a search.
static PATTERNS: LazyLock<Vec<Vec<Pattern>>> = LazyLock::new(|| {
    let regex = |source: &str| Pattern::regex(source).unwrap();
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
    ]
});

/// Bytes that make up consoles: what the patterns look for, escapes whole and torn, line ends.
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_the_same_bytes_gives_the_same_result(
        bytes in console_bytes(),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        for patterns in PATTERNS.iter() {
            // With a small window only the first wait: the next one begins when the match is seen, and
            // what has come by then may be more than the window.
            for (window, most) in [(12, 1), (4096, 50)] {
                let whole = all(patterns, &[&bytes], window, most);
                prop_assert_eq!(&all(patterns, &split(&bytes, &cuts), window, most), &whole, "{:?}", patterns);
                let single: Vec<&[u8]> = bytes.chunks(1).collect();
                prop_assert_eq!(&all(patterns, &single, window, most), &whole, "{:?}", patterns);
            }
        }
    }
}
