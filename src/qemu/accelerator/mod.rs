//! What executes the guest's instructions: found out, not assumed.
//!
//! A host can have a /dev/kvm that opens, creates a VM, and still can't run a guest: nested hosts
//! where QEMU aborts at once, or where the firmware runs and the kernel never does. So KVM is tried
//! once with the VM's own script and kernel, and the answer is remembered per boot of the host, QEMU and
//! kernel.

mod memory;
mod probe;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::build::BuiltVm;
use crate::mutex::lock;
use crate::{Error, ErrorKind, Events, Result, Speed};

use memory::Memory;
pub(crate) use memory::boot as host_boot;

/// Overrides the choice: `kvm` or `tcg`.
pub(crate) const VARIABLE: &str = "NIXVM_ACCELERATOR";
/// How much slower than under KVM a boot is under TCG, until it was measured here.
const TCG_GUESS: f64 = 8.0;

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The host's processor, through /dev/kvm.
    Kvm,
    /// QEMU's translator: works everywhere, about ten times slower.
    Tcg,
}

impl Accelerator {
    /// As QEMU calls it: "kvm" or "tcg".
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What was chosen for a VM, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// What executes the guest's instructions.
    pub accelerator: Accelerator,
    /// Why, in a few words.
    pub reason: String,
    /// How fast a guest runs with it here: measured by an earlier boot, else a guess.
    pub speed: Speed,
}

/// Chooses for `vm`. Takes up to 15 s the first time on a host with a broken KVM (and as long as the
/// run script needs for its disk images), no time at all afterwards. Says the choice as a note, once
/// per process. `NIXVM_ACCELERATOR=kvm` or `tcg` overrides it.
///
/// # Errors
/// [`ErrorKind::Usage`] when the variable holds anything else; [`ErrorKind::Host`] when there is no
/// folder for the cache or for run directories. A failed trial is no error: it means TCG.
pub async fn choose(vm: &BuiltVm, events: &Events) -> Result<Choice> {
    let memory = Memory::of(vm, &crate::cache::dir()?.join("accelerator"));
    let (accelerator, reason) = match std::env::var(VARIABLE).unwrap_or_default().as_str() {
        "" => decide(vm, &memory, Path::new("/dev/kvm"), events).await?,
        "kvm" => (Accelerator::Kvm, format!("{VARIABLE} says so")),
        "tcg" => (Accelerator::Tcg, format!("{VARIABLE} says so")),
        other => {
            let error = Error::new(ErrorKind::Usage, format!("{VARIABLE} is {other:?}"));
            return Err(error.next_step("set it to kvm or tcg, or leave it out"));
        }
    };
    let speed = memory.speed(accelerator).unwrap_or_else(|| guess(accelerator));
    let choice = Choice { accelerator, reason, speed };
    note_once(&choice, events);
    Ok(choice)
}

/// What machines of this host run under, as far as it is known before one starts: `None` where the device opens and no
/// VM was tried with it since the host was booted. With the reason.
pub(crate) fn standing() -> (Option<Accelerator>, String) {
    match std::env::var(VARIABLE).unwrap_or_default().as_str() {
        "" => {}
        "tcg" => return (Some(Accelerator::Tcg), format!("{VARIABLE} says so")),
        _ => return (Some(Accelerator::Kvm), format!("{VARIABLE} says so")),
    }
    let device = Path::new("/dev/kvm");
    if let Some(reason) = unusable(device) {
        return (Some(Accelerator::Tcg), reason);
    }
    let folder = crate::cache::dir().map(|cache| cache.join("accelerator"));
    match folder.ok().and_then(|folder| memory::newest(&folder)) {
        Some((accelerator, reason)) => (Some(accelerator), reason),
        None => {
            (None, format!("{} opens; the first VM shows whether a guest runs with it", device.display()))
        }
    }
}

/// What a VM runs on, by what identifies it: QEMU, kernel, CPU model.
pub(crate) fn subject(vm: &BuiltVm) -> String {
    let script = std::fs::read_to_string(vm.script()).unwrap_or_default();
    memory::subject(&script).unwrap_or_else(|| vm.key())
}

/// Stores how fast a boot of `vm` was with `accelerator`: later choices return that speed. A measurement
/// counts half against what was known, so that one slow run on a busy host does not spoil the next.
///
/// # Errors
/// [`ErrorKind::Host`] or [`ErrorKind::Io`] when the cache can't be written.
pub fn record_speed(vm: &BuiltVm, accelerator: Accelerator, speed: Speed) -> Result {
    Memory::of(vm, &crate::cache::dir()?.join("accelerator")).remember_speed(accelerator, speed)
}

fn guess(accelerator: Accelerator) -> Speed {
    Speed::new(match accelerator {
        Accelerator::Kvm => 1.0,
        Accelerator::Tcg => TCG_GUESS,
    })
}

async fn decide(
    vm: &BuiltVm,
    memory: &Memory,
    device: &Path,
    events: &Events,
) -> Result<(Accelerator, String)> {
    // Before the memory: the device may have come or gone since.
    if let Some(reason) = unusable(device) {
        return Ok((Accelerator::Tcg, reason));
    }
    if let Some(known) = memory.recall() {
        return Ok(known);
    }
    // One process tries, the others wait for what it finds.
    let _lock = memory.lock(events).await;
    if let Some(known) = memory.recall() {
        return Ok(known);
    }
    let finding = probe::probe(vm).await?;
    if finding.conclusive
        && let Err(error) = memory.remember(finding.accelerator, &finding.reason)
    {
        tracing::debug!(%error, "the accelerator is not remembered");
    }
    Ok((finding.accelerator, finding.reason))
}

/// Why the device is of no use; `None` when it opens.
fn unusable(device: &Path) -> Option<String> {
    use std::io::ErrorKind as Io;
    let error = OpenOptions::new().read(true).write(true).open(device).err()?;
    let device = device.display();
    Some(match error.kind() {
        Io::NotFound => format!(
            "there is no {device} (the kernel module kvm_intel or kvm_amd is not loaded, or virtualization \
             is off in the firmware)"
        ),
        Io::PermissionDenied => {
            format!("no right to open {device} (join the group kvm: usermod -aG kvm USER)")
        }
        _ => format!("{device} does not open: {error}"),
    })
}

/// The line that tells the choice; the same one only once per process, however many machines boot.
fn note_once(choice: &Choice, events: &Events) {
    static TOLD: Mutex<BTreeMap<String, ()>> = Mutex::new(BTreeMap::new());
    let text = match choice.accelerator {
        Accelerator::Kvm => format!("machines run under KVM: {}", choice.reason),
        Accelerator::Tcg => {
            format!("machines run under TCG, slower than under KVM: {}", choice.reason)
        }
    };
    let mut told = lock(&TOLD);
    if told.insert(text.clone(), ()).is_none() {
        drop(told);
        events.note(text);
    }
}

/// The first program named NAME on PATH.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests;
