//! Output pipes of ended commands that are still held by processes that the commands left behind.
//!
//! Their output is discarded. Closing the pipe instead would kill a daemon at its next write.

use crate::sys::Fd;

/// Maximum number of pipes that are kept; then the oldest is closed.
pub const LEFTOVERS: usize = 128;

pub struct Leftovers {
    pub pipes: [Option<Fd>; LEFTOVERS],
    oldest: usize,
}

impl Leftovers {
    pub fn new() -> Leftovers {
        Leftovers { pipes: [const { None }; LEFTOVERS], oldest: 0 }
    }

    pub fn keep(&mut self, pipe: Fd) {
        let at = self.pipes.iter().position(Option::is_none).unwrap_or(self.oldest);
        self.pipes[at] = Some(pipe);
        if at == self.oldest {
            self.oldest = (self.oldest + 1) % LEFTOVERS;
        }
    }

    /// Reads from one, and removes it at its end.
    pub fn read(&mut self, at: usize) {
        let mut nowhere = [0u8; 16384];
        if let Some(pipe) = &self.pipes[at]
            && matches!(pipe.read(&mut nowhere), Ok(0))
        {
            self.pipes[at] = None;
        }
    }
}
