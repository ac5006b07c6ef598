//! The files outside of the Nix store that the text of a run script names: paths, also behind a variable, and
//! programs that are looked up on PATH. A VM is not cloned if its script has a path that the text does not
//! determine. What the called programs do with a folder is not known, and not examined.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::{List, Unlisted, words};
use crate::environment;
use crate::qemu::template::program;

/// The longest script that is examined, in bytes.
const LONGEST: u64 = 4 << 20;
/// How much of a word is shown, in characters.
const SHOWN: usize = 120;
/// Variables that hold the path of a file whose content reaches the machine.
const FILES: [&str; 2] = ["NIX_SSL_CERT_FILE", "NIX_EFI_VARS"];
/// The kernel's folders.
const KERNEL: [&str; 3] = ["/dev", "/proc", "/sys"];

/// A program that the script calls by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Program {
    name: String,
    /// Folders that the script searches before those of PATH.
    first: Vec<PathBuf>,
    /// Where the program was found.
    found: Option<PathBuf>,
}

impl Program {
    fn of(name: &str, first: &[PathBuf]) -> Self {
        let mut program = Self { name: name.to_owned(), first: first.to_owned(), found: None };
        program.found = program.search();
        program
    }

    fn search(&self) -> Option<PathBuf> {
        let folders = self.first.iter().cloned().chain(environment::path_folders());
        let mut files = folders.filter(|folder| folder.is_absolute()).map(|folder| folder.join(&self.name));
        files.find(|file| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file())
    }

    /// Returns how the lookup of the program has changed, or `None` if it would find the same program now.
    pub(super) fn changed(&self) -> Option<String> {
        let now = self.search();
        let shown = |path: &Option<PathBuf>| {
            path.as_ref().map_or("nothing".to_owned(), |path| path.display().to_string())
        };
        (now != self.found)
            .then(|| format!("{} on PATH is now {}, and was {}", self.name, shown(&now), shown(&self.found)))
    }
}

/// Adds the files that the script's text names, and returns the programs that it looks up. `running` is the
/// QEMU that it started.
pub(super) fn of_script(
    script: &Path,
    running: &Path,
    list: &mut List<'_>,
) -> Result<Vec<Program>, Unlisted> {
    let unreadable = |why: String| Unlisted::Never(format!("its run script can't be read: {why}"));
    let size = std::fs::metadata(script).map_err(|error| unreadable(error.to_string()))?.len();
    if size > LONGEST {
        return Err(unreadable(format!("it has {size} bytes")));
    }
    let text = std::fs::read(script).map_err(|error| unreadable(error.to_string()))?;
    let text = String::from_utf8_lossy(&text);
    list.add(script)?;
    for name in FILES {
        if let Some(path) = environment::path(name).and_then(|path| std::path::absolute(path).ok()) {
            list.add(&path)?;
        }
    }
    let named = words::paths(&text, script, &variable_of_the_script).map_err(|word| {
        let word: String = crate::text::line(&word).chars().take(SHOWN).collect();
        Unlisted::Never(format!(
            "its run script contains `{word}`, and its text does not show which file that is"
        ))
    })?;
    for path in named {
        if KERNEL.iter().any(|its| path.starts_with(its)) || path.is_dir() {
            continue;
        }
        check_is_running(&path, running)?;
        list.add(&path)?;
    }
    let first = folders_before_path(&text);
    let programs: Vec<Program> = programs(&text).map(|name| Program::of(name, &first)).collect();
    for program in &programs {
        if let Some(found) = &program.found {
            check_is_running(found, running)?;
            list.add(found)?;
        }
    }
    Ok(programs)
}

/// Returns a variable as the script sees it. A path that is not UTF-8 is converted lossily, and then not
/// found.
fn variable_of_the_script(name: &str) -> Option<String> {
    environment::exact(name).map(|value| value.to_string_lossy().into_owned())
}

/// Refuses a wrapper that has the name of QEMU and starts another program, because it may depend on anything.
fn check_is_running(path: &Path, running: &Path) -> Result<(), Unlisted> {
    let is_emulator = program::name_of(path).is_some() && !path.starts_with(super::STORE);
    match path.canonicalize() {
        Ok(found) if is_emulator && found != running && is_reached(path, running) => {
            Err(Unlisted::Never(format!(
                "{} is not the QEMU that ran ({}): its dependencies are unknown",
                path.display(),
                running.display()
            )))
        }
        _ => Ok(()),
    }
}

