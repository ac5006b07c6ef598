//! The moments at which a scenario can begin, and how a machine gets there.

use std::collections::BTreeSet;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::Poll;

use super::{Key, Made, Store};
use crate::build::BuiltVm;
use crate::machine::{Machine, MachineOptions};
use crate::mutex::lock;
use crate::qemu::accelerator::{self, Choice, Trial};
use crate::qemu::{Saved, is_of_a_port};
use crate::{Error, ErrorKind, Events, Result};

/// The title under which an error says in which checkpoint it is.
pub(crate) const IN_CHECKPOINT: &str = "in the checkpoint";

/// A step that a checkpoint takes.
pub type Step = for<'a> fn(&'a mut Machine) -> Pin<Box<dyn Future<Output = Result> + Send + 'a>>;

/// A moment in a machine's life.
#[derive(Debug, Clone)]
pub enum Moment {
    /// The login prompt is up, and the machine at rest.
    Booted,
    /// A user is logged in on the console, and the control channel is open if they can become root.
    LoggedIn {
        /// The user's name.
        user: String,
        /// Their password.
        password: String,
    },
    /// What a function of the user's made of another moment.
    After {
        /// The moment before.
        from: Box<Moment>,
        /// The function's name, and what tells its code from another's.
        name: String,
        /// The function.
        step: Step,
    },
}

impl Moment {
    /// The key of its template.
    pub(super) fn key(&self, vm: &BuiltVm, hardware: &[String], choice: &Choice) -> Key {
        self.from(Key::new(vm, choice, &["booted", &hardware.join(" ")]))
    }

    /// By what it is known within this process which machine one asks for.
    pub(super) fn asked(&self, vm: &BuiltVm, options: &MachineOptions) -> Key {
        self.from(Key::of(&[vm.key(), options.name().to_owned(), options.hardware().join(" ")]))
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

    /// Brings a machine here from the moment before.
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
            Self::After { step, name, .. } => {
                let mut steps = step(machine);
                // A panic in it is its failure, and not the boot's.
                let done = std::future::poll_fn(|context| {
                    let poll = AssertUnwindSafe(|| steps.as_mut().poll(context));
                    std::panic::catch_unwind(poll).unwrap_or_else(|_| {
                        Poll::Ready(Err(Error::new(ErrorKind::Other, "the checkpoint panicked")))
                    })
                });
                let function = name.split(' ').next().unwrap_or_default();
                done.await.map_err(|error| error.section(IN_CHECKPOINT, function))
            }
        }
    }

    /// Boots a machine and brings it here, with no template.
    pub(crate) async fn boot_cold(&self, vm: &BuiltVm, options: MachineOptions) -> Result<Machine> {
        let mut way = vec![self];
        while let Some(before) = way.last().and_then(|moment| moment.before()) {
            way.push(before);
        }
        let mut machine = Machine::boot(vm, options).await?;
        for moment in way.into_iter().rev() {
            moment.reach(&mut machine).await?;
        }
        machine.begins_here().await;
        Ok(machine)
    }
}

/// A machine of its own that stands at `moment`: a clone where that is possible, else one that was booted for it,
/// and one line says why.
///
/// # Errors
/// Those of [`Machine::boot`] and [`Machine::login`], and that of a checkpoint.
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
        note_once(vm, &why, options.name(), events);
        return moment.boot_cold(vm, options).await;
    }
    let store = Store::open()?;
    let why = match clone(&store, vm, &options, moment, events).await {
        Ok(Cloned::Machine(machine)) => return Ok(*machine),
        Ok(Cloned::Impossible(why)) => why,
        // Booted, it would want the same port.
        Err(error) if is_the_machines(&error) || is_of_a_port(&error) => return Err(error),
        // NIXVM_ACCELERATOR=kvm, and there is none.
        Err(error) if error.doubt().is_some() => return Err(error),
        Err(error) => in_a_line(&error, vm, store.folder()),
    };
    note_once(vm, &why, options.name(), events);
    moment.boot_cold(vm, options).await
}

/// Whether [`machine`] would clone a template that is there already: that takes nothing but a moment.
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
    Store::open().is_ok_and(|store| store.has(&moment.key(vm, options.hardware(), &choice)))
}

