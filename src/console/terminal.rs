//! Answers of a terminal with 80 columns and 24 lines, for a guest that sends questions while it boots or
//! while a shell starts.
//!
//! systemd ≥ 257 asks for the size of the console and the position of the cursor, and systemd ≥ 258 for
//! terminfo strings, too. It waits 333 ms for each answer. fish ≥ 4.1 asks for the kind of terminal, and
//! waits 10 s. In a running session an answer would be read as typed input, so none is sent there.

/// The limit for answers that are not sent yet, in bytes, because a guest may send questions without end.
const WAITING: usize = 256;

#[derive(Default)]
pub(super) struct Terminal {
    /// Whether the cursor was moved beyond the last corner, which precedes a question for the size.
    far: bool,
    answers: Vec<u8>,
}

impl Terminal {
    /// Handles a sequence, and queues the answer to it if `answer` is set.
    pub(super) fn sequence(&mut self, introducer: u8, body: &[u8], answer: bool) {
        let reply: &[u8] = match (introducer, body) {
            (b'[', [.., b'H' | b'f']) => {
                let row = body.split(|byte| !byte.is_ascii_digit()).next().unwrap_or_default();
                self.far = row.len() >= 3;
                return;
            }
            // Restored cursor: DECRC, SCORC; reset: RIS, DECSTR.
            (b'8' | b'c', _) | (b'[', [b'u'] | [b'!', b'p']) => {
                self.far = false;
                return;
            }
            // A VT220, which agetty sets in TERM.
            (b'[', b"c" | b"0c") => b"\x1b[?62c",
            (b'[', b"18t") => b"\x1b[8;24;80t",
            (b'[', b"6n") if self.far => b"\x1b[24;80R",
            (b'[', b"6n") => b"\x1b[1;1R",
            (b'P', [b'+', b'q', ..]) => b"\x1bP0+r\x1b\\",
            _ => return,
        };
        if answer && self.answers.len() + reply.len() <= WAITING {
            self.answers.extend_from_slice(reply);
        }
    }

    /// Takes the answers that are to be sent.
    pub(super) fn take_answers(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.answers)
    }
}
