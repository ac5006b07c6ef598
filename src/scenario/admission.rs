//! Limits how many machines run at once, over all processes of a user: cargo test's threads, nextest's
//! processes, concurrent runs.
//!
//! A folder that only this user can access has a list of who runs machines, and who waits. The process of
//! each entry holds a lock on a file of its own there. The kernel releases the lock when the process ends,
//! however it ends, and the next process that reads the list removes the entry. A scenario requests all of
//! its machines at once, and requests are served in order. So no scenario waits forever, and no two wait for
//! each other. A scenario that waits because of the limit of its own run (`--jobs`) does not hold up other
//! runs. A machine that a person has open waits for nothing, but counts ([`by_hand`]).
//!
//! Other users are taken into account by the memory that is not available, and by the load ([`super::host`]).

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

/// The interval between two checks.
const LOOK: Duration = Duration::from_millis(50);
/// After this wait a note is sent.
const SAID: Duration = Duration::from_secs(2);
/// The limit for getting the list to give a permit back. A permit that is not given back ends with its lock.
const GIVING_BACK: Duration = Duration::from_secs(2);

/// The run that a scenario is part of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    /// A unique name.
    name: String,
    /// How many machines it may have at once.
    jobs: Option<u64>,
}

impl Run {
    /// Returns the run of this process, or of the cargo-nextest that runs each scenario in a process of its
    /// own.
    pub(super) fn new(jobs: Option<u64>) -> Self {
        Self { name: environment::text("NEXTEST_RUN_ID").unwrap_or_else(random), jobs }
    }
}

/// A scenario's request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Demand {
    /// What all of its machines need together.
    pub(super) need: Need,
    /// The number of machines. An earlier version's list has neither this nor `run`.
    #[serde(default)]
    pub(super) machines: u64,
    /// `None` for a machine that a person has open.
    #[serde(default)]
    pub(super) run: Option<Run>,
}

/// A scenario or person that runs machines, or waits to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// The file that its process has locked.
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

/// The right to run machines. It is given back on drop.
#[derive(Debug)]
pub(super) struct Permit {
    folder: PathBuf,
    holder: Holder,
    demand: Demand,
    asked: Instant,
    _lock: File,
}

/// The result of one check.
#[derive(Debug)]
enum Turn {
    Runs,
    /// Other machines take the capacity, or were requested earlier.
    Waits {
        holders: Vec<Holder>,
        a_person_has_one: bool,
    },
    /// Other users and programs take the capacity.
    Lacks(Lack),
}

impl Turn {
    /// Describes what the wait is for.
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

/// Waits until there is room for `demand`. A demand that exceeds the whole capacity gets all of it.
///
/// # Errors
/// [`crate::ErrorKind::Io`], [`crate::ErrorKind::Host`] and [`crate::ErrorKind::Timeout`] when the folder
/// can't be used.
pub(super) async fn admit(demand: Demand, capacity: Capacity, events: &Events) -> Result<Permit> {
    let folder = user_lock::path()?;
    let failed = |why: NotLocked| {
        why.error(format_args!("count machines in {}", folder.display())).next_step(user_lock::advice())
    };
    if let Some(more) = capacity.exceeded_by(demand.need) {
        events.note(format!("it needs {more}: it runs alone"));
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

/// Whether there is room for more at this moment, besides everything that runs. It reserves nothing, so it is
/// a guess. The calling thread must not wait, so the result is `false` if the list is locked.
pub(super) fn has_room(need: Need, capacity: Capacity) -> bool {
    let room =
        |list: &mut Vec<Entry>| capacity.has_room(running(list), need) && capacity.lacks(need, 0).is_none();
    let looked = || Folder::open(&user_lock::path().ok()?).ok()?.change_blocking(Duration::ZERO, room).ok();
    looked().unwrap_or(false)
}

/// Adds the caller to the end of the list.
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

/// Checks whether the holder of `permit` may run, and records it in that case.
async fn may_run(permit: &Permit, capacity: Capacity, events: &Events) -> Result<Turn, NotLocked> {
    let folder = Folder::open(&permit.folder)?;
    let look = |list: &mut Vec<Entry>| {
        list.retain(|entry| entry.holder == permit.holder || folder.lives(&entry.holder));
        let at = list.iter().position(|entry| entry.holder == permit.holder).unwrap_or_else(|| {
            // The list was damaged, and is a new one.
            list.push(permit.entry());
            list.len() - 1
        });
        // An entry that runs already must not block itself.
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
    // The use of other users delays a machine only if other runs of this user have machines, never the first
    // one.
    if !list.iter().any(|entry| entry.runs && !entry.is_by_hand()) {
        return Turn::Runs;
    }
    let cores = running(list).fold(0, |sum: u64, its| sum.saturating_add(its.cores));
    match capacity.lacks(need, cores) {
        Some(lack) if lack.holds_after(waited) => Turn::Lacks(lack),
        _ => Turn::Runs,
    }
}

/// Returns what the running entries need.
fn running(list: &[Entry]) -> impl Iterator<Item = Need> {
    list.iter().filter(|entry| entry.runs).map(|entry| entry.demand.need)
}

/// Whether the entry at this index waits because its own run has as many machines as it may have. The entries
/// of a run are served in order.
fn held_back(list: &[Entry], at: usize) -> bool {
    let Some(run @ Run { jobs: Some(jobs), .. }) = &list[at].demand.run else { return false };
    let of_run = |entry: &&Entry| entry.demand.run.as_ref() == Some(run);
    let its_running = list.iter().filter(of_run).filter(|its| its.runs);
    let running = its_running.fold(0, |sum: u64, its| sum.saturating_add(its.demand.machines));
    let mut up_to_it = list[..=at].iter().filter(of_run).filter(|its| !its.runs);
    // A scenario with more machines than the limit runs alone.
    running > 0 && up_to_it.any(|its| running.saturating_add(its.demand.machines) > *jobs)
}

fn random() -> String {
    use std::hash::{BuildHasher, RandomState};
    // RandomState's keys come from the operating system's generator, and differ with each call.
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
            tracing::debug!(%why, "could not update the list of machines; the lock ends the entry");
        }
    }
}

#[cfg(test)]
mod tests;
