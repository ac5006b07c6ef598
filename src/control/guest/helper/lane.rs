//! A lane: a shell that keeps a worker ready, a subshell that waits for the next command.
//!
//! Forking is what costs most in an emulated guest; here it is over before the command comes.

use crate::bytes::Bytes;
use crate::frame::{self, Line};
use crate::sys::{self, Environment, Fd};

/// What the shell runs, in one line: it is the one that messages about a command count from.
static WORKER: [u8; SCRIPT.len() + 1] = in_one_line();
const SCRIPT: &[u8] = include_bytes!("../worker.sh");

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
    /// The shell's process.
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
    /// The worker's ends, kept open until it has opened them itself.
    theirs: Option<[Fd; 4]>,
}

impl Lane {
    /// Starts the shell, and has it make a worker.
    pub fn start(bash: &[u8], environment: Environment) -> Result<Lane, isize> {
        let (orders_in, orders) = sys::pipe()?;
        let (words, words_out) = sys::pipe()?;
        let errors = sys::open(b"/dev/null\0", true)?;
        words.never_wait()?;
        let arguments = [
            c"bash".as_ptr().cast(),
            c"--noprofile".as_ptr().cast(),
            c"--norc".as_ptr().cast(),
            c"-c".as_ptr().cast(),
            WORKER.as_ptr(),
            c"bash".as_ptr().cast(),
            core::ptr::null(),
        ];
        let shell = sys::spawn_in_session(bash, &arguments, environment, [&orders_in, &words_out, &errors])?;
        let mut lane = Lane {
            state: State::Resting,
            shell,
            worker: 0,
            spent: false,
            orders,
            words,
            text: None,
            stdin: None,
            output: [None, None],
            left: [0; 2],
            theirs: None,
        };
        lane.prepare()?;
        Ok(lane)
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
        let pid = sys::pid() as u32;
        let mut line = Line::new();
        for (at, end) in [&text_in, &stdin_in, &stdout_out, &stderr_out].into_iter().enumerate() {
            line = line.text(b"/proc/").number(pid).text(b"/fd/").number(end.number() as u32);
            line = line.text(if at == 3 { b"\n" } else { b" " });
        }
        // Short, and the pipe is empty: the shell has read all that came before.
        self.orders.write(line.bytes())?;
        self.theirs = Some([text_in, stdin_in, stdout_out, stderr_out]);
        self.text = Some(text);
        self.stdin = Some(stdin);
        self.output = [Some(stdout), Some(stderr)];
        self.left = [0; 2];
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
    pub fn listen(&self, mut heard: impl FnMut(Word)) {
        let mut buffer = [0u8; 512];
        let Ok(n) = self.words.read(&mut buffer) else { return };
        for line in buffer[..n].split(|&byte| byte == b'\n') {
            let Some(value) = line.get(2..).and_then(frame::number) else { continue };
            match line[0] {
                b'R' => heard(Word::Ready(value as i32)),
                b'S' => heard(Word::Stays(value)),
                b'D' => heard(Word::Ended(value)),
                _ => {}
            }
        }
    }
}

/// The script without its comments and without line ends, and with a NUL at its end.
const fn in_one_line() -> [u8; SCRIPT.len() + 1] {
    let mut line = [0; SCRIPT.len() + 1];
    let (mut from, mut to) = (0, 0);
    let (mut at_start, mut comment) = (true, false);
    while from < SCRIPT.len() {
        let byte = SCRIPT[from];
        if byte == b'\n' {
            at_start = true;
            comment = false;
        } else if at_start && byte == b'#' {
            comment = true;
        } else if !(comment || at_start && byte == b' ') {
            if at_start && to > 0 {
                line[to] = b' ';
                to += 1;
            }
            at_start = false;
            line[to] = byte;
            to += 1;
        }
        from += 1;
    }
    line
}
