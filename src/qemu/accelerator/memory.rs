//! What earlier runs found out about KVM and speed, one small file per QEMU and kernel.
//!
//! Files may be damaged, old or missing: then the question is simply asked again.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use regex::Regex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Accelerator, on_path};
use crate::build::BuiltVm;
use crate::file_lock::{self, Mode};
use crate::{Error, Events, Result, Speed};

/// How long another process's trial is waited for. It takes 15 s at most, plus the script's disk images.
const LOCK_LIMIT: Duration = Duration::from_secs(90);

/// The place where the findings about one VM's QEMU and kernel are.
pub(super) struct Memory {
    folder: PathBuf,
    subject: String,
}

#[derive(Serialize, Deserialize)]
struct Finding {
    /// The boot of the host for which it holds: another kernel, or another cloud host after a move.
    boot: String,
    accelerator: Accelerator,
    reason: String,
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

    /// What was found in this boot of the host.
    pub(super) fn recall(&self) -> Option<(Accelerator, String)> {
        let finding: Finding = read(&self.file("kvm"))?;
        (finding.boot == boot()).then_some((finding.accelerator, finding.reason))
    }

    pub(super) fn remember(&self, accelerator: Accelerator, reason: &str) -> Result {
        let finding = Finding { boot: boot(), accelerator, reason: reason.to_owned() };
        self.write(&self.file("kvm"), &finding)
    }

    pub(super) fn speed(&self, accelerator: Accelerator) -> Option<Speed> {
        let measured: Measured = read(&self.file(&format!("speed-{accelerator}")))?;
        Some(Speed::new(measured.speed))
    }

    pub(super) fn remember_speed(&self, accelerator: Accelerator, speed: Speed) -> Result {
        let known = self.speed(accelerator).unwrap_or(speed);
        let speed = (known.factor() + speed.factor()) / 2.0;
        self.write(&self.file(&format!("speed-{accelerator}")), &Measured { speed })
    }

    /// Held while one process tries; `None` when it can't be had in time: trying twice is no harm.
    pub(super) async fn lock(&self, events: &Events) -> Option<File> {
        fs::create_dir_all(&self.folder).ok()?;
        let lock = file_lock::open(&self.folder.join(format!("{}.lock", self.subject))).ok()?;
        let waiting = |by: &str| events.note(format!("waiting for {by}, which tries whether KVM works"));
        match file_lock::lock(&lock, Mode::Exclusive, LOCK_LIMIT, waiting).await {
            Ok(()) => Some(lock),
            Err(why) => {
                tracing::debug!(%why, "whether KVM works is tried beside another process");
                None
            }
        }
    }

    fn file(&self, what: &str) -> PathBuf {
        self.folder.join(format!("{}-{what}.json", self.subject))
    }

    /// Under a name of its own, then renamed: a reader never sees half of it.
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

/// What was found last in this boot of the host, for whatever VM.
pub(super) fn newest(folder: &Path) -> Option<(Accelerator, String)> {
    let files = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.to_string_lossy().ends_with("-kvm.json"));
    let findings = files.filter_map(|path| {
        let finding: Finding = read(&path)?;
        let when = fs::metadata(&path).and_then(|about| about.modified()).ok()?;
        (finding.boot == boot()).then_some((when, finding))
    });
    let (_, newest) = findings.max_by_key(|(when, _)| *when)?;
    Some((newest.accelerator, newest.reason))
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    let text = fs::read(path).ok()?;
    serde_json::from_slice(&text)
        .map_err(|error| tracing::debug!(%error, path = %path.display(), "not readable, asked again"))
        .ok()
}

/// This boot of this host (random(4)).
pub(crate) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The parts of a run script on which it depends whether KVM works: QEMU, kernel, CPU model. `None`
/// when the script is not as nixpkgs writes it.
pub(super) fn subject(script: &str) -> Option<String> {
    static QEMU: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r#"(?m)(?:^|[\s"'])((?:/[^\s"']+/)?qemu-(?:system-[a-z0-9_]+|kvm))\b"#).ok()
    });
    static KERNEL: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"(?:^|\s)-kernel\s+(\S+)"#).ok());
    static CPU: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?:^|\s)-cpu\s+(\S+)").ok());
    let first = |regex: &LazyLock<Option<Regex>>| {
        let found = regex.as_ref()?.captures(script)?.get(1)?;
        Some(found.as_str().to_owned())
    };
    let qemu = first(&QEMU)?;
    let qemu = if qemu.starts_with('/') { PathBuf::from(qemu) } else { on_path(&qemu)? };
    let kernel = first(&KERNEL)?;
    let cpus: Vec<_> =
        CPU.as_ref()?.captures_iter(script).filter_map(|found| Some(found.get(1)?.as_str())).collect();
    // nixpkgs' script takes another kernel from NIXPKGS_QEMU_KERNEL_<name>.
    let replaced: Vec<String> = std::env::vars()
        .filter(|(name, _)| name.starts_with("NIXPKGS_QEMU_KERNEL_"))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    Some(format!("{}\n{kernel}\n{replaced:?}\n{cpus:?}", version(&qemu)))
}

/// What changes when a program does: in the Nix store its path, elsewhere its size and time.
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
    fn a_finding_holds_for_one_boot_and_damage_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory { folder: folder.path().join("new"), subject: "x".to_owned() };
        assert_eq!(memory.recall(), None);
        memory.remember(Accelerator::Kvm, "it works").unwrap();
        assert_eq!(memory.recall(), Some((Accelerator::Kvm, "it works".to_owned())));
        let file = memory.file("kvm");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace(&boot(), "another boot")).unwrap();
        assert_eq!(memory.recall(), None);
        fs::write(&file, &text[..text.len() / 2]).unwrap();
        assert_eq!(memory.recall(), None);
    }

    #[test]
    fn a_measured_speed_moves_what_was_known_half_way() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory { folder: folder.path().to_owned(), subject: "x".to_owned() };
        assert_eq!(memory.speed(Accelerator::Tcg), None);
        memory.remember_speed(Accelerator::Tcg, Speed::new(10.0)).unwrap();
        assert_eq!(memory.speed(Accelerator::Tcg), Some(Speed::new(10.0)));
        memory.remember_speed(Accelerator::Tcg, Speed::new(20.0)).unwrap();
        assert_eq!(memory.speed(Accelerator::Tcg), Some(Speed::new(15.0)));
        assert_eq!(memory.speed(Accelerator::Kvm), None);
    }
}
