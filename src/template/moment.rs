//! The moments at which a scenario can begin, and how a machine reaches them.

use std::collections::BTreeSet;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::Poll;
use std::time::SystemTime;

use super::clones::{Clones, Fault, fault};
use super::{Key, Made, Store};
use crate::BuiltVm;
use crate::machine::{Machine, MachineOptions};
use crate::mutex::lock;
use crate::qemu::accelerator::{self, Choice, Trial};
use crate::qemu::{Saved, is_of_a_port};
use crate::{Error, ErrorKind, Events, Result};

/// The title of an error's section that names the checkpoint.
pub(crate) const IN_CHECKPOINT: &str = "in the checkpoint";

/// A step of a checkpoint.
pub type Step = for<'a> fn(&'a mut Machine) -> Pin<Box<dyn Future<Output = Result> + Send + 'a>>;

/// A moment in the life of a machine.
#[derive(Debug, Clone)]
pub enum Moment {
    /// The login prompt is up, and the machine is idle.
    Booted,
    /// A user is logged in on the console, and the control channel is open if they can become root.
    LoggedIn {
        /// The user's name.
        user: String,
        /// Their password.
        password: String,
    },
    /// What a function of the user's makes of another moment.
    After {
        /// The moment before.
        from: Box<Moment>,
        /// The function's name, and a text that distinguishes its code from other code.
        name: String,
        /// The function.
        step: Step,
    },
}

impl Moment {
    /// Returns the key of the template of this moment.
    ///
    /// A passphrase is part of the key. So a scenario that gives none, or a wrong one, fails even if another
    /// scenario has made a template.
    pub(super) fn key(&self, vm: &BuiltVm, options: &MachineOptions, choice: &Choice) -> Key {
        let (hardware, networks) = (options.hardware().join(" "), options.wired_as());
        let mut booted = vec!["booted", &hardware, options.opened_by()];
        if !networks.is_empty() {
            booted.extend(["on networks", &networks]);
        }
        self.from(Key::new(vm, choice, &booted))
    }

    /// Returns the in-process cache key for a requested machine.
    pub(super) fn asked(&self, vm: &BuiltVm, options: &MachineOptions) -> Key {
        self.from(Key::of(&[
            vm.key(),
            options.name().to_owned(),
            options.hardware().join(" "),
            options.opened_by().to_owned(),
            options.wired_as(),
        ]))
    }

    fn from(&self, booted: Key) -> Key {
        match self {
            Self::Booted => booted,
            Self::LoggedIn { user, password } => booted.after(&["logged in", user, password]),
            Self::After { from, name, .. } => from.from(booted).after(&["after", name]),
        }
    }

    fn before(&self) -> Option<&Self> {
        match self {
            Self::Booted => None,
            Self::LoggedIn { .. } => Some(&Self::Booted),
            Self::After { from, .. } => Some(from),
        }
    }

    /// Takes a machine from the previous moment to this one.
    async fn reach(&self, machine: &mut Machine) -> Result {
        match self {
            Self::Booted => Ok(()),
            Self::LoggedIn { user, password } => {
                machine.login(user, password).await?;
                match machine.open_control_channel().await {
                    Err(error) if error.kind() == ErrorKind::NoRoot => Ok(()),
                    opened => opened,
                }
            }
            Self::After { step, name, .. } => stepped(step(machine), name).await,
        }
    }

    /// Boots a machine and takes it to this moment without a template.
    pub(crate) async fn boot_cold(&self, vm: &BuiltVm, options: MachineOptions) -> Result<Machine> {
        let mut way = vec![self];
        while let Some(before) = way.last().and_then(|moment| moment.before()) {
            way.push(before);
        }
        let mut machine = Machine::boot(vm, options).await?;
        for moment in way.into_iter().rev() {
            moment.reach(&mut machine).await?;
        }
        machine.begin_here().await;
        Ok(machine)
    }
}

/// Runs the function of a checkpoint with this name.
pub(super) async fn stepped(
    mut steps: Pin<Box<dyn Future<Output = Result> + Send + '_>>,
    name: &str,
) -> Result {
    // A panic in the step is a failure of the checkpoint, not of the boot.
    let done = std::future::poll_fn(|context| {
        let poll = AssertUnwindSafe(|| steps.as_mut().poll(context));
        std::panic::catch_unwind(poll)
            .unwrap_or_else(|_| Poll::Ready(Err(Error::new(ErrorKind::Other, "the checkpoint panicked"))))
    });
    let function = name.split(' ').next().unwrap_or_default();
    done.await.map_err(|error| error.section(IN_CHECKPOINT, function))
}

