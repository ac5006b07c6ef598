//! A worker: the process of one command, `bash -euo pipefail -c TEXT`.
//!
//! Starting a bash takes an emulated guest 40 ms, so it is done before the command arrives. Such a worker is a real
//! `bash -euo pipefail -c BLANKS`: its process, its options and its environment are the command's own, and nothing of
//! another command remains. bash reads the file named by BASH_ENV before its text. Here that file is a pipe, so bash
//! waits for its end. Meanwhile the helper overwrites the blanks with the text.
//!
//! Only bash's memory of the few words that it ran first could distinguish such a worker from another: see [`TELLING`].
//! A text with one of these words gets a worker that is started for it. Some differences remain: texts that produce
//! such a word without containing it (`eval` of pieces, a sourced file); /proc/PID/cmdline ends with NULs; and
//! /proc/PID/environ has BASH_ENV.

use crate::bytes::Bytes;
use crate::frame::ShortText;
use crate::sys::{self, Environment, Fd, Surroundings};

const SIGKILL: i32 = 9;
const SIGCONT: i32 = 18;
/// The maximum length of a text for a worker that was started early.
pub const ROOM: usize = 2048;
/// The initial text of such a worker. It has no effect if bash runs it.
static BLANKS: [u8; ROOM + 1] = {
    let mut blanks = [b' '; ROOM + 1];
    blanks[ROOM] = 0;
    blanks
};
/// The arguments before the text, with their NULs.
const BEFORE_TEXT: usize = b"bash\0-euo\0pipefail\0-c\0".len();
/// The file that bash reads first: descriptor 3.
const FIRST_FILE: &core::ffi::CStr = c"BASH_ENV=/proc/self/fd/3";

/// Words that could show that bash ran something before the text: PIPESTATUS is set, BASH_COMMAND in an EXIT trap
/// contains it, and a list of variables has these and the value of SECONDS.
pub const TELLING: &[&[u8]] = &[
    b"PIPESTATUS",
    b"BASH_COMMAND",
    b"compgen",
    b"declare",
    b"export",
    b"local",
    b"readonly",
    b"set",
    b"typeset",
];

/// The state of a worker.
#[derive(Clone, Copy, PartialEq)]
pub enum State {
    /// It is becoming bash.
    Starting,
    /// It waits for a command.
    Ready,
    /// It runs a text whose status proves that workers can be started before their command.
    Proving,
    /// It runs the command at this index.
    Running(usize),
    /// The command at this index ended with this status; some of its output is not sent yet.
    Ending(usize, u32),
}

