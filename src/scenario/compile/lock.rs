//! Locks between processes, since several `nixvm-test` may compile at once.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use crate::file_lock::{self, Mode};
use crate::{Error, Events, Result};

/// Maximum time to wait for another process's lock: more than the slowest compilation takes.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// A lock that is held until it is dropped, or the process ends.
#[derive(Debug)]
pub(super) struct Held {
    _file: File,
}

/// Takes a lock that several processes may hold at once.
pub(super) async fn shared(path: &Path, events: &Events) -> Result<Held> {
    wait(path, Mode::Shared, events).await
}

/// Takes a lock that only one process may hold.
pub(super) async fn exclusive(path: &Path, events: &Events) -> Result<Held> {
    wait(path, Mode::Exclusive, events).await
}

/// Tries to take a lock that only one process may hold; returns `None` if it is held already.
pub(super) fn try_exclusive(path: &Path) -> Option<Held> {
    let file = file_lock::open(path).ok()?;
    file_lock::try_lock(&file, Mode::Exclusive).ok()?.then_some(Held { _file: file })
}

async fn wait(path: &Path, mode: Mode, events: &Events) -> Result<Held> {
    let file = file_lock::open(path)
        .map_err(|error| Error::io(format_args!("open the lock {}", path.display()), &error))?;
    let waiting = |by: &str| events.note(format!("waiting for another nixvm-test that compiles: {by}"));
    file_lock::lock(&file, mode, LIMIT, waiting)
        .await
        .map_err(|why| why.error(format_args!("use the cache of compiled scenarios ({})", path.display())))?;
    Ok(Held { _file: file })
}
