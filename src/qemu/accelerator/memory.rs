//! What earlier runs learned about KVM and speed, in one small file per QEMU and kernel.
//!
//! A file that is damaged, outdated or missing only means that a run has to find out again.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use regex::Regex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Accelerator, on_path, processor};
use crate::BuiltVm;
use crate::boot_id::boot_id;
use crate::{Error, Result, Speed, environment};

/// The suffix of a file with a finding.
const FINDING: &str = "-kvm.json";
/// The suffix of a file about clones.
pub(crate) const OF_CLONES: &str = "-clones.json";
/// How long a suspicion holds that no boot has confirmed: longer than the slowest boot under TCG.
const SUSPECTED_FOR: Duration = Duration::from_secs(20 * 60);

/// Where the findings about one VM's QEMU and kernel are stored.
#[derive(Debug)]
pub(super) struct Memory {
    folder: PathBuf,
    subject: String,
}

/// What was learned about KVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// KVM if a guest reached its login prompt under KVM, TCG if KVM does not run this guest.
    pub(super) accelerator: Accelerator,
    /// The guest's processor under KVM, if it differs from the run script's.
    pub(super) cpu: Option<&'static str>,
    /// The reason, in a few words.
    pub(super) reason: String,
    /// Whether KVM may not be the cause. The finding holds until a boot under TCG shows it.
    pub(super) suspected: bool,
    /// Whether the wait for the guest was shorter than a slow host needs. A boot under TCG does not confirm
    /// such a suspicion, and after it the next boot under KVM gets the full time.
    pub(super) hasty: bool,
}

/// The file format of a finding.
#[derive(Serialize, Deserialize)]
struct StoredFinding {
    /// The boot of the host for which it holds. Another boot may have another kernel, or be on another cloud
    /// host.
    boot: String,
    accelerator: Accelerator,
    reason: String,
    #[serde(default)]
    cpu: Option<String>,
    /// Whether a guest reached its login prompt. Earlier versions went by a line of the kernel.
    #[serde(default)]
    proven: bool,
    /// When a suspicion expires, in seconds since 1970.
    #[serde(default)]
    until: Option<u64>,
    #[serde(default)]
    hasty: bool,
}

#[derive(Serialize, Deserialize)]
struct Measured {
    speed: f64,
}

impl Memory {
    pub(super) fn of(vm: &BuiltVm, folder: &Path) -> Self {
        let text = fs::read_to_string(vm.script()).unwrap_or_default();
        let subject = subject(&text).unwrap_or_else(|| vm.key());
        Self { folder: folder.to_owned(), subject: hash(&subject) }
    }

    /// Returns what was found during this boot of the host.
    pub(super) fn recall(&self) -> Option<Finding> {
        recalled(&self.finding())
    }

    pub(super) fn remember(&self, finding: &Finding) {
        let Finding { accelerator, cpu, reason, suspected, hasty } = finding;
        let written = StoredFinding {
            boot: boot_id(),
            accelerator: *accelerator,
            reason: reason.clone(),
            cpu: cpu.map(str::to_owned),
            proven: *accelerator == Accelerator::Kvm,
            until: suspected.then(|| now().saturating_add(SUSPECTED_FOR.as_secs())),
            hasty: *hasty,
        };
        if let Err(error) = self.write(&self.finding(), &written) {
            tracing::debug!(%error, "could not record the finding about KVM");
        }
    }

    /// Records that a boot under TCG works, so that KVM was the cause.
    pub(super) fn confirm(&self) {
        if let Some(found) = self.recall().filter(|found| found.suspected && !found.hasty) {
            self.remember(&Finding { suspected: false, ..found });
        }
    }

    /// Whether a hasty suspicion of this boot of the host has expired.
    pub(super) fn was_hasty(&self) -> bool {
        read::<StoredFinding>(&self.finding())
            .is_some_and(|written| written.hasty && written.boot == boot_id())
    }

