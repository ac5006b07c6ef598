//! Tests of the last lines, as people see them.

use super::text::engine;

fn tail(bytes: &[u8]) -> String {
    engine(bytes).last_lines(0, 5)
}

#[test]
fn the_tail_is_what_would_stand_on_a_terminal() {
    assert_eq!(tail(b"one\r\n\x1b[1mtwo\x1b[0m\r\n10%\r20%\r99%\r\n\r\n"), "one\ntwo\n99%");
    assert_eq!(tail(b"passwort\x08 \x08\x08d?\r\nlong line\rshort\x1b[K\r\n"), "passwod?\nshort");
    assert_eq!(tail(b"1\n2\n3\n4\n5\n6\n7\n\n\n"), "3\n4\n5\n6\n7");
    assert_eq!(tail(b"a\tb\n"), "a       b");
    assert_eq!(tail(b""), "");
}

#[test]
fn the_tail_holds_nothing_that_a_terminal_would_act_on() {
    let hostile = "a\u{202e}b\u{200b}c\u{85}d\u{9b}31me\u{2066}f\u{feff}g\u{e0041}h\x1b]0;x\x07\u{7}i";
    let shown = tail(hostile.as_bytes());
    assert_eq!(shown, "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}31me\u{fffd}f\u{fffd}g\u{fffd}hi");
}

#[test]
fn a_long_line_is_cut_and_says_so() {
    let shown = tail(&[b'x'; 1000]);
    assert_eq!(shown, format!("{}… (+800 characters)", "x".repeat(200)));
    let moved = tail(b"x\x1b[999999999999999999999Cy");
    assert!(moved.len() < 300, "{moved}");
}

#[test]
fn a_tail_that_begins_within_an_escape_sequence_does_not_show_its_rest() {
    let mut bytes = vec![b'\n'; 65_530];
    bytes.splice(0..0, *b"\x1b]0;");
    bytes.splice(4..5, vec![b't'; 3000]);
    let tail_of = |bytes: &[u8]| engine(bytes).last_lines(0, 50);
    assert!(!tail_of(&bytes).contains('t'));
    let mut torn = b"\x1b]0;".to_vec();
    torn.extend(vec![b't'; 3000]);
    torn.extend(*b"\x07");
    torn.extend(vec![b'\n'; 64_000]);
    torn.extend(*b"end");
    assert_eq!(tail_of(&torn).trim(), "end");
}

#[test]
fn a_secret_is_masked_wherever_it_is_shown_even_letter_by_letter() {
    let mut engine = engine(b"");
    engine.secrets.add(b"hunter2");
    engine.push(
        b"echo hunter2\r\n\x1b[31mhun\x1b[0mter2\r\n[    1.000000] Kernel panic - not syncing: hunter2\r\n",
    );
    assert_eq!(engine.last_lines(0, 9), "echo ****\n****\n[    1.000000] Kernel panic - not syncing: ****");
    let fatal = engine.fatal().unwrap();
    assert!(!engine.line_at(fatal.at).0.contains("hunter2"));
}
