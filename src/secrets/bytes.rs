//! Passwords in what a terminal is sent: found in the letters that it shows, whatever stands between them, and masked in
//! the bytes.
//!
//! Terminals differ, so the bytes are read in several ways: a backspace does nothing, as in a [console's
//! text](crate::console), or takes the letter before it back, as a person sees it; a control character of C1 is not seen,
//! or begins and ends sequences.

use std::ops::Range;

use memchr::memmem;

use super::MASK;
use crate::text::escape::{Listener, Parser};
use crate::text::seen;

/// Which occurrences are masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Each of them.
    Every,
    /// Those that are [words](super) by themselves.
    Words,
}

/// What a terminal is sent, with no password in it as a word: on its way to a text.
pub(crate) fn without_words(bytes: &[u8]) -> Vec<u8> {
    part_without_words(bytes, 0..bytes.len())
}

/// [`without_words`], of these secrets.
pub(super) fn without_these(bytes: &[u8], secrets: &[String]) -> Vec<u8> {
    without(bytes, &ranges(bytes, secrets, Which::Words), 0..bytes.len())
}

/// As many bytes before a cut, and behind it, are looked at for a password that the cut divides.
pub(crate) const MARGIN: usize = 4 << 10;

/// The `part` of `bytes`, with no password in it as a word. A password that the part cuts through is masked as a whole,
/// as far as it stands in `bytes`.
pub(crate) fn part_without_words(bytes: &[u8], part: Range<usize>) -> Vec<u8> {
    let known = super::known();
    if known.is_empty() {
        return bytes[part].to_vec();
    }
    without(bytes, &ranges(bytes, &known, Which::Words), part)
}

/// Where in `bytes` these secrets are: ranges in their order, which do not touch.
pub(crate) fn ranges(bytes: &[u8], secrets: &[String], which: Which) -> Vec<Range<usize>> {
    // Letters take five times the room of the bytes.
    if secrets.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for reading in Reading::all(bytes) {
        let letters = Letters::of(bytes, reading);
        for secret in secrets {
            let letter = Letters::of(secret.as_bytes(), Reading::default()).bytes;
            if letter.is_empty() {
                continue;
            }
            for at in memmem::find_iter(&letters.bytes, &letter) {
                let end = at + letter.len();
                if which == Which::Every || super::is_no_word(secret) || letters.stand_alone(at, end) {
                    found.push(letters.place(at)..letters.place(end - 1) + 1);
                }
            }
        }
    }
    found.sort_by_key(|range: &Range<usize>| range.start);
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in found {
        match merged.last_mut().filter(|last| range.start < last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => merged.push(range),
        }
    }
    merged
}

/// The `part` of `bytes`, with a mask in the place of each range that is in it, if only with an end.
fn without(bytes: &[u8], ranges: &[Range<usize>], part: Range<usize>) -> Vec<u8> {
    let (mut masked, mut done) = (Vec::with_capacity(part.len()), part.start);
    for range in ranges.iter().filter(|range| range.end > part.start && range.start < part.end) {
        masked.extend_from_slice(bytes.get(done..range.start).unwrap_or_default());
        masked.extend_from_slice(MASK.as_bytes());
        done = range.end;
    }
    masked.extend_from_slice(bytes.get(done..part.end).unwrap_or_default());
    masked
}

/// Masks every password that is known where it stands in `bytes`, of which other files know the places: what is left of
/// its room is filled with NUL, of which a terminal shows nothing.
pub(crate) fn mask_in_place(bytes: &mut [u8]) {
    mask_these(bytes, &super::known());
}

fn mask_these(bytes: &mut [u8], secrets: &[String]) {
    for range in ranges(bytes, secrets, Which::Every) {
        bytes[range.clone()].fill(0);
        for (byte, mask) in bytes[range].iter_mut().zip(MASK.bytes()) {
            *byte = mask;
        }
    }
}

/// How a terminal may read bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Reading {
    /// A backspace takes a letter back.
    erases: bool,
    /// Control characters of C1 begin and end sequences.
    c1: bool,
}

/// The first byte of a control character of C1, in UTF-8.
const C1: u8 = 0xc2;

