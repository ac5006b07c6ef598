//! nixvm-test verifies a NixOS configuration by booting it: it builds the VM, boots it headless,
//! sits at its serial console as a person would, logs in, runs commands, asserts on what comes
//! back and powers off. Nothing is installed in the VM.

pub mod build;
mod cache;
pub mod console;
mod error;
mod event;
mod limits;
pub mod machine;
pub mod qemu;
pub mod report;
pub mod scenario;

pub use error::{Error, ErrorKind, Result};
pub use event::{Event, Events};
pub use limits::Speed;
