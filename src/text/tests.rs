use proptest::prelude::*;

use super::*;

/// Code points that must never be in the output, because a terminal, an editor or a page would not show them
/// as they are. The ranges are from DerivedCoreProperties.txt and PropList.txt of Unicode 16.
const NEVER: &[(u32, u32)] = &[
    (0x00, 0x09),
    (0x0b, 0x1f),
    (0x7f, 0x9f),
    (0xad, 0xad),
    (0x34f, 0x34f),
    (0x61c, 0x61c),
    (0x115f, 0x1160),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x200b, 0x200f),
    (0x2028, 0x202e),
    (0x2060, 0x206f),
    (0x3164, 0x3164),
    (0xfdd0, 0xfdef),
    (0xfe00, 0xfe0f),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfffb),
    (0xfffe, 0xffff),
    (0x1bca0, 0x1bca3),
    (0x1d173, 0x1d17a),
    (0xe0000, 0xe0fff),
];

/// Visible characters, which stay.
const STAYS: &[(u32, u32)] = &[
    (0x20, 0x7e),
    (0xa0, 0xac),
    (0xae, 0x2ff),
    (0x370, 0x482),
    (0x600, 0x605),
    (0x6dd, 0x6dd),
    (0x2500, 0x25ff),
    (0x2800, 0x28ff),
    (0x3041, 0x3096),
    (0x4e00, 0x9fff),
    (0xac00, 0xd7a3),
    (0xe000, 0xf8ff),
    (0xfffd, 0xfffd),
    (0x1f300, 0x1f5ff),
];

fn is_in(ranges: &[(u32, u32)], code: u32) -> bool {
    ranges.iter().any(|(first, last)| (*first..=*last).contains(&code))
        || std::ptr::eq(ranges, NEVER) && code & 0xfffe == 0xfffe
}

#[test]
fn every_code_point_is_shown_or_replaced_by_the_rule() {
    let (mut kept, mut replaced) = (0, 0);
    for code in 0..=0x10_ffff {
        let Some(character) = char::from_u32(code) else { continue };
        let shown = line(&format!("a{character}b"));
        assert!(!shown.chars().any(|c| is_in(NEVER, c.into())), "U+{code:04X} comes out: {shown:?}");
        assert_eq!(line(&shown), shown, "U+{code:04X}");
        if is_in(STAYS, code) {
            assert_eq!(shown, format!("a{character}b"), "U+{code:04X}");
        }
        if shown == format!("a{character}b") { kept += 1 } else { replaced += 1 }
    }
    // The properties are known to the tables: a class that can't be parsed would replace nearly everything.
    assert!(kept > 1_000_000 && (4_000..5_000).contains(&replaced), "{kept} kept, {replaced} replaced");
}

#[test]
fn escape_sequences_of_every_kind_leave_nothing_behind() {
    for sequence in [
        "\x1b[31;1m",
        "\x1b[?2004h",
        "\x1b]0;title\x07",
        "\x1b]8;;http://x\x1b\\",
        "\x1bPq#0;2;0;0;0#0~~\x1b\\",
        "\x1bXstart of string\x1b\\",
        "\x1b^privacy\x1b\\",
        "\x1b_application\x1b\\",
        "\x1b(B",
        "\x1bc",
        "\x1b7",
        "\x1b]P1234567",
        "\x08\x07\x0e\x0f\x00\x7f",
    ] {
        assert_eq!(line(&format!("a{sequence}b")), "ab", "{sequence:?}");
        assert_eq!(lines(&format!("a{sequence}\nb")), "a\nb", "{sequence:?}");
    }
    assert_eq!(line("the end \x1b["), "the end ");
}

#[test]
fn ends_of_lines_and_tabs_are_kept_as_what_they_are() {
    assert_eq!(lines("a\r\nb\r\r\nc\rd\te\n"), "a\nb\nc\nd    e\n");
    assert_eq!(line("a\r\nb\r\r\nc\rd\te\n"), "a b c d e ");
    assert_eq!(lines("the last\r"), "the last");
}

#[test]
fn a_heap_of_combining_marks_is_bounded_and_an_accent_stays() {
    let heap = format!("z{}o", "\u{301}\u{33f}".repeat(500));
    assert_eq!(line(&heap).chars().count(), 2 + MARKS);
    let accents = "e\u{301} ệ ก\u{e35}\u{e48}";
    assert_eq!(line(accents), accents);
}

/// Text with many bytes that a terminal interprets.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..12),
        any::<char>().prop_map(|c| c.to_string().into_bytes()),
        "[a-z:#\\[\\]]{0,8}".prop_map(String::into_bytes),
        "\x1b[\\[\\]PX^_()c]?[0-9;?]{0,6}[ -~]{0,3}(\x1b\\\\|\x07)?".prop_map(String::into_bytes),
        "[\u{80}-\u{9f}\u{200b}-\u{200f}\u{2028}-\u{202e}\u{301}\u{fffe}\u{e0041}]{0,12}"
            .prop_map(String::into_bytes),
        "[\r\n\t\x08]{0,4}".prop_map(String::into_bytes),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

#[test]
fn json_stays_the_same_data() {
    let hostile: String =
        (0..0x10_ffff).step_by(7).filter_map(char::from_u32).chain("\u{202e}\u{e0041}\n".chars()).collect();
    let value = serde_json::json!({ "text": hostile });
    for written in [format!("{value}"), format!("{value:#}\n")] {
        let escaped = json(&written);
        assert!(!escaped.chars().any(|c| is_in(NEVER, c.into())));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
    }
}

#[test]
fn of_sequences_only_colours_stay_where_they_may() {
    assert_eq!(
        coloured("\x1b[1;38;5;9merror\x1b[0m: \x1b[2Ja\x1b[?1049hb\x1b]0;t\x07\u{202e}c\r\n\x1b[>4;1md"),
        "\x1b[1;38;5;9merror\x1b[0m: ab\u{fffd}c\nd"
    );
}

proptest! {
    #[test]
    fn what_comes_out_in_colours_has_no_other_sequence(bytes in hostile()) {
        let shown = coloured(&String::from_utf8_lossy(&bytes));
        prop_assert_eq!(coloured(&shown), shown.clone());
        let plain = lines(&shown);
        let colours = shown.matches('\x1b').count();
        prop_assert_eq!(shown.matches("\x1b[").count(), colours);
        prop_assert!(!plain.chars().any(|c| is_in(NEVER, c.into())), "{:?}", plain);
        prop_assert!(shown.len() <= plain.len() + colours * 27, "{:?}", shown);
    }

    #[test]
    fn what_comes_out_does_nothing_to_a_terminal_and_comes_out_again_unchanged(bytes in hostile()) {
        let text = String::from_utf8_lossy(&bytes);
        let (one, several) = (line(&text), lines(&text));
        prop_assert!(!one.chars().any(|c| c == '\n' || is_in(NEVER, c.into())), "{:?}", one);
        prop_assert!(!several.chars().any(|c| is_in(NEVER, c.into())), "{:?}", several);
        prop_assert_eq!(line(&one), one.clone());
        prop_assert_eq!(lines(&several), several.clone());
    }

    #[test]
    fn text_that_is_torn_is_as_harmless(bytes in hostile(), at in any::<prop::sample::Index>()) {
        let (one, other) = bytes.split_at(at.index(bytes.len() + 1));
        for half in [one, other] {
            let shown = lines(&String::from_utf8_lossy(half));
            prop_assert!(!shown.chars().any(|c| is_in(NEVER, c.into())), "{:?}", shown);
        }
    }
}
