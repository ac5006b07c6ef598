//! The passwords of a run. This module masks them in every file of a record, in every report, and on the
//! terminal.
//!
//! | where | what is masked |
//! |---|---|
//! | texts: commands, their output, errors, source lines | the password as a whole word |
//! | a console's files (transcript, cast, film, log, picture) | every occurrence, even with escape sequences in it |
//!
//! `-` and `_` between letters join words: the password `test` leaves `nixos-test` alone. A password that
//! does not look like a word (eight characters or more, of several kinds) is masked within words, too: `mysql
//! -pS3cr3tPw`.
//!
//! A password is known when it is typed, or from the start of the scenario if the scenario's file contains it
//! (see [`source`]). A password in another encoding (base64, percent signs) is not found.

pub(crate) mod bytes;
pub(crate) mod source;

use regex::Regex;

/// The text that replaces a password.
pub(crate) const MASK: &str = "****";

/// Accesses the passwords that are known in this process. They are masked in the reports of all its
/// scenarios.
#[cfg(not(test))]
fn with_known<T>(work: impl FnOnce(&mut Known) -> T) -> T {
    static KNOWN: std::sync::Mutex<Known> = std::sync::Mutex::new(Known::new());
    work(&mut crate::mutex::lock(&KNOWN))
}

/// Accesses the passwords of one test, which has its own thread, so that tests in one process do not affect
/// each other.
#[cfg(test)]
fn with_known<T>(work: impl FnOnce(&mut Known) -> T) -> T {
    thread_local! {
        static KNOWN: std::cell::RefCell<Known> = const { std::cell::RefCell::new(Known::new()) };
    }
    KNOWN.with_borrow_mut(work)
}

struct Known {
    /// Sorted by length, the longest first, so that a password that contains another one is masked
    /// completely.
    secrets: Vec<String>,
    any: Option<Regex>,
}

impl Known {
    const fn new() -> Self {
        Self { secrets: Vec::new(), any: None }
    }

    fn add(&mut self, secret: &str) {
        // The password itself, and in the form of Rust's `{:?}`.
        let quoted = format!("{secret:?}");
        for form in [secret, quoted.trim_matches('"')] {
            if !form.trim().is_empty() && !self.secrets.iter().any(|known| known == form) {
                self.secrets.push(form.to_owned());
            }
        }
        self.secrets.sort_by_key(|known| std::cmp::Reverse(known.len()));
        let any: Vec<String> = self.secrets.iter().map(|secret| regex::escape(secret)).collect();
        self.any = Regex::new(&any.join("|")).ok();
    }

    /// Returns the passwords that [can't be mistaken for a word](is_no_word).
    fn without_words(&self) -> Self {
        let mut known = Self::new();
        self.secrets.iter().filter(|secret| is_no_word(secret)).for_each(|secret| known.add(secret));
        known
    }

    /// Masks the visible letters of a terminal first, and then the text itself.
    fn words(&self, text: &str) -> String {
        if self.secrets.is_empty() || text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t')) {
            return self.plain_words(text);
        }
        let masked = bytes::without_these(text.as_bytes(), &self.secrets);
        self.plain_words(&String::from_utf8_lossy(&masked))
    }

    fn plain_words(&self, text: &str) -> String {
        let Some(any) = &self.any else {
            // If the secrets can't be compiled into a pattern, mask the whole text rather than leak them.
            return if self.secrets.is_empty() { text.to_owned() } else { MASK.to_owned() };
        };
        let mut masked = String::with_capacity(text.len());
        let (mut done, mut from) = (0, 0);
        while let Some(found) = any.find_at(text, from) {
            let (before, behind) = (&text[..found.start()], &text[found.end()..]);
            if is_no_word(found.as_str()) || stands_alone(before, behind) {
                masked.push_str(&text[done..found.start()]);
                masked.push_str(MASK);
                (done, from) = (found.end(), found.end());
            } else {
                // Another password may begin within this one.
                from = found.start() + text[found.start()..].chars().next().map_or(1, char::len_utf8);
            }
        }
        masked + &text[done..]
    }
}

/// Masks `secret` from now on.
pub(crate) fn know(secret: &str) {
    if !secret.is_empty() {
        with_known(|known| known.add(secret));
    }
}

/// Returns `text` with known passwords masked: see the [table](self). A later [filter](crate::text) can't
/// reveal a password, because a password is found even if it has characters between its letters that a filter
/// removes or replaces by U+FFFD.
pub(crate) fn words(text: &str) -> String {
    with_known(|known| known.words(text))
}

/// Masks a text of this program. Only passwords that can't be mistaken for a word are masked.
pub(crate) fn own(text: &str) -> String {
    with_known(|known| known.without_words().words(text))
}

/// Filters text from outside with [`crate::text::line`], and masks passwords.
pub(crate) fn line(text: &str) -> String {
    words(&crate::text::line(&words(text)))
}

/// Filters text from outside with [`crate::text::lines`], and masks passwords.
pub(crate) fn lines(text: &str) -> String {
    words(&crate::text::lines(&words(text)))
}

/// Returns all known passwords.
pub(crate) fn known() -> Vec<String> {
    with_known(|known| known.secrets.clone())
}

/// Whether a password can't be mistaken for a word in a text.
fn is_no_word(secret: &str) -> bool {
    let kinds: [fn(char) -> bool; 4] =
        [char::is_lowercase, char::is_uppercase, char::is_numeric, |c| !c.is_alphanumeric()];
    secret.chars().count() >= 8 && kinds.iter().filter(|kind| secret.chars().any(**kind)).count() >= 2
}

/// Whether a text between `before` and `behind` is a whole word.
fn stands_alone(before: &str, behind: &str) -> bool {
    !joins(before.chars().rev()) && !joins(behind.chars())
}

