//! nixvm-test verifies a NixOS configuration by booting it: it builds the VM, boots it headless,
//! sits at its serial console as a person would, logs in, runs commands, asserts on what comes
//! back and powers off. Nothing is installed in the VM.

// A suite's library has what the program alone uses. With the program, rustc names what is used by neither.
#![cfg_attr(not(feature = "cli"), allow(dead_code, unused_imports))]

mod above;
mod beneath;
#[cfg(doctest)]
mod book_examples;
mod boot_id;
mod built_vm;
mod cache;
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
#[doc(hidden)]
pub mod internals;
mod limits;
mod lost_time;
pub mod machine;
mod mutex;
mod nearest;
mod nix;
mod packages;
mod partition;
mod pause;
mod place;
pub mod prelude;
mod qemu;
mod record;
mod report;
mod requested_reports;
pub mod scenario;
mod secrets;
mod settings;
mod shared_file;
mod signals;
mod sparse_copy;
mod template;
mod text;
mod user_lock;

pub(crate) use built_vm::BuiltVm;
pub use error::{Error, ErrorKind, Result};
pub(crate) use event::{Event, Events, Failure, FileKind, StepOutput};
pub use limits::Speed;
pub(crate) use nearest::nearest;
pub(crate) use requested_reports::RequestedReports;
/// The runtime that scenarios run on, for `tokio::join!`, `tokio::spawn` and `tokio::time`: a scenario's file needs
/// no dependency of its own.
pub use tokio;

/// The program `nixvm-test`: reads its command line, and does what it says.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub fn __program() -> std::process::ExitCode {
    use clap::Parser as _;

    cli::Cli::parse().run()
}

/// Makes a test of an `async fn`: its machines are built and booted, the function runs with them at
/// their login prompts, and whatever becomes of it they are gone afterwards.
///
/// ```no_run
/// use nixvm_test::prelude::*;
///
/// /// alice can log in, and her packages are on her path.
/// #[scenario]
/// async fn login(machine: Machine) -> Result {
///     let alice = machine.login("alice", "test").await?;
///     let cow = alice.succeed("cowsay hello | lolcat").await?;
///     assert!(cow.text().contains("< hello >"));
///     machine.power_off().await
/// }
///
/// nixvm_test::main!();
/// ```
///
/// Each parameter is a machine, and its name is the machine's; or it is a [`Session`](machine::Session) of the user
/// of that name, who is logged in on a machine of their own (`async fn cow(alice: Session)`). A scenario without
/// parameters boots nothing. It passes if it returns: nothing, or `Ok` of a `Result<(), E>` whose `E` has a `Display`
/// or a `Debug`. It fails if it panics, returns an error or exceeds its time limit. The doc comment
/// is its description.
///
/// | argument | |
/// |---|---|
/// | `configuration = "web.nix"` | what the machines are built from; the path starts at the folder of the scenario's file |
/// | `server = "server.nix"` | the same for the machine of that name alone |
/// | `from = booted` | where the machines begin: `booted`, at the login prompt (when not given); `logged_in("alice", "test")`; the name of a [`checkpoint`](macro@checkpoint); `cold`, booted for this scenario alone. Every scenario has machines of its own, clones of one that was booted once |
/// | `timeout = "5m"` | the time limit on a fast host (`30s`, `1m30s`, `1h`), multiplied by the measured [`Speed`]; 5 minutes when not given. It counts from when the machines are up |
/// | `memory = "2G"`, `cores = 2` | what each of the machines has, instead of what the configuration says |
/// | `retries = 2` | how often it is tried again when it failed; a scenario that passes then is named flaky |
/// | `budget(boot = "20s", userspace = "12s")` | how long the boot of each machine may take, from the kernel's first moment until everything is up, and what systemd may take of it; a scenario that passed fails when it took longer. In calibrated time: that of a host on which the kernel takes one second, so that a slow host changes nothing. It holds under KVM alone, and with `accelerator = "tcg"` under TCG alone; under the other one it is not judged, and a note says so. Somebody has to be logged in at the end, or when the machine is powered off, who can become root |
/// | `allow("segfault")` | what would fail a scenario that passed: a kernel oops, a segfault, an OOM kill, a failed unit, …, as a console shows them or, while the control channel is open, the kernel's log and systemd. Each can be allowed by its name, see [`machine::console_checks`] |
/// | `ignore`, `ignore = "why"` | left out unless asked for (`--ignored`, `--include-ignored`) |
///
/// Several machines, each of its own configuration:
///
/// ```no_run
/// # use nixvm_test::prelude::*;
/// #[scenario(server = "server.nix", client = "client.nix", timeout = "2m")]
/// async fn ping(server: Machine, client: Machine) -> Result {
///     client.login("alice", "test").await?.succeed("true").await?;
///     server.power_off().await
/// }
/// ```
///
/// Without an argument a machine is built from what was given for the whole run (`--configuration`,
/// `--flake`, `--vm`), else from `configuration.nix` beside the scenario's file or in the nearest
/// folder above it, up to the root of the repository.
///
/// The crate needs no dependency but this one. It may deny unsafe code, but not forbid it: registering
/// before `main` is what the [`ctor`] crate does, and the linker's word for it is unsafe.
///
/// [`ctor`]: https://docs.rs/ctor
///
/// A mistake is an error of the compiler, at its place:
///
/// ```compile_fail
/// # use nixvm_test::prelude::*;
/// #[scenario(timeout = "5 minutes or so")]
/// async fn login(machine: Machine) {}
/// ```
pub use nixvm_test_macros::scenario;