    /// Records that a boot under TCG failed as well, so that nothing is known about KVM.
    pub(super) fn acquit(&self) {
        if self.recall().is_some_and(|found| found.suspected)
            && let Err(error) = fs::remove_file(self.finding())
        {
            tracing::debug!(%error, "could not remove a suspicion; it expires by itself");
        }
    }

    pub(super) fn speed(&self, accelerator: Accelerator) -> Option<Speed> {
        let measured: Measured = read(&self.measured(accelerator))?;
        Some(Speed::new(measured.speed))
    }

    pub(super) fn remember_speed(&self, accelerator: Accelerator, speed: Speed) -> Result {
        let known = self.speed(accelerator).unwrap_or(speed);
        let speed = (known.factor() + speed.factor()) / 2.0;
        self.write(&self.measured(accelerator), &Measured { speed })
    }

    fn finding(&self) -> PathBuf {
        self.folder.join(format!("{}{FINDING}", self.subject))
    }

    /// Returns the file of a measured speed. Earlier versions used another name, and counted the run script's
    /// time as the guest's.
    fn measured(&self, accelerator: Accelerator) -> PathBuf {
        self.folder.join(format!("{}-boot-{accelerator}.json", self.subject))
    }

    /// Writes a temporary file and renames it, so that readers never see half of it.
    fn write(&self, path: &Path, what: &impl Serialize) -> Result {
        let write = || {
            fs::create_dir_all(&self.folder)?;
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            file.write_all(serde_json::to_string(what)?.as_bytes())?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(|error: std::io::Error| Error::io(format_args!("write {}", path.display()), &error))
    }
}

/// Returns the newest finding of this boot of the host, for any VM.
pub(super) fn newest(folder: &Path) -> Option<Finding> {
    let found = findings(folder, FINDING).ok()?.into_iter().filter_map(|path| {
        let finding = recalled(&path)?;
        Some((fs::metadata(&path).and_then(|about| about.modified()).ok()?, finding))
    });
    Some(found.max_by_key(|(when, _)| *when)?.1)
}

/// Deletes all findings in `folder`, and returns how many there were.
pub(super) fn forget(folder: &Path) -> Result<usize> {
    let forgotten = || {
        let mut found = findings(folder, FINDING)?;
        found.extend(findings(folder, OF_CLONES)?);
        for path in &found {
            match fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(found.len())
    };
    forgotten().map_err(|error| Error::io(format_args!("remove findings in {}", folder.display()), &error))
}

fn findings(folder: &Path, ending: &str) -> std::io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.to_string_lossy().ends_with(ending)).collect())
}

/// Returns the finding in a file, if it still holds.
fn recalled(path: &Path) -> Option<Finding> {
    let StoredFinding { boot: its, accelerator, reason, cpu, proven, until, hasty } = read(path)?;
    let holds = its == boot_id() && until.is_none_or(|until| now() < until);
    let proven = proven || accelerator == Accelerator::Tcg;
    let cpu = match cpu {
        Some(cpu) => Some(processor::named(&cpu)?),
        None => None,
    };
    (holds && proven).then_some(Finding { accelerator, cpu, reason, suspected: until.is_some(), hasty })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    let text = fs::read(path).ok()?;
    serde_json::from_slice(&text)
        .map_err(|error| tracing::debug!(%error, path = %path.display(), "ignoring an unreadable file"))
        .ok()
}