/// How a worker gets its text.
pub enum Kind<'a> {
    /// Later: see [`Worker::begin`]. Its environment is [`early_environment`].
    Early,
    /// As an argument: C strings, the last of them null.
    Arguments(&'a [*const u8]),
    /// The same, and it reads its text from descriptor 9.
    Reading(&'a [*const u8]),
}

/// One worker. It shares no pipe with another.
pub struct Worker {
    /// Its pid, which is its process group as well.
    pub pid: i32,
    pub state: State,
    /// Ends when the process has become bash; a byte in it reports a failure.
    pub born: Option<Fd>,
    /// The pipe that bash reads first.
    first_file: Option<Fd>,
    /// Gets a byte when an early worker has begun its command. If a worker never began, an earlier command killed it,
    /// and its command can be given to another worker. `None` after the byte was seen.
    pub beginning: Option<Fd>,
    /// The address of its text in its memory; 0 while it is unknown.
    text_at: usize,
    /// How often that address was searched since it became bash.
    looks: u32,
    /// The surroundings at its start.
    surroundings: Surroundings,
    /// It was started before the moment that this guest continues from, so other clones have its random numbers.
    pub is_copy: bool,
    /// The pipe with its text, if it reads one.
    pub text: Option<Fd>,
    pub stdin: Option<Fd>,
    /// Standard output and error.
    pub output: [Option<Fd>; 2],
    /// How many bytes of each were there when the command ended and are not sent yet.
    pub left: [usize; 2],
    /// Which of the pipes were enlarged: standard output, error, input.
    pub wide: [bool; 3],
}

/// Returns the environment of early workers, if `environment` allows them.
pub fn early_environment(environment: Environment) -> Option<Environment> {
    // With these, bash would first do something that can't be undone, or accept other words.
    let in_the_way = [b"BASH_ENV", &b"SHELLOPTS"[..], b"BASHOPTS", b"POSIXLY_CORRECT"];
    if environment.has_prefix(b"BASH_FUNC_")
        || in_the_way.iter().any(|name| environment.value(name).is_some())
    {
        return None;
    }
    environment.with(FIRST_FILE).ok()
}

impl Worker {
    /// Starts one. `input`: whether its standard input will be written to; for an early worker that is set later.
    pub fn start(bash: &[u8], environment: Environment, kind: &Kind, input: bool) -> Result<Worker, isize> {
        let early = matches!(kind, Kind::Early);
        let nothing = sys::open(b"/dev/null\0", false)?;
        let (born, being_born) = sys::pipe()?;
        born.never_wait()?;
        let (out, out_theirs) = sys::pipe()?;
        let (err, err_theirs) = sys::pipe()?;
        let stdin = if early || input { Some(sys::pipe()?) } else { None };
        let beginning = if early { Some(sys::pipe()?) } else { None };
        let third = if matches!(kind, Kind::Arguments(_)) { None } else { Some(sys::pipe()?) };
        for ours in [&out, &err] {
            ours.never_wait()?;
        }
        for (_, ours) in [&stdin, &third].into_iter().flatten() {
            ours.never_wait()?;
        }
        let early_arguments = [
            c"bash".as_ptr().cast(),
            c"-euo".as_ptr().cast(),
            c"pipefail".as_ptr().cast(),
            c"-c".as_ptr().cast(),
            BLANKS.as_ptr(),
            core::ptr::null(),
        ];
        let mut files = [(&nothing, -1); 6];
        files[..3].copy_from_slice(&[(&nothing, 0), (&out_theirs, 1), (&err_theirs, 2)]);
        if let Some((theirs, _)) = &stdin {
            files[if early { 4 } else { 0 }] = (theirs, if early { 4 } else { 0 });
        }
        if let Some((theirs, _)) = &third {
            files[3] = (theirs, if early { 3 } else { 9 });
        }
        if let Some((ours, theirs)) = &beginning {
            ours.never_wait()?;
            files[5] = (theirs, 5);
        }
        let arguments = match kind {
            Kind::Early => &early_arguments[..],
            Kind::Arguments(arguments) | Kind::Reading(arguments) => *arguments,
        };
        let pid = sys::spawn(bash, arguments, environment, &files, &being_born)?;
        let mut worker = Worker {
            pid,
            state: State::Starting,
            born: Some(born),
            first_file: None,
            beginning: beginning.map(|(ours, _)| ours),
            text_at: 0,
            looks: 0,
            surroundings: Surroundings::here(),
            is_copy: false,
            text: None,
            stdin: stdin.map(|(_, ours)| ours),
            output: [Some(out), Some(err)],
            left: [0; 2],
            wide: [false; 3],
        };
        match third {
            Some((_, ours)) if early => worker.first_file = Some(ours),
            Some((_, ours)) => worker.text = Some(ours),
            None => {}
        }
        Ok(worker)
    }

    /// Checks whether it has become bash. Returns whether it may still do so.
    pub fn look(&mut self) -> bool {
        const LOOKS: u32 = 1000;
        if let Some(born) = &self.born {
            match born.read(&mut [0]) {
                Err(sys::EAGAIN) => return true,
                Ok(0) => self.born = None,
                // It reports a failure before it ends.
                _ => return false,
            }
        }
        self.looks += 1;
        match sys::arguments_of(self.pid) {
            Some((start, end)) if end - start == BEFORE_TEXT + BLANKS.len() => {
                self.text_at = start + BEFORE_TEXT;
                self.state = State::Ready;
                true
            }
            // The kernel sets up the arguments slightly later.
            None => self.looks < LOOKS,
            Some(_) => false,
        }
    }

    /// Returns whether it is becoming bash and its arguments are being searched.
    pub fn is_looked_at(&self) -> bool {
        self.state == State::Starting && self.born.is_none()
    }

    /// Returns whether the surroundings that bash saw at its start are unchanged.
    pub fn is_fresh(&self, surroundings: &Surroundings) -> bool {
        self.surroundings == *surroundings
    }

    /// Makes a ready worker run `text`, which ends with a NUL. After an error it runs nothing, and may be killed.
    pub fn begin(&mut self, text: &[u8], input: bool, underscore: &[u8]) -> Result<(), isize> {
        sys::write_into(self.pid, self.text_at, text)?;
        let mut script = Bytes::new();
        script.push(if input {
            b"echo >&5;exec 0<&4 3<&- 4<&- 5>&-;"
        } else {
            b"echo >&5;exec 3<&- 4<&- 5>&-;"
        });
        script.push(b"unset -v BASH_ENV;SECONDS=0");
        if self.is_copy {
            script.push(ShortText::new().text(b" RANDOM=").number(sys::random() >> 1).bytes());
        }
        script.push(b" BASH_EXECUTION_STRING=");
        push_quoted(&mut script, &text[..text.len() - 1]);
        // `$_` comes from the environment, else from the name of the shell.
        script.push(b";: ");
        push_quoted(&mut script, underscore);
        script.push(b"\n");
        if let Some(file) = self.first_file.take() {
            // The end of this pipe starts the command. So if not all of it fits, the worker is killed first: a pipe has
            // only one page if its user has too many (pipe-user-pages-soft).
            let written = file.write(script.front());
            if written != Ok(script.len()) {
                self.kill();
                return Err(written.err().unwrap_or(sys::EAGAIN));
            }
        }
        if !input {
            self.stdin = None;
        }
        // If it was stopped, that was not meant for its new command.
        sys::kill(self.pid, SIGCONT);
        Ok(())
    }

    /// Returns whether it has begun its command, as far as that is known.
    pub fn check_begun(&mut self) -> bool {
        if self.beginning.as_ref().is_some_and(|pipe| matches!(pipe.read(&mut [0]), Ok(1))) {
            self.beginning = None;
        }
        self.beginning.is_none()
    }

    /// Returns the error number if it failed to become bash.
    pub fn could_not_start(&self) -> Option<u32> {
        let mut number = [0];
        matches!(self.born.as_ref()?.read(&mut number), Ok(1)).then(|| number[0].into())
    }

    /// Sends as much of its text as it accepts now. The rest stays in `text`.
    pub fn send(&mut self, text: &mut Bytes) {
        if let Some(pipe) = &self.text {
            match pipe.write(text.front()) {
                Ok(n) => text.consume(n),
                Err(sys::EAGAIN) => {}
                // It reads no more; its exit will be reported.
                Err(_) => text.consume(usize::MAX >> 1),
            }
        }
        if text.is_empty() {
            self.text = None;
        }
    }

    /// Records the end of the command: output in the pipes now belongs to it, later output does not.
    pub fn ended(&mut self, command: usize, status: u32) {
        self.state = State::Ending(command, status);
        for at in 0..2 {
            self.left[at] = self.output[at].as_ref().map_or(0, Fd::readable);
        }
    }

    /// Sends a signal to the process and its descendants.
    pub fn signal(&self, signal: i32) {
        sys::kill(-self.pid, signal);
    }

    /// Ends it.
    pub fn kill(&self) {
        self.signal(SIGKILL);
    }
}

/// Adds a shell-quoted word.
fn push_quoted(script: &mut Bytes, word: &[u8]) {
    script.push(b"'");
    for part in word.split_inclusive(|&byte| byte == b'\'') {
        script.push(part);
        if part.ends_with(b"'") {
            script.push(b"\\''");
        }
    }
    script.push(b"'");
}
