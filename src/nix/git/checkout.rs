//! Checkouts of commits in the cache. One appears whole or not at all, and is not changed afterwards.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::committed::Committed;
use super::path::{Entry, Kind, entries};
use super::{git, listed, not_run, refused};
use crate::file_lock::{self, Mode};
use crate::nix::process::{self, Stopped};
use crate::presence::is_absent;
use crate::{Error, ErrorKind, Events, Result, cache, text};

/// The folder in the cache.
pub(super) const FOLDER: &str = "commits";
/// Time limit for writing a commit's files. A filter may have to download some.
const LIMIT: Duration = Duration::from_secs(10 * 60);
/// The file that is locked while a checkout is in use. Its time of change is that of the last use.
const LOCK: &str = "lock";
/// The file with what the checkout lacks.
const LACKS: &str = "lacks";
/// How many times a checkout is looked for that others make or remove at the same time.
const TRIES: u32 = 5;
/// The size of the longest pointer to a large file: git-lfs writes about 130 bytes.
const POINTER: u64 = 1024;
/// The beginning of such a pointer.
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";
/// The beginning of the name of a folder that is being made or removed.
const PART: &str = ".part-";

/// A checkout that stays while this value exists.
#[derive(Debug)]
pub(in crate::nix) struct Checkout {
    /// The configuration in it.
    pub(in crate::nix) file: PathBuf,
    _lock: File,
}

impl Checkout {
    /// Finds the checkout of a commit, or makes it. Says which commit it is, and what is not in it.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the commit has no such file; [`ErrorKind::Build`] when git can't check it out.
    pub(in crate::nix) async fn of(committed: &Committed, events: &Events) -> Result<Self> {
        let (repository, commit) = (&committed.repository, &committed.commit);
        repository.check(commit, &committed.path, committed.written())?;
        events.note(committed.says());
        let place = committed.place()?;
        for _ in 0..TRIES {
            if let Some(lock) = in_use(&place).await? {
                if let Ok(lacks) = fs::read_to_string(place.join(LACKS)) {
                    lacks.lines().for_each(|line| events.note(format!("{}: {line}", committed.written())));
                }
                return Ok(Self { file: found(committed, &place)?, _lock: lock });
            }
            make(committed, &place).await?;
        }
        let summary = format!("the checkout of {} is removed again and again", committed.written());
        Err(Error::new(ErrorKind::Other, summary).next_step("end the other process that prunes the cache"))
    }
}

