//! What is added to a user's configuration before it is built.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::network;
use crate::{Error, ErrorKind, Events, Result};

/// A module for the VM variant of a configuration.
const CLONABLE: &str = include_str!("clonable.nix");
/// The words by which errors about the options that [`CLONABLE`] sets are known. Traces of unrelated errors name
/// `installBootLoader` as well, so only an error about that option itself counts.
const ITS_WORDS: [&str; 3] =
    ["useNixStoreImage", "sharedDirectories", "option `system.build.installBootLoader'"];
/// The same of a nixpkgs that has no variant of a configuration for its VM (before 21.11).
const NO_VARIANT: &str = "option `virtualisation.vmVariant' does not exist";

/// The password of root in a VM that is built with one. It is no secret: nothing but the VM has it.
const ROOT_PASSWORD: &str = "nixvm-test";

/// What is added to a configuration.
#[derive(Debug, Clone, Default)]
pub(super) struct Additions {
    /// What clones of the VM need.
    pub(super) clones: bool,
    /// What the machine needs on the networks of a scenario.
    pub(super) network: bool,
    /// Whether root logs in with [`ROOT_PASSWORD`] in the VM.
    pub(super) root_password: bool,
    /// Configurations whose packages the disk image of a VM of the stand-in holds as well.
    pub(super) packages_of: Vec<PathBuf>,
    /// Notes about additions that were the cause of an error.
    pub(super) left_out: Vec<String>,
}

impl Additions {
    /// Adds them to a command that builds or evaluates `<nixpkgs/nixos>`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when a path is not UTF-8, which Nix's language can't express.
    pub(super) fn add_to(&self, command: &mut Command) -> Result {
        let mut parts = self.of_the_variant().unwrap_or_default();
        if !self.packages_of.is_empty() {
            let files: Vec<String> =
                self.packages_of.iter().map(|file| expression(file)).collect::<Result<_>>()?;
            parts.push_str(&format!("standin.alsoPackagesOf = [ {} ]; ", files.join(" ")));
        }
        if !parts.is_empty() {
            let configuration = format!("{{ imports = [ <nixos-config> ]; {parts}}}");
            command.args(["--arg", "configuration"]).arg(configuration);
        }
        Ok(())
    }

    /// Leaves out the addition that is the cause of Nix's error. Returns whether there is one, so that a build without it
    /// may succeed.
    pub(super) fn leave_out_the_cause_of(&mut self, error: &Error) -> bool {
        let (said, why) = (error.to_string(), error.summary());
        if self.clones && is_about_clones(&said) {
            self.clones = false;
            self.left_out
                .push(format!("machines boot cold, because the VM can't be built for clones: {why}"));
            return true;
        }
        if self.network && (network::is_about_network(&said) || has_words(&said, &[NO_VARIANT])) {
            self.network = false;
            self.left_out.push(format!(
                "machines get their addresses by DHCP and know no names, because the VM can't be built with the module \
                 for networks: {why}"
            ));
            return true;
        }
        false
    }

    /// Sends a note about each addition that was left out.
    pub(super) fn tell_what_was_left_out(self, events: &Events) {
        self.left_out.into_iter().for_each(|note| events.note(note));
    }

    /// Returns the module that a host of a flake is extended by; `None` if nothing is added to its VM.
    pub(super) fn module(&self) -> Option<String> {
        self.of_the_variant().map(|parts| format!("{{ {parts}}}"))
    }

    /// Returns what a VM lacks that is built without them, in words.
    pub(super) fn described(&self) -> String {
        let parts = [
            (self.clones, "what clones need"),
            (self.network, "the names and addresses of its networks"),
            (self.root_password, "a password of root"),
        ];
        let parts: Vec<&str> =
            parts.iter().filter(|(is_added, _)| *is_added).map(|(_, what)| *what).collect();
        parts.join(" and ")
    }

    /// Returns the definition for the VM variant.
    fn of_the_variant(&self) -> Option<String> {
        let mut modules = Vec::new();
        if self.clones {
            // On one line and without comments, so that the command is easy to read.
            let lines = CLONABLE.lines().map(str::trim).filter(|line| !line.starts_with('#'));
            modules.push(lines.collect::<Vec<_>>().join(" ").trim().to_owned());
        }
        if self.network {
            // Its lines stay, because it has a script.
            modules.push(network::MODULE.trim().to_owned());
        }
        if self.root_password {
            // `password` counts more than the options for hashes, and less than a file (nixpkgs: update-users-groups.pl).
            modules.push(format!(
                "{{ lib, ... }}: {{ users.users.root = {{ hashedPasswordFile = lib.mkForce null; password = lib.mkForce \
                 \"{ROOT_PASSWORD}\"; }}; }}"
            ));
        }
        match modules.as_slice() {
            [] => None,
            [module] => Some(format!("virtualisation.vmVariant = {module}; ")),
            modules => {
                let modules: String = modules.iter().map(|module| format!("({module}) ")).collect();
                Some(format!("virtualisation.vmVariant.imports = [ {modules}]; "))
            }
        }
    }
}

