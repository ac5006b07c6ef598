//! A moment of several machines on one network, and how they reach it.
//!
//! Its template is one folder with a folder `machine-NAME` for each machine, so its parts always belong together: they have one lock,
//! one seal and one key. Beside them are the frames that were on their way.

use std::fs::{self, DirBuilder};
use std::future::Future;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use super::clones::Clones;
use super::moment::{self, Moment, NoClone, Of};
use super::{Key, Made, Store};
use crate::BuiltVm;
use crate::at_once;
use crate::machine::{
    Frozen, Loaded, Machine, MachineOptions, Networks, SavedTogether, TemplateLease, run_together,
    save_together,
};
use crate::network::{InFlight, Switch};
use crate::qemu::accelerator::{self, Choice, Trial};
use crate::{Error, ErrorKind, Events, Result};

/// The file in a template's folder with the frames in flight.
const FRAMES: &str = "frames.json";

/// Returns the folder of a machine in a template's folder. No other file there has such a name, whatever the machine's
/// name is.
fn folder_of(machine: &str, template: &Path) -> PathBuf {
    template.join(format!("machine-{machine}"))
}

/// A step of a checkpoint of several machines.
pub type StepTogether = for<'a> fn(&'a mut [Machine]) -> Pin<Box<dyn Future<Output = Result> + Send + 'a>>;

/// A moment of several machines: what a function of the user's makes of the moment before.
#[derive(Debug, Clone)]
pub struct Together {
    /// The moment before.
    pub from: Before,
    /// The function's name, and a text that distinguishes its code from other code.
    pub name: String,
    /// The names of the machines, in the order in which the function takes them.
    pub machines: Vec<&'static str>,
    /// The function.
    pub step: StepTogether,
}

/// Where machines are before they reach a moment of theirs.
#[derive(Debug, Clone)]
pub enum Before {
    /// Off: they boot together.
    Off,
    /// Each is at this moment, which it has reached alone.
    Each(Moment),
    /// They are at another moment of theirs.
    Together(Box<Together>),
}

/// A machine that is requested with others.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its VM.
    pub vm: BuiltVm,
    /// Its options. Its networks are those of the scenario.
    pub options: MachineOptions,
}

impl Together {
    /// Returns the key of the template of this moment. `members` are in the order of their names.
    fn key<'a>(&self, members: &[Member], choices: impl Iterator<Item = &'a Choice>) -> Key {
        let of_each = |how: &str, moment: &Moment, choices: &mut dyn Iterator<Item = &'a Choice>| {
            let mut parts = vec!["machines together".to_owned(), how.to_owned()];
            for (Member { vm, options }, choice) in members.iter().zip(choices) {
                let key = moment.key(vm, options, choice);
                parts.extend([options.name().to_owned(), key.name().to_owned()]);
            }
            Key::of(&parts)
        };
        let mut choices = choices;
        let before = match &self.from {
            Before::Off => of_each("from off", &Moment::Booted, &mut choices),
            Before::Each(moment) => of_each("from each", moment, &mut choices),
            Before::Together(before) => before.key(members, choices),
        };
        before.after(&["together after", &self.name, &self.machines.join(" ")])
    }

    /// Takes machines from the moment before to this one.
    async fn reach(&self, machines: &[Machine]) -> Result {
        let named = |name: &&str| machines.iter().find(|machine| machine.name() == *name).cloned();
        let mut given: Vec<Machine> = self.machines.iter().filter_map(named).collect();
        moment::stepped((self.step)(&mut given), &self.name).await
    }

    /// Boots machines and takes them to this moment without a template.
    ///
    /// # Errors
    /// Those of [`Machine::boot`], and the error of a checkpoint.
    pub async fn boot_cold(&self, members: Vec<Member>) -> Result<Vec<Machine>> {
        let (mut way, mut first) = (vec![self], &self.from);
        while let Before::Together(before) = first {
            way.push(before);
            first = &before.from;
        }
        let moment = match first {
            Before::Each(moment) => moment,
            Before::Off | Before::Together(_) => &Moment::Booted,
        };
        let booting =
            members.into_iter().map(async |Member { vm, options }| moment.boot_cold(&vm, options).await);
        let machines = at_once::all(booting).await.into_iter().collect::<Result<Vec<_>>>()?;
        for together in way.into_iter().rev() {
            together.reach(&machines).await?;
        }
        for machine in &machines {
            machine.begin_here().await;
        }
        Ok(machines)
    }
}

