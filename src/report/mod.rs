//! What people see of a run. Each reporter turns [`Event`]s into one format; nothing else in this
//! library prints.

mod compare;
mod github;
mod html;
mod junit;
mod lines;
mod live;
pub mod log;
mod paint;
mod relay;
mod rendering;
mod tally;
mod wording;

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;

pub use compare::{Comparison, compare};
pub use github::Github;
pub use lines::Lines;
pub use live::Live;
pub(crate) use paint::paint;
pub use relay::Relay;
pub use rendering::Rendering;

use crate::build::Settings;
use crate::{Error, Event, Events};

/// A consumer of events.
pub trait Reporter: Send + Sync {
    /// Something happened in `scenario`, or, if that is empty, in the run as a whole. Called from
    /// any thread, and must not block for long.
    fn event(&self, scenario: &str, event: &Event);

    /// Whether something on the screen moves, so that what others print must go through
    /// [`Reporter::print`].
    fn is_live(&self) -> bool {
        false
    }

    /// Prints `text`, whole lines, to standard output without disturbing the reporter's own picture.
    fn print(&self, text: &[u8]) {
        let mut stdout = std::io::stdout().lock();
        // A reader that went away is no reason to end the run.
        let _ = stdout.write_all(text).and_then(|()| stdout.flush());
    }

    /// The run is over, or about to be ended: leaves the terminal as it was.
    fn finish(&self) {}
}

/// The reporter that fits where the output goes: a live picture on a terminal, plain lines in CI, in
/// a pipe, with NO_COLOR, or when the log is shown too; nothing but the results when quiet.
pub fn choose(settings: &Settings) -> Arc<dyn Reporter> {
    if settings.quiet {
        return Arc::new(Lines::new(std::io::sink()));
    }
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    let plain = set("CI") || set("NO_COLOR") || set(log::VARIABLE) || dumb || !settings.capture;
    if !plain && std::io::stderr().is_terminal() && std::io::stdout().is_terminal() {
        Arc::new(Live::new())
    } else {
        Arc::new(Lines::new(std::io::stderr()))
    }
}

/// The events of the run as a whole, sent to `reporter`.
pub fn events(reporter: &Arc<dyn Reporter>) -> Events {
    let reporter = reporter.clone();
    Events::new(move |event| reporter.event("", event))
}

/// `text` on one line, without escape sequences and control characters: it can't drive the user's terminal.
pub fn printable(text: &str) -> String {
    wording::printable(text)
}

/// Prints what a command was asked for, on standard output. A reader that went away (`| head -1`) is no failure.
pub fn answer(text: impl std::fmt::Display) {
    let mut stdout = std::io::stdout().lock();
    let _ = write!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// Prints an error that ends the run.
pub fn error(error: &Error) {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "error: {error}");
}

/// Prints what a guest printed, line by line, with nothing in it that a terminal acts on.
pub fn guest_output(text: &str) {
    let mut stdout = std::io::stdout().lock();
    for line in text.lines() {
        let _ = writeln!(stdout, "{}", wording::printable(line));
    }
    let _ = stdout.flush();
}

/// Prints what the compiler said, as it said it.
pub fn diagnostics(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Prints a line that parts one run from the next.
pub fn separator(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let (bold, end) = if !plain && stderr.is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let _ = writeln!(stderr, "{bold}──── {} ────{end}", wording::printable(text));
}
