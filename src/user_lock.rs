//! The folder in which processes of one user coordinate.
//!
//! Only this user can access it, so no other user can hold a lock in it, or put a link or a FIFO in the place
//! of a file.

use std::path::PathBuf;

use crate::beneath::leads_to_ours;
use crate::{Error, Result, cache, environment};

/// The variable for another folder than the one in the cache: for tests, and for a user whose runs are not to
/// be counted together.
pub(crate) const VARIABLE: &str = "NIXVM_ADMISSION_DIR";
const FOLDER: &str = "admission";

/// Returns the path of the folder: `$NIXVM_ADMISSION_DIR`, else `admission` in the cache folder.
///
/// # Errors
/// Those of [`cache::dir`]; [`crate::ErrorKind::Host`] when another user can replace the folder.
pub(crate) fn path() -> Result<PathBuf> {
    match environment::path(VARIABLE) {
        Some(given) => {
            leads_to_ours(given.parent().unwrap_or(&given)).map(|()| given.clone()).map_err(|error| {
                Error::host(format_args!("use the folder of {VARIABLE}"), &error).next_step(advice())
            })
        }
        None => Ok(cache::dir()?.join(FOLDER)),
    }
}

/// Returns what to do about a folder that can't be used.
pub(crate) fn advice() -> String {
    format!(
        "the folder must be yours, and no other user may write to it: remove what is in its place, or set {VARIABLE} \
         to a folder of your own"
    )
}