impl Reading {
    /// The ways that differ for `bytes`.
    fn all(bytes: &[u8]) -> impl Iterator<Item = Self> {
        let backspace = memchr::memchr(0x08, bytes).is_some();
        let c1 = bytes.windows(2).any(|pair| pair[0] == C1 && matches!(pair[1], 0x80..=0x9f));
        let all = [(false, false), (true, false), (false, true), (true, true)];
        all.into_iter()
            .map(|(erases, c1)| Self { erases, c1 })
            .filter(move |reading| (backspace || !reading.erases) && (c1 || !reading.c1))
    }
}

/// What is seen of bytes, and where each of it stands in them.
struct Letters {
    bytes: Vec<u8>,
    /// Half of a `usize`: a transcript has up to 64 MiB, and there is a place for each byte of it.
    at: Vec<u32>,
}

impl Letters {
    fn of(bytes: &[u8], reading: Reading) -> Self {
        let mut letters =
            Self { bytes: Vec::with_capacity(bytes.len()), at: Vec::with_capacity(bytes.len()) };
        let mut parser = Parser::new();
        let mut rest = bytes.iter().copied().enumerate().peekable();
        while let Some((at, byte)) = rest.next() {
            let mut place = AtByte { letters: &mut letters, at, erases: reading.erases };
            if byte == C1
                && reading.c1
                && let Some((_, next)) = rest.next_if(|(_, next)| matches!(next, 0x80..=0x9f))
            {
                parser.read(&[0x1b, next - 0x40], &mut place);
                continue;
            }
            parser.read(&[byte], &mut place);
            if !byte.is_ascii()
                && let Some((length, character)) = letters.last()
                && (seen(character) != character || character == char::REPLACEMENT_CHARACTER)
            {
                // What a filter put U+FFFD in the place of was not seen before.
                letters.take(length);
            }
        }
        letters
    }

    /// The last character, if it is a whole one beyond ASCII, and how many bytes it has.
    fn last(&self) -> Option<(usize, char)> {
        let lengths = (2..=4).filter(|length| *length <= self.bytes.len());
        let mut whole = lengths.filter_map(|length| {
            let text = std::str::from_utf8(&self.bytes[self.bytes.len() - length..]).ok()?;
            let mut characters = text.chars();
            characters.next().filter(|_| characters.next().is_none()).map(|character| (length, character))
        });
        whole.next()
    }

    /// Where the letter with this number stands.
    fn place(&self, letter: usize) -> usize {
        self.at[letter] as usize
    }

    /// Whether those from `at` to `end` are a word by themselves.
    fn stand_alone(&self, at: usize, end: usize) -> bool {
        // Two characters decide.
        let before = String::from_utf8_lossy(&self.bytes[at.saturating_sub(8)..at]);
        let behind = String::from_utf8_lossy(&self.bytes[end..self.bytes.len().min(end + 8)]);
        super::stands_alone(&before, &behind)
    }

    fn take(&mut self, count: usize) {
        self.bytes.truncate(self.bytes.len().saturating_sub(count));
        self.at.truncate(self.bytes.len());
    }
}

/// Takes what the parser finds at one byte.
struct AtByte<'a> {
    letters: &'a mut Letters,
    at: usize,
    erases: bool,
}