/// Returns a machine of the caller's own at `moment`. It is a clone if possible. Otherwise the machine is
/// booted, and a note gives the reason.
///
/// # Errors
/// Those of [`Machine::boot`] and [`Machine::login`], and the error of a checkpoint.
pub async fn machine(
    vm: &BuiltVm,
    options: MachineOptions,
    moment: &Moment,
    events: &Events,
) -> Result<Machine> {
    if options.keeps_state() {
        return moment.boot_cold(vm, options).await;
    }
    if let Some(why) = crate::qemu::foreseen(vm) {
        note_once(&vm.key(), &why, options.name(), "boots", events);
        return moment.boot_cold(vm, options).await;
    }
    let store = match Store::open() {
        Ok(store) => store,
        // Handled like a store that exists but can't be written.
        Err(error) => {
            note_once(&vm.key(), error.summary(), options.name(), "boots", events);
            return moment.boot_cold(vm, options).await;
        }
    };
    let why = match clone(&store, vm, &options, moment, events).await {
        Ok(Cloned::Machine(machine)) => return Ok(*machine),
        Ok(Cloned::Impossible(why)) => why,
        Err(why) => why.or_cold(Some(vm), store.folder())?,
    };
    note_once(&vm.key(), &why, options.name(), "boots", events);
    moment.boot_cold(vm, options).await
}

/// Whether [`machine`] would clone an existing template, which takes only a moment.
pub(crate) async fn is_at_hand(
    vm: &BuiltVm,
    options: &MachineOptions,
    moment: &Moment,
    events: &Events,
) -> bool {
    if options.keeps_state() || crate::qemu::foreseen(vm).is_some() {
        return false;
    }
    let Ok(choice) = accelerator::choose(vm, events) else { return false };
    let key = moment.key(vm, options, &choice);
    if Clones::of(vm, &choice).is_ok_and(|clones| clones.impossible(&key).is_some()) {
        return false;
    }
    Store::open().is_ok_and(|store| store.has(&key))
}

/// Notes why machines are not clones. The same note about `what` appears once per process.
pub(super) fn note_once(what: &str, why: &str, machines: &str, boot: &str, events: &Events) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut told = lock(&TOLD);
    if told.insert(format!("{what} {why}")) {
        drop(told);
        events.note(format!("{machines} {boot} cold: {why}"));
    }
}

enum Cloned {
    Machine(Box<Machine>),
    Impossible(String),
}

/// Why there is no clone.
pub(super) struct NoClone {
    pub(super) error: Error,
    pub(super) of: Of,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// The machine that was booted for a template, or that went from one moment to the next.
    Machine,
    /// A clone: it did not start, or does not respond.
    Clone,
    /// Saving: the machine did not become idle, or QEMU did not write in time. The machine may still work
    /// when it is booted.
    Save,
    /// Earlier failures: clones of the template, or of one that it is based on, do not run here.
    Known,
}

impl NoClone {
    /// Returns why machines could not be saved.
    pub(super) fn of_save(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Timeout | ErrorKind::ChannelLost => Self { error, of: Of::Save },
            _ => error.into(),
        }
    }

    /// Returns in a line why a machine of this VM is booted instead.
    ///
    /// # Errors
    /// The error, if a boot would be of no use.
    pub(super) fn or_cold(self, vm: Option<&BuiltVm>, folder: &Path) -> Result<String> {
        let Self { error, of } = self;
        let line = |error: &Error| in_a_line(error, vm, folder);
        match of {
            // A booted machine would need the same port.
            _ if is_of_a_port(&error) || error.kind() == ErrorKind::Usage => Err(error),
            Of::Clone => Ok(format!("a clone did not run: {}", line(&error))),
            Of::Save => Ok(line(&error)),
            Of::Known => Ok(error.summary().to_owned()),
            // NIXVM_ACCELERATOR is kvm and KVM does not work, or another boot would fail in the same way.
            Of::Machine if error.doubt().is_some() || is_the_machines(&error) => Err(error),
            Of::Machine => Ok(line(&error)),
        }
    }
}

impl From<Error> for NoClone {
    fn from(error: Error) -> Self {
        Self { error, of: Of::Machine }
    }
}

async fn clone(
    store: &Store,
    vm: &BuiltVm,
    options: &MachineOptions,
    moment: &Moment,
    events: &Events,
) -> Result<Cloned, NoClone> {
    // The accelerator is part of a template's key, so if KVM does not work, all moments on the way are
    // repeated.
    let mut trial = Trial::begin(vm, events)?;
    let (clones, made) = loop {
        let clones = Clones::of(vm, trial.choice())?;
        let asked = Asked { store, vm, options, events, trial: &trial, clones: &clones };
        match template(&asked, moment).await {
            Ok(made) => break (clones, made),
            Err(NoClone { error, of: Of::Machine }) => trial.failed(error)?,
            Err(other) => return Err(other),
        }
    };
    match made {
        Made::Impossible(why) => Ok(Cloned::Impossible(why)),
        Made::Ready(template) => {
            let folder = template.folder.clone();
            let resuming = Machine::resume(vm, options.clone(), template);
            let machine = tried(store, &clones, &folder, resuming).await?;
            Ok(Cloned::Machine(Box::new(machine)))
        }
    }
}

