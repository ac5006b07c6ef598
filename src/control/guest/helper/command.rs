//! Commands, from the first piece of their text to the answer.

use crate::bytes::Bytes;
use crate::frame;
use crate::sum::Sum;

/// So many commands at most wait or run.
pub const COMMANDS: usize = 256;
/// So long may a command be.
pub const LONGEST_TEXT: usize = 16 << 20;
/// So long may a program's argument be: the kernel's limit, less its NUL.
const LONGEST_ARGUMENT: usize = 131071;
/// So much of a command's input may be here, not yet written to it.
pub const INPUT_WINDOW: usize = 262144;
/// Room in front of the text for the line that tells the worker how to read it.
const LEAD: usize = 32;

/// Where a command is on its way.
#[derive(Clone, Copy, PartialEq)]
pub enum Phase {
    /// Its text comes in.
    Text,
    /// It waits for a shell.
    Waiting,
    /// A lane has it.
    Running,
}

/// How it is to be run.
#[derive(Clone, Copy, Default)]
pub struct Request {
    pub user_shell: bool,
    pub simple: bool,
    pub input: bool,
    /// The host wants checksums.
    pub sum: bool,
}

impl Request {
    /// Reads the lines `key value`; keys that it doesn't know are for a later version.
    pub fn parse(content: &[u8]) -> Request {
        let mut request = Request::default();
        for line in content.split(|&byte| byte == b'\n') {
            match line {
                b"shell user" => request.user_shell = true,
                b"simple 1" => request.simple = true,
                b"stdin 1" => request.input = true,
                b"sum 1" => request.sum = true,
                _ => {}
            }
        }
        request
    }
}

/// One command.
pub struct Command {
    pub id: u32,
    pub phase: Phase,
    pub request: Request,
    /// Room for a line, and the text; later: what is yet to be sent to the worker.
    pub text: Bytes,
    /// Input that its process hasn't taken yet.
    pub input: Bytes,
    pub input_ended: bool,
    /// Of what its process was given, and of what it printed, where the host wants that.
    pub sums: [Sum; 2],
    too_long: bool,
}

impl Command {
    pub fn new(id: u32) -> Command {
        let mut text = Bytes::new();
        text.push(&[b' '; LEAD]);
        Command {
            id,
            phase: Phase::Text,
            request: Request::default(),
            text,
            input: Bytes::new(),
            input_ended: false,
            sums: [Sum::new(), Sum::new()],
            too_long: false,
        }
    }

    /// Adds a piece of the text.
    pub fn add(&mut self, piece: &[u8]) {
        self.too_long |= self.text.len() - LEAD + piece.len() > LONGEST_TEXT;
        if !self.too_long {
            self.text.push(piece);
        }
    }

    /// Makes of the text what the worker reads, or says why it can't be run. `functions`: the environment
    /// has functions, and any word can be one.
    pub fn make_ready(&mut self, functions: bool) -> Result<(), &'static [u8]> {
        let text = &self.text.front()[LEAD..];
        if self.too_long {
            return Err(b"the command is longer than 16 MiB");
        }
        if text.contains(&0) {
            return Err(b"the command has a NUL in it");
        }
        if self.request.user_shell && text.len() > LONGEST_ARGUMENT {
            return Err(
                b"the command is longer than 131071 bytes, the most that the user's shell can be given",
            );
        }
        let mode = if self.request.user_shell {
            b"u"
        } else if self.request.simple && !functions && !self.request.input && stays(text) {
            b"b"
        } else if self.request.simple && !functions {
            b"x"
        } else if text.windows(2).any(|two| two == b"$$") && text.len() <= LONGEST_ARGUMENT {
            // The worker is a subshell: its $$ is another process.
            b"p"
        } else {
            b"e"
        };
        let line = frame::Line::new()
            .number(text.len() as u32)
            .text(b" ")
            .text(mode)
            .text(if self.request.input { b" i" } else { b" -" })
            .text(if text.is_ascii() { b"\n" } else { b" c\n" });
        self.text.consume(LEAD - line.bytes().len());
        self.text.overwrite_front(line.bytes());
        self.phase = Phase::Waiting;
        Ok(())
    }
}

/// Whether a simple command is a builtin that leaves nothing behind: no process, no variable.
fn stays(text: &[u8]) -> bool {
    let mut words = text.split(|&byte| byte == b' ');
    match words.next() {
        Some(b"printf") => !words.next().is_some_and(|word| word.starts_with(b"-")),
        Some(b"true" | b"false" | b":" | b"echo" | b"test" | b"pwd") => true,
        _ => false,
    }
}

/// All commands.
pub struct Commands(pub [Option<Command>; COMMANDS]);

impl Commands {
    pub fn find(&mut self, id: u32) -> Option<usize> {
        self.0.iter().position(|command| command.as_ref().is_some_and(|command| command.id == id))
    }

    /// The command of this number, new if there is none; none where there is no room.
    pub fn find_or_add(&mut self, id: u32) -> Option<usize> {
        if let Some(at) = self.find(id) {
            return Some(at);
        }
        let at = self.0.iter().position(Option::is_none)?;
        self.0[at] = Some(Command::new(id));
        Some(at)
    }

    /// The one that waits longest: the host counts upwards.
    pub fn first_waiting(&self) -> Option<usize> {
        let waiting = |at: &usize| {
            self.0[*at].as_ref().filter(|command| command.phase == Phase::Waiting).map(|command| command.id)
        };
        (0..COMMANDS).filter(|at| waiting(at).is_some()).min_by_key(|at| waiting(at))
    }

    pub fn waiting(&self) -> usize {
        self.0.iter().flatten().filter(|command| command.phase == Phase::Waiting).count()
    }
}
