//! Output pipes of commands that ended, still held by processes that they left behind.
//!
//! What comes is thrown away: closing the pipe would kill a daemon at its next word.

use crate::sys::Fd;

/// So many are kept; then the oldest is closed.
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

    /// Reads from one, and forgets it at its end.
    pub fn read(&mut self, at: usize) {
        let mut nowhere = [0u8; 16384];
        if let Some(pipe) = &self.pipes[at]
            && matches!(pipe.read(&mut nowhere), Ok(0))
        {
            self.pipes[at] = None;
        }
    }
}
