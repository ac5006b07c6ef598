//! How many machines run at once, counted over all processes: cargo test's threads, nextest's processes, the
//! runs of other users.
//!
//! A folder that all users share has a list of who runs what, and of who waits. Whoever is on it holds a lock on
//! a file of their own there; the kernel lets go of it when the process ends, however it does, and the next who
//! looks takes the entry off the list. A scenario asks for all of its machines at once, and whoever asked
//! first is served first, so nobody waits for ever and nobody waits for each other.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::{Error, Events, Result};

/// Another folder than the one that all users share: for tests, and for those who want no part in it.
const VARIABLE: &str = "NIXVM_ADMISSION_DIR";
const SHARED: &str = "/var/tmp/nixvm-admission";
const LIST: &str = "list.json";
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// After this wait it is said.
const SAID: Duration = Duration::from_secs(2);

/// What a machine takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Need {
    /// MiB of memory.
    pub(super) memory: u64,
    pub(super) cores: u64,
}

/// What there is to share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity(Need);

impl Capacity {
    /// This host's: its processors, and seven eighths of its memory.
    pub(super) fn of_host() -> Self {
        let memory = rustix::system::sysinfo();
        let total = (u64::from(memory.mem_unit) * memory.totalram) >> 20;
        let cores = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        Self(Need { memory: total / 8 * 7, cores })
    }
}

/// One who runs machines, or waits to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// The file that its process holds a lock on.
    holder: String,
    need: Need,
    runs: bool,
}

/// The right to run machines, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    folder: PathBuf,
    holder: String,
    need: Need,
    _lock: File,
}

/// Waits until there is room for `need`. What is more than there is at all gets everything.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when the folder can't be used.
pub(super) async fn admit(need: Need, capacity: Capacity, events: &Events) -> Result<Permit> {
    let folder = folder();
    let failed = |error: io::Error| Error::io(format_args!("count machines in {}", folder.display()), &error);
    let permit = ask(&folder, need).map_err(failed)?;
    let mut waited = Duration::ZERO;
    while !may_run(&permit, capacity).map_err(failed)? {
        if waited == SAID {
            events.note("waiting until other machines on this host are done");
        }
        tokio::time::sleep(LOOK).await;
        waited += LOOK;
    }
    Ok(permit)
}

/// Whether there is room for more at this moment, beside all who run. Nobody is kept from it by this.
pub(super) fn has_room(need: Need, capacity: Capacity) -> bool {
    change(&folder(), |list| fits(list, need, capacity)).unwrap_or(false)
}

/// Whether `need` is there, beside what those have who run.
fn fits(list: &[Entry], need: Need, capacity: Capacity) -> bool {
    let sum = |of: fn(&Need) -> u64| -> u64 {
        list.iter().filter(|entry| entry.runs).map(|entry| of(&entry.need)).sum()
    };
    sum(|need| need.memory) + need.memory <= capacity.0.memory
        && sum(|need| need.cores) + need.cores <= capacity.0.cores
}

fn folder() -> PathBuf {
    let given = std::env::var_os(VARIABLE).filter(|folder| !folder.is_empty());
    given.map_or_else(|| PathBuf::from(SHARED), PathBuf::from)
}

/// Puts this caller at the end of the list.
fn ask(folder: &Path, need: Need) -> io::Result<Permit> {
    make(folder)?;
    let (holder, lock) = loop {
        let name = format!("{:016x}", random());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o666)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(folder.join(&name));
        match file {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            file => break (name, file?),
        }
    };
    // Others, of other users, have to open it to see whether it is held.
    fs::set_permissions(folder.join(&holder), fs::Permissions::from_mode(0o666))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let permit = Permit { folder: folder.to_owned(), holder: holder.clone(), need, _lock: lock };
    change(folder, |list| list.push(Entry { holder, need, runs: false }))?;
    Ok(permit)
}

