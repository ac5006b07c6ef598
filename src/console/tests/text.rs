//! Tests of the text that is left of a console's bytes for matching.

use crate::console::engine::Engine;
use crate::console::{Pattern, Watch};

pub(super) fn engine(bytes: &[u8]) -> Engine {
    let mut engine = Engine::new(1 << 16, Watch::Boot, None);
    engine.push(bytes);
    engine
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(engine(bytes).text_since(0).0).into_owned()
}

/// Recorded lines of NixOS consoles, from systemd and the shell, and their visible text.
const FACTS: [(&str, &[u8], &str); 11] = [
    ("systemd resets the tty", b"a\x1b[!p\x1b]104\x07\x1b[?7hb", "ab"),
    ("systemd asks for the size", b"a\x1b[18t\x1b[32766;32766H\x1b[6nb", "ab"),
    ("systemd asks for terminfo", b"a\x1bP+q544e\x1b\\b", "ab"),
    (
        "the greeting of agetty",
        b"\r\r\n\r\n<<< Welcome to NixOS 23.11 (x86_64) - ttyS0 >>>\r\n\r\nRun 'nixos-help'.\r\n\r\nnixos login: ",
        "\n\n<<< Welcome to NixOS 23.11 (x86_64) - ttyS0 >>>\n\nRun 'nixos-help'.\n\nnixos login: ",
    ),
    ("a name is typed", b"nixos login: alice\r\nPassword: ", "nixos login: alice\nPassword: "),
    ("a wrong password", b"\r\nLogin incorrect\r\n\r\nnixos login: ", "\nLogin incorrect\n\nnixos login: "),
    (
        "the prompt",
        b"\x1b[?2004h\r\r\n\x1b[1;32m[\x1b]0;alice@nixos: ~\x07alice@nixos:~]$\x1b[0m ",
        "\n[alice@nixos:~]$ ",
    ),
    ("a command", b"]$ true\r\n\x1b[?2004l\r\x1b[?2004h\r\r\n\x1b[1;32m[", "]$ true\n\n["),
    (
        "a session's context",
        b"\x1b]3008;start=1;type=session\x1b\\hello\x1b]3008;end=1\x1b\\",
        "hello",
    ),
    ("lolcat", b"\x1b[38;5;154mh\x1b[39m\x1b[38;5;148mi\x1b[39m\n", "hi\n"),
    ("a start job", b"\r[ *** ] waiting\x1b[K\r\x1b[K[  OK  ] Started.\r\n", "[ *** ] waiting\n[  OK  ] Started.\n"),
];

#[test]
fn every_line_of_a_nixos_console_is_the_text_that_a_person_sees() {
    for (what, bytes, expected) in FACTS {
        assert_eq!(text(bytes), expected, "{what}");
        let mut torn = Engine::new(1 << 16, Watch::Boot, None);
        for byte in bytes {
            torn.push(&[*byte]);
        }
        assert_eq!(String::from_utf8_lossy(torn.text_since(0).0), expected, "{what}, byte by byte");
    }
}

#[test]
fn the_visible_prompt_of_bash_can_be_matched() {
    let pattern = Pattern::regex(r"(?m)^\[(\w+)@(\w+):([^\n]*)\]\$ $").unwrap();
    let mut engine = engine(FACTS[6].1);
    engine.begin(&[pattern]);
    let (_, found) = engine.take_found().unwrap();
    assert_eq!(found.group(1).unwrap(), "alice");
    assert_eq!(found.text(), "[alice@nixos:~]$ ");
    assert_eq!(found.raw(), FACTS[6].1);
}

#[test]
fn control_characters_leave_no_trace() {
    assert_eq!(text(b"a\0b\x07c\x0e\x0fd\x7fe\x0b\x0cf"), "abcdef");
    assert_eq!(text(b"secret\x08 \x08"), "secret ", "a backspace takes nothing back");
    assert_eq!(text(b"tab\tstays\n"), "tab\tstays\n");
    assert_eq!(text(b"\x1b(B\x1b)0\x1b7\x1b8\x1bM\x1b=\x1b>\x1bcx"), "x");
    assert_eq!(text(b"\x1b]R\x1b]P0aabbccx"), "x", "the Linux palette has no terminator");
}

#[test]
fn each_state_of_a_progress_bar_is_a_line() {
    assert_eq!(text(b"10%\r20%\r\r30%\r\n"), "10%\n20%\n30%\n");
    assert_eq!(text(b"\rat the start of a line"), "at the start of a line");
}

