//! The folder in which processes of one user agree with each other, and locks by name in it.
//!
//! It belongs to this user and no one else may look into it, so no other user can hold a lock in it, or leave a link or
//! a FIFO where a file is expected.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::beneath::{Beneath, leads_to_ours};
use crate::file_lock::{self, Mode};
use crate::{Error, ErrorKind, Events, Result, cache, environment};

/// Another folder than the one in the cache: for tests, and for a user whose runs are not to be counted together.
pub(crate) const VARIABLE: &str = "NIXVM_ADMISSION_DIR";
const FOLDER: &str = "admission";

/// Where the folder is: `$NIXVM_ADMISSION_DIR`, else `admission` in the cache folder.
///
/// # Errors
/// Those of [`cache::dir`]; [`ErrorKind::Host`] when another user can put another folder in its place.
pub(crate) fn path() -> Result<PathBuf> {
    match environment::path(VARIABLE) {
        Some(given) => {
            let above = given.parent().filter(|above| *above != Path::new("")).unwrap_or(Path::new("."));
            leads_to_ours(above).map(|()| given.clone()).map_err(|error| {
                Error::new(ErrorKind::Host, format!("could not use the folder of {VARIABLE}: {error}"))
                    .next_step(advice())
            })
        }
        None => Ok(cache::dir()?.join(FOLDER)),
    }
}

/// A lock that one process of this user holds at a time, until this is dropped.
#[derive(Debug)]
pub(crate) struct UserLock {
    _file: File,
}

impl UserLock {
    /// Takes the lock `name`, of lower-case letters, digits and dashes. `doing` says what it is for, as in
    /// "start a machine with a socket card": it is in the line that says who is waited for, and in the error.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Timeout`], with the process that holds it, after `limit`; [`crate::ErrorKind::Io`] and
    /// [`crate::ErrorKind::Host`] when the folder can't be used.
    #[allow(
        dead_code,
        reason = "its first user, the cards that one machine may have at a time, is on another branch"
    )]
    pub(crate) async fn take(name: &str, doing: &str, limit: Duration, events: &Events) -> Result<Self> {
        let path = path()?;
        let failed = |error: io::Error| Error::io(doing, &error).next_step(advice());
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "the name of its lock is odd")));
        }
        let folder = Beneath::private(&path).map_err(failed)?;
        let file = folder.open_or_create(format!("{name}.lock"), 0o600).map_err(failed)?;
        let waiting = |by: &str| events.note(format!("waiting to {doing}, until {by} is done"));
        file_lock::lock(&file, Mode::Exclusive, limit, waiting).await.map_err(|why| why.error(doing))?;
        Ok(Self { _file: file })
    }
}

/// What to do about a folder that can't be used.
pub(crate) fn advice() -> String {
    format!(
        "the folder has to be yours, and nobody else may write to it: remove what is in its place, or set {VARIABLE} \
         to a folder of your own"
    )
}
