//! The fake guest: a program that stands in for QEMU and for the NixOS guest in it.
//!
//! A test writes a fake `./result` with [`FakeVm`] and gives it to whatever starts real ones: its
//! `bin/run-NAME-vm` honours the variables of a real run script and execs `fake-guest` with QEMU's command line.
//! The fake speaks QMP, boots in milliseconds, says on the console what a NixOS guest says, byte for byte, and ends
//! in a real shell on a real terminal of its own. [`FakeLine`] is its console alone, as a socket.
//!
//! How it behaves is said by the [`settings`]. Inside the guest, the command `fake` makes trouble while another
//! command runs: `fake panic`, `fake die [STATUS]`, `fake stall`, `fake kernel TEXT`, `fake noise bytes:7`.
//!
//! ```no_run
//! use nixvm_fake_guest::{FakeVm, Flavour};
//! let folder = tempfile::tempdir().unwrap();
//! let result = FakeVm::new().user("alice", "test").flavour(Flavour::Systemd258).write_to(folder.path());
//! assert!(result.join("bin/run-nixos-vm").exists());
//! ```

#![allow(clippy::disallowed_methods, reason = "another crate, which does not have `crate::environment`")]

mod binary;
mod executable;
mod line;
pub mod settings;
mod vm;
mod words;

pub use binary::{binary, installed};
pub use executable::write_executable;
pub use line::FakeLine;
pub use settings::Flavour;
pub use vm::FakeVm;
