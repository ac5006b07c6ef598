//! Chooses the accelerator by trial.
//!
//! On some hosts /dev/kvm opens and creates a VM, but can't run a guest: on nested hosts QEMU may abort at
//! once, or the firmware may run but not the kernel. So KVM is trusted only after a guest has reached its
//! login prompt under it. The first boot is the trial (`Trial`). Its outcome is remembered per boot of the
//! host, QEMU and kernel.

mod memory;
mod processor;
mod trial;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::BuiltVm;
use crate::mutex::lock;
use crate::qemu::kvm_device;
use crate::{Error, ErrorKind, Events, Result, Speed, environment};

use memory::{Finding, Memory};
pub(crate) use memory::{OF_CLONES, program_in};
pub(crate) use processor::{in_command as processor_in, processors};
pub(crate) use trial::{Trial, lacks_room};

/// The variable that overrides the choice: `kvm` or `tcg`.
pub(crate) const VARIABLE: &str = "NIXVM_ACCELERATOR";
const DEVICE: &str = "/dev/kvm";
/// How much slower a boot is under TCG than under KVM, until it is measured on this host.
const TCG_GUESS: f64 = 8.0;

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The host's processor, through /dev/kvm.
    Kvm,
    /// QEMU's translator. It works everywhere, and is about ten times slower.
    Tcg,
}

impl Accelerator {
    /// Returns QEMU's name for it: "kvm" or "tcg".
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

/// The accelerator that was chosen for a VM, and the reason.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Choice {
    /// What executes the guest's instructions.
    pub accelerator: Accelerator,
    /// The guest's processor under KVM, as a value of QEMU's `-cpu`, if this host can't run the run script's.
    pub cpu: Option<&'static str>,
    /// The reason, in a few words.
    pub reason: String,
    /// How fast a guest runs with it on this host: measured by an earlier boot, or else a guess.
    pub speed: Speed,
    /// Whether `NIXVM_ACCELERATOR` demands it.
    forced: bool,
    /// Whether the next boot is the trial of KVM.
    tried: bool,
    /// Whether the trial gives up early on a guest that prints nothing.
    hasty: bool,
}

impl Choice {
    fn of(
        accelerator: Accelerator,
        cpu: Option<&'static str>,
        reason: impl Into<String>,
        memory: &Memory,
    ) -> Self {
        let speed = memory.speed(accelerator).unwrap_or_else(|| guess(accelerator));
        Self { accelerator, cpu, reason: reason.into(), speed, forced: false, tried: false, hasty: false }
    }

    /// Returns the choice for a machine that is started again: its previous accelerator.
    pub(crate) fn as_before(
        vm: &BuiltVm,
        accelerator: Accelerator,
        cpu: Option<&'static str>,
    ) -> Result<Self> {
        Ok(Self::of(accelerator, cpu, "it ran with it before", &memory_of(vm)?))
    }

    /// Whether the next boot is the trial of KVM.
    pub(crate) fn is_tried(&self) -> bool {
        self.tried
    }

    /// Whether the trial gives up early on a guest that prints nothing.
    pub(crate) fn is_hasty(&self) -> bool {
        self.hasty
    }

    /// Whether the choice equals a finding.
    fn is(&self, found: &Finding) -> bool {
        (self.accelerator, self.cpu) == (found.accelerator, found.cpu)
    }
}

/// The value of `NIXVM_ACCELERATOR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    None,
    Kvm,
    Tcg,
}

impl Wish {
    fn of_environment() -> Result<Self> {
        let Some(said) = environment::variable(VARIABLE) else { return Ok(Self::None) };
        match said.to_str() {
            Some("kvm") => Ok(Self::Kvm),
            Some("tcg") => Ok(Self::Tcg),
            _ => {
                let error = Error::new(ErrorKind::Usage, format!("{VARIABLE} is {said:?}"));
                Err(error.next_step("set it to kvm or tcg, or unset it"))
            }
        }
    }
}

/// Chooses an accelerator for `vm` from what is known, without starting anything. If KVM was not tried since
/// the host booted, KVM is chosen, and the machine's first boot is the trial. Sends the choice as a note,
/// once per process, unless it is only a trial. `NIXVM_ACCELERATOR=kvm` or `tcg` overrides the choice.
///
/// ```no_run
/// # fn example(vm: nixvm_test::internals::BuiltVm) -> nixvm_test::Result {
/// use nixvm_test::internals::{Events, qemu::accelerator};
/// let choice = accelerator::choose(&vm, &Events::none())?;
/// println!("{}: {}", choice.accelerator, choice.reason);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`ErrorKind::Usage`] when the variable holds another value; [`ErrorKind::Host`] when there is no folder
/// for the cache.
pub fn choose(vm: &BuiltVm, events: &Events) -> Result<Choice> {
    Trial::begin(vm, events).map(|trial| trial.choice().clone())
}

/// Does the same as [`choose`], without a note, for a machine that was not requested yet.
pub(crate) fn chosen(vm: &BuiltVm) -> Result<Choice> {
    Ok(decide(&memory_of(vm)?, Path::new(DEVICE), Wish::of_environment()?))
}

/// Checks that `NIXVM_ACCELERATOR` is unset or names a known accelerator. Call it before a build, which takes
/// time.
///
/// # Errors
/// [`ErrorKind::Usage`] when it names another.
pub fn check_environment() -> Result {
    Wish::of_environment().map(drop)
}

