//! Masks passwords in the bytes for a terminal. A password is found in the letters that the terminal shows,
//! even if other bytes are between them.
//!
//! Terminals differ, so the bytes are read in several ways. A backspace does nothing, as in a [console's
//! text](crate::console), or it erases the letter before it, as a person sees it. A C1 control character is
//! invisible, or it begins or ends a sequence.

use std::ops::Range;

use memchr::memmem;

use super::MASK;
use crate::text::escape::{Listener, Parser};
use crate::text::seen;

/// Which occurrences are masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// All of them.
    Every,
    /// Those that are [whole words](super).
    Words,
}

/// Masks passwords that are whole words in bytes for a terminal, before these are converted to text.
pub(crate) fn without_words(bytes: &[u8]) -> Vec<u8> {
    part_without_words(bytes, 0..bytes.len())
}

/// Does the same as [`without_words`] for these secrets.
pub(super) fn without_these(bytes: &[u8], secrets: &[String]) -> Vec<u8> {
    without(bytes, &ranges(bytes, secrets, Which::Words), 0..bytes.len())
}

/// How many bytes on each side of a cut are searched for a password that the cut divides.
pub(crate) const MARGIN: usize = 4 << 10;

/// Returns the `part` of `bytes` with passwords masked that are whole words. A password at a cut is masked
/// completely, as far as `bytes` contains it.
pub(crate) fn part_without_words(bytes: &[u8], part: Range<usize>) -> Vec<u8> {
    let known = super::known();
    if known.is_empty() {
        return bytes[part].to_vec();
    }
    without(bytes, &ranges(bytes, &known, Which::Words), part)
}

/// Returns the places of these secrets in `bytes`: ordered ranges that do not touch.
pub(crate) fn ranges(bytes: &[u8], secrets: &[String], which: Which) -> Vec<Range<usize>> {
    // The letters need five times the memory of the bytes.
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

/// Returns the `part` of `bytes` with a mask in place of each range that overlaps it.
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

/// Masks every known password in `bytes` without moving other bytes, because other files refer to their
/// positions. The rest of a password's place is filled with NUL, which a terminal ignores.
pub(crate) fn mask_in_place(bytes: &mut [u8]) {
    mask_these(bytes, &super::known());
}

/// Returns how many bytes at the end may be the beginning of a known password that has not come completely. Bytes that a
/// terminal does not show may stand in it.
pub(crate) fn begun_at_end(bytes: &[u8]) -> usize {
    begun(bytes, &super::known())
}

fn begun(bytes: &[u8], secrets: &[String]) -> usize {
    let end = &bytes[bytes.len().saturating_sub(MARGIN)..];
    let mut most = 0;
    if secrets.is_empty() {
        return most;
    }
    for reading in Reading::all(end) {
        let letters = Letters::of(end, reading);
        for secret in secrets {
            let letter = Letters::of(secret.as_bytes(), Reading::default()).bytes;
            let longest = letters.bytes.len().min(letter.len().saturating_sub(1));
            if let Some(count) = (1..=longest).rev().find(|&count| letters.bytes.ends_with(&letter[..count]))
            {
                most = most.max(end.len() - letters.place(letters.bytes.len() - count));
            }
        }
    }
    most
}

fn mask_these(bytes: &mut [u8], secrets: &[String]) {
    for range in ranges(bytes, secrets, Which::Every) {
        bytes[range.clone()].fill(0);
        for (byte, mask) in bytes[range].iter_mut().zip(MASK.bytes()) {
            *byte = mask;
        }
    }
}

/// A way in which a terminal may read bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Reading {
    /// Whether a backspace erases a letter.
    erases: bool,
    /// Whether C1 control characters begin and end sequences.
    c1: bool,
}

/// The first byte of a C1 control character in UTF-8.
const C1: u8 = 0xc2;

impl Reading {
    /// Returns the ways that make a difference for `bytes`.
    fn all(bytes: &[u8]) -> impl Iterator<Item = Self> {
        let backspace = memchr::memchr(0x08, bytes).is_some();
        let c1 = bytes.windows(2).any(|pair| pair[0] == C1 && matches!(pair[1], 0x80..=0x9f));
        let all = [(false, false), (true, false), (false, true), (true, true)];
        all.into_iter()
            .map(|(erases, c1)| Self { erases, c1 })
            .filter(move |reading| (backspace || !reading.erases) && (c1 || !reading.c1))
    }
}

