//! Reports what this host lacks: all missing programs in one error, with the command that installs them.

use std::path::{Path, PathBuf};

use super::nixpkgs::Nixpkgs;
use super::source::Source;
use crate::BuiltVm;
use crate::packages::{
    Distribution, MKE2FS, MMDEBSTRAP, NEWUIDMAP, NIX, NIX_BUILD, PYTHON, Program, QEMU, QEMU_IMG,
};
use crate::{Error, ErrorKind, Result, environment};

/// Programs that build a VM from Debian packages; real NixOS brings its own tools.
const STAND_IN: [Program; 5] = [MMDEBSTRAP, MKE2FS, PYTHON, QEMU, QEMU_IMG];

/// Returns the programs that building with the stand-in needs.
pub(crate) fn needs_of_the_stand_in() -> Vec<Program> {
    let mut needs = STAND_IN.to_vec();
    if !rustix::process::geteuid().is_root() {
        // Without root, mmdebstrap works in a user namespace.
        needs.push(NEWUIDMAP);
    }
    needs
}

/// Checks that the host has what building `source` needs.
pub(super) fn check_build(source: &Source, nixpkgs: Option<&Nixpkgs>) -> Result {
    let mut needs = match source {
        Source::Configuration(_) | Source::Committed(_) => vec![NIX_BUILD],
        Source::Flake(_) => vec![NIX, NIX_BUILD],
        Source::Built(_) => Vec::new(),
    };
    if nixpkgs.is_some_and(Nixpkgs::is_stand_in) {
        needs.extend(needs_of_the_stand_in());
    }
    check(&needs)
}

/// Checks that the host has the programs that the VM's run script takes from PATH. The script of real NixOS takes all
/// of them from the store.
pub(super) fn check_run(vm: &BuiltVm) -> Result {
    let script = std::fs::read_to_string(vm.script())
        .map_err(|source| Error::io(format_args!("read {}", vm.script().display()), &source))?;
    let needs: Vec<Program> =
        [QEMU, QEMU_IMG].into_iter().filter(|program| takes_from_path(&script, program.name)).collect();
    check(&needs)
}

/// Returns whether `script` runs `program` by its bare name.
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

fn check(needs: &[Program]) -> Result {
    let missing = missing(needs, &search_path());
    if missing.is_empty() {
        return Ok(());
    }
    let programs: Vec<&str> = missing.iter().map(|program| program.name).collect();
    let advice = advice(&missing, Distribution::of_this_host(), rustix::process::geteuid().is_root());
    Err(Error::new(ErrorKind::Host, format!("this host lacks {}", programs.join(", ")))
        .next_step(format!("{advice}; `nixvm-test doctor` checks everything that a host needs")))
}

/// Returns those of `needs` that are in no folder of `path`.
pub(crate) fn missing(needs: &[Program], path: &[PathBuf]) -> Vec<Program> {
    let is_missing = |program: &Program| !path.iter().any(|folder| runs(&folder.join(program.name)));
    needs.iter().copied().filter(is_missing).collect()
}

fn advice(missing: &[Program], distribution: Distribution, root: bool) -> String {
    let install = distribution.install(missing, root);
    match distribution {
        Distribution::Debian => format!("{install} (in a checkout of nixvm-test: ./just setup)"),
        _ if missing.contains(&MMDEBSTRAP) => {
            format!("{install}, or use a real nixpkgs: --nixpkgs channel:nixos-26.05")
        }
        _ => install,
    }
}

/// Returns the folders of PATH, and those where Debian installs mke2fs, which are not on a user's PATH there.
pub(crate) fn search_path() -> Vec<PathBuf> {
    environment::path_folders().into_iter().chain(["/usr/sbin".into(), "/sbin".into()]).collect()
}

fn runs(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_missing_is_said_at_once() {
        assert_eq!(missing(&STAND_IN, &["/no/such/folder".into()]), STAND_IN);
        assert_eq!(missing(&[PYTHON], &search_path()), []);
    }

    #[test]
    fn the_advice_says_more_than_the_packages() {
        assert!(
            advice(&[NIX], Distribution::Debian, false)
                .ends_with("nix-bin (in a checkout of nixvm-test: ./just setup)")
        );
        assert!(advice(&STAND_IN, Distribution::Fedora, true).contains("--nixpkgs"));
    }

    #[test]
    fn a_script_that_brings_its_own_qemu_needs_none_on_the_path() {
        let nixos = "#!/nix/store/x-bash/bin/bash\n# exec qemu-system-x86_64 here\nexec /nix/store/q/bin/qemu-system-x86_64 -m 1024\n";
        assert!(!takes_from_path(nixos, QEMU.name));
        assert!(takes_from_path("exec qemu-system-x86_64 -m 1024", QEMU.name));
        assert!(takes_from_path("x=$(qemu-img info disk)", QEMU_IMG.name));
        assert!(!takes_from_path("my-qemu-img-2 x; $dir/qemu-img y", QEMU_IMG.name));
    }
}
