//! What a guest may have done to a terminal that outlasts it, and how it is undone.

/// Undone whatever was said: harmless where it was never done. Colours and attributes, character set, keypad and cursor
/// keys, wrapping, the cursor's visibility, bracketed paste, reports of mouse and focus.
const ALWAYS: &[u8] = b"\x1b[0m\x0f\x1b(B\x1b>\x1b[?1l\x1b[?7h\x1b[?25h\x1b[?2004l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1006l";
/// The other screen, which programs that fill it work on. Leaving it moves the cursor, so it is left only if it was
/// entered.
const ENTERED: [&[u8]; 3] = [b"\x1b[?1049h", b"\x1b[?1047h", b"\x1b[?47h"];
const LEFT: [&[u8]; 3] = [b"\x1b[?1049l", b"\x1b[?1047l", b"\x1b[?47l"];
/// Of the longest of them but one byte: it may come in two pieces.
const KEPT: usize = 7;

/// What was noticed.
#[derive(Debug, Default)]
pub struct Modes {
    on_other_screen: bool,
    tail: Vec<u8>,
}

impl Modes {
    /// Looks at what goes to the terminal.
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

    /// What makes the terminal usable again.
    pub fn undone(&self) -> Vec<u8> {
        // A string that the guest never ended would swallow all of it.
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
