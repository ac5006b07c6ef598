//! The log for developers of this library, on standard error when asked for.

use tracing_subscriber::EnvFilter;

/// The variable that asks for it: `debug`, `trace`, or any filter of tracing-subscriber
/// (`nixvm_test::qemu=trace`). `nixvm-test -v` and `-vv` set it.
pub const VARIABLE: &str = "NIXVM_LOG";

/// Starts the log if [`VARIABLE`] is set; a second call does nothing.
pub fn start() {
    if let Some(filter) = std::env::var(VARIABLE).ok().filter(|filter| !filter.is_empty()) {
        start_with(&filter);
    }
}

/// Starts the log with a level or a filter, as [`VARIABLE`] has them.
pub fn start_with(filter: &str) {
    let filter = match filter {
        "error" | "warn" | "info" | "debug" | "trace" => format!("nixvm_test={filter}"),
        _ => filter.to_owned(),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(false);
    // Fails only if a log was started before, and then that one is in use.
    let _ = log.try_init();
}
