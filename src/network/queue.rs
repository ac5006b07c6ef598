//! The frames that wait for a port: first in, first out, and bounded.

use std::collections::VecDeque;

use super::frame::Frame;

/// How many frames wait for a port.
pub(super) const MOST_FRAMES: usize = 4096;

/// How many bytes of frames wait for a port. More than the window of a TCP connection with default settings needs, since
/// lost frames make a transfer slow.
pub(super) const MOST_BYTES: usize = 8 << 20;

/// The frames that wait for one port.
#[derive(Debug, Default)]
pub(super) struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
}

impl Queue {
    /// Appends a frame. False if there is no room for it.
    pub(super) fn push(&mut self, frame: Frame) -> bool {
        if self.frames.len() >= MOST_FRAMES || self.bytes + frame.len() > MOST_BYTES {
            return false;
        }
        self.bytes += frame.len();
        self.frames.push_back(frame);
        true
    }

    /// The frames in their order.
    pub(super) fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter()
    }

    /// The frame that is next.
    pub(super) fn first(&self) -> Option<&Frame> {
        self.frames.front()
    }

    /// Removes the frame that is next.
    pub(super) fn pop(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }

    /// The number of frames.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }
}