/// Returns machines of the caller's own at `moment`, in the order of `members`. They are clones if possible. If one of
/// them can't be cloned, all of them are booted, and a note names it with the reason.
///
/// # Errors
/// Those of [`moment::machine`].
pub async fn machines(members: Vec<Member>, moment: &Together, events: &Events) -> Result<Vec<Machine>> {
    if members.iter().all(|member| member.options.keeps_state()) {
        return moment.boot_cold(members).await;
    }
    let mut sorted = members.clone();
    sorted.sort_by(|one, other| one.options.name().cmp(other.options.name()));
    let (name, why) = match cloned(&sorted, moment, events).await? {
        Ok(machines) => {
            let named = |member: &Member| {
                machines.iter().find(|machine| machine.name() == member.options.name()).cloned()
            };
            return Ok(members.iter().filter_map(named).collect());
        }
        Err(why) => why,
    };
    let names: Vec<&str> = sorted.iter().map(|member| member.options.name()).collect();
    let why = match name {
        Some(name) => format!("{name}: {why}"),
        None => why,
    };
    moment::note_once(&names.join(" "), &why, &listed(&names), "boot", events);
    moment.boot_cold(members).await
}

/// Whether [`machines`] would clone an existing template, which takes only a moment.
pub(crate) async fn are_at_hand(members: &[Member], moment: &Together, events: &Events) -> bool {
    let mut sorted = members.to_vec();
    sorted.sort_by(|one, other| one.options.name().cmp(other.options.name()));
    if sorted.iter().any(|member| obstacle(member).is_some()) {
        return false;
    }
    let choices = sorted.iter().map(|member| accelerator::choose(&member.vm, events));
    let Ok(choices) = choices.collect::<Result<Vec<_>>>() else { return false };
    let key = moment.key(&sorted, choices.iter());
    let is_impossible = |(member, choice): (&Member, &Choice)| {
        Clones::of(&member.vm, choice).is_ok_and(|clones| clones.impossible(&key).is_some())
    };
    !sorted.iter().zip(&choices).any(is_impossible) && Store::open().is_ok_and(|store| store.has(&key))
}

/// Returns why a machine can't be cloned, as far as that shows before it runs.
fn obstacle(member: &Member) -> Option<String> {
    match member.options.keeps_state() {
        true => Some("its disk is kept from run to run".to_owned()),
        false => crate::qemu::foreseen(&member.vm),
    }
}

/// "one, two and three".
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
    }
}

/// Why there are no clones, and the machine that this is about, if it is about one.
type Cold = (Option<String>, String);

/// Returns clones, or why there are none.
async fn cloned(
    members: &[Member],
    moment: &Together,
    events: &Events,
) -> Result<Result<Vec<Machine>, Cold>> {
    let name = |at: usize| members.get(at).map(|member| member.options.name().to_owned());
    let foreseen = members.iter().enumerate().find_map(|(at, member)| Some((name(at), obstacle(member)?)));
    if let Some(cold) = foreseen {
        return Ok(Err(cold));
    }
    let store = match Store::open() {
        Ok(store) => store,
        Err(error) => return Ok(Err((None, error.summary().to_owned()))),
    };
    match clones(&store, members, moment, events).await {
        Ok(Ok(machines)) => Ok(Ok(machines)),
        Ok(Err(why)) => Ok(Err((None, why))),
        Err(Failed { at, why }) => {
            let vm = members.get(at.unwrap_or_default()).map(|member| &member.vm);
            let why = why.or_cold(vm, store.folder())?;
            Ok(Err((at.and_then(name), why)))
        }
    }
}

