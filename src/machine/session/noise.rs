//! Recognises kernel lines on the console, and removes them from a command's output.
//!
//! The kernel writes a record to the serial line in one piece (`serial8250_console_write` holds the port's lock), at
//! any place between two bytes of a program's output. Its form is `[   12.345678] text\r\n`, with `[ T123]` or `[ C0]`
//! after the time if the kernel was built with PRINTK_CALLER (kernel/printk/printk.c, `print_syslog`, `print_time`,
//! `print_caller`).

use regex::bytes::Regex;
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

/// A kernel record as a regex. Only the time stamp distinguishes it from other text.
const RECORD: &str = r"\[ *[0-9]+\.[0-9]{6}\](?:\[ *[TC][0-9]+\])? [^\n]*\n";

#[allow(clippy::expect_used)] // a constant, and a test compiles it
static RECORDS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(&format!("(?-u){RECORD}")).expect("a constant pattern"));

/// Removes the kernel records whose time lies in `window` (seconds since the guest's boot), each one once: a record
/// that `dmesg` printed again within the window stays.
///
/// The command itself printed the records with other times.
pub(crate) fn remove_records(printed: &[u8], window: RangeInclusive<f64>) -> Vec<u8> {
    let mut kept = Vec::with_capacity(printed.len());
    let mut removed = HashSet::new();
    let mut from = 0;
    for record in RECORDS.find_iter(printed) {
        let in_window = time(record.as_bytes()).is_some_and(|time| window.contains(&time));
        if in_window && removed.insert(record.as_bytes()) {
            kept.extend_from_slice(&printed[from..record.start()]);
            from = record.end();
        }
    }
    kept.extend_from_slice(&printed[from..]);
    kept
}

/// Returns the output without anything that looks like a kernel record.
pub(crate) fn without_records(printed: &[u8]) -> Vec<u8> {
    RECORDS.replace_all(printed, b"".as_slice()).into_owned()
}

/// Returns the time of a record, which is in its first brackets.
fn time(record: &[u8]) -> Option<f64> {
    let stamp = record.strip_prefix(b"[")?.split(|byte| *byte == b']').next()?;
    std::str::from_utf8(stamp).ok()?.trim_start().parse().ok()
}

/// Returns the length of the kernel record at the start of `bytes`: `Ok(None)` if there is none, and `Err(())` if the
/// bytes may be the start of one.
pub(crate) fn record_at(bytes: &[u8]) -> Result<Option<usize>, ()> {
    /// printk's longest record is 1 KiB (PRINTK_MESSAGE_MAX is 2 KiB with its prefix).
    const LONGEST: usize = 2048;
    match RECORDS.find(&bytes[..bytes.len().min(LONGEST)]) {
        Some(record) if record.start() == 0 => Ok(Some(record.end())),
        _ if bytes.len() < LONGEST && !bytes.contains(&b'\n') && may_begin_record(bytes) => Err(()),
        _ => Ok(None),
    }
}

fn may_begin_record(bytes: &[u8]) -> bool {
    let Some(rest) = bytes.strip_prefix(b"[") else { return bytes.is_empty() };
    let digits = rest
        .iter()
        .position(|byte| !matches!(byte, b' ' | b'0'..=b'9' | b'.'))
        .map_or(rest, |end| &rest[..end]);
    digits.len() == rest.len() || rest[digits.len()] == b']'
}

/// Returns a regex for any number of kernel records in a console's text.
fn records_in_text() -> String {
    format!("(?:{RECORD})*")
}

/// Returns a regex for `text` in which kernel records may stand between any two characters.
///
/// It is for the few words of a login that must be recognised while the kernel prints.
pub(crate) fn tolerant(text: &str) -> String {
    text.chars()
        .map(|c| regex::escape(c.encode_utf8(&mut [0; 4])))
        .collect::<Vec<_>>()
        .join(&records_in_text())
}

/// Returns a regex for any word, with kernel records in, before and after it.
pub(crate) fn tolerant_word() -> String {
    let records = records_in_text();
    format!(r"{records}(?:[^ \n\[]{records})*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_in_the_middle_of_a_word_is_taken_out() {
        let printed = b"co[   12.345678] usb 1-1: new device\r\nw\r\n";
        assert_eq!(remove_records(printed, 12.0..=13.0), b"cow\r\n");
    }

    #[test]
    fn a_record_with_a_caller_is_taken_out() {
        assert_eq!(remove_records(b"a[   12.345678][   T31] x\r\nb", 12.0..=13.0), b"ab");
    }

    #[test]
    fn a_line_of_the_command_that_looks_like_a_record_of_another_time_stays() {
        let printed = b"[    1.000000] from dmesg\r\n";
        assert_eq!(remove_records(printed, 12.0..=13.0), printed);
    }

    #[test]
    fn a_record_that_dmesg_repeats_stays_once() {
        let record = b"[   12.500000] hello\r\n".as_slice();
        assert_eq!(remove_records(&[record, record].concat(), 12.0..=13.0), record);
    }

    #[test]
    fn a_record_is_recognised_only_when_it_is_whole() {
        assert_eq!(record_at(b"[   12.3"), Err(()));
        assert_eq!(record_at(b"[   12.345678] abc"), Err(()));
        assert_eq!(record_at(b"[   12.345678] abc\r\nx"), Ok(Some(20)));
        assert_eq!(record_at(b"[sudo] password"), Ok(None));
    }

    #[test]
    fn words_are_found_with_a_record_inside() {
        let pattern = Regex::new(&tolerant("login: ")).unwrap();
        assert!(pattern.is_match(b"nixos lo[   12.345678] crng reseeded\n[   12.345679] x\ngin: "));
        assert!(pattern.is_match(b"nixos login: "));
        assert!(!pattern.is_match(b"nixos lo\ngin: "));
    }
}
