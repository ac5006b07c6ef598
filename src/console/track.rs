//! The stream in both its forms, raw and stripped, each as far back as it is kept, and the way from a
//! position in the one to its position in the other.

use std::collections::VecDeque;

use super::ring::Ring;
use super::search::UNDECIDED;
use super::strip::{Sink, Stripper};
use crate::text::escape::Parser;

/// The most that is taken in at once.
pub(super) const PIECE: usize = 64 << 10;
/// How far apart the positions are that can be gone back to.
const CHECKPOINT: u64 = 4 << 10;

/// A place in the stream, in both ways of counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) raw: u64,
    pub(super) text: u64,
}

pub(super) struct Track {
    pub(super) raw: Ring,
    pub(super) text: Ring,
    stripper: Stripper,
    checkpoints: VecDeque<Checkpoint>,
    window: u64,
}

/// A place from which the stream can be stripped again.
struct Checkpoint {
    at: Position,
    stripper: Stripper,
}

impl Track {
    /// `window` is how many bytes of text, and of raw bytes, are kept at least.
    pub(super) fn new(window: usize) -> Self {
        Self {
            raw: Ring::new(window, PIECE),
            // One more, to see what stands before the window; a piece can grow by one newline.
            text: Ring::new(window + 1 + UNDECIDED as usize, PIECE + 1),
            stripper: Stripper::new(),
            checkpoints: VecDeque::new(),
            window: window as u64,
        }
    }

    /// Takes in a piece of raw bytes; `sequence` hears of the escape sequences in it.
    pub(super) fn append(&mut self, raw: &[u8], sequence: impl FnMut(u8, &[u8])) {
        self.raw.make_room();
        self.text.make_room();
        self.set_checkpoint();
        self.raw.append(raw);
        self.stripper.read(raw, &mut Into { text: &mut self.text, sequence });
    }

    fn set_checkpoint(&mut self) {
        let at = self.end();
        // The last one is always within the bytes that are kept.
        let distance = CHECKPOINT.min(self.window);
        if self.checkpoints.back().is_none_or(|last| at.raw - last.at.raw >= distance) {
            self.checkpoints.push_back(Checkpoint { at, stripper: self.stripper });
        }
        let oldest = self.raw.start();
        while self.checkpoints.front().is_some_and(|first| first.at.raw < oldest) {
            self.checkpoints.pop_front();
        }
    }

    /// Where the stream has got to.
    pub(super) fn end(&self) -> Position {
        Position { raw: self.raw.end(), text: self.text.end() }
    }

    /// The position right behind the raw byte that made the text `text` bytes long. Text full of escape
    /// sequences can be kept longer than its raw bytes; the oldest of those stand for them.
    pub(super) fn position_of_text(&self, text: u64) -> Position {
        Position { text, ..self.walk(|at| at.text < text).0 }
    }

    pub(super) fn position_of_raw(&self, raw: u64) -> Position {
        self.walk(|at| at.raw < raw).0
    }

    /// In the middle of which escape sequence the stream is at a raw position.
    pub(super) fn parser_at(&self, raw: u64) -> Parser {
        self.walk(|at| at.raw < raw).1.parser()
    }

    /// Strips the stream again from a checkpoint, for as long as `before` holds of the place got to.
    fn walk(&self, before: impl Fn(Position) -> bool) -> (Position, Stripper) {
        let index = self.checkpoints.partition_point(|checkpoint| before(checkpoint.at));
        let Some(checkpoint) = self.checkpoints.get(index.saturating_sub(1)) else {
            return (self.end(), self.stripper);
        };
        let (mut at, mut stripper) = (checkpoint.at, checkpoint.stripper);
        while before(at) && at.raw < self.raw.end() {
            // In strides, and byte by byte in the last one.
            let mut length = Length(0);
            let mut ahead = stripper;
            let stride = self.raw.slice(at.raw, at.raw + 64);
            ahead.read(stride, &mut length);
            let next = Position { raw: at.raw + stride.len() as u64, text: at.text + length.0 };
            if before(next) {
                (at, stripper) = (next, ahead);
                continue;
            }
            for byte in stride {
                if !before(at) {
                    break;
                }
                let mut length = Length(0);
                stripper.read(std::slice::from_ref(byte), &mut length);
                at = Position { raw: at.raw + 1, text: at.text + length.0 };
            }
        }
        (at, stripper)
    }
}

struct Into<'a, F> {
    text: &'a mut Ring,
    sequence: F,
}

impl<F: FnMut(u8, &[u8])> Sink for Into<'_, F> {
    fn text(&mut self, bytes: &[u8]) {
        self.text.append(bytes);
    }

    fn sequence(&mut self, introducer: u8, body: &[u8]) {
        (self.sequence)(introducer, body);
    }
}

/// Counts what the text would be.
struct Length(u64);

impl Sink for Length {
    fn text(&mut self, bytes: &[u8]) {
        self.0 += bytes.len() as u64;
    }
}
