//! Which package contains a program in each distribution, and the command that installs it.

/// A program that this host may lack, and its packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Program {
    /// Its name on PATH.
    pub(crate) name: &'static str,
    debian: &'static str,
    /// Empty if Fedora has none.
    fedora: &'static str,
    nixos: &'static str,
}

const fn program(
    name: &'static str,
    debian: &'static str,
    fedora: &'static str,
    nixos: &'static str,
) -> Program {
    Program { name, debian, fedora, nixos }
}

pub(crate) const NIX_BUILD: Program = program("nix-build", "nix-bin", "nix", "nix");
pub(crate) const NIX: Program = program("nix", "nix-bin", "nix", "nix");
pub(crate) const QEMU: Program =
    program("qemu-system-x86_64", "qemu-system-x86", "qemu-system-x86-core", "qemu");
pub(crate) const QEMU_IMG: Program = program("qemu-img", "qemu-utils", "qemu-img", "qemu");
pub(crate) const MMDEBSTRAP: Program = program("mmdebstrap", "mmdebstrap", "mmdebstrap", "mmdebstrap");
pub(crate) const MKE2FS: Program = program("mke2fs", "e2fsprogs", "e2fsprogs", "e2fsprogs");
pub(crate) const PYTHON: Program = program("python3", "python3", "python3", "python3");
pub(crate) const NEWUIDMAP: Program = program("newuidmap", "uidmap", "shadow-utils", "shadow");
pub(crate) const TESSERACT: Program = program("tesseract", "tesseract-ocr", "tesseract", "tesseract");
pub(crate) const GIT: Program = program("git", "git", "git", "git");
pub(crate) const CC: Program = program("cc", "gcc", "gcc", "gcc");

/// How programs are installed on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distribution {
    /// Debian, Ubuntu and their derivatives: apt-get.
    Debian,
    /// Fedora and its derivatives: dnf.
    Fedora,
    /// NixOS.
    NixOs,
    /// Any other.
    Other,
}

impl Distribution {
    /// Returns the distribution of this host.
    pub(crate) fn of_this_host() -> Self {
        Self::read(&std::fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    /// Returns the distribution from the text of an os-release(5) file.
    pub(crate) fn read(release: &str) -> Self {
        let ids = release
            .lines()
            .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")));
        let ids: Vec<&str> = ids.flat_map(|ids| ids.trim_matches(['"', '\'']).split(' ')).collect();
        let is = |names: &[&str]| ids.iter().any(|id| names.contains(id));
        match () {
            () if is(&["debian", "ubuntu"]) => Self::Debian,
            () if is(&["fedora", "rhel"]) => Self::Fedora,
            () if is(&["nixos"]) => Self::NixOs,
            () => Self::Other,
        }
    }

    /// Returns the packages of `programs`, each once, by their names in this distribution (Debian's names, if
    /// it is not known).
    pub(crate) fn packages(self, programs: &[Program]) -> Vec<&'static str> {
        let name = |program: &Program| match self {
            Self::Debian | Self::Other => program.debian,
            Self::Fedora => program.fedora,
            Self::NixOs => program.nixos,
        };
        let mut packages: Vec<&str> = programs.iter().map(name).filter(|name| !name.is_empty()).collect();
        packages.sort_unstable();
        packages.dedup();
        if packages.contains(&"qemu-system-x86") && !packages.contains(&"qemu-utils") {
            // Both are named, because apt may otherwise remove the second to install the first, if that comes
            // from backports.
            packages.push("qemu-utils");
        }
        packages
    }

    /// Returns the command that installs `programs`, or what to do in words on another kind of host.
    pub(crate) fn install(self, programs: &[Program], root: bool) -> String {
        let packages = self.packages(programs).join(" ");
        let sudo = if root { "" } else { "sudo " };
        match self {
            Self::Debian => format!("{sudo}apt-get install --no-install-recommends {packages}"),
            Self::Fedora => format!("{sudo}dnf install {packages}"),
            Self::NixOs => format!("nix-shell -p {packages} (permanently: environment.systemPackages)"),
            Self::Other => {
                let packages = packages.replace(' ', ", ");
                format!("install this system's counterparts of Debian's {packages}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_distribution_is_told_its_own_command() {
        let install = |release: &str, root| Distribution::read(release).install(&[QEMU, QEMU_IMG], root);
        let debian = "sudo apt-get install --no-install-recommends qemu-system-x86 qemu-utils";
        assert_eq!(install("ID=debian", false), debian);
        assert_eq!(install("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", false), debian);
        assert_eq!(install("ID=fedora", true), "dnf install qemu-img qemu-system-x86-core");
        assert_eq!(
            install("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"", false),
            "sudo dnf install qemu-img qemu-system-x86-core"
        );
        assert_eq!(install("ID=nixos", false), "nix-shell -p qemu (permanently: environment.systemPackages)");
        assert!(install("ID=arch", false).contains("Debian's qemu-system-x86, qemu-utils"));
        assert_eq!(Distribution::read(""), Distribution::Other);
    }
}
