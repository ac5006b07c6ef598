//! What executes the guest's instructions: found out, not assumed.
//!
//! A host can have a /dev/kvm that opens, creates a VM, and still can't run a guest: nested hosts where QEMU aborts at
//! once, or where the firmware runs and the kernel never does. So KVM is believed when a guest has reached its login
//! prompt with it. The first boot is the trial (`Trial`); what it shows is remembered per boot of the host, QEMU and kernel.

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

/// Overrides the choice: `kvm` or `tcg`.
pub(crate) const VARIABLE: &str = "NIXVM_ACCELERATOR";
const DEVICE: &str = "/dev/kvm";
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
#[non_exhaustive]
pub struct Choice {
    /// What executes the guest's instructions.
    pub accelerator: Accelerator,
    /// The guest's processor under KVM, as a value of QEMU's `-cpu`, where this host can't run that of the run script.
    pub cpu: Option<&'static str>,
    /// Why, in a few words.
    pub reason: String,
    /// How fast a guest runs with it here: measured by an earlier boot, else a guess.
    pub speed: Speed,
    /// `NIXVM_ACCELERATOR` says so.
    forced: bool,
    /// The next boot shows whether KVM works.
    tried: bool,
    /// And a guest that says nothing is not waited for long.
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

    /// The choice for a machine that is started again: what it ran with before.
    pub(crate) fn as_before(
        vm: &BuiltVm,
        accelerator: Accelerator,
        cpu: Option<&'static str>,
    ) -> Result<Self> {
        Ok(Self::of(accelerator, cpu, "it ran with it before", &memory_of(vm)?))
    }

    /// Whether the boot that it is for shows if KVM works.
    pub(crate) fn is_tried(&self) -> bool {
        self.tried
    }

    /// Whether a guest that says nothing is not waited for long in that boot.
    pub(crate) fn is_hasty(&self) -> bool {
        self.hasty
    }

    /// Whether it is what was found.
    fn is(&self, found: &Finding) -> bool {
        (self.accelerator, self.cpu) == (found.accelerator, found.cpu)
    }
}

/// What `NIXVM_ACCELERATOR` says.
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
                Err(error.next_step("set it to kvm or tcg, or leave it out"))
            }
        }
    }
}

/// Chooses for `vm`, by what is known: nothing is started. Where KVM was not tried since the host was booted, KVM is
/// chosen, and the machine's first boot shows whether it works. Says the choice as a note, once per process, unless it
/// is only tried. `NIXVM_ACCELERATOR=kvm` or `tcg` overrides it.
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
/// [`ErrorKind::Usage`] when the variable holds anything else; [`ErrorKind::Host`] when there is no folder for the cache.
pub fn choose(vm: &BuiltVm, events: &Events) -> Result<Choice> {
    Trial::begin(vm, events).map(|trial| trial.choice().clone())
}

/// [`choose`] for something that nobody has asked for yet: whoever asks for it is told.
pub(crate) fn chosen(vm: &BuiltVm) -> Result<Choice> {
    Ok(decide(&memory_of(vm)?, Path::new(DEVICE), Wish::of_environment()?))
}

/// Whether `NIXVM_ACCELERATOR` names an accelerator that there is, or none: to be asked before a build takes its time.
///
/// # Errors
/// [`ErrorKind::Usage`] when it names another.
pub fn check_environment() -> Result {
    Wish::of_environment().map(drop)
}

/// What machines of this host run under, as far as it is known before one starts: `None` where the device opens and no
/// VM was tried with it since the host was booted. With the reason.
pub(crate) fn standing() -> (Option<Accelerator>, String) {
    match Wish::of_environment() {
        Ok(Wish::None) | Err(_) => {}
        Ok(Wish::Tcg) => return (Some(Accelerator::Tcg), format!("{VARIABLE} says so")),
        Ok(Wish::Kvm) => return (Some(Accelerator::Kvm), format!("{VARIABLE} says so")),
    }
    if let Some(reason) = unusable(Path::new(DEVICE)) {
        return (Some(Accelerator::Tcg), reason);
    }
    match folder().ok().and_then(|folder| memory::newest(&folder)) {
        Some(found) => (Some(found.accelerator), found.reason),
        None => (None, format!("{DEVICE} opens; the first VM shows whether a guest runs with it")),
    }
}

/// Forgets what was found out about KVM for all VMs: the next boot of each tries it again. How many findings there were.
///
/// ```no_run
/// println!("{} findings", nixvm_test::internals::qemu::accelerator::forget()?);
/// # Ok::<(), nixvm_test::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Host`] when there is no folder for the cache, [`ErrorKind::Io`] when a finding can't be removed.
pub fn forget() -> Result<usize> {
    memory::forget(&folder()?)
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
    memory_of(vm)?.remember_speed(accelerator, speed)
}

/// The folder of what was found out in this boot of the host.
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
        Wish::Tcg => Choice { forced: true, ..of(Accelerator::Tcg, format!("{VARIABLE} says so")) },
        Wish::Kvm => {
            let cpu = known.filter(|known| known.accelerator == Accelerator::Kvm).and_then(|known| known.cpu);
            Choice { forced: true, cpu, ..of(Accelerator::Kvm, format!("{VARIABLE} says so")) }
        }
        // Before the memory: the device may have come or gone since.
        Wish::None => match (unusable(device), known) {
            (Some(reason), _) => of(Accelerator::Tcg, reason),
            (None, Some(known)) => Choice::of(known.accelerator, known.cpu, known.reason, memory),
            (None, None) => Choice { tried: true, ..of(Accelerator::Kvm, "it is tried".to_owned()) },
        },
    }
}

/// Why the device is of no use; `None` when it opens.
fn unusable(device: &Path) -> Option<String> {
    kvm_device::refusal(device).map(|refusal| format!("{} ({})", refusal.why, refusal.fix))
}

/// The lines that were told.
type NotedLines = Mutex<BTreeSet<String>>;

/// Those of this process.
static TOLD: NotedLines = Mutex::new(BTreeSet::new());

/// The line that tells the choice; the same one only once per process, however many machines boot.
fn note_once(choice: &Choice, events: &Events, told: &NotedLines) {
    let Choice { reason, .. } = choice;
    let text = match (choice.accelerator, choice.cpu) {
        (Accelerator::Kvm, None) => format!("machines run under KVM: {reason}"),
        (Accelerator::Kvm, Some(cpu)) => format!("machines run under KVM with -cpu {cpu}: {reason}"),
        (Accelerator::Tcg, _) if choice.forced => {
            format!("machines run under TCG, slower than under KVM: {reason}")
        }
        (Accelerator::Tcg, _) => format!(
            "machines run under TCG, slower than under KVM: {reason} ({VARIABLE}=kvm makes that an error)"
        ),
    };
    if lock(told).insert(text.clone()) {
        events.note(text);
    }
}

/// The first program named NAME on PATH.
fn on_path(name: &str) -> Option<PathBuf> {
    environment::path_folders().into_iter().map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests;