/// Whether a script may have started `running` by this path: both have the same name.
fn is_reached(path: &Path, running: &Path) -> bool {
    program::name_of(path) == program::name_of(running) || program::name_of(path) == Some("qemu-kvm")
}

/// Returns the names of QEMU's programs that are written without a path.
fn programs(text: &str) -> impl Iterator<Item = &str> {
    static NAME: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?:^|[^A-Za-z0-9_./-])(qemu-(?:system-[a-z0-9_]+|kvm|img))\b").ok());
    let all = NAME.iter().flat_map(move |regex| regex.captures_iter(text));
    let mut names: Vec<&str> = all.filter_map(|found| Some(found.get(1)?.as_str())).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter()
}

/// Returns the folders that the script puts before PATH: `PATH=/a:/b:$PATH`. A later assignment puts its
/// folders before those of an earlier one.
fn folders_before_path(text: &str) -> Vec<PathBuf> {
    let values = text.match_indices("PATH=").filter(|(at, _)| {
        text[..*at].chars().next_back().is_none_or(|before| !before.is_ascii_alphanumeric() && before != '_')
    });
    let values = values.filter_map(|(at, _)| text[at + "PATH=".len()..].split([' ', '\n', ';', '$']).next());
    let values: Vec<&str> = values.collect();
    let words = values.iter().rev().flat_map(|value| value.split(':'));
    let words = words.map(|word| word.trim_matches(['"', '\'']));
    let mut folders: Vec<PathBuf> = words.filter(|word| word.starts_with('/')).map(PathBuf::from).collect();
    folders.dedup();
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_paths_programs_and_folders() {
        let text = "#!/bin/sh\nexport PATH=/usr/bin:/opt/q/bin${PATH:+:}$PATH\ncp \"$HOME\"/a/disk.img $TMPDIR/x\n\
             . ./relative/y; cat '/etc/motd' >/dev/null\nexec qemu-system-x86_64 -drive file=/data/x.img,if=none \\\n\
             -kernel ${NIXPKGS_QEMU_KERNEL_nixos:-/nix/store/b/kernel} /nix/store/x/bin/qemu-img $(pwd)/empty0.qcow2";
        let found: Vec<_> = paths(text).filter(|path| !path.starts_with("/nix")).collect();
        let of_home = environment::text("HOME").filter(|home| home.starts_with('/'));
        let of_home = of_home.map(|home| format!("{home}/a/disk.img"));
        let before = ["/bin/sh", "/usr/bin", "/opt/q/bin"];
        let after = ["/etc/motd", "/dev/null", "/data/x.img"];
        let expected = before.into_iter().chain(of_home.as_deref()).chain(after);
        assert_eq!(found, expected.map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(programs(text).collect::<Vec<_>>(), ["qemu-system-x86_64"]);
        assert_eq!(folders_before_path(text), ["/usr/bin", "/opt/q/bin"].map(PathBuf::from));
        let twice = "export PATH=/a:/b:$PATH\nPATH='/c':$PATH qemu-img\nMYPATH=/d";
        assert_eq!(folders_before_path(twice), ["/c", "/a", "/b"].map(PathBuf::from));
    }

    #[test]
    fn a_program_of_the_same_name_before_it_on_path_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let program = Program::of("qemu-system-x86_64", &[folder.path().to_owned()]);
        assert_eq!(program.changed(), None);
        let other = folder.path().join("qemu-system-x86_64");
        std::fs::write(&other, "#!/bin/sh\n").unwrap();
        assert_eq!(program.changed(), None, "it can't be run");
        std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let why = program.changed().unwrap();
        assert!(why.contains(other.to_str().unwrap()), "{why}");
    }

    fn paths(text: &str) -> impl Iterator<Item = PathBuf> {
        let script = Path::new("/nix/store/a-vm/bin/run-nixos-vm");
        words::paths(text, script, &variable_of_the_script).unwrap().into_iter()
    }
}
