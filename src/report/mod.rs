//! What people see of a run. Each reporter turns [`Event`](crate::Event)s into one format. Nothing else in
//! this library prints.

pub(crate) mod ci;
#[cfg(feature = "cli")]
mod compare;
mod github;
mod html;
mod junit;
mod lines;
mod live;
pub mod log;
pub(crate) mod markdown;
mod paint;
mod print;
mod relay;
mod rendering;
mod tally;
mod wording;

use std::io::IsTerminal;
use std::sync::Arc;

#[cfg(feature = "cli")]
pub use compare::compare;
pub use github::Github;
pub use lines::Lines;
pub use live::Live;
pub(crate) use paint::paint;
pub use print::{NO_READER, answer, error, lost_output, not_written, printable, say};
pub use print::{answer_json, answer_path, diagnostics, guest_output, separator, show};
pub use print::{has_no_reader, show_foreign, usage};
pub use relay::Relay;
pub use rendering::Rendering;
pub use rendering::render;

use crate::environment::{is_set, variable};
use crate::event::Reporter;
use crate::settings::Settings;

/// Returns the reporter that suits the output: a live display on a terminal; plain lines in CI, in a pipe,
/// with NO_COLOR, or when the log is shown; only the results when quiet.
pub fn choose(settings: &Settings) -> Arc<dyn Reporter> {
    if settings.quiet {
        return Arc::new(Lines::new(std::io::sink()));
    }
    let dumb = variable("TERM").is_none_or(|term| term == "dumb");
    let plain = is_set("CI") || is_set("NO_COLOR") || is_set(log::VARIABLE) || dumb || !settings.capture;
    if !plain && std::io::stderr().is_terminal() && std::io::stdout().is_terminal() {
        Arc::new(Live::new())
    } else {
        Arc::new(Lines::new(std::io::stderr()))
    }
}

/// Whether output to `stream` may have colours: it is a terminal, and NO_COLOR is not set.
pub fn in_colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && !is_set("NO_COLOR")
}
