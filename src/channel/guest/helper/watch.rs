//! The descriptors that one turn of the loop waits for.

use crate::command::Commands;
use crate::leftover::{LEFTOVERS, Leftovers};
use crate::serve::WORKERS;
use crate::sys::{POLLIN, POLLOUT, Watched};
use crate::worker::{State, Worker};

/// The source of an event.
#[derive(Clone, Copy)]
pub enum Source {
    Signals,
    PortIn,
    PortOut,
    /// A worker has become bash, or failed to.
    Born,
    /// A worker can take more of a command's text.
    Text(usize),
    /// A command can take more input, or no longer accepts any.
    Input(usize),
    /// There is output: 0 is standard output, 1 standard error.
    Output(usize, usize),
    Leftover(usize),
    /// The kernel logged something.
    Kernel,
}

const MOST: usize = 4 + WORKERS * 4 + LEFTOVERS;

/// Descriptors and their sources.
///
/// Descriptors that can't be handled now are left out: a pipe whose other end is closed is always ready.
pub struct Watch {
    pub watched: [Watched; MOST],
    pub sources: [Source; MOST],
    pub len: usize,
}

impl Watch {
    pub fn new() -> Watch {
        let nothing = Watched { fd: -1, events: 0, seen: 0 };
        Watch { watched: [nothing; MOST], sources: [Source::Signals; MOST], len: 0 }
    }

    /// Removes all entries but keeps the memory, since they are added again at each turn.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    pub fn add(&mut self, fd: i32, events: i16, source: Source) {
        if self.len < MOST {
            self.watched[self.len] = Watched { fd, events, seen: 0 };
            self.sources[self.len] = source;
            self.len += 1;
        }
    }

    /// Adds all descriptors of the workers; their output only if there is room for it.
    pub fn add_workers(&mut self, workers: &[Option<Worker>; WORKERS], commands: &Commands, room: bool) {
        for (at, worker) in workers.iter().enumerate() {
            let Some(worker) = worker else { continue };
            if let (Some(born), State::Starting) = (&worker.born, worker.state) {
                self.add(born.number(), POLLIN, Source::Born);
            }
            if room {
                for (which, pipe) in worker.output.iter().enumerate() {
                    let wanted = match worker.state {
                        State::Running(_) => true,
                        State::Ending(..) => worker.left[which] > 0,
                        _ => false,
                    };
                    if let (Some(pipe), true) = (pipe, wanted) {
                        self.add(pipe.number(), POLLIN, Source::Output(at, which));
                    }
                }
            }
            let State::Running(command) = worker.state else { continue };
            let Some(command) = &commands.0[command] else { continue };
            if let Some(text) = &worker.text {
                self.add(text.number(), POLLOUT, Source::Text(at));
            }
            // Input is written only to a worker that has begun, since it can't be taken back.
            match (&worker.beginning, &worker.stdin) {
                (Some(beginning), Some(_)) => self.add(beginning.number(), POLLIN, Source::Input(at)),
                (None, Some(stdin)) if !command.input.is_empty() => {
                    self.add(stdin.number(), POLLOUT, Source::Input(at));
                }
                _ => {}
            }
        }
    }

    pub fn add_leftovers(&mut self, leftovers: &Leftovers) {
        for (at, pipe) in leftovers.pipes.iter().enumerate() {
            if let Some(pipe) = pipe {
                self.add(pipe.number(), POLLIN, Source::Leftover(at));
            }
        }
    }
}
