//! The tests of the library and of the program, in one binary, so that the library is linked once.
//!
//! A test that changes its process (variables, limits, signals), counts what the process has, or is killed, runs in a
//! process of its own: `again.rs`. So `cargo test`, which runs all tests on threads of one process, passes too.

#![allow(clippy::unwrap_used, clippy::expect_used)] // tests
#![allow(clippy::disallowed_methods, reason = "tests read variables that they set themselves")]

mod accelerator;
mod again;
mod beside_vms;
mod book;
mod build;
mod capture;
#[cfg(target_os = "linux")]
mod channel_guest;
mod ci_steps;
mod cli;
mod console_table;
mod documents;
mod error_sources;
mod fake_boots;
mod first_run;
mod flake;
mod folder;
#[path = "../../src/hang.rs"]
mod hang;
mod host_disk_full;
mod kept_disk;
mod layers;
mod machine;
mod many_machines;
mod network;
mod packaging;
mod qemu_launch;
mod real_vm;
mod report;
mod run_script;
mod schema;
mod small_disk;
mod supervision;
mod template_trouble;
