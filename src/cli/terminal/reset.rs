//! Restores the terminal modes that a guest may have changed.

/// Always sent, since these sequences have no effect on an unchanged terminal. Colours and attributes, character set,
/// keypad and cursor keys, wrapping, the cursor's visibility, bracketed paste, reports of mouse and focus.
const ALWAYS: &[u8] = b"\x1b[0m\x0f\x1b(B\x1b>\x1b[?1l\x1b[?7h\x1b[?25h\x1b[?2004l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1006l";
/// The alternate screen, which full-screen programs use. Leaving it moves the cursor, so it is left only if it was
/// entered.
const ENTERED: [&[u8]; 3] = [b"\x1b[?1049h", b"\x1b[?1047h", b"\x1b[?47h"];
const LEFT: [&[u8]; 3] = [b"\x1b[?1049l", b"\x1b[?1047l", b"\x1b[?47l"];
/// Length of the longest sequence minus one byte, since a sequence may arrive in two pieces.
const KEPT: usize = 7;

/// The modes that the guest has set.
#[derive(Debug, Default)]
pub struct Modes {
    on_other_screen: bool,
    tail: Vec<u8>,
}

impl Modes {
    /// Scans output that goes to the terminal.
    pub fn note(&mut self, said: &[u8]) {
        self.tail.extend_from_slice(said);
        let last =
            |all: [&[u8]; 3]| all.into_iter().filter_map(|one| memchr::memmem::rfind(&self.tail, one)).max();
        match (last(ENTERED), last(LEFT)) {
            (None, None) => {}
            (entered, left) => self.on_other_screen = entered > left,
        }
        let surplus = self.tail.len().saturating_sub(KEPT);
        self.tail.drain(..surplus);
    }

    /// Returns the sequences that make the terminal usable again.
    pub fn undone(&self) -> Vec<u8> {
        // An unterminated string of the guest would swallow all of it.
        let mut undone = b"\x1b\\".to_vec();
        undone.extend_from_slice(ALWAYS);
        if self.on_other_screen {
            undone.extend_from_slice(LEFT[0]);
        }
        undone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_screen_is_left_if_the_guest_is_on_it() {
        let left = |said: &[&[u8]]| {
            let mut modes = Modes::default();
            said.iter().for_each(|said| modes.note(said));
            modes.undone().ends_with(LEFT[0])
        };
        assert!(!left(&[b"text"]));
        assert!(left(&[b"vi\x1b[?1049hfile"]));
        assert!(left(&[b"vi\x1b[?10", b"49hfile", b"more text than is kept"]));
        assert!(!left(&[b"\x1b[?1049h", b"file\x1b[?1049l$ "]));
    }
}
