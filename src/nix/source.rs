//! Names what to build, as the user wrote it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::git::Committed;
use crate::{Error, ErrorKind, Result};

/// The origin of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// A configuration file, such as `configuration.nix` (or a folder with a `default.nix`).
    Configuration(PathBuf),
    /// A configuration as it was committed.
    Committed(Box<Committed>),
    /// A host of a flake, `REF#HOST`: its `nixosConfigurations.HOST.config.system.build.vm`.
    ///
    /// A fragment that starts with `nixosConfigurations.`, `packages.`, `legacyPackages.` or `checks.` is already an
    /// attribute. Without a fragment the host is the one with this machine's host name, as in `nixos-rebuild`.
    Flake(String),
    /// A VM that is already built: see [`BuiltVm::open`](crate::BuiltVm::open).
    Built(PathBuf),
}

impl Source {
    /// Returns the root file to watch for changes: the configuration, `flake.nix` of a flake on this host, the log of a
    /// repository's HEAD, or a link to a built VM. Absolute.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        let file = match self {
            Self::Built(path) => path.clone(),
            Self::Configuration(path) if path.is_dir() => path.join("default.nix"),
            Self::Configuration(path) => path.clone(),
            // A new commit changes what the name of a branch means.
            Self::Committed(committed) => committed.log_of_head(),
            Self::Flake(reference) => {
                let folder = reference.split(['#', '?']).next().unwrap_or_default();
                let folder = ["path:", "git+file://"]
                    .iter()
                    .find_map(|scheme| folder.strip_prefix(scheme))
                    .unwrap_or(folder);
                let on_this_host = folder.is_empty() || folder.starts_with(['.', '/']);
                on_this_host.then(|| Path::new(folder).join("flake.nix"))?
            }
        };
        std::path::absolute(file).ok()
    }

    /// Returns whether no other nixpkgs can be chosen for it.
    pub(crate) fn brings_its_own_nixpkgs(&self) -> bool {
        matches!(self, Self::Flake(_) | Self::Built(_))
    }

    /// Returns whether modules can be added to it when it is built.
    pub(crate) fn can_be_extended(&self) -> bool {
        match self {
            Self::Configuration(_) | Self::Committed(_) => true,
            Self::Flake(reference) => reference.parse::<FlakeVm>().is_ok_and(|flake| flake.host().is_some()),
            Self::Built(_) => false,
        }
    }

    /// Returns the folder of a kept disk: that of the configuration, else the current folder, as in the run script.
    pub fn home(&self) -> PathBuf {
        match self {
            Self::Configuration(path) if path.is_dir() => path.clone(),
            Self::Configuration(path) => path.parent().unwrap_or(Path::new(".")).to_owned(),
            Self::Committed(committed) => {
                let file = committed.in_the_working_tree();
                let folder = file.ancestors().find(|folder| folder.is_dir());
                folder.unwrap_or(Path::new(".")).to_owned()
            }
            _ => PathBuf::from("."),
        }
    }

    /// Returns the path of a configuration after checking that it exists and is readable.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when there is no such file, it is a folder without `default.nix`, or it can't be read.
    pub(crate) fn checked_configuration(path: &Path) -> Result<PathBuf> {
        let refuse = |why: String| Error::new(ErrorKind::Usage, why);
        let absolute = std::path::absolute(path)
            .map_err(|source| Error::io(format_args!("find {}", path.display()), &source))?;
        let file = if absolute.is_dir() { absolute.join("default.nix") } else { absolute.clone() };
        match std::fs::File::open(&file) {
            Ok(_) => Ok(absolute),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound && absolute.is_dir() => {
                Err(refuse(format!("{} is a folder without a default.nix", path.display()))
                    .next_step("name the configuration file itself"))
            }
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
                Err(refuse(format!("there is no configuration {}", file.display())).next_step(
                    "name another with --configuration FILE, --flake REF#HOST or --vm RESULT; \
                         `nixvm-test init` makes a first one",
                ))
            }
            Err(source) => {
                Err(refuse(format!("the configuration {} can't be read: {source}", file.display()))
                    .caused_by(source))
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(path) | Self::Built(path) => write!(f, "{}", path.display()),
            Self::Committed(committed) => f.write_str(committed.written()),
            Self::Flake(reference) => f.write_str(reference),
        }
    }
}

/// A flake reference that includes the attribute of the VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FlakeVm {
    /// The argument of `nix build`: `REF#ATTRIBUTE`.
    pub(super) installable: String,
    /// The user named no host, so it is this machine's own host name.
    pub(super) own_host: bool,
}

/// The attribute of a host that is its VM.
const VM: &str = ".config.system.build.vm";

impl FlakeVm {
    /// Returns `REF#ATTRIBUTE` of the host whose VM it is; `None` if the attribute is something else.
    pub(super) fn host(&self) -> Option<&str> {
        self.installable.strip_suffix(VM)
    }

