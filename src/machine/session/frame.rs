//! Markers: they show, byte for byte, where a command's output begins and ends.
//!
//! A marker is `ESC _ nonce SP tag SP fields ESC \`, an application program command (ECMA-48, 8.3.2), which terminals
//! and our own renderings do not show. Its nonce is new for each command and is typed in two halves that only the
//! guest's shell joins. So neither the echo of the input, nor `set`, nor `set -x` can print one. A kernel record may
//! stand inside a marker.

use std::ops::ControlFlow;

use crate::machine::session::noise::record_at;

const ESC: u8 = 0x1b;
/// Maximum length of a marker's text: nonce, tag and three numbers fit in half of it.
const LONGEST: usize = 96;

/// The two halves of a nonce, as they are typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nonce {
    pub(crate) first: String,
    pub(crate) second: String,
}

impl Nonce {
    /// Creates a new nonce that programs in the guest can't guess.
    pub(crate) fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        // RandomState's keys come from the operating system's generator and differ at each call.
        let random = RandomState::new().hash_one(0u8);
        // Each byte costs time on the line; 40 bits do not repeat by accident.
        Self { first: format!("{:05x}", random & 0xf_ffff), second: format!("{:05x}", random >> 44) }
    }

    fn is(&self, text: &str) -> bool {
        text.strip_prefix(&self.first).is_some_and(|rest| rest == self.second)
    }
}

/// The meaning of a marker.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Marker {
    /// The serving loop waits for commands; the guest's uptime in seconds, and the shell.
    Ready(f64, String),
    /// The lines typed so far are confirmed.
    Taken,
    /// The command arrived damaged and was not run.
    Damaged,
    /// The shell's jobs follow, up to the start marker.
    Jobs,
    /// The command starts now.
    Start,
    /// The command ended: its status and the guest's uptime in seconds.
    End(i32, f64),
}

impl Marker {
    fn parse(body: &str, nonce: &Nonce) -> Option<Self> {
        let mut fields = body.split(' ');
        if !nonce.is(fields.next()?) {
            return None;
        }
        let tag = fields.next()?;
        let mut field = || fields.next().unwrap_or_default();
        // Without /proc the uptime is empty: then kernel records can't be recognised, and none is removed.
        let uptime = |text: &str| text.parse().unwrap_or(f64::NAN);
        Some(match tag {
            "R" => Self::Ready(uptime(field()), fields.collect::<Vec<_>>().join(" ")),
            "T" => Self::Taken,
            "D" => Self::Damaged,
            "J" => Self::Jobs,
            "S" => Self::Start,
            "E" => Self::End(field().parse().ok()?, uptime(field())),
            _ => return None,
        })
    }
}

enum Candidate {
    /// A marker of ours, and its length in bytes.
    Marker(Marker, usize),
    /// The bytes may be the start of one.
    Incomplete,
    /// The escape is a byte of the output.
    Not,
}

/// Examines the escape at the start of `bytes`.
fn candidate(bytes: &[u8], nonce: &Nonce) -> Candidate {
    #[derive(PartialEq)]
    enum Next {
        Introducer,
        Text,
        Terminator,
    }
    let mut next = Next::Introducer;
    let mut text = String::new();
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'[' {
            match record_at(&bytes[at..]) {
                Ok(Some(length)) => at += length,
                Ok(None) => return Candidate::Not,
                Err(()) => return Candidate::Incomplete,
            }
            continue;
        }
        match (&next, byte) {
            (Next::Introducer, b'_') => next = Next::Text,
            (Next::Text, ESC) => next = Next::Terminator,
            (Next::Text, b' ' | b'.' | b'-' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
                if text.len() < LONGEST =>
            {
                text.push(char::from(byte));
            }
            (Next::Terminator, b'\\') => {
                return match Marker::parse(&text, nonce) {
                    Some(marker) => Candidate::Marker(marker, at + 1),
                    None => Candidate::Not,
                };
            }
            _ => return Candidate::Not,
        }
        at += 1;
    }
    Candidate::Incomplete
}

/// Splits the console's output into bytes and markers of one nonce. The result does not depend on how the input is
/// chunked.
#[derive(Debug)]
pub(crate) struct Scanner {
    nonce: Nonce,
    /// The start of an incomplete marker.
    held: Vec<u8>,
}