/// Returns the accelerator of this host's machines, as far as it is known before one starts, and the reason.
/// The accelerator is `None` if the device opens and no VM was tried with it since the host booted.
pub(crate) fn standing() -> (Option<Accelerator>, String) {
    match Wish::of_environment() {
        Ok(Wish::None) | Err(_) => {}
        Ok(Wish::Tcg) => return (Some(Accelerator::Tcg), format!("{VARIABLE} demands it")),
        Ok(Wish::Kvm) => return (Some(Accelerator::Kvm), format!("{VARIABLE} demands it")),
    }
    if let Some(reason) = unusable(Path::new(DEVICE)) {
        return (Some(Accelerator::Tcg), reason);
    }
    match folder().ok().and_then(|folder| memory::newest(&folder)) {
        Some(found) => (Some(found.accelerator), found.reason),
        None => (None, format!("{DEVICE} opens; the first VM shows whether a guest runs under KVM")),
    }
}

/// Forgets the findings about KVM for all VMs, so that the next boot of each VM tries KVM again. Returns how
/// many findings there were.
///
/// ```no_run
/// println!("{} findings", nixvm_test::internals::qemu::accelerator::forget()?);
/// # Ok::<(), nixvm_test::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Host`] when there is no folder for the cache, [`ErrorKind::Io`] when a finding can't be
/// removed.
pub fn forget() -> Result<usize> {
    memory::forget(&folder()?)
}

/// Returns what identifies a VM's platform: QEMU, kernel and CPU model.
pub(crate) fn subject(vm: &BuiltVm) -> String {
    let script = std::fs::read_to_string(vm.script()).unwrap_or_default();
    memory::subject(&script).unwrap_or_else(|| vm.key())
}

/// Stores how fast a boot of `vm` was with `accelerator`. Later choices return that speed. A measurement
/// counts half against the earlier value, so that one slow run on a busy host does not spoil the next.
///
/// # Errors
/// [`ErrorKind::Host`] or [`ErrorKind::Io`] when the cache can't be written.
pub fn record_speed(vm: &BuiltVm, accelerator: Accelerator, speed: Speed) -> Result {
    memory_of(vm)?.remember_speed(accelerator, speed)
}

/// Returns the folder of the findings of this boot of the host.
pub(crate) fn findings() -> Result<PathBuf> {
    folder()
}

fn folder() -> Result<PathBuf> {
    Ok(crate::cache::dir()?.join("accelerator"))
}

fn memory_of(vm: &BuiltVm) -> Result<Memory> {
    Ok(Memory::of(vm, &folder()?))
}

fn guess(accelerator: Accelerator) -> Speed {
    Speed::new(match accelerator {
        Accelerator::Kvm => 1.0,
        Accelerator::Tcg => TCG_GUESS,
    })
}

fn decide(memory: &Memory, device: &Path, wish: Wish) -> Choice {
    let of = |accelerator, reason: String| Choice::of(accelerator, None, reason, memory);
    let known = memory.recall();
    match wish {
        Wish::Tcg => Choice { forced: true, ..of(Accelerator::Tcg, format!("{VARIABLE} demands it")) },
        Wish::Kvm => {
            let cpu = known.filter(|known| known.accelerator == Accelerator::Kvm).and_then(|known| known.cpu);
            Choice { forced: true, cpu, ..of(Accelerator::Kvm, format!("{VARIABLE} demands it")) }
        }
        // The device is checked before the findings, because it may have come or gone since then.
        Wish::None => match (unusable(device), known) {
            (Some(reason), _) => of(Accelerator::Tcg, reason),
            (None, Some(known)) => Choice::of(known.accelerator, known.cpu, known.reason, memory),
            (None, None) => Choice { tried: true, ..of(Accelerator::Kvm, "it is tried".to_owned()) },
        },
    }
}

/// Returns why the device can't be used, or `None` if it opens.
fn unusable(device: &Path) -> Option<String> {
    kvm_device::refusal(device).map(|refusal| format!("{} ({})", refusal.why, refusal.fix))
}

/// Notes that were sent already.
type NotedLines = Mutex<BTreeSet<String>>;

/// The notes of this process.
static TOLD: NotedLines = Mutex::new(BTreeSet::new());

/// Sends the choice as a note. The same note is sent once per process.
fn note_once(choice: &Choice, events: &Events, told: &NotedLines) {
    let Choice { reason, .. } = choice;
    let text = match (choice.accelerator, choice.cpu) {
        (Accelerator::Kvm, None) => format!("machines run under KVM: {reason}"),
        (Accelerator::Kvm, Some(cpu)) => format!("machines run under KVM with -cpu {cpu}: {reason}"),
        (Accelerator::Tcg, _) if choice.forced => {
            format!("machines run under TCG, slower than under KVM: {reason}")
        }
        (Accelerator::Tcg, _) => format!(
            "machines run under TCG, slower than under KVM: {reason} ({VARIABLE}=kvm makes this an error)"
        ),
    };
    if lock(told).insert(text.clone()) {
        events.note(text);
    }
}

/// Returns the first program with this name on PATH.
fn on_path(name: &str) -> Option<PathBuf> {
    environment::path_folders().into_iter().map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests;
