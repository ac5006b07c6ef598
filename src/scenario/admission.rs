//! How many machines run at once, counted over all processes: cargo test's threads, nextest's processes, the
//! runs of other users.
//!
//! A folder that all users share has a list of who runs what, and of who waits. Whoever is on it holds a lock on
//! a file of their own there; the kernel lets go of it when the process ends, however it does, and the next who
//! looks takes the entry off the list. A scenario asks for all of its machines at once, and whoever asked
//! first is served first, so nobody waits for ever and nobody waits for each other. Who waits because their own
//! run has all the machines that it may have (`--jobs`) holds up nobody else's. A machine that a person has open
//! waits for nobody, and is counted ([`by_hand`]).

mod by_hand;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::capacity::{Capacity, Need};
use crate::file_lock::{self, MOMENT, Mode};
use crate::{Error, Events, Result, environment};

pub use by_hand::ByHand;

/// Another folder than the one that all users share: for tests, and for those who want no part in it.
const VARIABLE: &str = "NIXVM_ADMISSION_DIR";
const SHARED: &str = "/var/tmp/nixvm-admission";
const LIST: &str = "list.json";
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// After this wait it is said.
const SAID: Duration = Duration::from_secs(2);

/// The run that a scenario is part of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    /// What tells it from others.
    name: String,
    /// How many machines it may have at once.
    jobs: Option<u64>,
}

impl Run {
    /// This process's, or that of the cargo-nextest which runs each scenario in a process of its own.
    pub(super) fn new(jobs: Option<u64>) -> Self {
        let nextest = std::env::var("NEXTEST_RUN_ID").ok().filter(|id| !id.is_empty());
        Self { name: nextest.unwrap_or_else(|| format!("{:016x}", random())), jobs }
    }
}

/// What a scenario asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Demand {
    /// All of its machines together.
    pub(super) need: Need,
    /// How many they are. An earlier version's list does not say, nor whose they are.
    #[serde(default)]
    pub(super) machines: u64,
    /// None for a machine that a person has open.
    #[serde(default)]
    pub(super) run: Option<Run>,
}

/// One who runs machines, or waits to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// The file that its process holds a lock on.
    holder: String,
    #[serde(flatten)]
    demand: Demand,
    runs: bool,
}

impl Entry {
    fn is_by_hand(&self) -> bool {
        self.runs && self.demand.run.is_none()
    }
}

/// The right to run machines, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    folder: PathBuf,
    holder: String,
    demand: Demand,
    _lock: File,
}

/// Waits until there is room for `demand`. What is more than there is at all gets everything.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when the folder can't be used.
pub(super) async fn admit(demand: Demand, capacity: Capacity, events: &Events) -> Result<Permit> {
    let folder = folder();
    let failed = |error: io::Error| {
        Error::io(format_args!("count machines in {}", folder.display()), &error).next_step(format!(
            "every user has to be able to write there; or set {VARIABLE} to a folder of your own"
        ))
    };
    if let Some(more) = capacity.exceeded_by(demand.need) {
        events.note(format!("it takes {more}: it runs when nothing else does"));
    }
    let permit = ask(&folder, demand).map_err(failed)?;
    let mut waited = Duration::ZERO;
    while !may_run(&permit, capacity).map_err(failed)? {
        if waited == SAID {
            let by_hand = change(&folder, |list| list.iter().any(Entry::is_by_hand)).unwrap_or(false);
            let whose =
                if by_hand { "; a person has one open (nixvm-test shell, attach or repl)" } else { "" };
            events.note(format!("waiting until other machines on this host are done{whose}"));
        }
        tokio::time::sleep(LOOK).await;
        waited += LOOK;
    }
    Ok(permit)
}

/// Whether there is room for more at this moment, beside all who run. Nobody is kept from it by this.
pub(super) fn has_room(need: Need, capacity: Capacity) -> bool {
    let running = |list: &mut Vec<Entry>| {
        capacity.has_room(list.iter().filter(|entry| entry.runs).map(|entry| entry.demand.need), need)
    };
    change(&folder(), running).unwrap_or(false)
}

fn folder() -> PathBuf {
    environment::path(VARIABLE).unwrap_or_else(|| PathBuf::from(SHARED))
}

/// Puts this caller at the end of the list.
fn ask(folder: &Path, demand: Demand) -> io::Result<Permit> {
    make(folder)?;
    let (holder, lock) = loop {
        let name = format!("{:016x}", random());
        match opened(&folder.join(&name), true) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            file => break (name, file?),
        }
    };
    file_lock::lock_blocking(&lock, Mode::Exclusive, MOMENT)?;
    let permit = Permit { folder: folder.to_owned(), holder: holder.clone(), demand, _lock: lock };
    change(folder, |list| list.push(permit.entry()))?;
    Ok(permit)
}