/// Returns the parts of a run script that decide whether KVM works: QEMU, kernel, CPU model. Returns `None`
/// if the script does not look like nixpkgs'.
pub(super) fn subject(script: &str) -> Option<String> {
    static KERNEL: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"(?:^|\s)-kernel\s+(\S+)"#).ok());
    static CPU: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?:^|\s)-cpu\s+(\S+)").ok());
    let first = |regex: &LazyLock<Option<Regex>>| {
        let found = regex.as_ref()?.captures(script)?.get(1)?;
        Some(found.as_str().to_owned())
    };
    let qemu = program_in(script)?;
    let kernel = first(&KERNEL)?;
    let cpus: Vec<_> =
        CPU.as_ref()?.captures_iter(script).filter_map(|found| Some(found.get(1)?.as_str())).collect();
    // nixpkgs' script takes another kernel from NIXPKGS_QEMU_KERNEL_<name>.
    let replaced: Vec<_> = environment::all()
        .into_iter()
        .filter(|(name, _)| name.as_encoded_bytes().starts_with(b"NIXPKGS_QEMU_KERNEL_"))
        .collect();
    Some(format!("{}\n{kernel}\n{replaced:?}\n{cpus:?}", version(&qemu)))
}

/// Returns the QEMU that a run script starts, or `None` if its text names none, or one that is not on PATH.
pub(crate) fn program_in(script: &str) -> Option<PathBuf> {
    static QEMU: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r#"(?m)(?:^|[\s"'])((?:/[^\s"']+/)?qemu-(?:system-[a-z0-9_]+|kvm))\b"#).ok()
    });
    let found = QEMU.as_ref()?.captures(script)?.get(1)?.as_str();
    if found.starts_with('/') { Some(PathBuf::from(found)) } else { on_path(found) }
}

/// Returns what changes with a program: its path in the Nix store, elsewhere its size and time.
fn version(program: &Path) -> String {
    let program = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    let found = fs::metadata(&program).ok();
    let changed = found.as_ref().and_then(|found| found.modified().ok()?.duration_since(UNIX_EPOCH).ok());
    format!("{} {:?} {:?}", program.display(), found.map(|found| found.len()), changed)
}

fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(10).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "#! /bin/sh\nexec /nix/store/a-qemu/bin/qemu-system-x86_64 -machine accel=kvm:tcg \
         -cpu max \\\n -kernel ${NIXPKGS_QEMU_KERNEL_nixos:-/nix/store/b/kernel} \\\n -append \"x\"";

    #[test]
    fn qemu_kernel_and_cpu_of_a_script_make_its_subject() {
        let here = subject(SCRIPT).unwrap();
        assert!(here.contains("/nix/store/a-qemu/bin/qemu-system-x86_64"), "{here}");
        assert!(here.contains("/nix/store/b/kernel"), "{here}");
        for (part, other) in [("a-qemu", "c-qemu"), ("b/kernel", "c/kernel"), ("-cpu max", "-cpu host")] {
            assert_ne!(here, subject(&SCRIPT.replace(part, other)).unwrap(), "{part}");
        }
        assert_eq!(here, subject(&SCRIPT.replace("-append \"x\"", "-append \"y\"")).unwrap());
        assert!(subject("exec something-else").is_none());
    }

    #[test]
    fn a_kernel_from_a_variable_is_part_of_the_subject_and_a_value_that_is_not_text_is_no_panic() {
        let name = "qemu::accelerator::memory::tests::\
                    a_kernel_from_a_variable_is_part_of_the_subject_and_a_value_that_is_not_text_is_no_panic";
        let variables: [(&str, &[u8]); 3] = [
            ("ODD", b"\xff"),
            ("NIXPKGS_QEMU_KERNEL_nixos", b"/kernel\xff"),
            ("NIXPKGS_QEMU_KERNEL_other", b""),
        ];
        if !environment::with_variables(name, &variables) {
            return;
        }
        let here = subject(SCRIPT).unwrap();
        assert!(here.contains(r"/kernel\xFF"), "{here}");
        // The script treats an empty variable like an unset one.
        assert!(!here.contains("KERNEL_other"), "{here}");
    }

    fn memory(folder: &Path) -> Memory {
        Memory { folder: folder.to_owned(), subject: "x".to_owned() }
    }

    fn proof() -> Finding {
        let reason = "it works".to_owned();
        Finding { accelerator: Accelerator::Kvm, cpu: None, reason, suspected: false, hasty: false }
    }

    #[test]
    fn a_finding_holds_for_one_boot_and_damage_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let memory = memory(&folder.path().join("new"));
        assert_eq!(memory.recall(), None);
        memory.remember(&proof());
        assert_eq!(memory.recall(), Some(proof()));
        let file = memory.finding();
        let text = fs::read_to_string(&file).unwrap();
        for other in [
            text.replace(&boot_id(), "another boot"),
            text[..text.len() / 2].to_owned(),
            // A processor that this version does not know.
            text.replace(r#""cpu":null"#, r#""cpu":"max,x=off -S""#),
            // Written by a version that went by a line of the kernel.
            format!(
                r#"{{"boot":"{}","accelerator":"kvm","reason":"the VM's kernel starts with it"}}"#,
                boot_id()
            ),
        ] {
            assert_ne!(other, text);
            fs::write(&file, &other).unwrap();
            assert_eq!(memory.recall(), None, "{other}");
        }
    }

    #[test]
    fn a_suspicion_ends_by_itself_and_is_confirmed_or_dropped_by_a_boot() {
        let folder = tempfile::tempdir().unwrap();
        let memory = memory(folder.path());
        let suspicion = Finding { accelerator: Accelerator::Tcg, suspected: true, ..proof() };
        memory.remember(&suspicion);
        assert_eq!(memory.recall(), Some(suspicion.clone()));
        let text = fs::read_to_string(memory.finding()).unwrap();
        let (before, _) = text.split_once(r#""until":"#).unwrap();
        fs::write(memory.finding(), format!(r#"{before}"until":{}}}"#, now())).unwrap();
        assert_eq!(memory.recall(), None);

        memory.remember(&suspicion);
        memory.confirm();
        assert_eq!(memory.recall(), Some(Finding { suspected: false, ..suspicion.clone() }));
        memory.acquit();
        assert!(memory.recall().is_some(), "what is confirmed stays");

        memory.remember(&suspicion);
        memory.acquit();
        assert_eq!(memory.recall(), None);

        let hasty = Finding { hasty: true, ..suspicion };
        memory.remember(&hasty);
        memory.confirm();
        assert!(memory.recall().is_some_and(|found| found.suspected), "TCG confirms no haste");
        let text = fs::read_to_string(memory.finding()).unwrap();
        fs::write(memory.finding(), text.replace(r#""until":"#, r#""until":1,"was":"#)).unwrap();
        assert!(memory.recall().is_none() && memory.was_hasty());
        memory.remember(&proof());
        assert!(!memory.was_hasty());
    }

    #[test]
    fn findings_are_forgotten_and_speeds_are_not() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(forget(&folder.path().join("missing")).unwrap(), 0);
        let memory = memory(folder.path());
        memory.remember(&proof());
        memory.remember_speed(Accelerator::Tcg, Speed::new(3.0)).unwrap();
        assert_eq!(newest(folder.path()), Some(proof()));
        fs::write(folder.path().join(format!("x{OF_CLONES}")), "{}").unwrap();
        assert_eq!(forget(folder.path()).unwrap(), 2);
        assert_eq!((memory.recall(), newest(folder.path())), (None, None));
        assert_eq!(memory.speed(Accelerator::Tcg), Some(Speed::new(3.0)));
    }

    #[test]
    fn a_measured_speed_moves_what_was_known_half_way() {
        let folder = tempfile::tempdir().unwrap();
        let memory = memory(folder.path());
        assert_eq!(memory.speed(Accelerator::Tcg), None);
        memory.remember_speed(Accelerator::Tcg, Speed::new(10.0)).unwrap();
        assert_eq!(memory.speed(Accelerator::Tcg), Some(Speed::new(10.0)));
        memory.remember_speed(Accelerator::Tcg, Speed::new(20.0)).unwrap();
        assert_eq!(memory.speed(Accelerator::Tcg), Some(Speed::new(15.0)));
        assert_eq!(memory.speed(Accelerator::Kvm), None);
    }
}