/// Whether these characters continue a word. The first one is next to it.
fn joins(mut characters: impl Iterator<Item = char>) -> bool {
    match characters.next() {
        Some('-') => characters.next().is_some_and(char::is_alphanumeric),
        Some('_') => true,
        Some(next) => next.is_alphanumeric(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words_with(secrets: &[&str], text: &str) -> String {
        let mut known = Known { secrets: Vec::new(), any: None };
        secrets.iter().for_each(|secret| known.add(secret));
        known.words(text)
    }

    #[test]
    fn a_whole_word_is_masked_wherever_it_stands() {
        for text in [
            "%",
            "login(\"alice\", \"%\")",
            "'%'",
            "alice:%",
            "password=%",
            "https://alice:%@host/",
            "the password is %.",
            "echo alice:% | chpasswd",
            "--password %",
            "(%)",
            "ä % é",
            "%\n%",
            " -% %- ",
            "`%`",
        ] {
            for secret in ["test", "S3cr3tPw", "pass word", "ü"] {
                let (said, shown) = (text.replace('%', secret), text.replace('%', MASK));
                assert_eq!(words_with(&[secret], &said), shown, "{said}");
            }
        }
    }

    #[test]
    fn a_password_that_is_a_word_leaves_other_words_alone() {
        let text = "nixos-test tests latest test_it my_test test-it untested été-test-ü";
        assert_eq!(words_with(&["test"], text), text);
        assert_eq!(words_with(&["test"], "cargo test /test/ test.rs"), "cargo **** /****/ ****.rs");
    }

    #[test]
    fn a_password_that_is_no_word_is_masked_within_words() {
        assert_eq!(words_with(&["S3cr3tPw"], "mysql -pS3cr3tPw xS3cr3tPwx"), "mysql -p**** x****x");
        assert_eq!(words_with(&["hunter2"], "hunter22"), "hunter22");
    }

    #[test]
    fn of_passwords_in_one_another_nothing_is_left_and_quotes_do_not_hide_one() {
        assert_eq!(words_with(&["ab", "ab cd"], "ab cd, ab"), "****, ****");
        assert_eq!(words_with(&["aab", "ab"], "xaab ab"), "xaab ****");
        assert_eq!(words_with(&["a\"b\\c"], &format!("{:?} and a\"b\\c", "a\"b\\c")), "\"****\" and ****");
        assert_eq!(words_with(&[""], "nothing"), "nothing");
    }

    #[test]
    fn what_a_filter_leaves_out_hides_no_password() {
        for between in [
            "\x07",
            "\0",
            "\u{200b}",
            "\u{fffd}",
            "\u{ad}\x01",
            "x\x08",
            "\x1b[1m",
            "\u{9b}31m",
            "\x1b]0;t\x07",
            "\x7f",
        ] {
            let said = format!("a S3cr{between}3tPw b");
            assert_eq!(words_with(&["S3cr3tPw"], &said), "a **** b", "{between:?}");
            assert_eq!(
                words_with(&["test"], &format!("nixos-te{between}st te{between}st")),
                format!("nixos-te{between}st ****")
            );
        }
    }

    #[test]
    fn in_words_of_our_own_a_password_that_is_a_word_stays() {
        let mut known = Known { secrets: Vec::new(), any: None };
        ["alice", "1", "S3cr3tPw"].iter().for_each(|secret| known.add(secret));
        assert_eq!(known.without_words().words("alice: status 1, S3cr3tPw"), "alice: status 1, ****");
    }

    /// Characters that a filter removes, or replaces by U+FFFD.
    fn unseen() -> impl Strategy<Value = String> {
        prop_oneof![
            "\x1b\\[[0-9;?]{0,6}[A-Za-z]",
            "\x1b\\][0-9a-z;]{0,9}(\x07|\x1b\\\\)",
            "\x1b[PX^_][a-z0-9#~]{0,9}\x1b\\\\",
            "[\0\x01-\x08\x0b\x0c\x0e-\x1a\x7f]{1,3}",
            "[\u{80}-\u{8f}\u{91}-\u{97}\u{99}\u{9a}\u{9c}]",
            "[\u{200b}-\u{200f}\u{ad}\u{2060}\u{feff}\u{fffd}\u{34f}\u{e0041}\u{2028}]{1,2}",
        ]
    }

    proptest! {
        #[test]
        fn no_filter_puts_a_password_together_again(
            secret in "[A-Za-z]{4,8}[0-9]{1,4}[!ä]{0,1}",
            parts in prop::collection::vec(unseen(), 1..8),
            places in prop::collection::vec(any::<prop::sample::Index>(), 8),
            around in "[a-z \n]{0,9}",
        ) {
            prop_assume!(is_no_word(&secret));
            let letters: Vec<char> = secret.chars().collect();
            let mut between = vec![String::new(); letters.len()];
            for (part, place) in parts.iter().zip(&places) {
                between[place.index(letters.len())].push_str(part);
            }
            let said: String = letters.iter().zip(&between).map(|(letter, part)| format!("{part}{letter}")).collect();
            let shown = words_with(&[&secret], &format!("{around} {said} {around}"));
            let stripped = crate::text::strip_escapes(shown.as_bytes());
            for text in [
                crate::text::line(&shown),
                crate::text::lines(&shown),
                crate::text::coloured(&shown),
                shown.chars().map(crate::text::seen).collect(),
                shown.chars().filter(|c| !c.is_control()).collect(),
                String::from_utf8_lossy(&stripped).into_owned(),
            ] {
                let text = text.replace('\u{fffd}', "");
                prop_assert!(!text.contains(&secret), "{:?} of {:?}", text, said);
            }
        }
    }
}
