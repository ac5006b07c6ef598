//! The result of `nix-build -A vm`: a folder with `bin/run-NAME-vm` and `system`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::presence::is_absent;
use crate::{Error, ErrorKind, Result};

/// A VM that Nix has built: the script that runs it, and what identifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltVm {
    script: PathBuf,
    name: String,
    system: Option<PathBuf>,
    key: String,
}

impl BuiltVm {
    /// Opens the result of `nix-build`, `nix build` or `nixos-rebuild build-vm`: the `result` link, the
    /// folder in the store that it points to, or the script `result/bin/run-NAME-vm` itself.
    ///
    /// Links are followed once, in this call. If `result` later points elsewhere, this value stays the same.
    ///
    /// ```
    /// # use std::os::unix::fs::PermissionsExt;
    /// # let folder = tempfile::tempdir()?;
    /// # std::fs::create_dir(folder.path().join("bin"))?;
    /// # let script = folder.path().join("bin/run-web-1-vm");
    /// # std::fs::write(&script, "#!/bin/sh\n")?;
    /// # std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755))?;
    /// # let result = folder.path();
    /// let vm = nixvm_test::internals::BuiltVm::open(result)?; // result/bin/run-web-1-vm
    /// assert_eq!(vm.name(), "web-1");
    /// # Ok::<(), nixvm_test::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when there is no such path, or it holds no `bin/run-*-vm` or several; the error
    /// says what was found. [`ErrorKind::Io`] when it can't be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let target = canonical(path)?;
        if target.is_dir() { Self::in_folder(path, &target) } else { Self::from_script(path, &target) }
    }

    /// Returns the script that runs the VM. Its path is absolute, and its folder has no links on the way.
    pub fn script(&self) -> &Path {
        &self.script
    }

    /// Returns the VM's name, which is NAME of `run-NAME-vm` and its `networking.hostName`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the VM's system closure (the `system` link beside `bin`), if it has one.
    pub fn system(&self) -> Option<&Path> {
        self.system.as_deref()
    }

    /// Returns a hash that changes with the VM. It covers the script's path in the store and its text, which
    /// names every part of the VM by its own store path. It has 32 hexadecimal digits.
    pub fn key(&self) -> String {
        self.key.clone()
    }

    fn in_folder(given: &Path, folder: &Path) -> Result<Self> {
        let bin = folder.join("bin");
        let mut scripts: Vec<(String, PathBuf)> = Vec::new();
        let mut others: Vec<String> = Vec::new();
        // A missing `bin` is reported below, together with the folder's content.
        let has_bin = names(&bin)?;
        for file in has_bin.clone().unwrap_or_default() {
            match file.strip_prefix("run-").and_then(|rest| rest.strip_suffix("-vm")) {
                Some(name) if !name.is_empty() => scripts.push((name.to_owned(), bin.join(&file))),
                _ => others.push(format!("bin/{file}")),
            }
        }
        scripts.sort();
        match scripts.as_slice() {
            [(name, script)] => Self::new(script.clone(), name.clone(), system_of(folder)?),
            [] => {
                let found = match has_bin {
                    Some(_) => others,
                    None => names(folder)?.unwrap_or_default(),
                };
                Err(not_a_vm(given, "has no bin/run-NAME-vm", &found))
            }
            several => {
                let found: Vec<String> =
                    several.iter().map(|(name, _)| format!("bin/run-{name}-vm")).collect();
                Err(not_a_vm(given, "has more than one bin/run-NAME-vm", &found)
                    .next_step("give the path of one script"))
            }
        }
    }

    fn from_script(given: &Path, target: &Path) -> Result<Self> {
        // In nixpkgs `bin/run-NAME-vm` is itself a link to a script elsewhere in the store, named
        // HASH-run-NAME-vm. The given name and its folder count.
        let named = given.file_name().and_then(|file| vm_name(&file.to_string_lossy()));
        let name = named
            .or_else(|| target.file_name().and_then(|file| vm_name(&file.to_string_lossy())))
            .ok_or_else(|| not_a_vm(given, "is a file whose name is not run-NAME-vm", &[]))?;
        let parent = given.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let bin = canonical(parent)?;
        let system = bin.parent().map(system_of).transpose()?.flatten();
        let script = match given.file_name() {
            Some(file) => bin.join(file),
            None => target.to_path_buf(),
        };
        Self::new(script, name, system)
    }

    fn new(script: PathBuf, name: String, system: Option<PathBuf>) -> Result<Self> {
        let target = canonical(&script)?;
        let text = std::fs::read(&target)
            .map_err(|source| Error::io(format_args!("read {}", script.display()), &source))?;
        executable(&target)?;
        let mut hash = Sha256::new();
        hash.update(script.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update(&text);
        Ok(Self { key: crate::digest::hex(&hash.finalize(), 16), script, name, system })
    }
}

