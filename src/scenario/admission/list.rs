//! The list on the disk, and the locks of its entries.

use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Entry;
use crate::beneath::Beneath;
use crate::file_lock::{self, Mode, NotLocked};
use crate::host_limits;
use crate::presence::is_absent;

pub(super) const LIST: &str = "list.json";
/// The largest accepted list, in bytes. A list of a thousand machines has a fifth of it. A longer file is
/// damaged.
const LARGEST: u64 = 1 << 20;
/// How often the list is opened again because it was removed in the meantime.
const TRIES: u32 = 16;
/// How many processes are named.
const NAMED: usize = 3;

/// The name of the file that a process locks while it is on the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Holder(String);

impl Holder {
    fn new() -> Self {
        // RandomState's keys come from the operating system's generator, and differ with each call.
        Self(format!("{:016x}", RandomState::new().hash_one(0u8)))
    }
}

impl TryFrom<String> for Holder {
    type Error = &'static str;

    /// Accepts only names that [`Holder::new`] makes, so that a name can't lead out of the folder.
    fn try_from(name: String) -> Result<Self, Self::Error> {
        let is_one = name.len() == 16 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if is_one { Ok(Self(name)) } else { Err("the name of a holder has 16 hexadecimal digits") }
    }
}

/// The folder with the list.
#[derive(Debug)]
pub(super) struct Folder(Beneath);

impl Folder {
    /// Opens the folder, which belongs to this user alone. It is created if it is missing.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Beneath::private(path).map(Self)
    }

    /// Creates a new file and locks it.
    pub(super) fn hold(&self) -> io::Result<(Holder, File)> {
        let holder = Holder::new();
        let file = self.0.create(&holder.0, 0o600)?;
        match file_lock::try_lock(&file, Mode::Exclusive)? {
            true => Ok((holder, file)),
            false => Err(io::Error::other(format!("{} has locked a new file", file_lock::holders(&file)))),
        }
    }

    pub(super) fn remove(&self, holder: &Holder) -> io::Result<()> {
        self.0.remove_file(&holder.0)
    }

    /// Whether the process that holds this lock is alive. The file of a dead process is removed. If the host can't open
    /// the file now, its process counts as alive. Anything but a regular file is not a lock.
    pub(super) fn lives(&self, holder: &Holder) -> bool {
        let free = match self.0.file(&holder.0) {
            Ok((file, _)) => matches!(file_lock::try_lock(&file, Mode::Shared), Ok(true)),
            Err(error) => error.raw_os_error().is_none_or(|code| host_limits::of_files(code).is_none()),
        };
        if free {
            let _ = self.remove(holder);
        }
        !free
    }

    /// Describes the processes of these entries.
    pub(super) fn processes(&self, holders: &[Holder]) -> String {
        let mut all: Vec<String> = holders
            .iter()
            .filter_map(|holder| Some(file_lock::holders(&self.0.file(&holder.0).ok()?.0)))
            .collect();
        all.sort();
        all.dedup();
        let more = all.len().saturating_sub(NAMED);
        all.truncate(NAMED);
        let named = all.join(", ");
        if more > 0 { format!("{named} and {more} more") } else { named }
    }

    /// Changes the list while it is locked. If that takes a while, `waiting` is called with the process that
    /// holds the lock.
    ///
    /// # Errors
    /// When the list can't be read or written, or another process holds it for all of `limit`.
    pub(super) async fn change<T>(
        &self,
        limit: Duration,
        mut waiting: impl FnMut(&str),
        how: impl FnOnce(&mut Vec<Entry>) -> T,
    ) -> Result<T, NotLocked> {
        for _ in 0..TRIES {
            let file = self.0.open_or_create(LIST, 0o600)?;
            file_lock::lock(&file, Mode::Exclusive, limit, &mut waiting).await?;
            if self.is_the_list(&file)? {
                return Ok(changed(&file, how)?);
            }
        }
        Err(removed().into())
    }

    /// Does the same as [`Folder::change`], for a caller that is not asynchronous.
    pub(super) fn change_blocking<T>(
        &self,
        limit: Duration,
        how: impl FnOnce(&mut Vec<Entry>) -> T,
    ) -> Result<T, NotLocked> {
        for _ in 0..TRIES {
            let file = self.0.open_or_create(LIST, 0o600)?;
            file_lock::lock_blocking(&file, Mode::Exclusive, limit)?;
            if self.is_the_list(&file)? {
                return Ok(changed(&file, how)?);
            }
        }
        Err(removed().into())
    }

    /// Whether the file that was locked still has its name.
    fn is_the_list(&self, file: &File) -> io::Result<bool> {
        match self.0.file(LIST) {
            Ok((its, _)) => Ok(its.metadata()?.ino() == file.metadata()?.ino()),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn removed() -> io::Error {
    io::Error::other(format!("{LIST} was removed repeatedly"))
}

fn changed<T>(file: &File, how: impl FnOnce(&mut Vec<Entry>) -> T) -> io::Result<T> {
    let mut before = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut before)?;
    // A damaged list is replaced by an empty one. Running machines are then not counted, which is better than
    // not running any.
    let mut list: Vec<Entry> = serde_json::from_slice(&before).unwrap_or_default();
    let outcome = how(&mut list);
    let mut text = serde_json::to_vec(&list)?;
    if text != before {
        let length = text.len();
        // A single write covers all old bytes, so a process that is killed here leaves a valid list.
        text.resize(length.max(before.len()), b' ');
        file.write_all_at(&text, 0)?;
        file.set_len(length as u64)?;
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_holder_leads_nowhere() {
        for name in [
            "",
            "a",
            "../../etc/passwd",
            "/etc/passwd000000",
            "list.json",
            "0123456789abcde/",
            "0123456789ABCDEF",
        ] {
            let text = serde_json::to_string(name).unwrap();
            assert!(serde_json::from_str::<Holder>(&text).is_err(), "{name}");
        }
        let holder = Holder::new();
        assert_eq!(serde_json::from_str::<Holder>(&serde_json::to_string(&holder).unwrap()).unwrap(), holder);
    }
}
