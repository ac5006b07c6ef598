//! The macros of nixvm-test: `#[scenario]`, `#[checkpoint]` and `scenarios!`. Use them through the `nixvm_test` crate: this
//! crate holds only what has to be a procedural macro. The documentation stands here, where editors show it.

use proc_macro::TokenStream;

mod arguments;
mod checkpoint;
mod duration;
mod expand;
mod look;
mod nearest;
mod places;
mod scenarios;
mod signature;
mod tests;
mod tracked;
mod walk;

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
/// Each parameter is a machine, and its name is the machine's; or it is a `Session` of the user
/// of that name, who is logged in on a machine of their own (`async fn cow(alice: Session)`). A scenario without
/// parameters boots nothing. It passes if it returns: nothing, or `Ok` of a `Result<(), E>` whose `E` has a `Display`
/// or a `Debug`. It fails if it panics, returns an error or exceeds its time limit. The doc comment
/// is its description.
///
/// | argument | |
/// |---|---|
/// | `configuration = "web.nix"` | what the machines are built from; the path starts at the folder of the scenario's file |
/// | `server = "server.nix"` | the same for the machine of that name alone |
/// | `from = booted` | where the machines begin: `booted`, at the login prompt (when not given); `logged_in("alice", "test")`; the name of a `#[checkpoint]`; `cold`, booted for this scenario alone. Every scenario has machines of its own, clones of one that was booted once |
/// | `timeout = "5m"` | the time limit on a fast host (`30s`, `1m30s`, `1h`), multiplied by the measured `Speed` of the host; 5 minutes when not given. It counts from when the machines are up |
/// | `memory = "2G"`, `cores = 2` | what each of the machines has, instead of what the configuration says |
/// | `passphrase = "open sesame"` | what opens the encrypted disks of the machines: it is typed where a boot asks for a passphrase, once for each question, and masked like a password. A boot that asks and was given none, or that refuses it, fails at once. A scenario begins at a clone only of a machine that was opened with the same passphrase |
/// | `retries = 2` | how often it is tried again when it failed; a scenario that passes then is named flaky |
/// | `budget(boot = "20s", userspace = "12s")` | how long the boot of each machine may take, from the kernel's first moment until everything is up, and what systemd may take of it; a scenario that passed fails when it took longer. In calibrated time: that of a host on which the kernel takes one second, so that a slow host changes nothing. It holds under KVM alone, and with `accelerator = "tcg"` under TCG alone; under the other one it is not judged, and a note says so. Somebody has to be logged in at the end, or when the machine is powered off, who can become root |
/// | `allow("segfault")` | what would fail a scenario that passed: a kernel oops, a segfault, an OOM kill, a failed unit, …, as a console shows them or, while the control channel is open, the kernel's log and systemd. Each can be allowed by its name, see `nixvm_test::machine::console_checks` |
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
/// A command that is not awaited never runs, and a result that is not looked at hides a failure. So an unused future and an
/// unused `Result` are errors of the compiler; `let _ = …;` says that it is meant:
///
/// ```compile_fail
/// # use nixvm_test::prelude::*;
/// #[scenario]
/// async fn login(machine: Machine) {
///     machine.succeed("true");
/// }
/// ```
///
/// So is a mistake in an argument, at its place:
///
/// ```compile_fail
/// # use nixvm_test::prelude::*;
/// #[scenario(timeout = "5 minutes or so")]
/// async fn login(machine: Machine) {}
/// ```
#[proc_macro_attribute]
pub fn scenario(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let beside = tests::beside();
    [expand::scenario(arguments.into(), item.into()).into(), beside].into_iter().collect()
}

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
/// name (`scenarios/web/login.rs`: `web::login`); with a `nixvm_test::main!()` of its own it still runs by itself. A file that such a
/// file has as a module (`mod steps;`) is no module of the suite beside that. Hidden files and folders, links to folders,
/// `target` and folders with a `Cargo.toml` are left out.
///
/// A file that comes later is not in the suite until that is compiled again, and cargo does not see it coming. So the suite
/// compares its files with the folder when it runs, also for `--list`, and fails with the name of a file that is missing.
/// Where the sources are not, as in an archive of cargo-nextest on another host, nothing is compared.
#[proc_macro]
pub fn scenarios(input: TokenStream) -> TokenStream {
    scenarios::scenarios(input.into(), scenarios::file().as_deref()).into()
}

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
#[proc_macro_attribute]
pub fn checkpoint(arguments: TokenStream, item: TokenStream) -> TokenStream {
    checkpoint::checkpoint(arguments.into(), item.into()).into()
}

/// For the methods of the library: an error of such a method has the place of the call.
#[doc(hidden)]
#[proc_macro_attribute]
pub fn tracked(_: TokenStream, item: TokenStream) -> TokenStream {
    tracked::tracked(item.into()).into()
}
