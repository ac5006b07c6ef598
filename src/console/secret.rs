//! Secrets that were typed: taken out of everything that is shown or written down.

use memchr::memmem;

/// What stands in the place of a secret.
const MASK: &[u8] = b"****";

/// The secrets that were typed on a console, the longest first.
#[derive(Default)]
pub(super) struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    pub(super) fn add(&mut self, secret: &[u8]) {
        if secret.is_empty() || self.0.iter().any(|known| known == secret) {
            return;
        }
        self.0.push(secret.to_owned());
        self.0.sort_by_key(|known| std::cmp::Reverse(known.len()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `bytes` without secrets.
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

    /// [`Secrets::mask`] for text that goes to people.
    pub(super) fn mask_text(&self, text: String) -> String {
        if self.is_empty() {
            return text;
        }
        String::from_utf8_lossy(&self.mask(text.as_bytes())).into_owned()
    }

    /// How many bytes at the end may be the beginning of a secret whose rest is still to come.
    pub(super) fn begun_at_end(&self, bytes: &[u8]) -> usize {
        let begun = |secret: &Vec<u8>| {
            let most = bytes.len().min(secret.len() - 1);
            (1..=most).rev().find(|&count| bytes.ends_with(&secret[..count])).unwrap_or(0)
        };
        self.0.iter().map(begun).max().unwrap_or(0)
    }

    fn first(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        let places = self.0.iter().filter_map(|secret| Some((memmem::find(bytes, secret)?, secret.len())));
        places.min_by_key(|&(at, length)| (at, std::cmp::Reverse(length)))
    }
}