/// Makes of an `async fn` a moment at which scenarios can begin: it runs once for each configuration, what it made of
/// the machine is saved, and each scenario that begins there gets a clone of its own.
///
/// ```no_run
/// use nixvm_test::prelude::*;
///
/// /// The database has something in it.
/// #[checkpoint(from = logged_in("alice", "test"))]
/// async fn seeded(machine: &mut Machine) -> Result {
///     machine.wait_for_unit("postgresql").await?;
///     machine.as_user("alice").succeed("psql -c 'CREATE TABLE notes (text text)'").await.map(drop)
/// }
///
/// #[scenario(from = seeded)]
/// async fn notes_can_be_added(machine: Machine) -> Result {
///     machine.as_user("alice").succeed("psql -c \"INSERT INTO notes VALUES ('x')\"").await.map(drop)
/// }
///
/// nixvm_test::main!();
/// ```
///
/// A checkpoint may begin at another one (`from = …`); without it, it begins at the login prompt. It is made anew
/// when the program that it is part of is compiled anew, or anything else changes that could change the
/// state. Somebody may be logged in on the console in the end; commands that run in the background go on in the
/// clones.
///
/// ```compile_fail
/// # use nixvm_test::prelude::*;
/// #[checkpoint]
/// async fn seeded(machine: Machine) -> Result { Ok(()) } // takes a `&mut Machine`
/// ```
pub use nixvm_test_macros::checkpoint;

/// Makes the file a suite of every scenario in a folder, and in the folders below it.
///
/// ```toml
/// [[test]]
/// name = "scenarios"
/// harness = false
/// ```
///
/// ```text
/// // tests/scenarios.rs
/// nixvm_test::scenarios!("../scenarios");
/// ```
///
/// The path starts at the folder of the file, as that of `#[path]` does. Each file with scenarios becomes a module of its
/// name (`scenarios/web/login.rs`: `web::login`); with a [`main!`] of its own it still runs by itself. A file that such a
/// file has as a module (`mod steps;`) is no module of the suite beside that. Hidden files and folders, links to folders,
/// `target` and folders with a `Cargo.toml` are left out.
///
/// A file that comes later is not in the suite until that is compiled again, and cargo does not see it coming. So the suite
/// compares its files with the folder when it runs, also for `--list`, and fails with the name of a file that is missing.
/// Where the sources are not, as in an archive of cargo-nextest on another host, nothing is compared.
pub use nixvm_test_macros::scenarios;

#[doc(hidden)]
pub use scenario::expansion as __private;

/// Makes the file a suite: a `main` that runs every scenario in it, and in every module and crate
/// that it refers to.
///
/// It stands once in a scenario's file, which then runs by itself (`nixvm-test FILE.rs`) and can be a
/// module of a suite as well, and once in a test target:
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
/// A suite of all files in a folder is made by [`scenarios!`], which names none of them.
///
/// The command line is that of every Rust test: `--list`, filters, `--exact`, `--skip`, `--ignored`,
/// `--test-threads`, `--format`. The exit code says how it went: see [`scenario::Exit`].
#[macro_export]
macro_rules! main {
    () => {
        $crate::__needs_no_harness!();

        // Nobody calls it where this file is a module of a suite.
        #[allow(dead_code)]
        fn main() -> ::std::process::ExitCode {
            $crate::scenario::main()
        }
    };
}

/// Fails where the harness of rustc runs instead of ours: it would find no scenario, and be content.
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
