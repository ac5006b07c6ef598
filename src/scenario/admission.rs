//! How many machines run at once, counted over all processes of a user: cargo test's threads, nextest's processes,
//! several runs beside each other.
//!
//! A folder of this user alone has a list of who runs what, and of who waits. Each entry's process holds a lock on
//! a file of its own there; the kernel drops it when the process ends, however it does, and the next process that
//! looks takes the entry off the list. A scenario asks for all of its machines at once, and the first that asks is the
//! first that runs, so no wait is for ever and no two wait for each other. A scenario that waits because its own
//! run has all the machines that it may have (`--jobs`) holds up no other run. A machine that a person has open
//! waits for nothing, and is counted ([`by_hand`]).
//!
//! Other users are seen by what they take: memory that is not available, and load ([`super::host`]).

mod by_hand;
mod list;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::list::{Folder, Holder};
use super::capacity::{Capacity, Lack, Need};
use crate::file_lock::{MOMENT, NotLocked};
use crate::{Events, Result, environment, user_lock};

pub use by_hand::ByHand;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// After this wait it is said.
const SAID: Duration = Duration::from_secs(2);
/// How long the list may be held when a place is given back. A place that is not ends with its lock.
const GIVING_BACK: Duration = Duration::from_secs(2);

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
        Self { name: environment::text("NEXTEST_RUN_ID").unwrap_or_else(random), jobs }
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
    holder: Holder,
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
    holder: Holder,
    demand: Demand,
    asked: Instant,
    _lock: File,
}

/// What one look gave.
#[derive(Debug)]
enum Turn {
    Runs,
    /// Other machines have what there is, or were asked for before.
    Waits {
        holders: Vec<Holder>,
        a_person_has_one: bool,
    },
    /// Other users and programs have it.
    Lacks(Lack),
}

impl Turn {
    /// What is waited for, in words.
    fn told(&self, folder: &Path) -> String {
        match self {
            Self::Runs => String::new(),
            Self::Lacks(lack) => format!("waiting until {lack}"),
            Self::Waits { holders, a_person_has_one } => {
                let by = Folder::open(folder).map(|folder| folder.processes(holders)).unwrap_or_default();
                let by = if by.is_empty() { by } else { format!(" ({by})") };
                let a_person = "; a person has one open (nixvm-test shell, attach or repl)";
                let whose = if *a_person_has_one { a_person } else { "" };
                format!("waiting until other machines on this host are done{by}{whose}")
            }
        }
    }
}

