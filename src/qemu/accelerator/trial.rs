//! The first boot of a VM on a host is the trial of KVM there, and what becomes of it when it fails.
//!
//! KVM is proven by a login prompt. Until then a failure that KVM may be the cause of is no failure of the guest: the
//! machine boots again, with a processor that has less or under TCG. What is then known is kept for others.

use std::path::{Path, PathBuf};

use super::memory::{Finding, Memory};
use super::{Accelerator, Choice, NotedLines, Wish, note_once, processor, unusable};
use crate::BuiltVm;
use crate::error::Doubt;
use crate::qemu::causes::about_kvm_in;
use crate::qemu::exit::STDERR;
use crate::qemu::{RunDirectory, kvm_device};
use crate::{Error, ErrorKind, Events, Result, Speed, text};

/// Why KVM is believed.
const PROVEN: &str = "a guest reached its login prompt with it";
/// So many characters of a reason are shown.
const REASON: usize = 160;

/// The boots of one machine until one of them counts.
#[derive(Debug)]
pub(crate) struct Trial {
    memory: Memory,
    device: PathBuf,
    choice: Choice,
    /// How the boot under KVM failed, after which this one is under TCG.
    before: Option<String>,
    /// This machine itself fell silent under KVM: how it fares under TCG shows whose fault that was.
    suspects: bool,
    /// What QEMU said of the first processor that did not run.
    refused: Option<String>,
    /// It was started again since the host's kernel could not enter the guest.
    again: bool,
    /// The machine's disk stays from run to run.
    keeps_state: bool,
    events: Events,
    told: &'static NotedLines,
}

impl Trial {
    /// Chooses for `vm`, and says the choice where it needs no trial.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when `NIXVM_ACCELERATOR` holds anything but `kvm` and `tcg`; [`ErrorKind::Host`] when there is
    /// no folder for the cache.
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

    /// Where KVM hardly ever runs a guest, one that says nothing is not waited for long: once, since it may be slow after all.
    pub(crate) fn on_a_host_that_emulates(mut self, emulates: bool) -> Self {
        self.choice.hasty = emulates && self.choice.tried && !self.memory.was_hasty();
        self
    }

    /// Of a machine whose disk stays from run to run, or does not.
    pub(crate) fn keeping_state(mut self, keeps_state: bool) -> Self {
        self.keeps_state = keeps_state;
        self
    }

    /// On a host whose findings are in `folder`, and whose /dev/kvm opens.
    #[cfg(test)]
    pub(crate) fn on_a_host(vm: &BuiltVm, folder: &Path, forced: bool, events: &Events) -> Self {
        let device = folder.join("kvm");
        std::fs::create_dir_all(folder).unwrap_or_default();
        std::fs::write(&device, "").unwrap_or_default();
        let wish = if forced { Wish::Kvm } else { Wish::None };
        let told = Box::leak(Box::default());
        Self::with(Memory::of(vm, &folder.join("accelerator")), &device, wish, events, told)
    }

    /// As if a boot had been this fast before.
    #[cfg(test)]
    pub(crate) fn measured(&self, accelerator: Accelerator, speed: Speed) {
        self.memory.remember_speed(accelerator, speed).unwrap_or_default();
    }

    /// What the machine is to boot with now.
    pub(crate) fn choice(&self) -> &Choice {
        &self.choice
    }

    /// Whether another machine has found out meanwhile that this choice is of no use.
    ///
    /// # Errors
    /// One for [`Trial::failed`], which leads to another choice.
    pub(crate) fn overruled(&self) -> Result {
        match self.memory.recall().filter(|_| self.choice.tried) {
            Some(known) if !self.choice.is(&known) => {
                Err(Error::new(ErrorKind::Host, known.reason).doubted(Some(Doubt::Passing)))
            }
            _ => Ok(()),
        }
    }

    /// The boot failed. `Ok` means that the machine is to boot again, with what [`Trial::choice`] says now. What was kept of
    /// the boot that failed is gone then, unless the machine keeps its state.
    ///
    /// # Errors
    /// `error`, where KVM is not the cause or nothing else is allowed. Only in the second case it still says that KVM may
    /// be the cause.
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
            // A guest has run with it, so this one fails by itself.
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
            self.choice.reason = format!("{PROVEN}, and not with a whole processor: {why}");
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