fn vm_name(file: &str) -> Option<String> {
    let file = match file.split_once("-run-") {
        Some((hash, rest)) if hash.len() == 32 && hash.bytes().all(|b| b.is_ascii_alphanumeric()) => rest,
        _ => file.strip_prefix("run-")?,
    };
    file.strip_suffix("-vm").filter(|name| !name.is_empty()).map(str::to_owned)
}

fn system_of(folder: &Path) -> Result<Option<PathBuf>> {
    let path = folder.join("system");
    match std::fs::canonicalize(&path) {
        Ok(system) => Ok(Some(system)),
        Err(source) if is_absent(&source) => Ok(None),
        Err(source) => Err(Error::io(format_args!("open {}", path.display()), &source)),
    }
}

fn canonical(path: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound if path.is_symlink() => {
            Error::new(ErrorKind::Usage, format!("{} is a dangling symbolic link", path.display()))
                .likely_cause("its target was removed from the Nix store (nix-collect-garbage)")
                .next_step("build it again")
        }
        std::io::ErrorKind::NotFound => {
            Error::new(ErrorKind::Usage, format!("no built VM at {}: there is no such file", path.display()))
                .next_step("build one: nix-build '<nixpkgs/nixos>' -A vm -I nixos-config=./configuration.nix")
        }
        _ => Error::io(format_args!("open {}", path.display()), &source),
    })
}

fn executable(script: &Path) -> Result<()> {
    rustix::fs::access(script, rustix::fs::Access::EXEC_OK).map_err(|errno| {
        Error::new(
            ErrorKind::Usage,
            format!("{} can't be run: {}", script.display(), std::io::Error::from(errno)),
        )
    })
}