/// Why there are no clones of several machines.
struct Failed {
    /// The number of the machine that this is about, if it is about one.
    at: Option<usize>,
    why: NoClone,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { at: None, why: error.into() }
    }
}

fn of(at: usize) -> impl Fn(Error) -> Failed {
    move |error| Failed { at: Some(at), why: error.into() }
}

/// Whose template is requested, and what is known about clones here.
struct Asked<'a> {
    store: &'a Store,
    members: &'a [Member],
    events: &'a Events,
    trials: &'a [Trial],
    clones: &'a [Clones],
}

/// Returns clones of the template of a moment, or why there can be none.
async fn clones(
    store: &Store,
    members: &[Member],
    moment: &Together,
    events: &Events,
) -> Result<Result<Vec<Machine>, String>, Failed> {
    let trials = members.iter().map(|member| Trial::begin(&member.vm, events));
    let mut trials = trials.collect::<Result<Vec<_>>>()?;
    loop {
        let known = members.iter().zip(&trials).map(|(member, trial)| Clones::of(&member.vm, trial.choice()));
        let clones = known.collect::<Result<Vec<_>>>()?;
        let asked = Asked { store, members, events, trials: &trials, clones: &clones };
        match template(&asked, moment).await {
            Ok(Made::Impossible(why)) => return Ok(Err(why)),
            Ok(Made::Ready(template)) => {
                let options: Vec<_> = members.iter().map(|member| member.options.clone()).collect();
                return resumed(&asked, options, template, None).await.map(Ok);
            }
            Err(Failed { at, why: NoClone { error, of: Of::Machine } }) => {
                // An error of the checkpoint is about one of them, and KVM is the same for all.
                let Some(trial) = trials.get_mut(at.unwrap_or_default()) else { return Err(error.into()) };
                trial.failed(error).map_err(|error| Failed { at, why: error.into() })?;
            }
            Err(other) => return Err(other),
        }
    }
}

/// Returns the template of a moment under the accelerators that the trials chose. If there is none, it is made from the
/// previous moment.
async fn template(asked: &Asked<'_>, moment: &Together) -> Result<Made, Failed> {
    let Asked { store, members, trials, clones, .. } = *asked;
    let key = moment.key(members, trials.iter().map(Trial::choice));
    for (at, clones) in clones.iter().enumerate() {
        if let Some(why) = clones.impossible(&key) {
            let why = NoClone { error: Error::new(ErrorKind::Host, why), of: Of::Known };
            return Err(Failed { at: Some(at), why });
        }
    }
    let make = async |folder: &Path| make(asked, moment, folder).await;
    store.get(&key, asked.events, make).await
}

