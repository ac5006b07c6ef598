//! What goes wrong in a machine without anybody asking: on its console, in its kernel's log, on its host.

pub(crate) mod console_checks;
pub(crate) mod host_trouble;
pub(crate) mod kernel_clock;
pub(crate) mod kernel_log;
pub(crate) mod stall;
