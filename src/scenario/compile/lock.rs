//! Locks between processes: several `nixvm-test` may compile at once.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::{Error, ErrorKind, Events, Result};

/// How long another process may hold a lock: longer than the slowest compilation.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// How often a lock that is held is tried again: flock has no wait with a limit.
const PAUSE: Duration = Duration::from_millis(50);

/// A lock that is held until this is dropped, or the process ends.
#[derive(Debug)]
pub(super) struct Held {
    _file: File,
}

/// Several may hold it at once.
pub(super) async fn shared(path: &Path, events: &Events) -> Result<Held> {
    wait(path, FlockOperation::NonBlockingLockShared, events).await
}

/// Only one may hold it.
pub(super) async fn exclusive(path: &Path, events: &Events) -> Result<Held> {
    wait(path, FlockOperation::NonBlockingLockExclusive, events).await
}

/// Only one may hold it; `None` if somebody does.
pub(super) fn try_exclusive(path: &Path) -> Option<Held> {
    let file = File::create(path).ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(Held { _file: file })
}

async fn wait(path: &Path, how: FlockOperation, events: &Events) -> Result<Held> {
    let failed = |source: std::io::Error| Error::io(format_args!("lock {}", path.display()), &source);
    let file = File::create(path).map_err(failed)?;
    let started = Instant::now();
    let mut told = false;
    loop {
        match flock(&file, how) {
            Ok(()) => return Ok(Held { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        if started.elapsed() > LIMIT {
            return Err(Error::new(
                ErrorKind::Timeout,
                "another nixvm-test holds the cache of compiled scenarios",
            )
            .took(started.elapsed(), LIMIT)
            .section("lock", path.display().to_string()));
        }
        if !told {
            events.note("waiting for another nixvm-test that compiles");
            told = true;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
