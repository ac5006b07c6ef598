//! Prints everything except the events of a run: answers to commands, errors, messages to the person at the
//! terminal.
//!
//! Text from other sources goes through the [filter](crate::text), and contains no [command](super::ci) for a
//! CI system.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{ci, in_colour, wording};
use crate::mutex::lock;
use crate::{Error, text};

/// The shell's status for a process that SIGPIPE ended.
pub const NO_READER: u8 = 141;

/// Returns `text` on one line, without control characters.
pub fn printable(text: &str) -> String {
    wording::printable(text)
}

/// Prints the requested output `text`, whole lines, to standard output without changes. A reader that has
/// gone away (`| head`) is not a failure; any other failure is kept for [`lost_output`].
pub fn answer(text: impl AsRef<[u8]>) {
    let mut stdout = std::io::stdout().lock();
    note(stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()));
}

static READER_IS_GONE: AtomicBool = AtomicBool::new(false);

/// Why output was lost first.
static LOST: Mutex<Option<Error>> = Mutex::new(None);

fn note(written: std::io::Result<()>) {
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            READER_IS_GONE.store(true, Ordering::Relaxed);
        }
        Err(error) => drop(lock(&LOST).get_or_insert_with(|| not_written(&error))),
    }
}

/// Returns the error for standard output that could not be written.
pub fn not_written(source: &std::io::Error) -> Error {
    let error = Error::host("write to standard output", source);
    match source.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            error.next_step("free space where the output goes, or send it elsewhere")
        }
        _ => error,
    }
}

/// Returns why a part of the requested output is lost, if it is. A command whose output is lost has not succeeded.
pub fn lost_output() -> Option<Error> {
    lock(&LOST).clone()
}

/// Whether the reader of standard output has gone away, so that the process ends as if by SIGPIPE.
pub fn has_no_reader() -> bool {
    READER_IS_GONE.load(Ordering::Relaxed)
}

/// Prints `text`, whole lines that are partly from other sources, to standard output without control
/// characters.
pub fn show_foreign(text: &str) {
    answer(ci::broken_up(&text::lines(text)));
}

/// Prints what is wrong with a command line, or the requested help, and returns the exit status. The text
/// quotes the user's input.
pub fn usage(error: &clap::Error) -> ExitCode {
    match error.use_stderr() {
        true => say(error.render().to_string().trim_end()),
        false => {
            let shown = error.render();
            let colours = in_colour(&std::io::stdout());
            answer(if colours { shown.ansi().to_string() } else { shown.to_string() });
        }
    }
    match lost_output() {
        // As when SIGPIPE ends a program.
        _ if has_no_reader() => NO_READER.into(),
        Some(lost) => {
            self::error(&lost);
            LOST_OUTPUT.into()
        }
        None => u8::try_from(error.exit_code()).unwrap_or(2).into(),
    }
}

/// The exit code of a command whose output is lost: the host lacks something.
const LOST_OUTPUT: u8 = 5;

/// Prints `text`, whole lines for people, to standard output. Only colours are left of its escape sequences.
pub fn show(text: &str) {
    answer(ci::broken_up(&text::coloured(text)));
}

/// Prints JSON to standard output.
pub fn answer_json(value: &serde_json::Value) {
    answer(text::json(&format!("{value:#}\n")));
}

/// Prints a path to standard output: unchanged for a program, filtered on a terminal.
pub fn answer_path(path: &Path) {
    match std::io::stdout().is_terminal() {
        true => show(&format!("{}\n", printable(&path.display().to_string()))),
        false => answer(format!("{}\n", path.display())),
    }
}

/// Prints a line for the person at the terminal to standard error. If that fails, it is ignored, because a
/// machine must not be left behind for that.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", ci::broken_up(&text::lines(line)));
}

/// Prints an error that ends the run.
pub fn error(error: &Error) {
    say(&format!("error: {error}"));
}

/// Prints guest output line by line, without control characters.
pub fn guest_output(text: &str) {
    let mut stdout = std::io::stdout().lock();
    for line in text.lines() {
        note(writeln!(stdout, "{}", ci::broken_up(&wording::printable(line))));
    }
    note(stdout.flush());
}

/// Prints the compiler's messages in their colours.
pub fn diagnostics(text: &str) {
    let _ = std::io::stderr().lock().write_all(ci::broken_up(&text::coloured(text)).as_bytes());
}

/// Prints a line that separates one run from the next.
pub fn separator(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let (bold, end) = if in_colour(&stderr) { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let _ = writeln!(stderr, "{bold}──── {} ────{end}", ci::broken_up(&wording::printable(text)));
}
