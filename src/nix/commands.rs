//! The commands that build a VM.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::flake::Extended;
use super::nixpkgs::Nixpkgs;
use super::source::FlakeVm;
use super::store::Store;

/// Returns `nix-build '<nixpkgs/nixos>' -A vm`, as in the NixOS tutorial.
pub(super) fn configuration(file: &Path, nixpkgs: &Nixpkgs, store: Store, out_link: &Path) -> Command {
    let mut command = Command::new("nix-build");
    command.args(["<nixpkgs/nixos>", "-A", "vm"]);
    look_up(&mut command, file, nixpkgs);
    command.arg("--out-link").arg(out_link);
    finish(command, store, nixpkgs.is_stand_in())
}

/// Returns the command that evaluates the same VM and prints its derivation.
pub(super) fn derivation(file: &Path, nixpkgs: &Nixpkgs, store: Store) -> Command {
    let mut command = Command::new("nix-instantiate");
    command.args(["<nixpkgs/nixos>", "-A", "vm"]);
    look_up(&mut command, file, nixpkgs);
    finish(command, store, nixpkgs.is_stand_in())
}

/// Returns the command that builds a derivation.
pub(super) fn realise(derivation: &Path, stand_in: bool, store: Store, out_link: &Path) -> Command {
    let mut command = Command::new("nix-build");
    command.arg(derivation).arg("--out-link").arg(out_link);
    finish(command, store, stand_in)
}

/// Returns `nix build REF#…vm`. Flakes are still experimental in Nix, so the command enables them.
pub(super) fn flake(vm: &FlakeVm, store: Store, out_link: &Path) -> Command {
    let mut command = Command::new("nix");
    command.args(["build", "--extra-experimental-features", "nix-command flakes", "--print-build-logs"]);
    // A run changes no file of the user's, and what it builds does not depend on whether it could.
    command.arg("--no-write-lock-file").arg("--out-link").arg(out_link).arg(&vm.installable);
    finish(command, store, false)
}

/// Returns the command that evaluates the VM of a flake's host with a module of ours, and prints an [`Extended`], or
/// `null` if the host can't be extended. `nix eval REF --apply` locks and evaluates the flake exactly as `nix build REF`
/// does, which `builtins.getFlake` does not.
pub(super) fn extended_host(host: &str, module: &str, store: Store) -> Command {
    let apply = format!(
        "host: if host ? extendModules then let vm = (host.extendModules {{ modules = [ {module} ]; }}).config.system.build.vm; \
         in {{ derivation = vm.drvPath; output = builtins.unsafeDiscardStringContext vm.outPath; }} else null"
    );
    evaluate_flake(host, &apply, store)
}

/// Returns the command that builds what [`extended_host`] named, with the settings of the flake.
pub(super) fn build_within_flake(host: &str, extended: &Extended, store: Store) -> Command {
    // Reading a folder builds it.
    let apply = format!(
        "host: builtins.seq (builtins.readDir (builtins.appendContext \"{}\" {{ \"{}\" = {{ outputs = [ \"out\" ]; }}; }})) true",
        extended.output.display(),
        extended.derivation.display()
    );
    evaluate_flake(host, &apply, store)
}

/// A Nix expression that maps a configuration to its users.
const USERS: &str = include_str!("users.nix");

/// Returns the command that evaluates the users of a configuration.
pub(super) fn users_of_configuration(file: &Path, nixpkgs: &Nixpkgs, store: Store) -> Command {
    let mut command = Command::new("nix-instantiate");
    // Files that are built during the evaluation must be written to the store first.
    command.args(["--eval", "--strict", "--json", "--read-write-mode"]);
    look_up(&mut command, file, nixpkgs);
    command.arg("--expr").arg(format!("({USERS}) (import <nixpkgs/nixos> {{ }}).config"));
    finish(command, store, nixpkgs.is_stand_in())
}