    /// Parses `reference`. Calls `host_name` only if the reference has no fragment.
    pub(super) fn parse(reference: &str, host_name: impl FnOnce() -> String) -> Result<Self> {
        const ATTRIBUTES: [&str; 4] = ["nixosConfigurations.", "packages.", "legacyPackages.", "checks."];
        let reference = reference.trim();
        let (flake, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let flake = if flake.is_empty() { "." } else { flake };
        if flake.starts_with('-') || reference.chars().any(char::is_control) {
            return Err(Error::new(ErrorKind::Usage, format!("{reference:?} is not a flake reference"))
                .next_step("write REF#HOST, for example .#laptop or github:me/config#laptop"));
        }
        let (attribute, own_host) = if fragment.is_empty() {
            (vm_of(&quoted(&host_name())), true)
        } else if !ATTRIBUTES.iter().any(|start| fragment.starts_with(start)) {
            (vm_of(&quoted(fragment)), false)
        } else if fragment.starts_with(ATTRIBUTES[0]) && parts(fragment) == 2 {
            (format!("{fragment}{VM}"), false)
        } else {
            (fragment.to_owned(), false)
        };
        Ok(Self { installable: format!("{flake}#{attribute}"), own_host })
    }
}

fn vm_of(host: &str) -> String {
    format!("nixosConfigurations.{host}{VM}")
}

/// Returns a host name as one part of an attribute path, quoted if it contains a dot.
fn quoted(host: &str) -> String {
    if host.contains('.') && !host.starts_with('"') { format!("\"{host}\"") } else { host.to_owned() }
}

/// Counts the parts of an attribute path; dots inside quotes don't count.
fn parts(attribute: &str) -> usize {
    let mut quoted = false;
    1 + attribute
        .chars()
        .filter(|&c| {
            quoted ^= c == '"';
            c == '.' && !quoted
        })
        .count()
}

impl FromStr for FlakeVm {
    type Err = Error;

    fn from_str(reference: &str) -> Result<Self> {
        Self::parse(reference, || rustix::system::uname().nodename().to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installable(reference: &str) -> String {
        FlakeVm::parse(reference, || "this-host".to_owned()).unwrap().installable
    }

    #[test]
    fn a_flake_host_stands_for_its_vm() {
        assert_eq!(installable(".#web"), ".#nixosConfigurations.web.config.system.build.vm");
        assert_eq!(installable("#web"), ".#nixosConfigurations.web.config.system.build.vm");
        assert_eq!(
            installable("github:me/config?ref=x#a.example"),
            "github:me/config?ref=x#nixosConfigurations.\"a.example\".config.system.build.vm"
        );
    }

    #[test]
    fn a_flake_without_a_host_means_this_machines_name() {
        for reference in [".", "./.#", "/etc/nixos"] {
            let vm = FlakeVm::parse(reference, || "this-host".to_owned()).unwrap();
            assert!(vm.installable.ends_with("#nixosConfigurations.this-host.config.system.build.vm"));
            assert!(vm.own_host);
        }
    }

    #[test]
    fn a_whole_attribute_is_taken_as_it_stands() {
        let whole = ".#nixosConfigurations.x.config.system.build.vmWithBootLoader";
        assert_eq!(installable(whole), whole);
        assert_eq!(installable(".#packages.x86_64-linux.vm"), ".#packages.x86_64-linux.vm");
        assert_eq!(
            installable(".#nixosConfigurations.\"a.b\""),
            ".#nixosConfigurations.\"a.b\".config.system.build.vm"
        );
    }

    #[test]
    fn a_host_can_be_extended_and_another_attribute_can_not() {
        let host = |reference: &str| {
            let vm = FlakeVm::parse(reference, || "this-host".to_owned()).unwrap();
            vm.host().map(str::to_owned)
        };
        for (reference, host_of) in [
            (".#web", ".#nixosConfigurations.web"),
            (".", ".#nixosConfigurations.this-host"),
            (".?dir=a b#a.b", ".?dir=a b#nixosConfigurations.\"a.b\""),
            (".#nixosConfigurations.web.config.system.build.vm", ".#nixosConfigurations.web"),
        ] {
            assert_eq!(host(reference).as_deref(), Some(host_of), "{reference}");
        }
        for reference in [
            ".#packages.x86_64-linux.vm",
            ".#checks.x86_64-linux.vm",
            ".#nixosConfigurations.web.config.system.build.vmWithBootLoader",
        ] {
            assert_eq!(host(reference), None, "{reference}");
            assert!(!Source::Flake(reference.to_owned()).can_be_extended());
        }
        assert!(Source::Flake("github:me/x#web".to_owned()).can_be_extended());
    }

    #[test]
    fn what_nix_would_take_for_an_option_is_no_flake() {
        for bad in ["--help", "-f#x", ".#a\nb"] {
            assert_eq!(FlakeVm::parse(bad, String::new).unwrap_err().kind(), ErrorKind::Usage, "{bad}");
        }
    }

    #[test]
    fn a_missing_or_unreadable_configuration_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none.nix");
        let error = Source::checked_configuration(&missing).unwrap_err().to_string();
        assert!(error.contains("there is no configuration") && error.contains("none.nix"), "{error}");
        let error = Source::checked_configuration(folder.path()).unwrap_err().to_string();
        assert!(error.contains("folder without a default.nix"), "{error}");
        std::fs::write(folder.path().join("default.nix"), "{}").unwrap();
        assert_eq!(Source::checked_configuration(folder.path()).unwrap(), folder.path());
        let error = Source::checked_configuration(&folder.path().join("default.nix/x")).unwrap_err();
        assert!(error.to_string().contains("can't be read"), "{error}");
    }
}