/// Opens a checkout that is there, and keeps it from being removed.
async fn in_use(place: &Path) -> Result<Option<File>> {
    let path = place.join(LOCK);
    let failed = |error: &io::Error| Error::io(format_args!("use {}", path.display()), error);
    let lock = match file_lock::open_existing(&path) {
        Ok(lock) => lock,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    file_lock::lock(&lock, Mode::Shared, file_lock::MOMENT, |_| ())
        .await
        .map_err(|error| error.error(format_args!("lock {}", path.display())))?;
    // It may have been removed in the meantime.
    let own = lock.metadata().map_err(|error| failed(&error))?;
    match fs::metadata(&path) {
        Ok(now) if (now.dev(), now.ino()) == (own.dev(), own.ino()) => {
            // For the age only.
            let _ = lock.set_modified(SystemTime::now());
            Ok(Some(lock))
        }
        Ok(_) => Ok(None),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(failed(&error)),
    }
}

/// Makes a checkout under another name, and renames it when it is complete.
async fn make(committed: &Committed, place: &Path) -> Result {
    let all = place.parent().unwrap_or(place);
    let failed = |doing: &str, error: &io::Error| Error::io(format_args!("{doing} {}", all.display()), error);
    fs::create_dir_all(all).map_err(|error| failed("make", &error))?;
    let part = tempfile::Builder::new().prefix(PART).tempdir_in(all);
    let part = part.map_err(|error| failed("make a folder in", &error))?;
    // Locked until it has its name, so that it is not taken for one that a dead process left.
    let lock =
        file_lock::open(&part.path().join(LOCK)).map_err(|error| failed("lock a folder in", &error))?;
    file_lock::try_lock(&lock, Mode::Exclusive).map_err(|error| failed("lock a folder in", &error))?;
    let tree = part.path().join(committed.root_name());
    fs::create_dir(&tree).map_err(|error| failed("make a folder in", &error))?;
    let index = part.path().join("index");
    run(committed, &tree, &index, &["read-tree", &committed.commit]).await?;
    run(committed, &tree, &index, &["checkout-index", "--all", "--force"]).await?;
    let _ = fs::remove_file(&index);
    let entries = all_entries(committed)?;
    complete(committed, &tree, &entries)?;
    let lacks = lacking(&tree, &entries);
    let write = fs::write(part.path().join(LACKS), lacks).and_then(|()| set_writable(&tree, false));
    let part = part.keep();
    let renamed = write.and_then(|()| fs::rename(&part, place));
    match renamed {
        Ok(()) => Ok(()),
        Err(error) => {
            remove(&part);
            // Another process was faster.
            if place.join(LOCK).exists() { Ok(()) } else { Err(failed("make a folder in", &error)) }
        }
    }
}

/// Runs a command of git that writes the index or the files of a checkout.
async fn run(committed: &Committed, tree: &Path, index: &Path, arguments: &[&str]) -> Result {
    let mut command = git(tree, [] as [&OsStr; 0]);
    command.arg("--git-dir").arg(&committed.repository.git_dir).arg("--work-tree").arg(tree);
    command.args(arguments).env("GIT_INDEX_FILE", index);
    let mut said: Vec<String> = Vec::new();
    let ended = process::run(command, LIMIT, |line| {
        if said.len() < 20 {
            said.push(line.to_owned());
        }
    })
    .await;
    let why = match ended {
        Ok(ended) if ended.status.success() => return Ok(()),
        Ok(ended) => format!("git ended with {}", ended.status),
        Err(Stopped::Limit) => "git did not end within its limit, and was ended".to_owned(),
        Err(Stopped::Io(source)) => return Err(not_run(&source)),
    };
    Err(Error::new(ErrorKind::Build, format!("{} can't be checked out: {why}", committed.written()))
        .section("git says", said.join("\n")))
}

/// Returns all files of the commit.
fn all_entries(committed: &Committed) -> Result<Vec<Entry>> {
    let arguments = ["ls-tree", "-r", "-z", "--long", "--full-tree", "--", &committed.commit].map(OsStr::new);
    let answer = committed.repository.ask(&arguments)?;
    match answer.status.success() {
        true => Ok(entries(&answer.stdout)),
        false => Err(refused(&format!("list the commit {}", committed.commit), &answer)),
    }
}

/// Checks that each file of the commit is there, as what it was.
fn complete(committed: &Committed, tree: &Path, entries: &[Entry]) -> Result {
    let is_there = |entry: &&Entry| {
        let found = tree.join(&entry.path).symlink_metadata().map(|found| found.file_type());
        found.is_ok_and(|found| match entry.kind {
            Kind::File => found.is_file(),
            Kind::Link => found.is_symlink(),
            Kind::Folder | Kind::Submodule => true,
        }) || entry.kind == Kind::Submodule
    };
    let missing: Vec<String> = entries
        .iter()
        .filter(|entry| !is_there(entry))
        .map(|entry| text::line(&entry.path.display().to_string()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let summary = format!("{} can't be checked out: git left files out", committed.written());
    Err(Error::new(ErrorKind::Build, summary).section("missing", listed(&missing)))
}

/// Returns what a checkout lacks, one a line: submodules, and large files that git-lfs did not bring.
fn lacking(tree: &Path, entries: &[Entry]) -> String {
    let names = |is: &dyn Fn(&Entry) -> bool| -> Vec<String> {
        let its = entries.iter().filter(|entry| is(entry));
        its.map(|entry| text::line(&entry.path.display().to_string())).collect()
    };
    let has_attributes = entries.iter().any(|entry| entry.path.ends_with(".gitattributes"));
    let is_pointer = |entry: &Entry| {
        let is_small = entry.kind == Kind::File && entry.size.is_some_and(|size| size <= POINTER);
        // What it is now: a filter may have replaced it.
        let path = tree.join(&entry.path);
        has_attributes
            && is_small
            && path.metadata().is_ok_and(|found| found.len() <= POINTER)
            && fs::read(&path).is_ok_and(|bytes| bytes.starts_with(LFS))
    };
    let (submodules, pointers) = (names(&|entry| entry.kind == Kind::Submodule), names(&is_pointer));
    let mut lacks = String::new();
    if !submodules.is_empty() {
        lacks.push_str(&format!("its submodules are empty folders: {}\n", shown(&submodules)));
    }
    if !pointers.is_empty() {
        lacks.push_str(&format!(
            "its large files are pointers, since git-lfs did not bring them: {}\n",
            shown(&pointers)
        ));
    }
    lacks
}

fn shown(names: &[String]) -> String {
    listed(names).replace('\n', ", ")
}

/// Returns the configuration in a checkout.
fn found(committed: &Committed, place: &Path) -> Result<PathBuf> {
    let file = committed.file()?;
    let refuse = |why: String| Error::new(ErrorKind::Usage, format!("{}: {why}", committed.written()));
    let shown = committed.path.display();
    let real = match file.canonicalize() {
        Ok(real) => real,
        Err(error) if is_absent(&error) => {
            return Err(refuse(format!("{shown} is a link, and what it leads to is not in the commit")));
        }
        Err(error) => return Err(Error::io(format_args!("find {}", file.display()), &error)),
    };
    let place = place.canonicalize().unwrap_or_else(|_| place.to_owned());
    if !real.starts_with(place.join(committed.root_name())) {
        return Err(refuse(format!("{shown} leads out of the commit, to {}", real.display()))
            .next_step("name the file itself"));
    }
    if real.is_dir() && !real.join("default.nix").is_file() {
        let shown =
            if committed.path.as_os_str().is_empty() { "its root".to_owned() } else { shown.to_string() };
        return Err(refuse(format!("{shown} is a folder without a default.nix"))
            .next_step("name the configuration file itself: git:REV:PATH"));
    }
    Ok(file)
}

/// Makes all files and folders below `tree` writable for their owner, or read-only for everybody. Links are not
/// followed.
fn set_writable(tree: &Path, writable: bool) -> io::Result<()> {
    let mut folders = vec![tree.to_owned()];
    while let Some(folder) = folders.pop() {
        let set = |path: &Path| {
            let mode = path.symlink_metadata()?.permissions().mode() & 0o7777;
            let mode = if writable { mode | 0o700 } else { mode & !0o222 };
            fs::set_permissions(path, Permissions::from_mode(mode))
        };
        if writable {
            set(&folder)?;
        }
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            match entry.file_type()? {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() && !writable => set(&entry.path())?,
                _ => {}
            }
        }
        if !writable {
            set(&folder)?;
        }
    }
    Ok(())
}

/// Removes a checkout. An error leaves the rest for the next time.
fn remove(place: &Path) -> bool {
    let _ = set_writable(place, true);
    fs::remove_dir_all(place).is_ok()
}

/// Removes checkouts that are not in use and were not used for `unused`, and what dead processes left. Returns how many
/// checkouts were removed.
///
/// # Errors
/// Those of [`cache::dir`]. Checkouts that can't be looked at are left.
pub(crate) fn prune(unused: Duration) -> Result<usize> {
    let folder = cache::dir()?.join(FOLDER);
    let mut removed = 0;
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let is_part = name.as_encoded_bytes().starts_with(PART.as_bytes());
        let lock = path.join(LOCK);
        let age = |path: &Path| path.metadata().ok()?.modified().ok()?.elapsed().ok();
        let Ok(lock) = file_lock::open_existing(&lock) else {
            // One that is being made has no lock for a moment.
            if age(&path).is_some_and(|age| age > Duration::from_secs(60 * 60)) {
                remove(&path);
            }
            continue;
        };
        let is_old = age(&path.join(LOCK)).is_some_and(|age| age >= unused);
        if !(is_part || is_old) || !file_lock::try_lock(&lock, Mode::Exclusive).unwrap_or(false) {
            continue;
        }
        if is_part {
            remove(&path);
            continue;
        }
        // Under another name first, so that no other process uses what is removed in part.
        let gone = folder.join(format!("{PART}{}", name.to_string_lossy()));
        if fs::rename(&path, &gone).is_ok() {
            removed += usize::from(remove(&gone));
        }
    }
    Ok(removed)
}