/// Waits until there is room for `demand`. What is more than there is at all gets everything.
///
/// # Errors
/// [`crate::ErrorKind::Io`], [`crate::ErrorKind::Host`] and [`crate::ErrorKind::Timeout`] when the folder can't be used.
pub(super) async fn admit(demand: Demand, capacity: Capacity, events: &Events) -> Result<Permit> {
    let folder = user_lock::path()?;
    let failed = |why: NotLocked| {
        why.error(format_args!("count machines in {}", folder.display())).next_step(user_lock::advice())
    };
    if let Some(more) = capacity.exceeded_by(demand.need) {
        events.note(format!("it takes {more}: it runs when nothing else does"));
    }
    let permit = ask(&folder, demand, events).await.map_err(failed)?;
    let mut told = false;
    loop {
        let turn = may_run(&permit, capacity, events).await.map_err(failed)?;
        if matches!(turn, Turn::Runs) {
            return Ok(permit);
        }
        if permit.asked.elapsed() >= SAID && !std::mem::replace(&mut told, true) {
            events.note(turn.told(&folder));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether there is room for more at this moment, beside all who run. No one is kept from it by this. It is a guess, and
/// asked on a thread that must not wait: `false` where the list is held.
pub(super) fn has_room(need: Need, capacity: Capacity) -> bool {
    let room =
        |list: &mut Vec<Entry>| capacity.has_room(running(list), need) && capacity.lacks(need, 0).is_none();
    let looked = || Folder::open(&user_lock::path().ok()?).ok()?.change_blocking(Duration::ZERO, room).ok();
    looked().unwrap_or(false)
}

/// Puts this caller at the end of the list.
async fn ask(path: &Path, demand: Demand, events: &Events) -> Result<Permit, NotLocked> {
    let folder = Folder::open(path)?;
    let (holder, lock) = folder.hold()?;
    let permit = Permit { folder: path.to_owned(), holder, demand, asked: Instant::now(), _lock: lock };
    folder.change(MOMENT, |by| list_is_held(by, events), |list| list.push(permit.entry())).await?;
    Ok(permit)
}

fn list_is_held(by: &str, events: &Events) {
    events.note(format!("waiting for {by}, which holds the list of machines"));
}

/// Whether this one runs from now on.
async fn may_run(permit: &Permit, capacity: Capacity, events: &Events) -> Result<Turn, NotLocked> {
    let folder = Folder::open(&permit.folder)?;
    let look = |list: &mut Vec<Entry>| {
        list.retain(|entry| entry.holder == permit.holder || folder.lives(&entry.holder));
        let at = list.iter().position(|entry| entry.holder == permit.holder).unwrap_or_else(|| {
            // The list was damaged, and begun anew.
            list.push(permit.entry());
            list.len() - 1
        });
        // Who runs already may go on: it is not in its own way.
        list[at].runs = false;
        let turn = turn(list, at, capacity, permit.asked.elapsed());
        list[at].runs = matches!(turn, Turn::Runs);
        turn
    };
    folder.change(MOMENT, |by| list_is_held(by, events), look).await
}

fn turn(list: &[Entry], at: usize, capacity: Capacity, waited: Duration) -> Turn {
    let need = list[at].demand.need;
    let before_it_waits =
        list[..at].iter().enumerate().any(|(place, other)| !other.runs && !held_back(list, place));
    let room = running(list).next().is_none() || capacity.has_room(running(list), need);
    if before_it_waits || !room || held_back(list, at) {
        let in_the_way = list.iter().enumerate().filter(|(place, entry)| entry.runs || *place < at);
        let holders = in_the_way.map(|(_, entry)| entry.holder.clone()).collect();
        return Turn::Waits { holders, a_person_has_one: list.iter().any(Entry::is_by_hand) };
    }
    // What other users take delays a machine that comes beside others of this user's runs, and never the first one.
    if !list.iter().any(|entry| entry.runs && !entry.is_by_hand()) {
        return Turn::Runs;
    }
    let cores = running(list).fold(0, |sum: u64, its| sum.saturating_add(its.cores));
    match capacity.lacks(need, cores) {
        Some(lack) if lack.holds_after(waited) => Turn::Lacks(lack),
        _ => Turn::Runs,
    }
}

/// What those take who run.
fn running(list: &[Entry]) -> impl Iterator<Item = Need> {
    list.iter().filter(|entry| entry.runs).map(|entry| entry.demand.need)
}

/// Whether the one at this place waits for its own run, which has as many machines as it may have; the first of
/// a run who does so is also the first who goes on.
fn held_back(list: &[Entry], at: usize) -> bool {
    let Some(run @ Run { jobs: Some(jobs), .. }) = &list[at].demand.run else { return false };
    let of_run = |entry: &&Entry| entry.demand.run.as_ref() == Some(run);
    let its_running = list.iter().filter(of_run).filter(|its| its.runs);
    let running = its_running.fold(0, |sum: u64, its| sum.saturating_add(its.demand.machines));
    let mut up_to_it = list[..=at].iter().filter(of_run).filter(|its| !its.runs);
    // A scenario of more machines than that runs alone.
    running > 0 && up_to_it.any(|its| running.saturating_add(its.demand.machines) > *jobs)
}

fn random() -> String {
    use std::hash::{BuildHasher, RandomState};
    // RandomState's keys come from the operating system's generator and differ at each call.
    format!("{:016x}", RandomState::new().hash_one(0u8))
}

impl Permit {
    fn entry(&self) -> Entry {
        Entry { holder: self.holder.clone(), demand: self.demand.clone(), runs: false }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let gone = || {
            let folder = Folder::open(&self.folder)?;
            folder.change_blocking(GIVING_BACK, |list| list.retain(|entry| entry.holder != self.holder))?;
            folder.remove(&self.holder)?;
            Ok::<(), NotLocked>(())
        };
        if let Err(why) = gone() {
            tracing::debug!(%why, "a right to run machines is given back by its lock");
        }
    }
}

#[cfg(test)]
mod tests;
