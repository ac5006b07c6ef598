//! The first boot of a VM on a host, which is the trial of KVM, and what follows from a failure.
//!
//! A login prompt proves KVM. Before that, a failure that KVM may have caused is not a failure of the guest.
//! The machine boots again, with fewer processor features or under TCG, and the outcome is remembered for
//! other machines.

use std::path::{Path, PathBuf};

use super::memory::{Finding, Memory};
use super::{Accelerator, Choice, NotedLines, Wish, note_once, processor, unusable};
use crate::BuiltVm;
use crate::error::Doubt;
use crate::qemu::causes::about_kvm_in;
use crate::qemu::exit::STDERR;
use crate::qemu::{RunDirectory, kvm_device};
use crate::{Error, ErrorKind, Events, Result, Speed, text};

/// The reason for trusting KVM.
const PROVEN: &str = "a guest reached its login prompt with it";
/// How many characters of a reason are shown.
const REASON: usize = 160;

/// The boots of one machine until one of them counts.
#[derive(Debug)]
pub(crate) struct Trial {
    memory: Memory,
    device: PathBuf,
    choice: Choice,
    /// How the previous boot failed under KVM, if this one is under TCG.
    before: Option<String>,
    /// Whether this machine itself fell silent under KVM, so that its boot under TCG shows what was to blame.
    suspects: bool,
    /// QEMU's message about the first processor that did not run.
    refused: Option<String>,
    /// Whether it was started again because the host's kernel could not enter the guest.
    again: bool,
    /// Whether the machine's disk is kept from run to run.
    keeps_state: bool,
    events: Events,
    told: &'static NotedLines,
}

impl Trial {
    /// Chooses an accelerator for `vm`, and sends the choice as a note if it needs no trial.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when `NIXVM_ACCELERATOR` is neither `kvm` nor `tcg`; [`ErrorKind::Host`] when
    /// there is no folder for the cache.
    pub(crate) fn begin(vm: &BuiltVm, events: &Events) -> Result<Self> {
        let memory = super::memory_of(vm)?;
        let trial =
            Self::with(memory, Path::new(super::DEVICE), Wish::of_environment()?, events, &super::TOLD);
        Ok(trial.on_a_host_that_emulates(kvm_device::emulates()))
    }

    pub(super) fn with(
        memory: Memory,
        device: &Path,
        wish: Wish,
        events: &Events,
        told: &'static NotedLines,
    ) -> Self {
        let choice = super::decide(&memory, device, wish);
        if !choice.tried {
            note_once(&choice, events, told);
        }
        let (device, events) = (device.to_owned(), events.clone());
        Self {
            memory,
            device,
            choice,
            before: None,
            suspects: false,
            refused: None,
            again: false,
            keeps_state: false,
            events,
            told,
        }
    }

    /// Makes the trial give up early on a guest that prints nothing, if this host's KVM hardly ever runs a
    /// guest. It gives up early once only, because the guest may just be slow.
    pub(crate) fn on_a_host_that_emulates(mut self, emulates: bool) -> Self {
        self.choice.hasty = emulates && self.choice.tried && !self.memory.was_hasty();
        self
    }

    /// Sets whether the machine's disk is kept from run to run.
    pub(crate) fn keeping_state(mut self, keeps_state: bool) -> Self {
        self.keeps_state = keeps_state;
        self
    }

    /// Makes a trial on a host whose findings are in `folder`, and whose /dev/kvm opens.
    #[cfg(test)]
    pub(crate) fn on_a_host(vm: &BuiltVm, folder: &Path, forced: bool, events: &Events) -> Self {
        let device = folder.join("kvm");
        std::fs::create_dir_all(folder).unwrap_or_default();
        std::fs::write(&device, "").unwrap_or_default();
        let wish = if forced { Wish::Kvm } else { Wish::None };
        let told = Box::leak(Box::default());
        Self::with(Memory::of(vm, &folder.join("accelerator")), &device, wish, events, told)
    }

    /// Pretends that an earlier boot had this speed.
    #[cfg(test)]
    pub(crate) fn measured(&self, accelerator: Accelerator, speed: Speed) {
        self.memory.remember_speed(accelerator, speed).unwrap_or_default();
    }

    /// Returns the accelerator for the next boot.
    pub(crate) fn choice(&self) -> &Choice {
        &self.choice
    }

    /// Checks whether another machine has found in the meantime that this choice does not work.
    ///
    /// # Errors
    /// An error for [`Trial::failed`], which then makes another choice.
    pub(crate) fn overruled(&self) -> Result {
        match self.memory.recall().filter(|_| self.choice.tried) {
            Some(known) if !self.choice.is(&known) => {
                Err(Error::new(ErrorKind::Host, known.reason).doubted(Some(Doubt::Passing)))
            }
            _ => Ok(()),
        }
    }

