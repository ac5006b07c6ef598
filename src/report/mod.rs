//! What people see of a run. Each reporter turns [`Event`]s into one format; nothing else in this
//! library prints.

pub(crate) mod ci;
#[cfg(feature = "cli")]
mod compare;
mod github;
mod html;
mod junit;
mod lines;
mod live;
pub mod log;
mod paint;
mod print;
mod relay;
mod rendering;
mod tally;
mod wording;

use std::io::{IsTerminal, Write as _};
use std::sync::Arc;

#[cfg(feature = "cli")]
pub use compare::{Comparison, compare};
pub use github::Github;
pub use lines::Lines;
pub use live::Live;
pub(crate) use paint::paint;
pub use print::{
    answer, answer_json, answer_path, diagnostics, error, guest_output, printable, say, separator, show,
};
pub use relay::Relay;
pub use rendering::{Rendering, render};

use crate::build::Settings;
use crate::environment::is_set;
use crate::{Event, Events};

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
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    let plain = is_set("CI") || is_set("NO_COLOR") || is_set(log::VARIABLE) || dumb || !settings.capture;
    if !plain && std::io::stderr().is_terminal() && std::io::stdout().is_terminal() {
        Arc::new(Live::new())
    } else {
        Arc::new(Lines::new(std::io::stderr()))
    }
}

/// Whether what is printed to `stream` may have colours: a terminal's, unless NO_COLOR is set.
pub fn in_colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && !is_set("NO_COLOR")
}

/// The events of the run as a whole, sent to `reporter`.
pub fn events(reporter: &Arc<dyn Reporter>) -> Events {
    let reporter = reporter.clone();
    Events::new(move |event| reporter.event("", event))
}
