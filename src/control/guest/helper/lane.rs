//! A lane: a shell, forked from the stem, that keeps a worker ready, a subshell that waits for the next command.
//!
//! Forking is what costs most in an emulated guest; here it is over before the command comes.

use crate::bytes::Bytes;
use crate::frame::{self, Line};
use crate::stem::{Stem, path_of};
use crate::sys::{self, Fd};

const SIGKILL: i32 = 9;

/// What a lane is doing.
#[derive(Clone, Copy, PartialEq)]
pub enum State {
    /// Its last command is answered, and its shell waits to be told about new pipes.
    Resting,
    /// Its shell makes a worker.
    Preparing,
    /// Its worker waits for a command.
    Ready,
    /// Its worker has the command at this place.
    Running(usize),
    /// The command at this place ended with this status; what it printed is still on its way.
    Ending(usize, u32),
    /// Its worker was told to end, and hasn't yet.
    Leaving,
}

/// What a lane's shell says.
pub enum Word {
    /// The shell is there; its process.
    Shell(i32),
    /// The worker is ready; its process group.
    Ready(i32),
    /// The worker answered and stays.
    Stays(u32),
    /// The worker ended.
    Ended(u32),
}

/// One lane. The pipes are its worker's, and new for each worker.
pub struct Lane {
    pub state: State,
    /// The stem's process.
    pub stem: i32,
    /// The stem died before the shell said a word: it may never come to be. If it does, it opens its pipes by
    /// their numbers, which therefore have to stay what they are.
    pub lost: bool,
    /// The shell's process; 0 before it is known.
    pub shell: i32,
    /// The worker's process group; 0 before there is one.
    pub worker: i32,
    /// The worker ended, or will: it can't have another command.
    pub spent: bool,
    orders: Fd,
    pub words: Fd,
    pub text: Option<Fd>,
    pub stdin: Option<Fd>,
    /// Standard output and error.
    pub output: [Option<Fd>; 2],
    /// How much of each was there when the command ended and is not sent yet.
    pub left: [usize; 2],
    /// Which of the pipes were widened: standard output, error, input.
    pub wide: [bool; 3],
    /// The shell's ends of its own pipes, kept open until it has opened them itself.
    shells: Option<[Fd; 2]>,
    /// The worker's ends, kept open until it has opened them itself.
    theirs: Option<[Fd; 4]>,
}

impl Lane {
    /// Has the stem fork the shell, and the shell make a worker.
    pub fn start(stem: &Stem) -> Result<Lane, isize> {
        let (orders_in, orders) = sys::pipe()?;
        let (words, words_out) = sys::pipe()?;
        words.never_wait()?;
        let mut lane = Lane {
            state: State::Resting,
            stem: stem.shell,
            lost: false,
            shell: 0,
            worker: 0,
            spent: false,
            orders,
            words,
            text: None,
            stdin: None,
            output: [None, None],
            left: [0; 2],
            wide: [false; 3],
            shells: None,
            theirs: None,
        };
        stem.fork(&orders_in, &words_out)?;
        lane.shells = Some([orders_in, words_out]);
        lane.prepare()?;
        Ok(lane)
    }

    /// The shell has opened its pipes.
    pub fn introduced(&mut self, shell: i32) {
        self.shell = shell;
        self.lost = false;
        self.shells = None;
    }

    /// Whether the shell hasn't said a word yet.
    pub fn is_silent(&self) -> bool {
        self.shells.is_some()
    }

    /// Whether the shell is still there. It is no child of ours, and its worker holds its pipe as well.
    pub fn is_alive(&self) -> bool {
        sys::exists(self.shell)
    }

    /// Has the shell make a new worker, with new pipes.
    ///
    /// The worker opens them by their paths in /proc, so that they are its own: what a command does to the
    /// mode of its standard output touches nobody else's.
    pub fn prepare(&mut self) -> Result<(), isize> {
        let (text_in, text) = sys::pipe()?;
        let (stdin_in, stdin) = sys::pipe()?;
        let (stdout, stdout_out) = sys::pipe()?;
        let (stderr, stderr_out) = sys::pipe()?;
        for ours in [&text, &stdin, &stdout, &stderr] {
            ours.never_wait()?;
        }
        let mut line = Line::new();
        for (at, end) in [&text_in, &stdin_in, &stdout_out, &stderr_out].into_iter().enumerate() {
            line = path_of(line, end).text(if at == 3 { b"\n" } else { b" " });
        }
        // Short, and the pipe is empty: the shell has read all that came before.
        self.orders.write(line.bytes())?;
        self.theirs = Some([text_in, stdin_in, stdout_out, stderr_out]);
        self.text = Some(text);
        self.stdin = Some(stdin);
        self.output = [Some(stdout), Some(stderr)];
        self.left = [0; 2];
        self.wide = [false; 3];
        self.worker = 0;
        self.spent = false;
        self.state = State::Preparing;
        Ok(())
    }

    /// The worker has opened its pipes.
    pub fn ready(&mut self, group: i32) {
        self.worker = group;
        self.theirs = None;
        self.state = State::Ready;
    }

    /// Sends as much of a command's text as the worker takes now. What is left is in `text`.
    pub fn send(&mut self, text: &mut Bytes) {
        if let Some(pipe) = &self.text {
            match pipe.write(text.front()) {
                Ok(n) => text.consume(n),
                Err(sys::EAGAIN) => {}
                // The worker is gone; its shell will say so.
                Err(_) => text.consume(usize::MAX >> 1),
            }
        }
    }

    /// The command ended: what is in its pipes now is its output, what comes later isn't.
    pub fn ended(&mut self, command: usize, status: u32) {
        self.state = State::Ending(command, status);
        for at in 0..2 {
            self.left[at] = self.output[at].as_ref().map_or(0, Fd::readable);
        }
    }

    /// Sends a signal to the worker and all that it started.
    pub fn signal(&mut self, signal: i32) {
        if self.worker > 0 {
            self.spent = true;
            sys::kill(-self.worker, signal);
        }
    }

    /// Ends worker and shell.
    pub fn kill(&self) {
        sys::kill(-self.worker, SIGKILL);
        sys::kill(self.shell, SIGKILL);
    }

    /// Reads what the shell and the worker say. Each word is written in one piece, so none is cut here.
    /// Whether there is still somebody who could say more.
    pub fn listen(&self, mut heard: impl FnMut(Word)) -> bool {
        let mut buffer = [0u8; 512];
        let n = match self.words.read(&mut buffer) {
            Ok(0) => return false,
            Ok(n) => n,
            Err(_) => return true,
        };
        for line in buffer[..n].split(|&byte| byte == b'\n') {
            let Some(value) = line.get(2..).and_then(frame::number) else { continue };
            match line[0] {
                b'L' => heard(Word::Shell(value as i32)),
                b'R' => heard(Word::Ready(value as i32)),
                b'S' => heard(Word::Stays(value)),
                b'D' => heard(Word::Ended(value)),
                _ => {}
            }
        }
        true
    }
}