    /// Whether the machine can boot on its disk as if it had not booted before. A disk that is kept is put back only where the
    /// boot was tried, and where that fails, the error says nothing of KVM.
    fn is_undone(&self, error: &Error) -> bool {
        error.doubt().is_some() && (self.choice.tried || !self.keeps_state)
    }

    /// What QEMU's words mean, and what to do.
    fn known_cause(&self, error: &Error) -> Option<String> {
        let stderr = error.sections().filter(|(title, _)| *title == STDERR);
        let refusal = stderr.filter_map(|(_, body)| kvm_device::refusal_in(body, &self.device)).next();
        Some(match (refusal, error.advice()) {
            (Some(refusal), _) => format!("{}; {}", refusal.why, refusal.fix),
            (None, (Some(cause), Some(next))) => format!("{cause}; {next}"),
            (None, (cause, next)) => cause.or(next)?.to_owned(),
        })
    }

    /// The boot reached its login prompt, at this speed of the host.
    pub(crate) fn succeeded(&self, speed: Speed) {
        self.proven();
        if let Err(error) = self.memory.remember_speed(self.choice.accelerator, speed) {
            tracing::debug!(%error, "the host's speed is not remembered");
        }
    }

    fn proven(&self) {
        let Choice { accelerator, cpu, tried, .. } = self.choice;
        if accelerator == Accelerator::Tcg {
            // That another VM of the same kernel runs under TCG says nothing of the one that fell silent.
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

    /// Under TCG as well.
    fn failed_again(&self, error: Error) -> Error {
        let Some(before) = &self.before else { return error };
        if self.suspects {
            self.memory.acquit();
        }
        error.section("under KVM, before", before.as_str())
    }

    /// KVM is asked for, and nothing but KVM.
    fn nothing_else(&self, error: Error, doubt: Doubt) -> Error {
        let way_out = "unset NIXVM_ACCELERATOR, and machines are emulated where KVM does not run them";
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
            .next_step(format!("see what `nixvm-test doctor` says of KVM; or {way_out}"))
    }
}

impl Trial {
    /// With KVM as the likely cause, before what the guest itself may lack.
    fn names_kvm(&self, error: Error) -> Error {
        // Its services run.
        if error.kind() == ErrorKind::NoLoginPrompt {
            return error;
        }
        let known = self.memory.recall().filter(|known| known.accelerator == Accelerator::Tcg);
        let kvm = match known {
            Some(known) => {
                format!(
                    "KVM of this host does not run such a guest, as an earlier boot has shown: {}",
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

/// Whether the host's kernel could not enter the guest, as some kernels can't at times at the first try, when a thread of KVM
/// that reclaims memory is just starting (Ubuntu's 6.8 and 6.11).
fn is_a_first_entry(error: &Error) -> bool {
    error.kind() == ErrorKind::GuestStopped
        && error.summary().contains("kvm run failed Cannot allocate memory")
}

/// Whether the file with the guest's RAM found no room on its disk, which says nothing of KVM nor of the guest.
pub(crate) fn lacks_room(error: &Error) -> bool {
    error.kind() == ErrorKind::GuestStopped && error.summary().contains("kvm run failed Bad address")
}

/// Why a boot failed, in a line: QEMU's own words about KVM, else what was expected and what came.
fn reason(error: &Error) -> String {
    let stderr = error.sections().filter(|(title, _)| *title == STDERR);
    let said = stderr.filter_map(|(_, body)| about_kvm_in(body)).next().map(|(line, _)| line.trim());
    // It is told of other machines, too.
    let machine = error.transcripts().first().map(|(machine, _)| format!("{machine}: ")).unwrap_or_default();
    let summary = error.summary();
    let summary = summary.strip_prefix(&machine).unwrap_or(summary);
    text::line(said.unwrap_or(summary)).chars().take(REASON).collect()
}