#[test]
fn broken_utf_8_is_matched_as_bytes() {
    let mut engine = engine(b"caf\xe9 \xf0\x9f\x90\xae \xff.");
    engine.begin(&[Pattern::regex(r"(?-u:\xff)\.").unwrap()]);
    let (_, found) = engine.take_found().unwrap();
    assert_eq!(found.before(), "caf\u{fffd} 🐮 ");
    assert_eq!(found.bytes(), b"\xff.");
}

#[test]
fn a_sequence_that_never_ends_swallows_a_line_at_most() {
    assert_eq!(text(b"a\x1b]0;title\nlogin: "), "a\nlogin: ");
    assert_eq!(text(b"a\x1bPq\x18login: "), "alogin: ", "CAN");
    assert_eq!(text(b"a\x1b_apc\x1aSUB: "), "aSUB: ");
    assert_eq!(text(b"a\x1b[1;3\r\nlogin: "), "a\nlogin: ");
    assert_eq!(text(b"a\x1b[3\x1b[1mb"), "ab");
    assert_eq!(text(b"a\x1b]0;one\x1b[1mb"), "ab", "a new sequence ends a string");
    let long = [&b"\x1b]0;"[..], &[b'x'; 10_000], b" login: "].concat();
    assert!(text(&long).ends_with("x login: "), "4 KiB and no more");
    let long = [&b"\x1b["[..], &[b'1'; 1_000], b"m login: "].concat();
    assert!(text(&long).ends_with("1m login: "));
}

#[test]
fn a_line_of_10_mb_and_a_prompt_behind_it_need_bounded_memory() {
    let mut engine = Engine::new(1 << 16, Watch::Session, None);
    engine.begin(&[Pattern::regex(r"(?m)^\w+@\w+\$ $").unwrap(), "$$ ".into()]);
    for _ in 0..10 {
        engine.push(&vec![b'x'; 1 << 20]);
    }
    assert!(engine.take_found().is_none());
    engine.push(b"\nalice@nixos$ ");
    let (index, found) = engine.take_found().unwrap();
    assert_eq!((index, &*found.text()), (0, "alice@nixos$ "));
    assert_eq!(found.before_bytes().len() + found.bytes().len(), 1 << 16);
    assert_eq!(found.dropped() as usize + (1 << 16), (10 << 20) + 14);
    assert_eq!(found.raw().len(), 1 << 16);
    assert!(engine.held() < (4 + 3) << 16, "{} bytes are held", engine.held());
}

#[test]
fn a_greedy_tail_ends_at_the_first_byte_and_the_remedy_works() {
    let find = |source: &str| {
        let mut engine = engine(b"exit 42\nexit 7\n");
        engine.begin(&[Pattern::regex(source).unwrap()]);
        engine.take_found().unwrap().1.group(1).unwrap().into_owned()
    };
    assert_eq!(find(r"exit (\d+)"), "4");
    assert_eq!(find(r"exit (\d+)$"), "4");
    assert_eq!(find(r"exit (\d+)\n"), "42");
    assert_eq!(find(r"exit (\d+)\r?\n"), "42");
    assert_eq!(find(r"exit (\d+)\b"), "42");
    assert_eq!(find(r"exit (\d)\B"), "4");
    assert_eq!(find(r"exit (\d+)(?-u:\B)"), "4");
}

#[test]
fn a_pattern_that_makes_no_sense_is_refused_with_the_reason() {
    let error = Pattern::regex(r"(alice").unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Usage);
    assert!(error.to_string().contains("unclosed group"), "{error}");
}

#[test]
fn an_automaton_that_outgrows_its_cache_still_finds_the_first_end() {
    // For this pattern, 2 MiB of cache hold only the states of a few KB of random text.
    let pattern = Pattern::regex(r"[ab]*a[ab]{14}c$").unwrap();
    let mut engine = Engine::new(1 << 16, Watch::Off, None);
    engine.begin(&[pattern]);
    let mut seed = 1u32;
    for _ in 0..600 {
        let chunk: Vec<u8> = (0..97)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if seed >> 31 == 0 { b'a' } else { b'b' }
            })
            .collect();
        engine.push(&chunk);
    }
    assert!(engine.take_found().is_none());
    engine.push(b"abbbbbbbbbbbbbbc");
    assert!(engine.take_found().unwrap().1.text().ends_with("abbbbbbbbbbbbbbc"));
}
