//! The files outside of the Nix store that a machine was made with. Files in the store never change. Any
//! other file may change, and then a clone would continue a machine that could not be booted any more.
//!
//! /proc shows what QEMU has open or mapped. A file that QEMU opened and closed again is named in its
//! command, or lies in QEMU's data folder. The text of the run script shows what the script used, as far as a
//! text can show it.

mod named;
mod running;
mod script;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::MACHINE_FILE;
use super::allowed::STORE;
use super::command_line::CommandLine;
use super::resume;
use crate::qemu::RunDirectory;

/// How long to wait for a tick of the kernel's clock, in ms.
const TICKS: u32 = 50;
/// The limit for the number of files.
const FILES: usize = 4000;

/// The identities of files and programs at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::qemu) struct Outside {
    /// The value is `None` for a file that did not exist.
    files: BTreeMap<PathBuf, Option<Identity>>,
    programs: Vec<script::Program>,
}

/// What shows that a file is the same and unchanged. No program can set `status` back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    /// The time of the last change of its content.
    content: (i64, i64),
    /// The time of the last change of its content or its metadata.
    status: (i64, i64),
}

/// What a machine that is to be saved is started from.
#[derive(Debug)]
pub(in crate::qemu) struct Made {
    of: Of,
    /// When it was started, by the file system's clock.
    started: (i64, i64),
}

#[derive(Debug)]
enum Of {
    /// A run script that starts now.
    Script(PathBuf),
    /// A template that was made with these files.
    Template(Outside),
}

impl Made {
    /// Records that this run script starts now.
    pub(in crate::qemu) fn by_script(script: &Path, run: &RunDirectory) -> io::Result<Self> {
        Ok(Self { of: Of::Script(script.to_owned()), started: now(run)? })
    }

    /// Records that a clone of a template starts now. `before` are the files of the template.
    pub(super) fn of_template(before: Outside, run: &RunDirectory) -> io::Result<Self> {
        Ok(Self { of: Of::Template(before), started: now(run)? })
    }
}

/// Returns a time that is later than every change of a file before this call. The file system's clock
/// advances only with the kernel's ticks, every few ms.
fn now(run: &RunDirectory) -> io::Result<(i64, i64)> {
    let path = run.path().join("started");
    let touched = || {
        std::fs::write(&path, "")?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        std::fs::metadata(&path).map(|found| (found.ctime(), found.ctime_nsec()))
    };
    let first = touched()?;
    for _ in 0..TICKS {
        let later = touched()?;
        if later > first {
            return Ok(later);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(first)
}

/// Why a machine's files can't be listed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unlisted {
    /// They never can for this VM.
    Never(String),
    /// This file changed since the machine was started.
    Changed(PathBuf),
}

/// The folders whose files belong to this machine alone, or to its template.
#[derive(Debug)]
pub(super) struct Own(Vec<PathBuf>);

impl Own {
    pub(super) fn of(folders: &[&Path]) -> Self {
        let both =
            |path: &&Path| [path.to_path_buf(), path.canonicalize().unwrap_or_else(|_| path.to_path_buf())];
        Self(folders.iter().flat_map(both).collect())
    }

    fn has(&self, path: &Path) -> bool {
        self.0.iter().any(|own| path.starts_with(own))
    }
}

impl Outside {
    /// Returns the files that the running machine of this process was made with.
    pub(super) fn of(pid: u32, command: &CommandLine, own: &Own, made: &Made) -> Result<Self, Unlisted> {
        let mut list = List { own, paths: BTreeSet::new() };
        running::of_process(pid, &mut list)?;
        named::in_command(pid, command, &mut list)?;
        named::data_of(&command.program, &mut list)?;
        let (mut files, programs) = match &made.of {
            Of::Script(script) => (BTreeMap::new(), script::of_script(script, &command.program, &mut list)?),
            Of::Template(before) => (before.files.clone(), before.programs.clone()),
        };
        let paths = list.paths;
        if paths.len() > FILES {
            return Err(Unlisted::Never(format!("it uses more than {FILES} files outside of the Nix store")));
        }
        for path in paths {
            let changed = || Unlisted::Changed(path.clone());
            let found = Identity::of(&path)
                .map_err(|error| Unlisted::Never(format!("{} can't be examined: {error}", path.display())))?;
            match files.get(&path) {
                Some(its) if *its == found => continue,
                Some(_) => return Err(changed()),
                None => {}
            }
            // A link that now points elsewhere has a new time itself.
            let link = std::fs::symlink_metadata(&path).ok().map(|link| (link.ctime(), link.ctime_nsec()));
            let newest = found.map(|found| found.status).max(link);
            if newest.is_some_and(|newest| !is_before(newest, made.started)) {
                return Err(changed());
            }
            files.insert(path, found);
        }
        Ok(Self { files, programs })
    }

    /// Returns the first file that has changed, in words.
    pub(super) fn changed(&self) -> Option<String> {
        let differs = |(path, its): &(&PathBuf, &Option<Identity>)| {
            !Identity::of(path).is_ok_and(|found| found == **its)
        };
        if let Some((path, _)) = self.files.iter().find(differs) {
            return Some(format!("{} was changed", path.display()));
        }
        self.programs.iter().find_map(script::Program::changed)
    }
}

/// Returns what has changed since the template was made, or `None` if nothing has, or if there is no machine
/// in `folder`.
pub(crate) fn changed_outside(folder: &Path) -> Option<String> {
    let file = folder.join(MACHINE_FILE);
    if !file.exists() {
        return None;
    }
    match resume::read(&file) {
        Ok(description) => description.outside.changed(),
        Err(error) => Some(error.summary().to_owned()),
    }
}

/// The paths to examine. Paths in the Nix store and the machine's own paths are left out.
struct List<'a> {
    own: &'a Own,
    paths: BTreeSet<PathBuf>,
}

impl List<'_> {
    /// Whether a path needs no examination: it belongs to the machine, or never changes.
    fn is_settled(&self, path: &Path) -> bool {
        let stays = || path.canonicalize().map_or(true, |found| found.starts_with(STORE));
        self.own.has(path) || (path.starts_with(STORE) && stays())
    }

    fn add(&mut self, path: &Path) -> Result<(), Unlisted> {
        if self.is_settled(path) {
            return Ok(());
        }
        if path.to_str().is_none() {
            return Err(Unlisted::Never(format!("the name of {} is not UTF-8", path.display())));
        }
        self.paths.insert(path.to_owned());
        Ok(())
    }
}

impl Identity {
    /// Returns the identity of a file, following links, or `None` if there is no file.
    fn of(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(found) => Ok(Some(Self {
                device: found.dev(),
                inode: found.ino(),
                size: found.len(),
                content: (found.mtime(), found.mtime_nsec()),
                status: (found.ctime(), found.ctime_nsec()),
            })),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether one time is certainly before another. Some file systems store whole seconds only.
fn is_before(time: (i64, i64), other: (i64, i64)) -> bool {
    if time.1 == 0 || other.1 == 0 { time.0 < other.0 } else { time < other }
}

#[cfg(test)]
mod tests;
