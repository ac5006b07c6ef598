//! What one turn of the loop waits for.

use crate::command::Commands;
use crate::lane::{Lane, State};
use crate::leftover::{LEFTOVERS, Leftovers};
use crate::serve::LANES;
use crate::sys::{POLLIN, POLLOUT, Watched};

/// Where something happened.
#[derive(Clone, Copy)]
pub enum Source {
    Signals,
    PortIn,
    PortOut,
    /// A lane's shell or worker says something.
    Words(usize),
    /// A worker can take more of a command's text.
    Text(usize),
    /// A command can take more input, or won't take any.
    Input(usize),
    /// There is output: 0 standard output, 1 standard error.
    Output(usize, usize),
    Leftover(usize),
    /// The kernel logged something.
    Kernel,
}

const MOST: usize = 4 + LANES * 5 + LEFTOVERS;

/// Descriptors and what they are.
///
/// What can't be dealt with now isn't in it at all: a pipe whose other end is closed is always ready.
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

    /// Forgets all: what is filled anew at each turn need not be made anew.
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

    /// All that concerns the lanes; their output only where there is room for it.
    pub fn add_lanes(&mut self, lanes: &[Option<Lane>; LANES], commands: &Commands, room: bool) {
        // Output before words: a command's output and its end then go out together.
        for (at, lane) in lanes.iter().enumerate() {
            let Some(lane) = lane else { continue };
            if room {
                for (which, pipe) in lane.output.iter().enumerate() {
                    let wanted = match lane.state {
                        State::Running(_) => true,
                        State::Ending(..) => lane.left[which] > 0,
                        _ => false,
                    };
                    if let (Some(pipe), true) = (pipe, wanted) {
                        self.add(pipe.number(), POLLIN, Source::Output(at, which));
                    }
                }
            }
            self.add(lane.words.number(), POLLIN, Source::Words(at));
            let State::Running(command) = lane.state else { continue };
            let Some(command) = &commands.0[command] else { continue };
            if let (Some(text), false) = (&lane.text, command.text.is_empty()) {
                self.add(text.number(), POLLOUT, Source::Text(at));
            }
            if let (Some(stdin), false) = (&lane.stdin, command.input.is_empty()) {
                self.add(stdin.number(), POLLOUT, Source::Input(at));
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