/// Returns a clone of the template in `folder`, once it runs.
pub(super) async fn tried(
    store: &Store,
    clones: &Clones,
    folder: &Path,
    resuming: impl Future<Output = Result<Machine>>,
) -> Result<Machine, NoClone> {
    let begun = SystemTime::now();
    let error = match resuming.await {
        Ok(machine) => {
            clones.ran(folder);
            return Ok(machine);
        }
        Err(error) => error,
    };
    Err(did_not_run(store, clones, folder, begun, error).await)
}

/// Takes note of a clone of the template in `folder` that was started at `begun` and does not run.
pub(super) async fn did_not_run(
    store: &Store,
    clones: &Clones,
    folder: &Path,
    begun: SystemTime,
    error: Error,
) -> NoClone {
    let fault = fault(&error);
    // A template that works must not be discarded because this host lacked a resource for a moment.
    let counts = fault != Fault::Host && !is_of_a_port(&error) && error.kind() != ErrorKind::Usage;
    let goes = counts && clones.did_not_run(folder, begun, error.summary());
    if (goes || fault == Fault::State) && store.discard(folder).await {
        clones.thrown_away(folder);
    }
    NoClone { error, of: Of::Clone }
}

/// Whose template is requested, and what is known about clones here.
pub(super) struct Asked<'a> {
    pub(super) store: &'a Store,
    pub(super) vm: &'a BuiltVm,
    pub(super) options: &'a MachineOptions,
    pub(super) events: &'a Events,
    pub(super) trial: &'a Trial,
    pub(super) clones: &'a Clones,
}

/// Returns the template of a moment under the accelerator that the trial chose. If there is none, it is made
/// from the previous moment.
pub(super) async fn template(asked: &Asked<'_>, moment: &Moment) -> Result<Made, NoClone> {
    let Asked { store, vm, options, events, trial, clones } = *asked;
    let key = moment.key(vm, options, trial.choice());
    if let Some(why) = clones.impossible(&key) {
        return Err(NoClone { error: Error::new(ErrorKind::Host, why), of: Of::Known });
    }
    let make = async |folder: &Path| -> Result<Option<String>, NoClone> {
        // Another scenario may have tried to make it in the meantime, and failed.
        trial.overruled()?;
        has_room(crate::qemu::memory_size(vm).unwrap_or_default(), folder)?;
        let alone = options.clone().alone_on_networks()?;
        let mut machine = match moment.before() {
            None => Machine::boot_to_save(vm, alone, trial, folder).await?,
            Some(before) => match Box::pin(template(asked, before)).await? {
                Made::Impossible(why) => return Ok(Some(why)),
                Made::Ready(used) => {
                    let its = used.folder.clone();
                    let resuming = Machine::resume_to_save(vm, alone, used, folder);
                    tried(store, clones, &its, resuming).await?
                }
            },
        };
        moment.reach(&mut machine).await?;
        match machine.save(folder, store.folder()).await.map_err(NoClone::of_save)? {
            Saved::Done => Ok(None),
            Saved::Impossible(why) => Ok(Some(why)),
        }
    };
    store.get(&key, events, make).await
}

/// Whether an error is about the machine itself, or is a checkpoint's own. Another boot would fail in the
/// same way.
fn is_the_machines(error: &Error) -> bool {
    let of_the_host =
        matches!(error.kind(), ErrorKind::Io | ErrorKind::Qmp | ErrorKind::QemuGone | ErrorKind::Host);
    (!of_the_host || error.is_foreign()) && !accelerator::lacks_room(error)
}

/// Describes in a line what kept a template from being made or used.
fn in_a_line(error: &Error, vm: Option<&BuiltVm>, folder: &Path) -> String {
    let what = match error.kind() {
        // The summary says what was waited for, which does not matter here.
        ErrorKind::QemuGone => "QEMU ended while a template was made or used",
        _ => error.summary(),
    };
    let size = vm.and_then(crate::qemu::memory_size).unwrap_or_default();
    match has_room(size, folder) {
        Err(full) if !what.starts_with(NEEDS) => format!("{what}: {}", full.summary()),
        _ => what.to_owned(),
    }
}

const NEEDS: &str = "a template needs";

/// Checks that the disk has space for RAM of this size, in bytes. The RAM's file grows as the guest uses it. On a full disk QEMU
/// would then end by a signal (SIGBUS), or KVM would stop the guest.
pub(super) fn has_room(size: u64, folder: &Path) -> Result {
    let found = rustix::fs::statvfs(folder)
        .map_err(|errno| Error::io(format_args!("examine {}", folder.display()), &errno.into()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free < size {
        return Err(Error::new(
            ErrorKind::Io,
            format!(
                "{NEEDS} {} MiB of disk, and {} MiB are free in {}",
                size >> 20,
                free >> 20,
                folder.display()
            ),
        ));
    }
    Ok(())
}
