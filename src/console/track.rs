//! The stream in both forms, raw and stripped, as far as each is kept, and the conversion of positions
//! between them.

use std::collections::VecDeque;

use super::ring::Ring;
use super::search::UNDECIDED;
use super::strip::{Sink, Stripper};
use crate::text::escape::Parser;

/// The most that is processed at once, in bytes.
pub(super) const PIECE: usize = 64 << 10;
/// The distance between positions that can be restored, in bytes.
const CHECKPOINT: u64 = 4 << 10;

/// A place in the stream, in both forms.
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
    /// Makes a track that keeps at least `window` bytes of text, and of raw bytes.
    pub(super) fn new(window: usize) -> Self {
        Self {
            raw: Ring::new(window, PIECE),
            // One more byte, to see what precedes the window. A piece can grow by one newline.
            text: Ring::new(window + 1 + UNDECIDED as usize, PIECE + 1),
            stripper: Stripper::new(),
            checkpoints: VecDeque::new(),
            window: window as u64,
        }
    }

    /// Processes a piece of raw bytes. Calls `sequence` for each escape sequence in it.
    pub(super) fn append(&mut self, raw: &[u8], sequence: impl FnMut(u8, &[u8])) {
        self.raw.make_room();
        self.text.make_room();
        self.set_checkpoint();
        self.raw.append(raw);
        self.stripper.read(raw, &mut Into { text: &mut self.text, sequence });
    }

    fn set_checkpoint(&mut self) {
        let at = self.end();
        // The last checkpoint is always within the kept bytes.
        let distance = CHECKPOINT.min(self.window);
        if self.checkpoints.back().is_none_or(|last| at.raw - last.at.raw >= distance) {
            self.checkpoints.push_back(Checkpoint { at, stripper: self.stripper });
        }
        let oldest = self.raw.start();
        while self.checkpoints.front().is_some_and(|first| first.at.raw < oldest) {
            self.checkpoints.pop_front();
        }
    }

    /// Returns the present end of the stream.
    pub(super) fn end(&self) -> Position {
        Position { raw: self.raw.end(), text: self.text.end() }
    }

    /// Returns the position right after the raw byte that made the text `text` bytes long. Text with many
    /// escape sequences can be kept longer than its raw bytes; then the oldest raw byte counts.
    pub(super) fn position_of_text(&self, text: u64) -> Position {
        Position { text, ..self.walk(|at| at.text < text).0 }
    }

    pub(super) fn position_of_raw(&self, raw: u64) -> Position {
        self.walk(|at| at.raw < raw).0
    }

    /// Returns the state of the escape sequence parser at a raw position.
    pub(super) fn parser_at(&self, raw: u64) -> Parser {
        self.walk(|at| at.raw < raw).1.parser()
    }

    /// Strips the stream again from a checkpoint, while `before` is true for the position.
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

/// Counts the length of the text.
struct Length(u64);

impl Sink for Length {
    fn text(&mut self, bytes: &[u8]) {
        self.0 += bytes.len() as u64;
    }
}