    /// Handles a failed boot. `Ok` means that the machine is to boot again with the present
    /// [`Trial::choice`]. The kept files of the failed boot are then removed, unless the machine keeps its
    /// state.
    ///
    /// # Errors
    /// `error`, if KVM is not the cause or no other accelerator is allowed. Only in the latter case the error
    /// still says that KVM may be the cause.
    pub(crate) fn failed(&mut self, error: Error) -> Result {
        let kept: Vec<PathBuf> = error.transcripts().iter().map(|(_, path)| path.clone()).collect();
        self.retry_after(error)?;
        if !self.keeps_state {
            kept.iter().filter_map(|transcript| transcript.parent()).for_each(RunDirectory::forget);
        }
        Ok(())
    }

    fn retry_after(&mut self, error: Error) -> Result {
        if !self.again && is_a_first_entry(&error) && self.is_undone(&error) {
            self.again = true;
            self.events.note(format!("the machine is started again: {}", error.summary()));
            return Ok(());
        }
        if lacks_room(&error) {
            return Err(error.doubted(None));
        }
        let doubt = error.doubt();
        if self.choice.accelerator == Accelerator::Tcg {
            return Err(self.failed_again(error.doubted(None)));
        }
        let Some(doubt) = doubt else { return Err(error) };
        match self.memory.recall() {
            // A guest has run with this choice, so the failure is this guest's own.
            Some(known) if self.choice.is(&known) => return Err(error.doubted(None)),
            Some(known) if !self.choice.forced => {
                self.before = Some(error.summary().to_owned());
                self.suspects = doubt != Doubt::Passing;
                self.choice = self.choice_of(known);
                note_once(&self.choice, &self.events, self.told);
                return Ok(());
            }
            _ => {}
        }
        let why = reason(&error);
        if doubt == Doubt::Processor
            && let Some(next) = processor::after(self.choice.cpu)
        {
            self.choice.reason = format!("{PROVEN}, but not with all processor features: {why}");
            self.refused.get_or_insert(why);
            self.choice.cpu = Some(next);
            return Ok(());
        }
        if self.choice.forced {
            return Err(self.nothing_else(error, doubt));
        }
        let reason = match &self.refused {
            Some(refused) if *refused != why => {
                format!("{why} (with -cpu {}, since: {refused})", self.choice.cpu.unwrap_or_default())
            }
            _ => why,
        };
        let reason = match self.known_cause(&error).filter(|_| doubt == Doubt::Passing) {
            Some(cause) => format!("{reason} ({cause})"),
            None => reason,
        };
        let hasty = doubt == Doubt::Hasty;
        let suspected = doubt == Doubt::Suspected || hasty;
        let finding = Finding { accelerator: Accelerator::Tcg, cpu: None, reason, suspected, hasty };
        if doubt != Doubt::Passing {
            self.memory.remember(&finding);
        }
        self.before = Some(error.summary().to_owned());
        self.suspects = suspected;
        self.choice = self.choice_of(finding);
        let said = error.transcripts().first().filter(|_| self.keeps_state);
        let said = said.map(|(_, path)| format!("; its console: {}", path.display()));
        self.choice.reason.push_str(&said.unwrap_or_default());
        note_once(&self.choice, &self.events, self.told);
        Ok(())
    }

    /// Whether the machine can boot as if its disk had never been booted. A kept disk is restored only after
    /// a trial. If that fails, the error says nothing about KVM.
    fn is_undone(&self, error: &Error) -> bool {
        error.doubt().is_some() && (self.choice.tried || !self.keeps_state)
    }

    /// Returns the meaning of QEMU's message, and what to do about it.
    fn known_cause(&self, error: &Error) -> Option<String> {
        let stderr = error.sections().filter(|(title, _)| *title == STDERR);
        let refusal = stderr.filter_map(|(_, body)| kvm_device::refusal_in(body, &self.device)).next();
        Some(match (refusal, error.advice()) {
            (Some(refusal), _) => format!("{}; {}", refusal.why, refusal.fix),
            (None, (Some(cause), Some(next))) => format!("{cause}; {next}"),
            (None, (cause, next)) => cause.or(next)?.to_owned(),
        })
    }

    /// Records that the boot reached its login prompt, and how fast this host was.
    pub(crate) fn succeeded(&self, speed: Speed) {
        self.proven();
        if let Err(error) = self.memory.remember_speed(self.choice.accelerator, speed) {
            tracing::debug!(%error, "could not record the host's speed");
        }
    }