/// A piece of the input.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece<'a> {
    /// Bytes outside of markers.
    Bytes(&'a [u8]),
    /// A marker.
    Marker(Marker),
}

impl Scanner {
    pub(crate) fn new(nonce: Nonce) -> Self {
        Self { nonce, held: Vec::new() }
    }

    /// Returns the nonce of the markers.
    pub(crate) fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// Passes each piece of `chunk` to `each`, in order, until `each` breaks. Then returns the number of bytes of the
    /// chunk that were used.
    pub(crate) fn push(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<usize> {
        let held = std::mem::take(&mut self.held);
        let before = held.len();
        let joined;
        let bytes = if before == 0 {
            chunk
        } else {
            joined = [held.as_slice(), chunk].concat();
            &joined
        };
        let mut from = 0; // earlier bytes were passed on
        let mut search = 0;
        while let Some(found) = memchr::memchr(ESC, &bytes[search..]) {
            let at = search + found;
            match candidate(&bytes[at..], &self.nonce) {
                Candidate::Marker(marker, length) => {
                    search = at + length;
                    let used = ControlFlow::Break(search.saturating_sub(before));
                    if at > from && each(Piece::Bytes(&bytes[from..at])).is_break() {
                        return used;
                    }
                    from = search;
                    if each(Piece::Marker(marker)).is_break() {
                        return used;
                    }
                }
                Candidate::Incomplete => {
                    self.held = bytes[at..].to_vec();
                    break;
                }
                Candidate::Not => search = at + 1,
            }
        }
        let end = bytes.len() - self.held.len();
        if end > from && each(Piece::Bytes(&bytes[from..end])).is_break() {
            return ControlFlow::Break(chunk.len());
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nonce() -> Nonce {
        Nonce { first: "0123abcd".into(), second: "4567cdef".into() }
    }

    fn scan(chunks: &[&[u8]]) -> (Vec<u8>, Vec<Marker>) {
        let mut scanner = Scanner::new(nonce());
        let (mut bytes, mut markers) = (Vec::new(), Vec::new());
        for chunk in chunks {
            let _ = scanner.push(chunk, |piece| {
                match piece {
                    Piece::Bytes(more) => bytes.extend_from_slice(more),
                    Piece::Marker(marker) => markers.push(marker),
                }
                ControlFlow::Continue(())
            });
        }
        (bytes, markers)
    }

    const STREAM: &[u8] =
        b"echo\x1b_0123abcd4567cdef S\x1b\\out\x1b\x1b[31mput \x1b_0123abcd4567cdee E 0 1\x1b\\\
        no newline\x1b[   12.590000] a\r\n_0123abcd45[   12.600000] usb\r\n67cdef E 3 12.61\x1b\\";

    #[test]
    fn markers_of_other_commands_and_lone_escapes_are_output() {
        let (bytes, markers) = scan(&[STREAM]);
        assert_eq!(bytes, b"echoout\x1b\x1b[31mput \x1b_0123abcd4567cdee E 0 1\x1b\\no newline");
        assert_eq!(markers, [Marker::Start, Marker::End(3, 12.61)]);
    }

    #[test]
    fn bytes_after_the_piece_that_ended_the_scan_are_left_unused() {
        let mut scanner = Scanner::new(nonce());
        let used = scanner.push(b"a\x1b_0123abcd4567cdef R\x1b\\prompt", |piece| match piece {
            Piece::Marker(_) => ControlFlow::Break(()),
            Piece::Bytes(_) => ControlFlow::Continue(()),
        });
        assert_eq!(used, ControlFlow::Break(23));
    }

    #[test]
    fn two_nonces_differ() {
        assert_ne!(Nonce::new(), Nonce::new());
    }

    proptest! {
        #[test]
        fn any_split_of_the_same_bytes_gives_the_same_pieces(cuts in proptest::collection::vec(0..STREAM.len(), 0..12)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|cut| &STREAM[cut[0]..cut[1]]).collect();
            prop_assert_eq!(scan(&chunks), scan(&[STREAM]));
        }

        #[test]
        fn no_bytes_make_it_panic(chunks in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(0x1b), Just(b'_'), Just(b'['), Just(b'0'), any::<u8>()], 0..40), 0..10)) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            scan(&chunks);
        }
    }
}
