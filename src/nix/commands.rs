//! The commands that build a VM.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::nixpkgs::Nixpkgs;
use super::source::FlakeVm;
use super::store::Store;
use crate::{Error, ErrorKind, Result};

/// A module that is added to the VM variant of a configuration.
const CLONABLE: &str = include_str!("clonable.nix");
/// The options that the module sets.
const ITS_OPTIONS: [&str; 3] = ["useNixStoreImage", "sharedDirectories", "installBootLoader"];

/// Returns `nix-build '<nixpkgs/nixos>' -A vm`, as in the NixOS tutorial.
pub(super) fn configuration(file: &Path, nixpkgs: &Nixpkgs, store: Store, out_link: &Path) -> Command {
    let mut command = Command::new("nix-build");
    command.args(["<nixpkgs/nixos>", "-A", "vm"]);
    look_up(&mut command, file, nixpkgs);
    command.arg("--out-link").arg(out_link);
    finish(command, store, nixpkgs.is_stand_in())
}

/// Returns the same command with what clones of the VM need.
pub(super) fn clonable(file: &Path, nixpkgs: &Nixpkgs, store: Store, out_link: &Path) -> Command {
    with_clones(configuration(file, nixpkgs, store, out_link))
}

/// Returns the command that evaluates the same VM and prints its derivation, with what its clones need or without.
pub(super) fn derivation(file: &Path, nixpkgs: &Nixpkgs, store: Store, clonable: bool) -> Command {
    let mut command = Command::new("nix-instantiate");
    command.args(["<nixpkgs/nixos>", "-A", "vm"]);
    look_up(&mut command, file, nixpkgs);
    let command = finish(command, store, nixpkgs.is_stand_in());
    if clonable { with_clones(command) } else { command }
}

/// Returns the command that builds a derivation.
pub(super) fn realise(derivation: &Path, nixpkgs: &Nixpkgs, store: Store, out_link: &Path) -> Command {
    let mut command = Command::new("nix-build");
    command.arg(derivation).arg("--out-link").arg(out_link);
    finish(command, store, nixpkgs.is_stand_in())
}

/// Adds what clones of a VM need.
fn with_clones(mut command: Command) -> Command {
    // On one line and without comments, so that the command is easy to read.
    let lines = CLONABLE.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let module = lines.collect::<Vec<_>>().join(" ");
    let with = format!("{{ imports = [ <nixos-config> ]; virtualisation.vmVariant = {}; }}", module.trim());
    command.args(["--arg", "configuration"]).arg(with);
    command
}

/// Makes the disk image of a VM of the stand-in hold the packages of other configurations as well.
///
/// # Errors
/// [`ErrorKind::Usage`] when a path is not UTF-8, which Nix's language can't express.
pub(super) fn add_packages_of<'a>(command: &mut Command, files: impl Iterator<Item = &'a Path>) -> Result {
    let mut list = String::new();
    for file in files {
        let path = file.to_str().ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("{} is not UTF-8: Nix accepts no such path", file.display()))
        })?;
        let path = path.replace('\\', r"\\").replace('"', "\\\"").replace("${", "\\${");
        list.push_str(&format!("(/. + \"{path}\") "));
    }
    if !list.is_empty() {
        let with = format!("{{ imports = [ <nixos-config> ]; standin.alsoPackagesOf = [ {list}]; }}");
        command.args(["--arg", "configuration"]).arg(with);
    }
    Ok(())
}

/// Returns whether the module may be the only cause of Nix's error.
pub(super) fn is_about_clones(said: &str) -> bool {
    ITS_OPTIONS.iter().any(|option| said.contains(option))
}

/// Returns `nix build REF#…vm`. Flakes are still experimental in Nix, so the command enables them.
pub(super) fn flake(vm: &FlakeVm, store: Store, out_link: &Path) -> Command {
    let mut command = Command::new("nix");
    command.args(["build", "--extra-experimental-features", "nix-command flakes", "--print-build-logs"]);
    command.arg("--out-link").arg(out_link).arg(&vm.installable);
    finish(command, store, false)
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
    command.args(["eval", "--extra-experimental-features", "nix-command flakes", "--json"]);
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

fn finish(mut command: Command, store: Store, stand_in: bool) -> Command {
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

    /// Evaluates a part of the module. Real nixpkgs is not available here, so this provides the part of its library
    /// that the module uses.
    fn of_module(text: &str) -> String {
        let lib = "{ mkDefault = value: { default = value; }; mkOption = option: option; \
                   mkIf = condition: value: if condition then value else null; mkForce = value: value; }";
        let config = "{ virtualisation.useBootLoader = false; }";
        let pkgs = "{ writeScript = name: text: name; }";
        let mut command = Command::new("nix-instantiate");
        command.args(["--eval", "--strict", "--json", "--readonly-mode", "--expr"]);
        command.arg(format!(
            "let module = ({CLONABLE}) {{ lib = {lib}; config = {config}; pkgs = {pkgs}; }}; in {text}"
        ));
        let output = finish(command, Store::find().unwrap(), false).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn a_vm_that_is_to_be_cloned_shares_what_its_configuration_says_and_no_more() {
        let shares =
            "module.options.virtualisation.sharedDirectories.apply { xchg = 1; shared = 2; own = 3; }";
        assert_eq!(of_module(shares), r#"{"own":3}"#);
        assert_eq!(of_module("module.config.virtualisation"), r#"{"useNixStoreImage":{"default":true}}"#);
        let installer = of_module("module.config.system.build.installBootLoader");
        assert_eq!(installer, r#""nixvm-no-boot-loader""#);
        let file = Path::new("/a folder/configuration.nix");
        let command = clonable(file, &Nixpkgs::Found, Store::Owner, Path::new("/c/link"));
        let line = line(&command);
        assert!(line.contains("|-I|nixos-config=/a folder/configuration.nix|"), "{line}");
        let begun = "|--arg|configuration|{ imports = [ <nixos-config> ]; virtualisation.vmVariant = { config, lib, pkgs, ... }: ";
        assert!(line.contains(begun) && line.ends_with("; }; }"), "{line}");
        assert!(ITS_OPTIONS.iter().all(|option| CLONABLE.contains(option)));
    }

    #[test]
    fn a_vm_of_the_stand_in_gets_the_packages_of_the_systems_it_is_switched_to() {
        let file = Path::new("/a folder/today.nix");
        let mut command =
            configuration(file, &Nixpkgs::StandIn("/s".into()), Store::Owner, Path::new("/c/link"));
        add_packages_of(&mut command, [file, Path::new("/b/\"${x}.nix")].into_iter()).unwrap();
        let whole = line(&command);
        let list = r#"standin.alsoPackagesOf = [ (/. + "/a folder/today.nix") (/. + "/b/\"\${x}.nix") ]; }"#;
        assert!(
            whole.contains("|--arg|configuration|{ imports = [ <nixos-config> ]; ") && whole.contains(list),
            "{whole}"
        );
        let mut alone =
            configuration(file, &Nixpkgs::StandIn("/s".into()), Store::Owner, Path::new("/c/link"));
        add_packages_of(&mut alone, std::iter::empty()).unwrap();
        assert!(!line(&alone).contains("--arg"));
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
