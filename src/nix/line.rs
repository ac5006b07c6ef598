//! Makes lines of a build's output safe to show: no escape sequences, no control characters, limited length. A
//! builder's output is not trusted.

/// Maximum length of a line in bytes; the rest of a longer one is dropped.
const LONGEST: usize = 4096;

/// Splits a stream into lines as it arrives.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
    after_return: bool,
}

impl Lines {
    /// Passes every line that `chunk` completes to `line`. A carriage return ends a line too, since progress bars use
    /// it.
    pub(super) fn push(&mut self, chunk: &[u8], mut line: impl FnMut(&str)) {
        for &byte in chunk {
            match byte {
                b'\n' if self.after_return => self.after_return = false,
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    line(&clean(&self.partial));
                    self.partial.clear();
                }
                _ => {
                    self.after_return = false;
                    if self.partial.len() < LONGEST {
                        self.partial.push(byte);
                    }
                }
            }
        }
    }

    /// Passes the rest on when the stream has ended without a line end.
    pub(super) fn finish(&mut self, line: impl FnOnce(&str)) {
        if !self.partial.is_empty() {
            line(&clean(&self.partial));
            self.partial.clear();
        }
    }
}

/// Returns a line as text without control sequences; tabs become four spaces.
pub(super) fn clean(line: &[u8]) -> String {
    crate::text::line(&String::from_utf8_lossy(line).replace('\t', "    "))
}

/// Returns at most `most` characters of `line`, with a mark where it was cut.
pub(super) fn cut(line: &str, most: usize) -> String {
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or(line)),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let (mut all, mut lines) = (Vec::new(), Lines::default());
        for chunk in chunks {
            lines.push(chunk, |line| all.push(line.to_owned()));
        }
        lines.finish(|line| all.push(line.to_owned()));
        all
    }

    #[test]
    fn lines_are_the_same_however_the_stream_is_torn() {
        let stream = b"one\r\n\ntwo\rthree\r\nlast \xc3\xa4";
        let whole = lines(&[stream]);
        assert_eq!(whole, ["one", "", "two", "three", "last ä"]);
        for at in 0..stream.len() {
            assert_eq!(lines(&[&stream[..at], &stream[at..]]), whole, "torn at {at}");
        }
    }

    #[test]
    fn escapes_and_controls_never_reach_a_terminal() {
        assert_eq!(
            clean(b"\x1b[31;1merror:\x1b[0m \x1b]0;title\x07a\x1b]8;;x\x1b\\b\x08\x00\tc\x1b(B"),
            "error: ab    c"
        );
        assert_eq!(clean("a\u{202e}b\u{9b}31mc\x1bPq~\x1b\\d".as_bytes()), "a\u{fffd}b\u{fffd}31mcd");
        assert_eq!(clean(b"end \x1b["), "end ");
    }

    #[test]
    fn an_endless_line_is_bounded() {
        let long = vec![b'x'; 10 * LONGEST];
        assert_eq!(lines(&[&long, b"\nnext"]), ["x".repeat(LONGEST), "next".to_owned()]);
        assert_eq!(cut("äöü", 2), "äö…");
        assert_eq!(cut("äöü", 3), "äöü");
    }
}
