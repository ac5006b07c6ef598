//! The stem: the shell from which the lanes are forked, and the script that they all run.
//!
//! Starting a shell costs an emulated guest five times what a fork does, and many lanes may be wanted at once.

use crate::frame::Line;
use crate::sys::{self, Environment, Fd};

/// The script in one line, which is the one that messages about a command count from.
static SCRIPT_LINE: ([u8; SCRIPT.len() + 1], usize) = in_one_line();
const SCRIPT: &[u8] = include_bytes!("../worker.sh");

/// What stands in the list of processes for the stem, its lanes and its workers. The script itself doesn't:
/// whoever looks for a process by a piece of its command line (`pgrep -f`) must not find ours.
const FIRST: &core::ffi::CStr = c"read -r;shift;eval \"$REPLY\"";
const NAME: &core::ffi::CStr = c"nixvm-worker";

const SIGKILL: i32 = 9;

pub struct Stem {
    /// The shell's process.
    pub shell: i32,
    /// A lane of it said something: it works.
    pub proven: bool,
    orders: Fd,
}

impl Stem {
    /// Starts the shell.
    pub fn start(bash: &[u8], environment: Environment) -> Result<Stem, isize> {
        let (orders_in, orders) = sys::pipe()?;
        let nowhere = sys::open(b"/dev/null\0", true)?;
        let arguments = [
            c"bash".as_ptr().cast(),
            c"-c".as_ptr().cast(),
            FIRST.as_ptr().cast(),
            c"bash".as_ptr().cast(),
            NAME.as_ptr().cast(),
            core::ptr::null(),
        ];
        let shell = sys::spawn_in_session(bash, &arguments, environment, [&orders_in, &nowhere, &nowhere])?;
        let stem = Stem { shell, proven: false, orders };
        let (script, len) = &SCRIPT_LINE;
        // It fits into an empty pipe.
        stem.orders.write(&script[..*len])?;
        Ok(stem)
    }

    /// Has it fork a lane, which reads and writes these pipes. They have to stay open until it has opened them.
    pub fn fork(&self, orders: &Fd, words: &Fd) -> Result<(), isize> {
        let line = path_of(Line::new(), orders).text(b" ");
        self.orders.write(path_of(line, words).text(b"\n").bytes()).map(drop)
    }

    pub fn kill(&self) {
        sys::kill(self.shell, SIGKILL);
    }
}

/// Adds the path by which other processes open a descriptor of ours.
pub fn path_of(line: Line, end: &Fd) -> Line {
    line.text(b"/proc/").number(sys::pid() as u32).text(b"/fd/").number(end.number() as u32)
}

/// The script without its comments and with one line end, its last; and its length.
const fn in_one_line() -> ([u8; SCRIPT.len() + 1], usize) {
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
    line[to] = b'\n';
    (line, to + 1)
}