/// Whether this one runs from now on.
fn may_run(permit: &Permit, capacity: Capacity) -> io::Result<bool> {
    change(&permit.folder, |list| {
        list.retain(|entry| entry.holder == permit.holder || lives(&permit.folder, &entry.holder));
        let at = list.iter().position(|entry| entry.holder == permit.holder).unwrap_or_else(|| {
            // The list was damaged, and begun anew.
            list.push(Entry { holder: permit.holder.clone(), need: permit.need, runs: false });
            list.len() - 1
        });
        let before_it_waits = list[..at].iter().any(|entry| !entry.runs);
        let alone = list.iter().all(|entry| !entry.runs);
        list[at].runs = !before_it_waits && (alone || fits(list, list[at].need, capacity));
        list[at].runs
    })
}

/// Whether the process lives that holds this lock.
fn lives(folder: &Path, holder: &str) -> bool {
    let path = folder.join(holder);
    let Ok(file) = OpenOptions::new().read(true).open(&path) else { return false };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => true,
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
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o666)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(&path)?;
    // Its maker's umask would keep other users out; others may not change it, and need not.
    let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o666));
    flock(&file, FlockOperation::LockExclusive)?;
    let mut text = String::new();
    // Damaged: those who run are not counted until they ask again, which is better than nobody running.
    let _ = file.read_to_string(&mut text);
    let mut list: Vec<Entry> = serde_json::from_str(&text).unwrap_or_default();
    let outcome = how(&mut list);
    let text = serde_json::to_string(&list)?;
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(text.as_bytes())?;
    Ok(outcome)
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
mod tests {
    use super::*;

    const SMALL: Need = Need { memory: 1000, cores: 1 };
    const CAPACITY: Capacity = Capacity(Need { memory: 3500, cores: 2 });

    fn entries(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn as_many_run_as_there_is_room_for_and_the_first_who_asked_is_next() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        let [one, two, large, last] =
            [SMALL, SMALL, Need { memory: 3000, cores: 2 }, SMALL].map(|need| ask(here, need).unwrap());
        let runs = |permit: &Permit| may_run(permit, CAPACITY).unwrap();
        assert!(runs(&one) && runs(&two));
        assert!(!runs(&large) && !runs(&last), "no more cores");
        drop(one);
        assert!(!runs(&last), "the large one asked before");
        assert!(!runs(&large), "one of two cores is free");
        drop(two);
        assert!(runs(&large) && !runs(&last));
        drop(large);
        assert!(runs(&last));
        drop(last);
        assert_eq!(entries(here), 1, "the list alone is left");
    }

    #[test]
    fn what_is_more_than_there_is_runs_alone() {
        let folder = tempfile::tempdir().unwrap();
        let huge = ask(folder.path(), Need { memory: 1 << 40, cores: 64 }).unwrap();
        let small = ask(folder.path(), SMALL).unwrap();
        assert!(may_run(&huge, CAPACITY).unwrap());
        assert!(!may_run(&small, CAPACITY).unwrap());
    }

    #[test]
    fn who_died_is_taken_off_the_list_whether_it_ran_or_waited() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        let dead: Vec<_> = (0..4).map(|_| ask(here, SMALL).unwrap()).collect();
        assert!(may_run(&dead[0], CAPACITY).unwrap() && may_run(&dead[1], CAPACITY).unwrap());
        for permit in dead {
            // As the kernel does it: the lock goes, and nothing else.
            flock(&permit._lock, FlockOperation::Unlock).unwrap();
            std::mem::forget(permit);
        }
        let next = ask(here, SMALL).unwrap();
        assert!(may_run(&next, CAPACITY).unwrap());
        drop(next);
        assert_eq!(entries(here), 1);
    }

    #[test]
    fn a_damaged_list_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let permit = ask(folder.path(), SMALL).unwrap();
        fs::write(folder.path().join(LIST), "[{").unwrap();
        assert!(may_run(&permit, CAPACITY).unwrap());
    }
}
