//! Encodes data so that a page can contain it.

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};

/// Writes JSON into a script element. Each `<` becomes `\u003c`, so that no text can end the element or begin
/// another. In JSON, `<` and characters that a page would not show occur only in strings. The latter become
/// U+FFFD. Each write ends between two characters, because serde_json writes whole strings.
pub(super) struct Harmless<W>(pub W);

impl<W: Write> Write for Harmless<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let shown: Option<String> = (!bytes.is_ascii())
            .then(|| String::from_utf8_lossy(bytes).chars().map(crate::text::seen).collect());
        let shown = shown.as_deref().map_or(bytes, str::as_bytes);
        for (index, piece) in shown.split(|byte| *byte == b'<').enumerate() {
            if index > 0 {
                self.0.write_all(br"\u003c")?;
            }
            self.0.write_all(piece)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Returns the digest of a script or style, as in a Content-Security-Policy.
pub(super) fn digest(text: &str) -> String {
    base64(&Sha256::digest(text.as_bytes()))
}

/// Encodes bytes as base64 (RFC 4648).
pub(super) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let number = (0..3)
            .fold(0_usize, |number, index| number << 8 | usize::from(chunk.get(index).copied().unwrap_or(0)));
        for place in 0..4 {
            let letter = LETTERS[number >> (18 - 6 * place) & 63];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ];
        for (plain, encoded) in pairs {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn nothing_in_the_data_turns_text_round_or_hides_it() {
        let mut out = Vec::new();
        serde_json::to_writer(Harmless(&mut out), "a\u{202e}ü\n\u{200b}\u{fffe}\u{e0041}").unwrap();
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), "a\u{fffd}ü\n\u{fffd}\u{fffd}\u{fffd}");
    }

    #[test]
    fn no_element_ends_or_begins_in_the_data() {
        let mut out = Vec::new();
        serde_json::to_writer(Harmless(&mut out), "</script><!-- <script>").unwrap();
        assert!(!out.contains(&b'<'));
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), "</script><!-- <script>");
    }
}