/// Returns the same command for a host of a flake; `None` if the flake's attribute is not a host.
pub(super) fn users_of_flake(vm: &FlakeVm, store: Store) -> Option<Command> {
    let configuration = vm.installable.strip_suffix(".system.build.vm")?;
    Some(evaluate_flake(configuration, USERS, store))
}

/// Returns the command that evaluates the names of a flake's hosts: none if it has no `nixosConfigurations`.
pub(super) fn hosts_of_flake(reference: &str, store: Store) -> Command {
    evaluate_flake(&format!("{reference}#nixosConfigurations"), "builtins.attrNames", store)
}

fn evaluate_flake(installable: &str, apply: &str, store: Store) -> Command {
    let mut command = Command::new("nix");
    command.args([
        "eval",
        "--extra-experimental-features",
        "nix-command flakes",
        "--print-build-logs",
        "--json",
    ]);
    // The flake may be in another user's folder, so write nothing there.
    command.args(["--no-write-lock-file", "--apply", apply, installable]);
    finish(command, store, false)
}

/// Adds the paths of nixpkgs and the configuration.
fn look_up(command: &mut Command, file: &Path, nixpkgs: &Nixpkgs) {
    if let Some(value) = nixpkgs.search_path() {
        command.arg("-I").arg(format!("nixpkgs={value}"));
    }
    let mut entry = std::ffi::OsString::from("nixos-config=");
    entry.push(file);
    command.arg("-I").arg(entry);
}

pub(super) fn finish(mut command: Command, store: Store, stand_in: bool) -> Command {
    // Only the trace names the user's own file. The report shows only part of it.
    command.arg("--show-trace");
    for (name, value) in store.options(stand_in) {
        command.args(["--option", name, value]);
    }
    // Some versions print colours whenever the variable for it is set.
    command.env("NO_COLOR", "1").env_remove("CLICOLOR_FORCE");
    command
}

/// Returns the store path that `nix-build` printed on stdout. `nix build` prints none, so its link is read instead.
pub(super) fn out_path(stdout: &str, out_link: &Path) -> PathBuf {
    match stdout.lines().map(str::trim).rfind(|line| line.starts_with('/')) {
        Some(path) => PathBuf::from(path),
        None => out_link.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(command: &Command) -> String {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn a_configuration_is_built_as_the_tutorial_builds_it() {
        let file = Path::new("/a folder/configuration.nix");
        let given = Nixpkgs::Given("channel:nixos-26.05".to_owned());
        let command = configuration(file, &given, Store::Owner, Path::new("/c/link"));
        assert_eq!(
            line(&command),
            "nix-build|<nixpkgs/nixos>|-A|vm|-I|nixpkgs=channel:nixos-26.05|-I|nixos-config=/a folder/configuration.nix\
             |--out-link|/c/link|--show-trace"
        );
        let found =
            configuration(file, &Nixpkgs::Found, Store::Root { build_users: false }, Path::new("/c/link"));
        assert!(!line(&found).contains("nixpkgs="), "{}", line(&found));
        assert!(line(&found).ends_with("|--option|build-users-group|"), "{}", line(&found));
        let stand_in =
            configuration(file, &Nixpkgs::StandIn("/s".into()), Store::Owner, Path::new("/c/link"));
        assert!(line(&stand_in).contains("|--option|sandbox|false|--option|filter-syscalls|false"));
    }

    #[test]
    fn a_flake_is_built_with_flakes_switched_on() {
        let vm = ".#web".parse().unwrap();
        let line = line(&flake(&vm, Store::Daemon, Path::new("/c/link")));
        assert!(line.starts_with("nix|build|--extra-experimental-features|nix-command flakes|"), "{line}");
        assert!(line.contains("|.#nixosConfigurations.web.config.system.build.vm|"), "{line}");
    }

    #[test]
    fn the_store_path_is_what_nix_names_else_the_link() {
        let link = Path::new("/c/link");
        assert_eq!(out_path("/nix/store/x-vm\n", link), Path::new("/nix/store/x-vm"));
        assert_eq!(out_path("\n", link), link);
    }
}