/// Makes the template of a moment in `folder`. Returns the reason if there can be none.
async fn make(asked: &Asked<'_>, moment: &Together, folder: &Path) -> Result<Option<String>, Failed> {
    let Asked { store, members, trials, .. } = *asked;
    for (at, trial) in trials.iter().enumerate() {
        trial.overruled().map_err(of(at))?;
    }
    let sizes = members.iter().filter_map(|member| crate::qemu::memory_size(&member.vm));
    moment::has_room(sizes.fold(0, u64::saturating_add), folder)?;
    let named = |at: usize, why: String| match members.get(at) {
        Some(member) => format!("{}: {why}", member.options.name()),
        None => why,
    };
    let folders: Vec<PathBuf> =
        members.iter().map(|member| folder_of(member.options.name(), folder)).collect();
    for folder in &folders {
        DirBuilder::new()
            .mode(0o700)
            .create(folder)
            .map_err(|error| Error::io(format_args!("make {}", folder.display()), &error))?;
    }
    let networks: Vec<&Networks> =
        members.iter().filter_map(|member| member.options.networks.as_ref()).collect();
    let (switch, networks) = Networks::together(&networks)?;
    let mut networks = networks.into_iter();
    let plugged = |member: &Member| {
        let networks = member.options.networks.as_ref().and_then(|_| networks.next());
        member.options.clone().networks(networks)
    };
    let options: Vec<MachineOptions> = members.iter().map(plugged).collect();
    let machines = match &moment.from {
        Before::Off => {
            let booting = members.iter().zip(options).zip(trials).zip(&folders);
            let booting = booting.map(|(((member, options), trial), folder)| {
                Machine::boot_to_save(&member.vm, options, trial, folder)
            });
            all_or_none(at_once::all(booting).await, Machine::kill)
                .await
                .map_err(|(at, error)| of(at)(error))?
        }
        Before::Each(before) => match from_each(asked, before, options, &folders, &switch).await? {
            Ok(machines) => machines,
            Err((at, why)) => return Ok(Some(named(at, why))),
        },
        Before::Together(before) => match Box::pin(template(asked, before)).await? {
            Made::Impossible(why) => return Ok(Some(why)),
            Made::Ready(used) => resumed(asked, options, used, Some(&folders)).await?,
        },
    };
    moment.reach(&machines).await?;
    let saved = save_together(&machines, &folders, store.folder(), &switch).await;
    let in_flight =
        match saved.map_err(|(at, error)| Failed { at: Some(at), why: NoClone::of_save(error) })? {
            SavedTogether::Done(in_flight) => in_flight,
            SavedTogether::Impossible(at, why) => return Ok(Some(named(at, why))),
        };
    let path = folder.join(FRAMES);
    fs::write(&path, in_flight.to_text())
        .map_err(|error| Error::io(format_args!("write {}", path.display()), &error))?;
    Ok(None)
}

/// Returns machines that each reached a moment alone, on their own network. If there can be no template of it for one
/// of them, returns its number and the reason.
async fn from_each(
    asked: &Asked<'_>,
    before: &Moment,
    options: Vec<MachineOptions>,
    folders: &[PathBuf],
    switch: &Arc<Switch>,
) -> Result<Result<Vec<Machine>, (usize, String)>, Failed> {
    let Asked { store, members, events, trials, clones } = *asked;
    let all = || members.iter().zip(trials).zip(clones);
    let making = all().map(async |((Member { vm, options }, trial), clones)| {
        let asked = moment::Asked { store, vm, options, events, trial, clones };
        moment::template(&asked, before).await
    });
    let mut used = Vec::new();
    for (at, made) in at_once::all(making).await.into_iter().enumerate() {
        match made.map_err(|why| Failed { at: Some(at), why })? {
            Made::Ready(template) => used.push(template),
            Made::Impossible(why) => return Ok(Err((at, why))),
        }
    }
    let begun = SystemTime::now();
    let its: Vec<PathBuf> = used.iter().map(|used| used.folder.clone()).collect();
    // No frame of the first machine gets lost because the second has no port yet.
    let frozen = Frozen::of(Some(switch));
    let loading = members.iter().zip(options).zip(used).zip(folders);
    let loading = loading.map(async |(((member, options), used), folder)| {
        Machine::load(&member.vm, options, used, Some(folder)).await
    });
    let loaded = noted(asked, at_once::all(loading).await, &its, begun).await;
    let failed = |(at, why)| Failed { at: Some(at), why };
    let loaded = all_or_none(loaded, Loaded::kill).await.map_err(failed)?;
    let machines = run_together(loaded, frozen).await;
    for ((machine, clones), its) in machines.iter().zip(clones).zip(&its) {
        if machine.is_ok() {
            clones.ran(its);
        }
    }
    let machines = noted(asked, machines, &its, begun).await;
    all_or_none(machines, Machine::kill).await.map(Ok).map_err(failed)
}

