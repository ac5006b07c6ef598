//! The macros of nixvm-test: `#[scenario]`, `#[checkpoint]` and `scenarios!`. Use them through the `nixvm_test` crate:
//! this crate contains only code that has to be a procedural macro. The documentation is here, where editors show it.

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
mod vlans;
mod walk;

/// Makes an `async fn` a test: builds and boots its machines, and runs the function with them at their login prompts.
/// Afterwards the machines are removed, even if the test fails.
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
/// Each parameter is a machine, and its name is the machine's. It can also be a `Session` of the user with that name,
/// who is logged in on a machine of their own (`async fn cow(alice: Session)`), a `System`, which is built and not
/// booted (a machine can switch to it), or the `Network` of the machines. A scenario without parameters boots nothing. It passes if it returns nothing, or
/// `Ok` of a `Result<(), E>` whose `E` has a `Display` or a `Debug`. It fails if it panics, returns an error or exceeds
/// its time limit. The doc comment is its description.
///
/// | argument | |
/// |---|---|
/// | `configuration = "web.nix"` | what the machines and systems are built from: see “Sources” below |
/// | `server = "server.nix"` | the same, only for the machine or system of that name |
/// | `nixpkgs(next = "channel:nixos-26.05")` | another nixpkgs for the machine or system of that name: a channel, a folder, a URL, `<nixpkgs>` or `standin`, as in `--nixpkgs` |
/// | `from = booted` | where the machines begin: `booted`, at the login prompt (the default); `logged_in("alice", "test")`; the name of a `#[checkpoint]`; `cold`, booted only for this scenario. Every scenario has its own machines, clones of one that was booted once |
/// | `timeout = "5m"` | the time limit on a fast host (`30s`, `1m30s`, `1h`), multiplied by the measured `Speed` of the host; the default is 5 minutes. It starts when the machines are up |
/// | `memory = "2G"`, `cores = 2` | memory and processors of each machine, overriding the configuration |
/// | `vlans(server = [1, 2], client = [2])` | the VLANs of these machines, numbers from 1 to 255, overriding their configurations; `[]` isolates a machine. Several machines are on VLAN 1 without this |
/// | `dhcp = false`, `dhcp(2 = false)` | no DHCP server on any VLAN, or on one. It gives built VMs without nixvm-test's network module their addresses, and answers no other machine |
/// | `passphrase = "open sesame"` | the passphrase for the encrypted disks of the machines: it is typed when a boot asks for a passphrase, once for each question, and masked like a password. A boot fails at once if it asks without a given passphrase, or refuses it. A scenario begins only at a clone of a machine that was opened with the same passphrase |
/// | `retries = 2` | how often a failure is retried; a scenario that then passes is reported as flaky |
/// | `budget(boot = "20s", userspace = "12s")` | how long the boot of each machine may take, from the start of the kernel until everything is up, and the part of it that systemd may take. A scenario that passed fails if its boot took longer. The time is calibrated to a host on which the kernel takes one second, so a slow host makes no difference. The budget applies under KVM only, or with `accelerator = "tcg"` under TCG only; under the other one it is not checked, and a note says so. A user who can become root must be logged in at the end, or when the machine is powered off |
/// | `allow("segfault")` | trouble that would otherwise fail a scenario that passed: a kernel oops, a segfault, an OOM kill, a failed unit, …, as shown by a console or, while the control channel is open, by the kernel's log and systemd. Allow each by its name, see `nixvm_test::machine::console_checks` |
/// | `ignore`, `ignore = "why"` | skipped unless requested (`--ignored`, `--include-ignored`) |
///
/// Several machines, each with its own configuration. They are on one network, and know each other by these names:
///
/// ```no_run
/// # use nixvm_test::prelude::*;
/// #[scenario(server = "server.nix", client = "client.nix", timeout = "2m")]
/// async fn ping(server: Machine, client: Machine) -> Result {
///     client.login("alice", "test").await?.succeed("ping -c 1 server").await?;
///     server.power_off().await
/// }
/// ```
///
/// # Sources
/// A machine or a system is built from what its argument names. A relative path starts at the folder of the scenario's
/// file.
///
/// | source | |
/// |---|---|
/// | `"web.nix"` | a configuration: a file, or a folder with a `default.nix` |
/// | `"git:HEAD:hosts/web.nix"` | a configuration as it was committed. Before the second colon is a revision as `git rev-parse` takes it (`main~3`, `v1.0`, `origin/main`). The path starts at the root of the repository, or at the scenario's folder if it begins with `./` or `../`. Uncommitted changes are not in it |
/// | `"git:HEAD"` | the configuration that would be found without the argument, as it was committed |
/// | `"profile:/nix/var/nix/profiles/system"` | the same, at the commit that this system was built from: its `nixos-version --configuration-revision` names it |
/// | `"flake:.#web"` | a host of a flake; `"flake:.?ref=v1.0#web"` is one of a commit |
/// | `"vm:result"` | a VM that is already built |
///
/// Without an argument it is built from the configuration for the whole run (`--configuration`, `--flake`, `--vm`), else
/// from `configuration.nix` beside the scenario's file or in the nearest folder above it, up to the root of the
/// repository. A path in an argument is not searched for in the folders above: in a file in `scenarios/` it is
/// `"../configuration.nix"`.
///
/// A machine that runs the configuration of the last commit, and the system of the present one, which has no argument:
///
/// ```no_run
/// # use nixvm_test::prelude::*;
/// #[scenario(machine = "git:HEAD")]
/// async fn rows_survive(machine: Machine, next: System) -> Result {
///     println!("{}", next.path()?.display());
///     machine.power_off().await
/// }
/// ```
///
/// The crate needs no other dependency. It may deny unsafe code, but not forbid it: the [`ctor`] crate registers
/// scenarios before `main`, which needs an unsafe attribute for the linker.
///
/// [`ctor`]: https://docs.rs/ctor
///
/// A command that is not awaited never runs, and an unused result hides a failure. So an unused future and an unused
/// `Result` are compile errors; `let _ = …;` shows that it is intended:
///
/// ```compile_fail
/// # use nixvm_test::prelude::*;
/// #[scenario]
/// async fn login(machine: Machine) {
///     machine.succeed("true");
/// }
/// ```
///
/// A mistake in an argument is a compile error too, shown at its place:
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
/// The path is relative to the folder of the file, as in `#[path]`. Each file with scenarios becomes a module of its
/// name (`scenarios/web/login.rs`: `web::login`). If it has a `nixvm_test::main!()`, it can still run by itself. A file
/// that is already a module of such a file (`mod steps;`) does not become a module of the suite as well. Hidden files
/// and folders, links to folders, `target` and folders with a `Cargo.toml` are skipped.
///
/// A file that is added later is not in the suite until the suite is compiled again, and cargo does not notice it. So
/// the suite compares its files with the folder when it runs, also for `--list`, and fails with the name of a missing
/// file. If the sources are not present, as in a cargo-nextest archive on another host, it compares nothing.
#[proc_macro]
pub fn scenarios(input: TokenStream) -> TokenStream {
    scenarios::scenarios(input.into(), scenarios::file().as_deref()).into()
}

