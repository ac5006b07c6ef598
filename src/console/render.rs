//! The last lines of a console as a terminal would show them, safe to print anywhere.

use std::collections::VecDeque;

use crate::text;
use crate::text::boilerplate::without_lecture;
use crate::text::escape::{Listener, Parser};

/// The maximum number of characters that are shown of a line.
const WIDTH: usize = 200;

/// Returns the last `count` lines of `raw`, without blank lines at the end. Carriage returns and backspaces
/// overwrite as on a terminal, so a progress bar is one line.
pub(super) fn last_lines(mut parser: Parser, raw: &[u8], count: usize) -> Vec<String> {
    let mut screen = Lines { done: VecDeque::new(), count, line: RenderedLine::default() };
    parser.read(raw, &mut screen);
    screen.newline();
    let mut done = without_lecture(screen.done.into());
    while done.last().is_some_and(|line| line.trim().is_empty()) {
        done.pop();
    }
    done.drain(..done.len().saturating_sub(count));
    done
}

struct Lines {
    done: VecDeque<String>,
    count: usize,
    line: RenderedLine,
}

#[derive(Default)]
struct RenderedLine {
    cells: Vec<char>,
    column: usize,
    /// The number of characters beyond the width.
    beyond: usize,
}

impl RenderedLine {
    fn put(&mut self, character: char) {
        if self.column >= WIDTH {
            self.beyond = self.beyond.max(self.column + 1 - WIDTH);
        } else {
            if self.cells.len() <= self.column {
                self.cells.resize(self.column + 1, ' ');
            }
            self.cells[self.column] = character;
        }
        self.column += 1;
    }
}

impl Lines {
    fn newline(&mut self) {
        let line = std::mem::take(&mut self.line);
        let cells: String = line.cells.into_iter().collect();
        let mut shown = text::line(cells.trim_end());
        if line.beyond > 0 {
            shown.push_str(&format!("… (+{} characters)", line.beyond));
        }
        self.done.push_back(shown);
        // Blank lines at the end are removed later, so they must not push out lines that are to be shown.
        while self.done.len() > self.count + 100 {
            self.done.pop_front();
        }
    }
}

impl Listener for Lines {
    fn text(&mut self, bytes: &[u8]) {
        for character in String::from_utf8_lossy(bytes).chars() {
            match character {
                '\n' => self.newline(),
                '\t' => {
                    let stop = (self.line.column / 8 + 1) * 8;
                    while self.line.column < stop {
                        self.line.put(' ');
                    }
                }
                _ => self.line.put(character),
            }
        }
    }

    fn control(&mut self, byte: u8) {
        match byte {
            b'\r' => self.line.column = 0,
            0x08 => self.line.column = self.line.column.saturating_sub(1),
            _ => {}
        }
    }

    fn sequence(&mut self, introducer: u8, body: &[u8]) {
        // Erase in line, which progress lines use. All other sequences move the cursor or set colours.
        if introducer == b'[' && matches!(body, b"K" | b"0K") {
            self.line.cells.truncate(self.line.column);
            self.line.beyond = 0;
        } else if introducer == b'[' && body == b"2K" {
            self.line.cells.clear();
            self.line.beyond = 0;
        }
    }
}
