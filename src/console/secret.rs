//! Secrets that were typed, and their removal from everything that is shown or written.

use memchr::memmem;
use regex::Regex;

use crate::secrets;

/// The delimiter around the number of a hidden secret: a private use character that is not used otherwise.
const TOKEN: &str = "\u{f8f5}";

/// The longest secret that is guessed, in bytes. A hostile record could otherwise make guessing take forever.
const LONGEST: usize = 256;

/// The text that replaces a secret.
const MASK: &[u8] = b"****";

/// The secrets that were typed on a console.
#[derive(Default)]
pub(super) struct Secrets {
    /// Sorted by length, the longest first.
    known: Vec<Vec<u8>>,
    /// The secrets by their numbers, escaped as in JSON, in the order in which they became known. `None` if
    /// the secret with this number is not known here.
    order: Vec<Option<String>>,
    /// A pattern for all of them.
    any: Option<Regex>,
}

impl Secrets {
    pub(super) fn add(&mut self, secret: &[u8]) {
        self.add_as(self.order.len(), secret);
    }

    /// Adds a secret with this number, unless it is known or the number is taken.
    pub(super) fn add_as(&mut self, number: usize, secret: &[u8]) {
        let taken = self.order.get(number).is_some_and(Option::is_some);
        if secret.is_empty() || taken || self.known.iter().any(|known| known == secret) {
            return;
        }
        // Texts and the record are masked for all consoles.
        secrets::know(&String::from_utf8_lossy(secret));
        self.reserve(number + 1);
        self.order[number] = Some(in_json(&String::from_utf8_lossy(secret)));
        // The longest first, as for masking. One pattern for all secrets needs only one pass over the text.
        let mut longest_first: Vec<String> =
            self.order.iter().flatten().map(|secret| regex::escape(secret)).collect();
        longest_first.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        self.any = Regex::new(&longest_first.join("|")).ok();
        self.known.push(secret.to_owned());
        self.known.sort_by_key(|known| std::cmp::Reverse(known.len()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Returns `bytes` without secrets.
    pub(super) fn mask(&self, bytes: &[u8]) -> Vec<u8> {
        let mut masked = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some((at, length)) = self.first(rest) {
            masked.extend_from_slice(&rest[..at]);
            masked.extend_from_slice(MASK);
            rest = &rest[at + length..];
        }
        masked.extend_from_slice(rest);
        masked
    }

    /// Does the same as [`Secrets::mask`] for text for people.
    pub(super) fn mask_text(&self, text: String) -> String {
        if self.is_empty() {
            return text;
        }
        String::from_utf8_lossy(&self.mask(text.as_bytes())).into_owned()
    }

    /// Reserves the first numbers for secrets that were known elsewhere, and are not known here yet.
    pub(super) fn reserve(&mut self, numbers: usize) {
        self.order.resize(self.order.len().max(numbers), None);
    }

    /// Returns how many are known.
    pub(super) fn count(&self) -> usize {
        self.known.len()
    }

    /// Returns the number of a known secret.
    pub(super) fn number(&self, secret: &str) -> Option<usize> {
        let secret = in_json(secret);
        self.order.iter().position(|known| known.as_ref() == Some(&secret))
    }

    /// Returns the numbers of the secrets that are not known, and the next number.
    pub(super) fn unknown(&self) -> Vec<usize> {
        let unknown = self.order.iter().enumerate().filter(|(_, secret)| secret.is_none());
        unknown.map(|(number, _)| number).chain([self.order.len()]).collect()
    }

    /// Returns `text`, which is JSON, with a token in place of each secret. The token identifies the secret
    /// without revealing it.
    pub(super) fn hide(&self, text: &str) -> String {
        let Some(any) = &self.any else {
            // If the secrets can't be compiled into a pattern, write nothing rather than leak them.
            return if self.known.is_empty() { text.to_owned() } else { String::new() };
        };
        let number = |found: &regex::Captures<'_>| {
            token(self.order.iter().position(|known| known.as_deref() == Some(&found[0])).unwrap_or_default())
        };
        any.replace_all(text, number).into_owned()
    }

    /// Reverses [`Secrets::hide`], if the same secrets became known in the same order.
    pub(super) fn reveal(&self, text: &str) -> String {
        // All tokens are replaced in one pass, so that a secret that looks like a token stays unchanged.
        let mut revealed = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(TOKEN) {
            let behind = &rest[at + TOKEN.len()..];
            let token = behind.find(TOKEN).and_then(|end| {
                let number: usize = behind[..end].parse().ok()?;
                Some((self.order.get(number)?.as_ref()?, end))
            });
            revealed.push_str(&rest[..at]);
            match token {
                Some((secret, end)) => {
                    revealed.push_str(secret);
                    rest = &behind[end + TOKEN.len()..];
                }
                None => {
                    revealed.push_str(TOKEN);
                    rest = behind;
                }
            }
        }
        revealed + rest
    }

    /// Returns how many bytes at the end may be the beginning of a secret that is not complete yet.
    pub(super) fn begun_at_end(&self, bytes: &[u8]) -> usize {
        let begun = |secret: &Vec<u8>| {
            let most = bytes.len().min(secret.len() - 1);
            (1..=most).rev().find(|&count| bytes.ends_with(&secret[..count])).unwrap_or(0)
        };
        self.known.iter().map(begun).max().unwrap_or(0)
    }

    fn first(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        let places =
            self.known.iter().filter_map(|secret| Some((memmem::find(bytes, secret)?, secret.len())));
        places.min_by_key(|&(at, length)| (at, std::cmp::Reverse(length)))
    }
}

/// Returns `secret` escaped as within a JSON string.
fn in_json(secret: &str) -> String {
    let quoted = serde_json::Value::from(secret).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

/// Returns `hidden` with `secret` in place of the tokens with this number.
pub(crate) fn with(hidden: &str, number: usize, secret: &str) -> String {
    hidden.replace(&token(number), secret)
}

/// Guesses the unknown secret in `hidden`. Returns it if `hidden` with this secret equals `text`.
pub(crate) fn guess(hidden: &str, number: usize, text: &str) -> Option<String> {
    let token = token(number);
    let (before, behind) = hidden.split_once(&token)?;
    // Tries the shortest secret first: each place where the following text occurs may be its end.
    let rest = text.strip_prefix(before)?;
    let next = behind.split(&token).next().unwrap_or_default();
    let ends = rest.match_indices(next).map(|(at, _)| at).chain([rest.len()]).filter(|at| *at > 0);
    let ends = ends.take_while(|at| *at <= LONGEST);
    ends.map(|at| &rest[..at]).find(|secret| hidden.replace(&token, secret) == text).map(str::to_owned)
}

/// Returns `hidden` with its tokens masked, for people.
pub(crate) fn masked(hidden: &str) -> String {
    let mut masked = hidden.to_owned();
    while let Some(at) = masked.find(TOKEN) {
        let end =
            masked[at + TOKEN.len()..].find(TOKEN).map_or(masked.len(), |end| at + end + 2 * TOKEN.len());
        masked.replace_range(at..end, "****");
    }
    masked
}

fn token(number: usize) -> String {
    format!("{TOKEN}{number}{TOKEN}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(known: &[&str]) -> Secrets {
        let mut secrets = Secrets::default();
        known.iter().for_each(|secret| secrets.add(secret.as_bytes()));
        secrets
    }

    #[test]
    fn what_is_hidden_is_revealed_where_the_same_secrets_came_in_the_same_order() {
        let known = secrets(&["test", "a longer one", "1"]);
        let text = "echo test, a longer one and 1";
        let hidden = known.hide(text);
        assert!(!hidden.contains("test") && !hidden.contains("longer"), "{hidden}");
        assert_eq!(known.reveal(&hidden), text);
        assert_eq!(
            secrets(&["other"]).reveal(&secrets(&["test"]).hide("a test")),
            "an other".replace("an", "a")
        );
    }

    #[test]
    fn a_secret_with_quotes_is_hidden_in_json_too() {
        let known = secrets(&[r#"a"b\c"#]);
        let text = serde_json::json!({ "asked": r#"echo 'a"b\c'"# }).to_string();
        let hidden = known.hide(&text);
        assert!(!hidden.contains('b') && known.reveal(&hidden) == text, "{hidden}");
    }

    #[test]
    fn a_secret_is_guessed_from_what_is_asked_with_it() {
        let known = secrets(&["test"]);
        let hidden = known.hide("test -e /tmp/test && echo test");
        assert_eq!(guess(&hidden, 0, "test -e /tmp/test && echo test").as_deref(), Some("test"));
        assert_eq!(guess(&hidden, 0, "test -e /tmp/text && echo test"), None);
        assert_eq!(guess(&hidden, 1, "test -e /tmp/test && echo test"), None);
        assert_eq!(guess(&known.hide("a test"), 0, "a test").as_deref(), Some("test"));
        assert_eq!(guess("no token", 0, "no token"), None);
        assert_eq!(masked(&hidden), "**** -e /tmp/**** && echo ****");
        assert_eq!(masked("\u{f8f5}cut"), "****");
    }

    #[test]
    fn a_long_question_is_soon_told_from_one_with_a_secret() {
        let hidden = format!("echo {0}{0}", token(0));
        // Trying each possible end would take days.
        assert_eq!(guess(&hidden, 0, &format!("echo {}", "x".repeat(10_000_000) + "y")), None);
    }

    #[test]
    fn secrets_have_the_numbers_that_they_had_elsewhere() {
        let mut known = Secrets::default();
        known.reserve(1);
        known.add_as(1, b"bobs");
        known.add(b"carols");
        assert_eq!(
            (known.unknown(), known.number("bobs"), known.number("carols")),
            (vec![0, 3], Some(1), Some(2))
        );
        let (text, hidden) = ("bobs and carols", known.hide("bobs and carols"));
        assert_eq!(known.reveal(&hidden), text);
        assert_eq!(known.reveal(&token(0)), token(0));
        // Not twice, and not in place of another one.
        known.add_as(0, b"bobs");
        known.add_as(1, b"alices");
        assert_eq!((known.count(), known.reveal(&hidden).as_str()), (2, text));
    }

    #[test]
    fn a_token_of_a_secret_that_is_not_known_stays() {
        let hidden = secrets(&["test"]).hide("a test");
        assert_eq!(Secrets::default().reveal(&hidden), hidden);
        assert_eq!(secrets(&["x"]).reveal("\u{f8f5}9\u{f8f5} \u{f8f5}"), "\u{f8f5}9\u{f8f5} \u{f8f5}");
    }
}