/// Says why machines of a VM are no clones; the same only once per process, however many there are.
fn note_once(vm: &BuiltVm, why: &str, machine: &str, events: &Events) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut told = lock(&TOLD);
    if told.insert(format!("{} {why}", vm.key())) {
        drop(told);
        events.note(format!("{machine} boots cold: {why}"));
    }
}

enum Cloned {
    Machine(Box<Machine>),
    Impossible(String),
}

async fn clone(
    store: &Store,
    vm: &BuiltVm,
    options: &MachineOptions,
    moment: &Moment,
    events: &Events,
) -> Result<Cloned> {
    // What a template is made under is a part of its key, so the whole way is gone again where KVM does not work.
    let mut trial = Trial::begin(vm, events)?;
    let made = loop {
        match template(store, vm, options, moment, events, &trial).await {
            Ok(made) => break made,
            Err(error) => trial.failed(error)?,
        }
    };
    match made {
        Made::Impossible(why) => Ok(Cloned::Impossible(why)),
        Made::Ready(template) => {
            let folder = template.folder.clone();
            match Machine::resume(vm, options.clone(), template).await {
                Ok(machine) => Ok(Cloned::Machine(Box::new(machine))),
                Err(error) => {
                    if !is_of_a_port(&error) {
                        store.discard(&folder).await;
                    }
                    Err(error.doubted(None))
                }
            }
        }
    }
}

/// The template of a moment under what `trial` chose; made of the moment before, if there is none.
async fn template(
    store: &Store,
    vm: &BuiltVm,
    options: &MachineOptions,
    moment: &Moment,
    events: &Events,
    trial: &Trial,
) -> Result<Made> {
    let key = moment.key(vm, options.hardware(), trial.choice());
    let make = async |folder: &Path| -> Result<Option<String>> {
        // Another one may have made it until now, in vain.
        trial.overruled()?;
        room_for(vm, folder)?;
        let mut machine = match moment.before() {
            None => Machine::boot_to_save(vm, options.clone(), trial, folder).await?,
            Some(before) => match Box::pin(template(store, vm, options, before, events, trial)).await? {
                Made::Impossible(why) => return Ok(Some(why)),
                Made::Ready(used) => {
                    let its = used.folder.clone();
                    let resumed = Machine::resume_to_save(vm, options.clone(), used, folder).await;
                    if let Err(error) = &resumed
                        && !is_of_a_port(error)
                    {
                        store.discard(&its).await;
                    }
                    resumed?
                }
            },
        };
        moment.reach(&mut machine).await?;
        match machine.save(folder).await? {
            Saved::Done => Ok(None),
            Saved::Impossible(why) => Ok(Some(why)),
        }
    };
    store.get(&key, events, make).await
}

/// Whether an error says something of the machine itself: booting it again would end in the same.
fn is_the_machines(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::Io | ErrorKind::Qmp | ErrorKind::QemuGone | ErrorKind::Host)
}

/// What kept a template from being made or used.
fn in_a_line(error: &Error, vm: &BuiltVm, folder: &Path) -> String {
    let what = match error.kind() {
        // What it was waited for says nothing here.
        ErrorKind::QemuGone => "QEMU ended while a template was made or used",
        _ => error.summary(),
    };
    match room_for(vm, folder) {
        Err(full) if !what.starts_with(NEEDS) => format!("{what}: {}", full.summary()),
        _ => what.to_owned(),
    }
}

const NEEDS: &str = "a template needs";

/// A file of RAM grows as the guest uses it; a disk that is full then ends QEMU by a signal (SIGBUS).
fn room_for(vm: &BuiltVm, folder: &Path) -> Result {
    let Some(size) = crate::qemu::memory_size(vm) else { return Ok(()) };
    let found = rustix::fs::statvfs(folder)
        .map_err(|errno| Error::io(format_args!("look at {}", folder.display()), &errno.into()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free < size {
        return Err(Error::new(
            ErrorKind::Io,
            format!("{NEEDS} {} MiB of disk, {} are free in {}", size >> 20, free >> 20, folder.display()),
        ));
    }
    Ok(())
}
