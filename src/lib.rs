//! nixvm-test tests a NixOS configuration by booting it. It builds the VM, uses its serial console as a person would,
//! logs in, runs commands, checks their output and powers off. Scenarios are written in Rust. Nothing is installed in
//! the VM: no agent, no test module, no SSH key.
//!
//! # A first scenario
//!
//! A scenario is an `async fn` with the attribute [`#[scenario]`](macro@scenario). Each parameter is a machine with
//! that name, at its login prompt.
//!
//! ```no_run
//! use nixvm_test::prelude::*;
//!
//! /// alice can log in, and her packages are on her path.
//! #[scenario] // boots configuration.nix beside or above this file
//! async fn login(machine: Machine) -> Result {
//!     let alice = machine.login("alice", "test").await?;
//!     let cow = alice.succeed("cowsay hello").await?;
//!     assert!(cow.text().contains("< hello >"));
//!     machine.power_off().await
//! }
//!
//! nixvm_test::main!();
//! ```
//!
//! `nixvm-test login.rs` compiles the file and runs it. `nixvm-test init` writes a first configuration and a first
//! scenario, and `nixvm-test doctor` shows what the host lacks. Under `cargo test` and cargo-nextest, a test target
//! with one line, [`scenarios!("../scenarios")`](scenarios!), runs every scenario of a folder.
//!
//! # What to do next
//!
//! | to … | see |
//! |---|---|
//! | run commands as root or as a user, wait for services, move files, cut the power | [`Machine`](machine::Machine) |
//! | use a user's own shell on the console | [`Session`](machine::Session) |
//! | answer a program that asks questions | [`Console`](console::Console) |
//! | test several machines, set a time limit, allow a failed unit | [`#[scenario]`](macro@scenario) |
//! | begin at a saved moment | [`#[checkpoint]`](macro@checkpoint) |
//! | decide by how a call failed | [`ErrorKind`] |
//!
//! Once a user who may become root is logged in, commands no longer need the console:
//!
//! ```no_run
//! use nixvm_test::prelude::*;
//!
//! #[scenario(from = logged_in("alice", "test"))]
//! async fn web(machine: Machine) -> Result {
//!     machine.wait_for_unit("nginx").await?;
//!     machine.succeed("curl --fail http://localhost").await?;
//!     machine.as_user("alice").fail("cat /etc/shadow").await.map(drop)
//! }
//!
//! nixvm_test::main!();
//! ```
//!
//! Every call that can fail returns a [`Result`]. A scenario returns errors with `?`, also those of other crates. Its
//! report shows the line, what was expected, what came instead, and the console. [`Error::kind`] distinguishes
//! failures:
//!
//! ```no_run
//! use nixvm_test::prelude::*;
//!
//! #[scenario]
//! async fn a_wrong_password_is_refused(machine: Machine) -> Result {
//!     let error = machine.login("alice", "wrong").await.unwrap_err();
//!     assert_eq!(error.kind(), ErrorKind::LoginRefused);
//!     machine.power_off().await
//! }
//!
//! nixvm_test::main!();
//! ```
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `cli` | The program `nixvm-test`. On by default; a suite under `cargo test` needs the library alone, and compiles faster with `default-features = false`. |
//! | `expectrl` | [`Console::into_expectrl`](console::Console::into_expectrl): the console as a session of the crate `expectrl`. |
//! | `testing` | For the tests of this package. |

// The library contains what only the program uses, so without the program this is not reported. With it, rustc reports
// items that neither uses.
#![cfg_attr(not(feature = "cli"), allow(dead_code, unused_imports))]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod above;
mod at_once;
mod beneath;
#[cfg(doctest)]
mod book_examples;
mod boot_id;
mod built_vm;
mod cache;
mod call;
mod channel;
#[cfg(feature = "cli")]
mod cli;
pub mod console;
mod digest;
#[cfg(feature = "cli")]
mod doctor;
mod environment;
mod error;
mod event;
mod file_lock;
#[cfg(test)]
mod hang;
mod host_limits;
#[doc(hidden)]
pub mod internals;
mod io_error;
#[cfg(feature = "cli")]
mod lexical_path;
mod limits;
mod lost_time;
pub mod machine;
#[cfg(feature = "cli")]
mod mutants;
mod mutex;
mod nearest;
mod network;
mod nix;
mod packages;
mod partition;
mod pause;
mod place;
pub mod prelude;
mod presence;
mod qemu;
mod record;
mod report;
mod requested_reports;
pub mod scenario;
mod secrets;
mod settings;
mod shared_file;
mod signals;
mod sources;
mod sparse_copy;
mod stopped;
mod template;
mod text;
mod threads;
mod user_lock;

pub(crate) use built_vm::BuiltVm;
pub use error::{Error, ErrorKind, Result};
pub(crate) use event::{Event, Events, Failure, FileKind, StepOutput};
pub use limits::Speed;
pub(crate) use nearest::nearest;
pub(crate) use requested_reports::RequestedReports;
/// The runtime of scenarios, for `tokio::join!`, `tokio::spawn` and `tokio::time`, so that a scenario file needs no
/// dependency of its own.
pub use tokio;

/// Runs the program `nixvm-test` with its command line.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub fn __program() -> std::process::ExitCode {
    cli::program()
}

pub use nixvm_test_macros::{checkpoint, scenario, scenarios};

#[doc(hidden)]
pub use scenario::expansion as __private;

/// Makes the file a suite: a `main` that runs every scenario in the file, and in every module and crate that it refers
/// to.
///
/// Use it once in a scenario file, which then runs by itself (`nixvm-test FILE.rs`) and can also be a module of a
/// suite, and once in a test target:
///
/// ```toml
/// [[test]]
/// name = "scenarios"
/// harness = false
/// ```
///
/// ```no_run
/// // tests/login.rs
/// # mod login {}
/// # /*
/// #[path = "../scenarios/login.rs"]
/// mod login;
/// # */
///
/// nixvm_test::main!();
/// ```
///
/// [`scenarios!`] makes a suite of all files in a folder without naming them.
///
/// An unused future or `Result` is a compile error in each scenario, in a file that `nixvm-test` runs, and in a suite
/// that [`scenarios!`] makes. In the helper functions of any other suite it is a warning, since a macro can't change
/// the lints of other items. `[lints.rust] unused_must_use = "deny"` in Cargo.toml makes it an error there, too.
///
/// The command line is that of every Rust test: `--list`, filters, `--exact`, `--skip`, `--ignored`, `--test-threads`,
/// `--format`. The exit code shows the result: see [`scenario::Exit`].
#[macro_export]
macro_rules! main {
    () => {
        $crate::__needs_no_harness!();

        // It is not called if this file is a module of a suite.
        #[allow(dead_code)]
        fn main() -> ::std::process::ExitCode {
            $crate::scenario::main()
        }
    };
}

/// Fails if rustc's harness runs instead of ours: it would find no scenario, and pass.
#[doc(hidden)]
#[macro_export]
macro_rules! __needs_no_harness {
    () => {
        #[test]
        fn scenarios_run_only_with_harness_false() {
            ::core::panic!("no scenario runs here: write `harness = false` into the [[test]] of Cargo.toml")
        }
    };
}
