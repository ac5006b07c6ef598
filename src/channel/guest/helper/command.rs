//! Handles commands, from the first piece of their text to the answer.

use crate::bytes::Bytes;
use crate::sum::Sum;
use crate::worker::{Kind, ROOM, TELLING};

/// Maximum number of commands that wait or run.
pub const COMMANDS: usize = 256;
/// Maximum length of a command, in bytes.
pub const LONGEST_TEXT: usize = 16 << 20;
/// Maximum length of a program's argument: the kernel's limit, without the NUL.
const LONGEST_ARGUMENT: usize = 131071;
/// Maximum amount of a command's input that is buffered here, in bytes.
pub const INPUT_WINDOW: usize = 262144;
/// Reads a text that can't be an argument, or must not appear in the list of processes.
const READ_TEXT: &core::ffi::CStr = c"eval \"exec 9<&-; $(</proc/self/fd/9)\"";
/// Passes a text to the user's shell. bash knows that shell even if the environment doesn't name it.
const USER_SHELL: &core::ffi::CStr = c"exec -- \"${SHELL:-/bin/sh}\" -c \"$0\"";

/// The state of a command.
#[derive(Clone, Copy, PartialEq)]
pub enum Phase {
    /// Its text is being received.
    Text,
    /// It waits for a worker.
    Waiting,
    /// A worker has it.
    Running,
}

/// The options of a command.
#[derive(Clone, Copy, Default)]
pub struct Request {
    pub user_shell: bool,
    /// Whether its text must not appear in the list of processes.
    pub hidden: bool,
    pub input: bool,
    /// Whether the host requests checksums.
    pub sum: bool,
}

impl Request {
    /// Parses lines `key value` and ignores unknown keys, which belong to a later version.
    pub fn parse(content: &[u8]) -> Request {
        let mut request = Request::default();
        for line in content.split(|&byte| byte == b'\n') {
            match line {
                b"shell user" => request.user_shell = true,
                b"hidden 1" => request.hidden = true,
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
    /// The text; with a NUL once it is complete, unless a worker reads it.
    pub text: Bytes,
    /// Input that its process has not read yet.
    pub input: Bytes,
    pub input_ended: bool,
    /// Checksums of its process's input and output, if the host requests them.
    pub sums: [Sum; 2],
    /// Whether its worker reads the text.
    read: bool,
    /// Whether the host sent it a signal.
    pub signalled: bool,
    too_long: bool,
}

impl Command {
    pub fn new(id: u32) -> Command {
        Command {
            id,
            phase: Phase::Text,
            request: Request::default(),
            text: Bytes::new(),
            input: Bytes::new(),
            input_ended: false,
            sums: [Sum::new(), Sum::new()],
            read: false,
            signalled: false,
            too_long: false,
        }
    }

    /// Adds a piece of the text.
    pub fn add(&mut self, piece: &[u8]) {
        self.too_long |= self.text.len() + piece.len() > LONGEST_TEXT;
        if !self.too_long {
            self.text.push(piece);
        }
    }

    /// Makes it wait for a worker, or returns the reason why it can't be run.
    pub fn make_ready(&mut self) -> Result<(), &'static [u8]> {
        let text = self.text.front();
        if self.too_long {
            return Err(b"the command is longer than 16 MiB");
        }
        if text.contains(&0) {
            return Err(b"the command has a NUL character in it");
        }
        if self.request.user_shell && text.len() > LONGEST_ARGUMENT {
            return Err(b"the command is longer than 131071 bytes, the limit of the user's shell");
        }
        self.read = !self.request.user_shell && (self.request.hidden || text.len() > LONGEST_ARGUMENT);
        if !self.read {
            self.text.push(b"\0");
        }
        self.phase = Phase::Waiting;
        Ok(())
    }

    /// Returns whether a bash that was started earlier can run it. bash would take a text that begins like an option
    /// for one.
    pub fn can_come_later(&self) -> bool {
        let text = self.text.front();
        let mut words = text.split(|&byte| !(byte.is_ascii_alphanumeric() || byte == b'_'));
        !self.request.user_shell
            && !self.read
            && text.len() <= ROOM + 1
            && !matches!(text, [b'-' | b'+', ..])
            && !words.any(|word| TELLING.contains(&word))
    }

    /// Calls `start` with the arguments for a worker that is started for it.
    pub fn with_arguments<T>(&self, start: impl FnOnce(Kind) -> T) -> T {
        let null = core::ptr::null();
        let [bash, options, pipefail, c] =
            [c"bash", c"-euo", c"pipefail", c"-c"].map(|argument| argument.as_ptr().cast());
        let text = self.text.front().as_ptr();
        if self.request.user_shell {
            start(Kind::Arguments(&[bash, c, USER_SHELL.as_ptr().cast(), text, null]))
        } else if self.read {
            start(Kind::Reading(&[bash, options, pipefail, c, READ_TEXT.as_ptr().cast(), null]))
        } else {
            start(Kind::Arguments(&[bash, options, pipefail, c, text, null]))
        }
    }
}

/// All commands.
pub struct Commands(pub [Option<Command>; COMMANDS]);

impl Commands {
    pub fn find(&mut self, id: u32) -> Option<usize> {
        self.0.iter().position(|command| command.as_ref().is_some_and(|command| command.id == id))
    }

    /// Returns the command of this number and creates it if there is none; `None` if there is no room.
    pub fn find_or_add(&mut self, id: u32) -> Option<usize> {
        if let Some(at) = self.find(id) {
            return Some(at);
        }
        let at = self.0.iter().position(Option::is_none)?;
        self.0[at] = Some(Command::new(id));
        Some(at)
    }

    /// Returns the one that has waited longest: the host's numbers increase.
    pub fn first_waiting(&self) -> Option<usize> {
        let waiting = |at: &usize| {
            self.0[*at].as_ref().filter(|command| command.phase == Phase::Waiting).map(|command| command.id)
        };
        (0..COMMANDS).filter(|at| waiting(at).is_some()).min_by_key(|at| waiting(at))
    }

    pub fn running(&self) -> usize {
        self.0.iter().flatten().filter(|command| command.phase == Phase::Running).count()
    }
}