impl Listener for AtByte<'_> {
    fn text(&mut self, bytes: &[u8]) {
        self.letters.bytes.extend_from_slice(bytes);
        // What is looked at is much shorter than 4 GiB.
        let at = u32::try_from(self.at).unwrap_or(u32::MAX);
        self.letters.at.resize(self.letters.bytes.len(), at);
    }

    fn control(&mut self, byte: u8) {
        if byte == 0x08 && self.erases {
            self.letters.take(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masked(bytes: &[u8], secret: &str) -> String {
        let mut bytes = bytes.to_vec();
        mask_these(&mut bytes, &[secret.to_owned()]);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_password_is_found_whatever_stands_between_its_letters() {
        for between in [
            "",
            "\x1b[0m",
            "\x1b[31;1m\x1b[0m",
            "\x1b]0;a title\x07",
            "\x1bPq#0~\x1b\\",
            "\x1b(B",
            "\r",
            "\x08",
            "x\x08",
            "\0\x07",
            "\u{9b}31m",
            "\u{9d}title\u{9c}",
            "\u{200b}",
            "\u{ad}\u{2060}",
            "\u{e0041}",
        ] {
            let said = format!("a S3cr{between}3t{between}Pw b");
            assert_eq!(masked(said.as_bytes(), "S3cr3tPw").replace('\0', ""), "a **** b", "{between:?}");
            let said = format!("a P{between}ässwörd\n");
            assert_eq!(masked(said.as_bytes(), "Pässwörd").replace('\0', ""), "a ****\n", "{between:?}");
        }
        assert_eq!(masked(b"nixos-test testtest te\nst", "test"), "nixos-**** ******** te\nst");
    }

    #[test]
    fn in_texts_a_word_is_found_whatever_stands_between_its_letters() {
        let of =
            |bytes: &[u8]| without(bytes, &ranges(bytes, &["test".to_owned()], Which::Words), 0..bytes.len());
        assert_eq!(of(b"nixos-test t\x1b[1mes\x1b[0mt\ntest\x1b[0m1"), b"nixos-test ****\ntest\x1b[0m1");
    }

    #[test]
    fn a_password_that_a_cut_divides_is_masked_as_a_whole() {
        let said = b"ab S3cr\x1b[m3tPw cd";
        let found = ranges(said, &["S3cr3tPw".to_owned()], Which::Words);
        for from in 0..said.len() {
            for to in from..=said.len() {
                let part = String::from_utf8(without(said, &found, from..to)).unwrap();
                let [before, behind] =
                    [from.min(3)..to.min(3), from.max(14)..to.max(14)].map(|part| &said[part]);
                let mask = if from < 14 && to > 3 { MASK } else { "" };
                let [before, behind] = [before, behind].map(String::from_utf8_lossy);
                assert_eq!(part, format!("{before}{mask}{behind}"), "{from}..{to}");
            }
        }
    }

    #[test]
    fn what_stands_behind_a_mask_stays_where_it_was() {
        assert_eq!(masked(b"ab S3cr\x1b[m3tPw cd abc", "S3cr3tPw"), "ab ****\0\0\0\0\0\0\0 cd abc");
        assert_eq!(masked(b"an abc", "abc"), "an ***");
    }

    #[test]
    fn places_are_right_where_one_byte_is_not_enough_for_them() {
        let mut bytes = b"S3cr3tPw \x1b[1m".repeat(100_000);
        bytes.extend(b"behind");
        assert!(ranges(&bytes, &[], Which::Every).is_empty());
        let found = ranges(&bytes, &["S3cr3tPw".to_owned()], Which::Every);
        let each = (0..100_000).map(|number| number * 13..number * 13 + 8);
        assert!(found.into_iter().eq(each));
    }

    const ANSI: Reading = Reading { erases: false, c1: true };

    /// What a terminal acts on, and shows nothing of.
    fn unseen() -> impl Strategy<Value = String> {
        prop_oneof![
            "\x1b\\[[0-9;?]{0,6}[A-Za-z]",
            "\x1b\\][0-9a-z;]{0,9}(\x07|\x1b\\\\)",
            "\x1b[PX^_][a-z0-9#~]{0,9}\x1b\\\\",
            "[\r\0\x07\x08\x0e]{1,3}",
            "\u{9b}[0-9;]{0,3}m",
            "[\u{200b}\u{ad}\u{2060}\u{feff}]{1,2}",
        ]
    }

    proptest! {
        #[test]
        fn what_is_left_never_shows_it(
            secret in "[A-Za-z0-9ä!§$%&/]{3,12}",
            parts in prop::collection::vec((unseen(), 0..40usize), 0..12),
            around in "[a-z \n]{0,9}",
        ) {
            let mut said: Vec<char> = secret.chars().collect();
            for (part, at) in &parts {
                // Between two letters, not within a sequence.
                let places: Vec<usize> = (0..=said.len()).filter(|place| {
                    let before: String = said[..*place].iter().collect();
                    let seen = |behind| Letters::of(format!("{before}{behind}").as_bytes(), ANSI).bytes.len();
                    seen("") != seen("|")
                }).collect();
                let place = places[at % places.len()];
                said.splice(place..place, part.chars());
            }
            let said = format!("{around}{}{around}", said.into_iter().collect::<String>());
            let shown = masked(said.as_bytes(), &secret);
            for reading in Reading::all(shown.as_bytes()) {
                let letters = Letters::of(shown.as_bytes(), reading).bytes;
                prop_assert!(!String::from_utf8_lossy(&letters).contains(&secret), "{:?}", shown);
            }
            prop_assert!(shown.contains(&MASK[..secret.len().min(4)]), "{:?}", shown);
            // As the consoles' own stripper has it, too.
            let stripped = crate::text::strip_escapes(shown.as_bytes());
            prop_assert!(!String::from_utf8_lossy(&stripped).contains(&secret), "{:?}", shown);
        }
    }
}
