//! Detects trouble that no command reports: on a machine's console, in its kernel log, on its host.

pub(crate) mod console_checks;
pub(crate) mod host_trouble;
pub(crate) mod kernel_clock;
pub(crate) mod kernel_log;
pub(crate) mod stall;