/// Whether this one runs from now on.
fn may_run(permit: &Permit, capacity: Capacity) -> io::Result<bool> {
    change(&permit.folder, |list| {
        list.retain(|entry| entry.holder == permit.holder || lives(&permit.folder, &entry.holder));
        let at = list.iter().position(|entry| entry.holder == permit.holder).unwrap_or_else(|| {
            // The list was damaged, and begun anew.
            list.push(permit.entry());
            list.len() - 1
        });
        // Who runs already may go on: it is not in its own way.
        list[at].runs = false;
        let before_it_waits =
            list[..at].iter().enumerate().any(|(place, other)| !other.runs && !held_back(list, place));
        let running = || list.iter().filter(|entry| entry.runs).map(|entry| entry.demand.need);
        let free = running().next().is_none() || capacity.has_room(running(), list[at].demand.need);
        let runs = !before_it_waits && free && !held_back(list, at);
        list[at].runs = runs;
        runs
    })
}

/// Whether the one at this place waits for its own run, which has as many machines as it may have; the first of
/// a run who does so is also the first who goes on.
fn held_back(list: &[Entry], at: usize) -> bool {
    let Some(run @ Run { jobs: Some(jobs), .. }) = &list[at].demand.run else { return false };
    let of_run = |entry: &&Entry| entry.demand.run.as_ref() == Some(run);
    let running: u64 = list.iter().filter(of_run).filter(|its| its.runs).map(|its| its.demand.machines).sum();
    let mut up_to_it = list[..=at].iter().filter(of_run).filter(|its| !its.runs);
    // A scenario of more machines than that runs alone.
    running > 0 && up_to_it.any(|its| running.saturating_add(its.demand.machines) > *jobs)
}

/// Whether the process lives that holds this lock.
fn lives(folder: &Path, holder: &str) -> bool {
    let path = folder.join(holder);
    let Ok(file) = OpenOptions::new().read(true).open(&path) else { return false };
    match file_lock::try_lock(&file, Mode::Shared) {
        Ok(false) => true,
        _ => {
            // Another user's stays: the folder is sticky. It is empty.
            let _ = fs::remove_file(path);
            false
        }
    }
}

/// Changes the list, alone.
fn change<T>(folder: &Path, how: impl FnOnce(&mut Vec<Entry>) -> T) -> io::Result<T> {
    let path = folder.join(LIST);
    let mut file = loop {
        // In a sticky folder Linux keeps others than a file's owner from opening it as if to create it
        // (fs.protected_regular), whatever its mode is.
        match opened(&path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match opened(&path, true) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                file => break file?,
            },
            file => break file?,
        }
    };
    file_lock::lock_blocking(&file, Mode::Exclusive, MOMENT)?;
    let mut before = String::new();
    // Damaged: those who run are not counted until they ask again, which is better than nobody running.
    let _ = file.read_to_string(&mut before);
    let mut list: Vec<Entry> = serde_json::from_str(&before).unwrap_or_default();
    let outcome = how(&mut list);
    let text = serde_json::to_string(&list)?;
    if text != before {
        // All in one write, over everything that was there: one who is killed here leaves a list.
        file.write_all_at(format!("{text:width$}", width = before.len()).as_bytes(), 0)?;
        file.set_len(text.len() as u64)?;
    }
    Ok(outcome)
}

/// Opens a file that all users may write to.
fn opened(path: &Path, create_new: bool) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(create_new)
        .mode(0o666)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    if create_new {
        // Its maker's umask would keep other users out.
        file.set_permissions(fs::Permissions::from_mode(0o666))?;
    }
    Ok(file)
}

/// The folder, open to all users and safe from each other's deleting.
fn make(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o777).create(folder) {
        Ok(()) => fs::set_permissions(folder, fs::Permissions::from_mode(0o1777)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // RandomState's keys come from the operating system's generator and differ at each call.
    RandomState::new().hash_one(0u8)
}

impl Permit {
    fn entry(&self) -> Entry {
        Entry { holder: self.holder.clone(), demand: self.demand.clone(), runs: false }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let gone = change(&self.folder, |list| list.retain(|entry| entry.holder != self.holder))
            .and_then(|()| fs::remove_file(self.folder.join(&self.holder)));
        if let Err(error) = gone {
            tracing::debug!(%error, "a right to run machines is given back by the end of this process");
        }
    }
}

#[cfg(test)]
mod tests;