/// Returns whether what clones need may be the only cause of Nix's error.
fn is_about_clones(said: &str) -> bool {
    has_words(said, &ITS_WORDS) || has_words(said, &[NO_VARIANT])
}

/// Returns whether a line of Nix's error has one of `words`. Lines of its trace do not count.
pub(super) fn has_words(said: &str, words: &[&str]) -> bool {
    let mut lines = said.lines().filter(|line| !line.contains("while evaluating"));
    lines.any(|line| words.iter().any(|words| line.contains(words)))
}

/// Returns a path in Nix's language.
fn expression(file: &Path) -> Result<String> {
    let path = file.to_str().ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("{} is not UTF-8: Nix accepts no such path", file.display()))
    })?;
    let path = path.replace('\\', r"\\").replace('"', "\\\"").replace("${", "\\${");
    Ok(format!("(/. + \"{path}\")"))
}

#[cfg(test)]
mod tests {
    use super::super::commands;
    use super::super::store::Store;
    use super::*;

    fn added(additions: Additions) -> String {
        let mut command = Command::new("nix-build");
        additions.add_to(&mut command).unwrap();
        command.get_args().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join("|")
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
        let output = commands::finish(command, Store::find().unwrap(), false).output().unwrap();
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
        let line = added(Additions { clones: true, ..Additions::default() });
        let begun = "--arg|configuration|{ imports = [ <nixos-config> ]; virtualisation.vmVariant = { config, lib, pkgs, ... }: ";
        assert!(line.starts_with(begun) && line.ends_with("; }; }"), "{line}");
        let options = ITS_WORDS.map(|words| words.trim_start_matches("option `").trim_end_matches('\''));
        assert!(options.iter().all(|option| CLONABLE.contains(option)));
    }

    #[test]
    fn only_an_error_about_the_options_of_the_module_is_blamed_on_it() {
        for said in [
            "error: The option `virtualisation.vmVariant.virtualisation.useNixStoreImage' does not exist.",
            "The option `virtualisation.sharedDirectories' in `x' is already declared in `y'.",
            "The option `system.build.installBootLoader' is read-only, but it's set multiple times.",
            "error: The option `virtualisation.vmVariant' does not exist. Definition values:",
        ] {
            assert!(is_about_clones(said), "{said}");
        }
        for said in [
            "error: attribute 'x' missing\n… while evaluating the option `system.build.installBootLoader':",
            "  109| --subst-var-by installBootLoader ${lib.escapeShellArg config.system.build.installBootLoader} \\",
            "install-grub.pl: installBootLoader failed",
        ] {
            assert!(!is_about_clones(said), "{said}");
        }
    }

    #[test]
    fn root_gets_a_password_in_the_vm_alone() {
        let line = added(Additions { root_password: true, ..Additions::default() });
        let module = r#"{ lib, ... }: { users.users.root = { hashedPasswordFile = lib.mkForce null; password = lib.mkForce "nixvm-test"; }; }"#;
        assert!(line.contains(&format!("virtualisation.vmVariant = {module}; ")), "{line}");
        let both = added(Additions { clones: true, root_password: true, ..Additions::default() });
        assert!(both.contains("virtualisation.vmVariant.imports = [ ({ config,"), "{both}");
        assert!(both.contains(&format!(" ({module}) ]; ")), "{both}");
    }

    #[test]
    fn a_machine_on_a_network_gets_the_module_for_it_in_the_vm_alone() {
        let line = added(Additions { network: true, ..Additions::default() });
        let module = format!("virtualisation.vmVariant = {}; }}", network::MODULE.trim());
        assert!(line.ends_with(&module), "{line}");
        let both = added(Additions { clones: true, network: true, ..Additions::default() });
        assert!(both.contains("virtualisation.vmVariant.imports = [ ({ config,"), "{both}");
    }

    #[test]
    fn a_host_of_a_flake_gets_the_same_as_a_configuration() {
        let additions = Additions { clones: true, root_password: true, ..Additions::default() };
        let module = additions.module().unwrap();
        assert!(module.starts_with("{ virtualisation.vmVariant.imports = [ ({ config,"), "{module}");
        assert!(added(additions.clone()).contains(module.trim_start_matches("{ ")), "{module}");
        assert_eq!(additions.described(), "what clones need and a password of root");
        assert_eq!(Additions::default().module(), None);
    }

    #[test]
    fn a_vm_of_the_stand_in_gets_the_packages_of_the_systems_it_is_switched_to() {
        let files = vec![PathBuf::from("/a folder/today.nix"), PathBuf::from("/b/\"${x}.nix")];
        let line = added(Additions { packages_of: files, ..Additions::default() });
        let list = r#"standin.alsoPackagesOf = [ (/. + "/a folder/today.nix") (/. + "/b/\"\${x}.nix") ]; }"#;
        assert!(line.starts_with("--arg|configuration|{ imports = [ <nixos-config> ]; "), "{line}");
        assert!(line.ends_with(list), "{line}");
        assert_eq!(added(Additions::default()), "");
    }
}