/// Makes an `async fn` a moment at which scenarios can begin. It runs once for each configuration, then the state of
/// the machine is saved, and each scenario that begins there gets its own clone.
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
/// A checkpoint may begin at another one (`from = …`); the default is the login prompt. It is made again when its
/// program is recompiled, or when anything else changes that could affect the state. A user may be logged in on the
/// console at the end; commands that run in the background continue in the clones.
///
/// A checkpoint of several machines saves all of them at one moment. Scenarios that begin there take the same machines,
/// by name, and get their own clones of all of them. Connections between the machines go on:
///
/// ```no_run
/// use nixvm_test::prelude::*;
///
/// #[checkpoint(from = logged_in("alice", "test"))]
/// async fn cluster(server: &mut Machine, client: &mut Machine) -> Result {
///     server.wait_for_open_port(7000).await?;
///     client.succeed("systemd-run --unit talk talk-to server").await.map(drop)
/// }
///
/// #[scenario(configuration = "member.nix", from = cluster)]
/// async fn they_talk(client: Machine, server: Machine) -> Result {
///     server.wait_until_succeeds("grep hello /run/heard").await?;
///     client.succeed("systemctl is-active talk").await.map(drop)
/// }
///
/// nixvm_test::main!();
/// ```
///
/// Each machine reaches the moment before by itself; with `from = cold` they boot together. If one of them can't be
/// cloned, all of them boot cold, and a line says why.
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

/// For methods of the library: an error of such a method has the place of the call.
#[doc(hidden)]
#[proc_macro_attribute]
pub fn tracked(_: TokenStream, item: TokenStream) -> TokenStream {
    tracked::tracked(item.into()).into()
}