/// The visible bytes, and the position of each.
struct Letters {
    bytes: Vec<u8>,
    /// `u32` takes half the memory of a `usize`. A transcript has up to 64 MiB, with a position for each
    /// byte.
    at: Vec<u32>,
}

impl Letters {
    fn of(bytes: &[u8], reading: Reading) -> Self {
        let mut letters =
            Self { bytes: Vec::with_capacity(bytes.len()), at: Vec::with_capacity(bytes.len()) };
        let mut parser = Parser::new();
        let mut rest = bytes.iter().copied().enumerate().peekable();
        while let Some(&(begin, _)) = rest.peek() {
            // Most of a console's output, which may be 64 MiB, is such letters.
            if parser.is_in_text() {
                let run = bytes[begin..].iter().position(|byte| !matches!(byte, b' '..=b'~'));
                let end = run.map_or(bytes.len(), |length| begin + length);
                letters.bytes.extend_from_slice(&bytes[begin..end]);
                letters.at.extend((begin..end).map(|at| u32::try_from(at).unwrap_or(u32::MAX)));
                if end > begin {
                    rest.nth(end - begin - 1);
                }
            }
            let Some((at, byte)) = rest.next() else { break };
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
                // A character that the filter replaced by U+FFFD was not visible.
                letters.take(length);
            }
        }
        letters
    }

    /// Returns the last character, if it is complete and not ASCII, and its length in bytes.
    fn last(&self) -> Option<(usize, char)> {
        let lengths = (2..=4).filter(|length| *length <= self.bytes.len());
        let mut whole = lengths.filter_map(|length| {
            let text = std::str::from_utf8(&self.bytes[self.bytes.len() - length..]).ok()?;
            let mut characters = text.chars();
            characters.next().filter(|_| characters.next().is_none()).map(|character| (length, character))
        });
        whole.next()
    }

    /// Returns the position of the letter with this index.
    fn place(&self, letter: usize) -> usize {
        self.at[letter] as usize
    }

    /// Whether the letters from `at` to `end` are a whole word.
    fn stand_alone(&self, at: usize, end: usize) -> bool {
        // Two characters on each side decide.
        let before = String::from_utf8_lossy(&self.bytes[at.saturating_sub(8)..at]);
        let behind = String::from_utf8_lossy(&self.bytes[end..self.bytes.len().min(end + 8)]);
        super::stands_alone(&before, &behind)
    }

    fn take(&mut self, count: usize) {
        self.bytes.truncate(self.bytes.len().saturating_sub(count));
        self.at.truncate(self.bytes.len());
    }
}

/// Receives what the parser finds at one byte.
struct AtByte<'a> {
    letters: &'a mut Letters,
    at: usize,
    erases: bool,
}

impl Listener for AtByte<'_> {
    fn text(&mut self, bytes: &[u8]) {
        self.letters.bytes.extend_from_slice(bytes);
        // The input is much shorter than 4 GiB.
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
    fn the_beginning_of_a_password_at_the_end_is_known_even_with_a_sequence_in_it() {
        let begun = |bytes: &[u8]| begun(bytes, &["S3cr3tPw".to_owned(), "abcab".to_owned()]);
        assert_eq!(begun(b"a S3cr\x1b[1m3"), 9);
        assert_eq!(begun(b"a S3cr\x1b[1m"), 8);
        assert_eq!(begun(b"abcab abca"), 4);
        assert_eq!(begun(b"a S3cr3tPw"), 0);
        assert_eq!(begun(b"S3cr "), 0);
        assert_eq!(begun(b""), 0);
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

    /// Bytes that a terminal interprets, and does not show.
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
                // Between two letters, and not within a sequence.
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
            // The consoles' own filter gives the same result.
            let stripped = crate::text::strip_escapes(shown.as_bytes());
            prop_assert!(!String::from_utf8_lossy(&stripped).contains(&secret), "{:?}", shown);
        }
    }
}
