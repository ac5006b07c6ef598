//! What this host lacks: every missing program in one error, with the command that installs them.

use std::path::{Path, PathBuf};

use super::built_vm::BuiltVm;
use super::nixpkgs::Nixpkgs;
use super::source::Source;
use crate::{Error, ErrorKind, Result};

/// A program and the Debian package that has it.
type Need = (&'static str, &'static str);

const NIX_BUILD: Need = ("nix-build", "nix-bin");
const NIX: Need = ("nix", "nix-bin");
const QEMU: Need = ("qemu-system-x86_64", "qemu-system-x86");
const QEMU_IMG: Need = ("qemu-img", "qemu-utils");
/// What puts Debian packages together to a VM; real NixOS brings its own tools.
const STAND_IN: [Need; 5] =
    [("mmdebstrap", "mmdebstrap"), ("mke2fs", "e2fsprogs"), ("python3", "python3"), QEMU, QEMU_IMG];

/// Checks what building `source` needs.
pub(super) fn check_build(source: &Source, nixpkgs: Option<&Nixpkgs>) -> Result {
    let mut needs = match source {
        Source::Configuration(_) => vec![NIX_BUILD],
        Source::Flake(_) => vec![NIX],
        Source::Built(_) => Vec::new(),
    };
    if nixpkgs.is_some_and(Nixpkgs::is_stand_in) {
        needs.extend(STAND_IN);
        if !rustix::process::geteuid().is_root() {
            // mmdebstrap without root works in a user namespace.
            needs.push(("newuidmap", "uidmap"));
        }
    }
    check(&needs, &search_path())
}

/// Checks what the VM's own script takes from the path. The script of real NixOS has all of it
/// from the store.
pub(super) fn check_run(vm: &BuiltVm) -> Result {
    let script = std::fs::read_to_string(vm.script())
        .map_err(|source| Error::io(format_args!("read {}", vm.script().display()), &source))?;
    let needs: Vec<Need> =
        [QEMU, QEMU_IMG].into_iter().filter(|(program, _)| takes_from_path(&script, program)).collect();
    check(&needs, &search_path())
}

/// Whether `script` runs `program` by its bare name.
fn takes_from_path(script: &str, program: &str) -> bool {
    let code = script.lines().filter(|line| !line.trim_start().starts_with('#'));
    let word = |c: char| c.is_ascii_alphanumeric() || "-_./$}".contains(c);
    code.into_iter().any(|line| {
        line.match_indices(program).any(|(at, _)| {
            let before = line.get(..at).and_then(|text| text.chars().next_back());
            let after = line.get(at + program.len()..).and_then(|text| text.chars().next());
            !before.is_some_and(word) && !after.is_some_and(word)
        })
    })
}

fn check(needs: &[Need], path: &[PathBuf]) -> Result {
    let missing: Vec<Need> = needs
        .iter()
        .copied()
        .filter(|(program, _)| !path.iter().any(|folder| runs(&folder.join(program))))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let programs: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    Err(Error::new(ErrorKind::Host, format!("this host lacks {}", programs.join(", "))).next_step(advice(
        &missing,
        is_debian(&release),
        rustix::process::geteuid().is_root(),
    )))
}

fn advice(missing: &[Need], debian: bool, root: bool) -> String {
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    if packages.contains(&"qemu-system-x86") && !packages.contains(&"qemu-utils") {
        // Named together, since apt may otherwise remove the second to install the first, where
        // it came from backports.
        packages.push("qemu-utils");
    }
    if debian {
        let sudo = if root { "" } else { "sudo " };
        return format!(
            "{sudo}apt-get install --no-install-recommends {} (in a checkout of nixvm-test: ./just setup)",
            packages.join(" ")
        );
    }
    if packages.contains(&"mmdebstrap") {
        return format!(
            "install them (Debian calls the packages {}), or use a real nixpkgs: --nixpkgs channel:nixos-23.11",
            packages.join(", ")
        );
    }
    format!("install them; Debian calls the packages {}, and Nix has them too", packages.join(", "))
}

fn is_debian(release: &str) -> bool {
    release.lines().any(|line| {
        line.strip_prefix("ID=")
            .or_else(|| line.strip_prefix("ID_LIKE="))
            .is_some_and(|ids| ids.trim_matches('"').split(' ').any(|id| id == "debian" || id == "ubuntu"))
    })
}

/// The folders of PATH, and those where Debian keeps mke2fs, which are not on a user's path there.
fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect()
}

fn runs(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_missing_is_said_at_once() {
        let error = check(&STAND_IN, &["/no/such/folder".into()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Host);
        let text = error.to_string();
        for (program, _) in STAND_IN {
            assert!(text.contains(program), "{text}");
        }
        assert!(check(&[("sh", "dash")], &["/bin".into()]).is_ok());
    }

    #[test]
    fn the_advice_names_the_packages_of_debian_and_says_more_elsewhere() {
        let debian = advice(&[QEMU, NIX_BUILD, NIX], true, false);
        assert!(
            debian.starts_with(
                "sudo apt-get install --no-install-recommends nix-bin qemu-system-x86 qemu-utils"
            ),
            "{debian}"
        );
        assert!(!advice(&[NIX], true, true).contains("sudo"));
        assert!(advice(&STAND_IN, false, true).contains("--nixpkgs"));
        assert!(is_debian("NAME=x\nID=debian\n") && is_debian("ID=ubuntu\nID_LIKE=\"debian x\"\n"));
        assert!(!is_debian("ID=nixos\n"));
    }

    #[test]
    fn a_script_that_brings_its_own_qemu_needs_none_on_the_path() {
        let nixos = "#!/nix/store/x-bash/bin/bash\n# exec qemu-system-x86_64 here\nexec /nix/store/q/bin/qemu-system-x86_64 -m 1024\n";
        assert!(!takes_from_path(nixos, QEMU.0));
        assert!(takes_from_path("exec qemu-system-x86_64 -m 1024", QEMU.0));
        assert!(takes_from_path("x=$(qemu-img info disk)", QEMU_IMG.0));
        assert!(!takes_from_path("my-qemu-img-2 x; $dir/qemu-img y", QEMU_IMG.0));
    }
}
