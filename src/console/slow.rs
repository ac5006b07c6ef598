//! The search where no automaton can be had: exact, but it looks at the whole window at every call.

use regex_automata::Input;

use super::pattern::{Pattern, Regex};
use super::search::{Hit, UNDECIDED, View};

/// Looks at the text from the window of what was undecided at `scanned` on.
pub(super) fn scan(regex: &Regex, pattern: &Pattern, scanned: u64, view: View<'_>) -> Option<Hit> {
    let vm = regex.slow()?;
    // A character is looked at once it is complete, so that chunks make no difference.
    let end = view.end - incomplete(view.slice(view.end.saturating_sub(3).max(view.from), view.end)) as u64;
    let mut cache = vm.create_cache();
    // The last call may have left open what ends within the last, incomplete character.
    let mut from = view.start(scanned.saturating_sub(UNDECIDED));
    let late = u64::from(regex.looks_ahead);
    loop {
        let seen = if regex.starts_afresh && from == view.from {
            from
        } else {
            from.saturating_sub(1).max(view.text.start())
        };
        let text = view.slice(seen, end);
        let input = Input::new(text).range((from - seen) as usize..).earliest(true);
        let mut slots = [None; 2];
        vm.search_slots(&mut cache, &input, &mut slots)?;
        let found = seen + slots[1]?.get() as u64;
        if found + late > end {
            return None;
        }
        if found + UNDECIDED >= scanned && view.groups(pattern, found).is_some() {
            return Some(Hit { decided: known_at(view, found, late), end: found });
        }
        // It began before the window that counts for its end.
        from = view.start(found).max(from + 1);
        if from > end {
            return None;
        }
    }
}

/// How much text was needed to know of a match that ends at `end`: the characters up to there, and
/// the next one if it has a say, complete.
fn known_at(view: View<'_>, end: u64, late: u64) -> u64 {
    (end + late..view.end)
        .take(4)
        .find(|&at| at - incomplete(view.slice(at.saturating_sub(3).max(view.from), at)) as u64 >= end + late)
        .unwrap_or(view.end)
}

/// How many bytes at the end are the beginning of a UTF-8 character whose rest may still come.
fn incomplete(bytes: &[u8]) -> usize {
    (1..=bytes.len().min(3))
        .find(|&count| match std::str::from_utf8(&bytes[bytes.len() - count..]) {
            Ok(_) => false,
            Err(error) => error.valid_up_to() == 0 && error.error_len().is_none(),
        })
        .unwrap_or(0)
}