/// Takes note of each clone that does not run. `used` has the folders of the templates of the clones, which were started
/// at `begun`.
async fn noted<M>(
    asked: &Asked<'_>,
    outcomes: Vec<Result<M>>,
    used: &[PathBuf],
    begun: SystemTime,
) -> Vec<Result<M, NoClone>> {
    let mut noted = Vec::new();
    for ((outcome, clones), used) in outcomes.into_iter().zip(asked.clones).zip(used) {
        noted.push(match outcome {
            Ok(machine) => Ok(machine),
            Err(error) => Err(moment::did_not_run(asked.store, clones, used, begun, error).await),
        });
    }
    noted
}

/// Returns clones of a template of several machines, once all of them run. If they are to be saved again, `to_save` has
/// their folders.
async fn resumed(
    asked: &Asked<'_>,
    options: Vec<MachineOptions>,
    template: TemplateLease,
    to_save: Option<&[PathBuf]>,
) -> Result<Vec<Machine>, Failed> {
    let Asked { store, members, clones, .. } = *asked;
    let begun = SystemTime::now();
    let folder = template.folder.clone();
    let switch = options.iter().find_map(|options| options.networks.as_ref()?.switch.clone());
    let frozen = Frozen::of(switch.as_ref());
    let loaded = match frames(&template) {
        Ok(in_flight) => {
            frozen.park(in_flight);
            let loading = members.iter().zip(options).enumerate().map(async |(at, (member, options))| {
                let its = part(&template, options.name())?;
                let folder = to_save.and_then(|folders| folders.get(at));
                Machine::load(&member.vm, options, its, folder.map(PathBuf::as_path)).await
            });
            all_or_none(at_once::all(loading).await, Loaded::kill).await
        }
        Err(error) => Err((0, error)),
    };
    let outcome = match loaded {
        Ok(loaded) => all_or_none(run_together(loaded, frozen).await, Machine::kill).await,
        Err(failed) => {
            // The machines that are booted instead get no frame of these.
            frozen.park(InFlight::default());
            drop(frozen);
            Err(failed)
        }
    };
    match outcome {
        Ok(machines) => {
            clones.iter().for_each(|clones| clones.ran(&folder));
            Ok(machines)
        }
        Err((at, error)) => {
            drop(template);
            let why = match clones.get(at) {
                Some(clones) => moment::did_not_run(store, clones, &folder, begun, error).await,
                None => error.into(),
            };
            Err(Failed { at: Some(at), why })
        }
    }
}

/// Returns the template of one of several machines.
fn part(template: &TemplateLease, name: &str) -> Result<TemplateLease> {
    let lock = template.lock.try_clone();
    let lock = lock.map_err(|error| Error::io(format_args!("use the template of {name}"), &error))?;
    Ok(TemplateLease { folder: folder_of(name, &template.folder), lock, is_new: template.is_new })
}

/// Reads the frames in flight.
fn frames(template: &TemplateLease) -> Result<InFlight> {
    let path = template.folder.join(FRAMES);
    let text = fs::read_to_string(&path)
        .map_err(|error| Error::io(format_args!("read {}", path.display()), &error))?;
    InFlight::of_text(&text).ok_or_else(|| {
        Error::new(ErrorKind::Io, format!("{} is damaged: it holds no frames", path.display()))
    })
}

/// Returns the machines, or the first error with the number of its machine. The other machines have been ended by `kill`
/// then.
async fn all_or_none<M, E>(
    outcomes: Vec<Result<M, E>>,
    kill: impl AsyncFn(&M),
) -> Result<Vec<M>, (usize, E)> {
    let (mut up, mut failed) = (Vec::new(), None);
    for (at, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(machine) => up.push(machine),
            Err(error) => failed = failed.or(Some((at, error))),
        }
    }
    let Some(failed) = failed else { return Ok(up) };
    at_once::all(up.iter().map(async |machine| kill(machine).await)).await;
    Err(failed)
}