/// What a folder holds, sorted; `None` where there is no such folder.
fn names(folder: &Path) -> Result<Option<Vec<String>>> {
    let failed = |source| Error::io(format_args!("read {}", folder.display()), &source);
    let entries = match std::fs::read_dir(folder) {
        Err(source) if is_absent(&source) => return Ok(None),
        entries => entries.map_err(failed)?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect::<std::io::Result<_>>().map_err(failed)?;
    names.sort();
    Ok(Some(names))
}

fn not_a_vm(given: &Path, why: &str, found: &[String]) -> Error {
    const SHOWN: usize = 12;
    let mut list = found.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
    if found.len() > SHOWN {
        let _ = write!(list, "\n… and {} more", found.len() - SHOWN);
    }
    if list.is_empty() {
        list = "(nothing)".to_owned();
    }
    let error = Error::new(ErrorKind::Usage, format!("{} is not a built VM: it {why}", given.display()))
        .section("found there", list);
    if found.iter().any(|name| name == "nixos-version" || name == "activate") {
        return error
            .likely_cause("this is a NixOS system, not a VM of it")
            .next_step("build the attribute `vm` (for a flake: config.system.build.vm)");
    }
    error
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn folder_with(scripts: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        for script in scripts {
            put_script(&folder.path().join("bin").join(script), "#!/bin/sh\n");
        }
        folder
    }

    fn put_script(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_result_link_its_folder_and_its_script_open_the_same_vm() {
        let folder = folder_with(&["run-my-web-01-vm"]);
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::create_dir(elsewhere.path().join("closure")).unwrap();
        symlink(elsewhere.path().join("closure"), folder.path().join("system")).unwrap();
        let link = elsewhere.path().join("result");
        symlink(folder.path(), &link).unwrap();

        let by_folder = BuiltVm::open(folder.path()).unwrap();
        assert_eq!(by_folder.name(), "my-web-01");
        assert!(by_folder.script().is_absolute());
        assert!(by_folder.script().ends_with("bin/run-my-web-01-vm"));
        assert_eq!(by_folder.system().unwrap(), elsewhere.path().join("closure").canonicalize().unwrap());
        assert_eq!(BuiltVm::open(&link).unwrap(), by_folder);
        assert_eq!(BuiltVm::open(link.join("bin/run-my-web-01-vm")).unwrap(), by_folder);
    }

    #[test]
    fn a_script_that_is_a_link_into_the_store_keeps_its_own_name_and_system() {
        let folder = folder_with(&[]);
        let script = folder.path().join("0123456789abcdfghijklmnpqrsvwxyz-run-web-vm");
        put_script(&script, "#!/bin/sh\n");
        symlink(&script, folder.path().join("bin/run-web-vm")).unwrap();
        let vm = BuiltVm::open(folder.path()).unwrap();
        assert_eq!(vm.name(), "web");
        assert_eq!(vm, BuiltVm::open(folder.path().join("bin/run-web-vm")).unwrap());
        assert_eq!(BuiltVm::open(&script).unwrap().name(), "web");
    }

    /// A folder that can't be read may have a script in it. As root a loop of links is such a folder, too.
    #[test]
    fn what_can_not_be_read_is_not_taken_for_absent() {
        for name in ["bin", "system"] {
            let folder = folder_with(&["run-web-vm"]);
            if name == "bin" {
                std::fs::rename(folder.path().join("bin"), folder.path().join("elsewhere")).unwrap();
            }
            symlink(folder.path().join(name), folder.path().join(name)).unwrap();
            let error = BuiltVm::open(folder.path()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            assert!(!error.to_string().contains("not a built VM"), "{error}");
        }
    }

    #[test]
    fn the_key_changes_with_the_script() {
        let folder = folder_with(&["run-nixos-vm"]);
        let before = BuiltVm::open(folder.path()).unwrap().key();
        assert_eq!(before, BuiltVm::open(folder.path()).unwrap().key());
        put_script(&folder.path().join("bin/run-nixos-vm"), "#!/bin/sh\n# another system\n");
        assert_ne!(before, BuiltVm::open(folder.path()).unwrap().key());
    }

    #[test]
    fn what_is_no_built_vm_is_refused_with_what_was_found() {
        let two = folder_with(&["run-a-vm", "run-b-vm"]);
        let error = BuiltVm::open(two.path()).unwrap_err().to_string();
        assert!(error.contains("more than one") && error.contains("bin/run-b-vm"), "{error}");

        let none = folder_with(&["switch-to-configuration", "run--vm"]);
        let error = BuiltVm::open(none.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains("bin/switch-to-configuration"), "{error}");

        let system = tempfile::tempdir().unwrap();
        std::fs::write(system.path().join("nixos-version"), "").unwrap();
        let error = BuiltVm::open(system.path()).unwrap_err().to_string();
        assert!(error.contains("a NixOS system, not a VM"), "{error}");

        let error = BuiltVm::open(system.path().join("nixos-version")).unwrap_err().to_string();
        assert!(error.contains("not run-NAME-vm"), "{error}");
        let error = BuiltVm::open("/no/such/result").unwrap_err().to_string();
        assert!(error.contains("no such file"), "{error}");
        symlink("/no/such/store", system.path().join("result")).unwrap();
        let error = BuiltVm::open(system.path().join("result")).unwrap_err().to_string();
        assert!(error.contains("is a dangling symbolic link"), "{error}");

        std::fs::create_dir(system.path().join("bin")).unwrap();
        std::fs::write(system.path().join("bin/run-x-vm"), "").unwrap();
        let error = BuiltVm::open(system.path()).unwrap_err().to_string();
        assert!(error.contains("can't be run"), "{error}");
    }
}