    fn proven(&self) {
        let Choice { accelerator, cpu, tried, .. } = self.choice;
        if accelerator == Accelerator::Tcg {
            // Success of another VM with the same kernel under TCG says nothing about the VM that fell
            // silent.
            if self.suspects {
                self.memory.confirm();
            }
            return;
        }
        if self.memory.recall().is_some_and(|known| self.choice.is(&known)) {
            return;
        }
        let reason = if cpu.is_some() { self.choice.reason.clone() } else { PROVEN.to_owned() };
        self.memory.remember(&Finding {
            accelerator,
            cpu,
            reason: reason.clone(),
            suspected: false,
            hasty: false,
        });
        if tried || cpu.is_some() {
            note_once(&Choice { reason, ..self.choice.clone() }, &self.events, self.told);
        }
    }

    fn choice_of(&self, finding: Finding) -> Choice {
        Choice::of(finding.accelerator, finding.cpu, finding.reason, &self.memory)
    }

    /// Handles a failure under TCG after one under KVM.
    fn failed_again(&self, error: Error) -> Error {
        let Some(before) = &self.before else { return error };
        if self.suspects {
            self.memory.acquit();
        }
        error.section("under KVM, earlier", before.as_str())
    }

    /// Returns the error for a machine that may run under KVM only.
    fn nothing_else(&self, error: Error, doubt: Doubt) -> Error {
        let way_out = "unset NIXVM_ACCELERATOR, so that machines are emulated if KVM does not run them";
        if doubt == Doubt::Suspected {
            let less = match (&self.refused, self.choice.cpu) {
                (Some(refused), Some(cpu)) => {
                    format!(" The guest had the processor {cpu}, since QEMU said: {refused}.")
                }
                _ => String::new(),
            };
            let doubt = "No guest has reached its login prompt under KVM since this host was booted, so KVM may be the \
                         cause. With NIXVM_ACCELERATOR=tcg the same boot shows which.";
            return self.names_kvm(error).section("NIXVM_ACCELERATOR is kvm", format!("{doubt}{less}"));
        }
        let cause = unusable(&self.device);
        let cause =
            cause.unwrap_or_else(|| error.advice().0.unwrap_or("KVM does not run this guest").to_owned());
        error
            .likely_cause(format!("{cause} (NIXVM_ACCELERATOR is kvm, so the machine is not emulated)"))
            .next_step(format!("see what `nixvm-test doctor` says about KVM; or {way_out}"))
    }
}

impl Trial {
    /// Names KVM as the likely cause, before what the guest itself may lack.
    fn names_kvm(&self, error: Error) -> Error {
        // Its services run, so KVM is not the cause.
        if error.kind() == ErrorKind::NoLoginPrompt {
            return error;
        }
        let known = self.memory.recall().filter(|known| known.accelerator == Accelerator::Tcg);
        let kvm = match known {
            Some(known) => {
                format!(
                    "KVM of this host does not run such a guest, as an earlier boot showed: {}",
                    known.reason
                )
            }
            None => "KVM of this host may not run this guest".to_owned(),
        };
        let look = "nixvm-test doctor --kvm VM, which shows how far the VM gets under KVM";
        let (cause, next) = error.advice();
        let cause = cause.map_or(kvm.clone(), |cause| format!("{kvm}; or {cause}"));
        let next = next.map_or(look.to_owned(), |next| format!("{look}; or {next}"));
        error.likely_cause(cause).next_step(next)
    }
}

/// Whether the host's kernel could not enter the guest. Some kernels (Ubuntu's 6.8 and 6.11) fail at the
/// first try if a thread of KVM that reclaims memory is just starting.
fn is_a_first_entry(error: &Error) -> bool {
    error.kind() == ErrorKind::GuestStopped
        && error.summary().contains("kvm run failed Cannot allocate memory")
}

/// Whether the disk with the guest's RAM is full, which says nothing about KVM or the guest.
pub(crate) fn lacks_room(error: &Error) -> bool {
    error.kind() == ErrorKind::GuestStopped && error.summary().contains("kvm run failed Bad address")
}

/// Describes in a line why a boot failed: QEMU's own message about KVM, or else the error's summary.
fn reason(error: &Error) -> String {
    let stderr = error.sections().filter(|(title, _)| *title == STDERR);
    let said = stderr.filter_map(|(_, body)| about_kvm_in(body)).next().map(|(line, _)| line.trim());
    // The reason is shown for other machines, too, so this machine's name is left out.
    let machine = error.transcripts().first().map(|(machine, _)| format!("{machine}: ")).unwrap_or_default();
    let summary = error.summary();
    let summary = summary.strip_prefix(&machine).unwrap_or(summary);
    text::line(said.unwrap_or(summary)).chars().take(REASON).collect()
}
