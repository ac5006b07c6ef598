//! The log for developers of this library, on standard error. It is off by default.

use std::io::{self, Write};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::ci;
use crate::{environment, secrets};

/// The variable that enables the log: `debug`, `trace`, or levels of parts of this library and of its
/// dependencies (`nixvm_test=debug,nixvm_test::qemu=trace`). `nixvm-test -v` and `-vv` set it.
pub const VARIABLE: &str = "NIXVM_LOG";

/// Starts the log if [`VARIABLE`] is set. A second call does nothing.
pub fn start() {
    if let Some(filter) = environment::text(VARIABLE) {
        start_with(&filter);
    }
}

/// Starts the log with a level or a filter, as in [`VARIABLE`]. If the filter is invalid, the log reports
/// that, and shows everything of this library.
pub fn start_with(filter: &str) {
    let filter = match filter {
        "error" | "warn" | "info" | "debug" | "trace" => format!("nixvm_test={filter}"),
        _ => filter.to_owned(),
    };
    let (targets, wrong) = match filter.parse::<Targets>() {
        Ok(targets) => (targets, None),
        Err(error) => (Targets::new().with_target("nixvm_test", tracing::Level::TRACE), Some(error)),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(|| Filtered(std::io::stderr())).with_ansi(false);
    // It fails only if a log was started before, which is then in use.
    let _ = tracing_subscriber::registry().with(lines).with(targets).try_init();
    if let Some(error) = wrong {
        tracing::error!("{VARIABLE} is not a filter: {error}");
    }
}

/// A writer that filters lines, because they may contain output of QEMU, Nix or a guest.
struct Filtered<W>(W);

impl<W: Write> Write for Filtered<W> {
    // Each line arrives in one piece.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let shown = ci::broken_up(&secrets::lines(&String::from_utf8_lossy(bytes)));
        self.0.write_all(shown.as_bytes()).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_does_nothing_to_a_terminal() {
        let mut out = Vec::new();
        Filtered(&mut out).write_all("line=\x1b[2J\u{202e}qemu\x1bPq\x1b\\\n".as_bytes()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "line=\u{fffd}qemu\n");
    }
}
