//! The folder in which processes of one user agree with each other.
//!
//! It belongs to this user and no one else may look into it, so no other user can hold a lock in it, or leave a link or
//! a FIFO where a file is expected.

use std::path::PathBuf;

use crate::beneath::leads_to_ours;
use crate::{Error, Result, cache, environment};

/// Another folder than the one in the cache: for tests, and for a user whose runs are not to be counted together.
pub(crate) const VARIABLE: &str = "NIXVM_ADMISSION_DIR";
const FOLDER: &str = "admission";

/// Where the folder is: `$NIXVM_ADMISSION_DIR`, else `admission` in the cache folder.
///
/// # Errors
/// Those of [`cache::dir`]; [`crate::ErrorKind::Host`] when another user can put another folder in its place.
pub(crate) fn path() -> Result<PathBuf> {
    match environment::path(VARIABLE) {
        Some(given) => {
            leads_to_ours(given.parent().unwrap_or(&given)).map(|()| given.clone()).map_err(|error| {
                Error::host(format_args!("use the folder of {VARIABLE}"), &error)
                    .next_step(advice())
                    .because_of_a_limit(&error)
            })
        }
        None => Ok(cache::dir()?.join(FOLDER)),
    }
}

/// What to do about a folder that can't be used.
pub(crate) fn advice() -> String {
    format!(
        "the folder has to be yours, and nobody else may write to it: remove what is in its place, or set {VARIABLE} \
         to a folder of your own"
    )
}
