//! Where templates are stored, and how their makers and users take turns.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Key, prune, seal};
use crate::file_lock::{self, MOMENT, Mode, NotLocked, Wait, try_lock};
use crate::machine::TemplateLease;
use crate::shared_file::{self, Records};
use crate::{Error, Events, Result, threads};

/// How long another process may take to make a template: longer than the slowest boot and save.
const LIMIT: Duration = Duration::from_secs(60 * 60);
/// The file in a template's folder that says why there can be no template.
const IMPOSSIBLE: &str = "impossible";
/// The suffix of an unfinished folder.
pub(super) const MAKING: &str = ".making";
/// The suffix of a lock file.
pub(super) const LOCK: &str = ".lock";

/// The folder with all templates of this user.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// The result of requesting a template.
#[derive(Debug)]
pub enum Made {
    /// The template.
    Ready(TemplateLease),
    /// There can be no template. Holds the reason in a few words.
    Impossible(String),
}

impl Store {
    /// Opens the store in the cache folder.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Host`] and [`crate::ErrorKind::Io`] when the folder does not exist and can't be
    /// made.
    pub fn open() -> Result<Self> {
        Self::at(crate::cache::dir()?.join("templates"))
    }

    /// Opens the store in `folder`, which is created if it is missing. Only this user may read it.
    pub(super) fn at(folder: PathBuf) -> Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| Error::io(format_args!("make {}", folder.display()), &error))?;
        Ok(Self { folder })
    }

    /// Returns the store's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the template of `key`, and makes it with `make` if it does not exist. If several callers
    /// request it, in any number of processes, one makes it and the others wait. `make` gets an empty folder.
    /// It returns the reason if there can be no template, and that is remembered, too.
    ///
    /// # Errors
    /// Those of `make`, in which case nothing is left of the template, and [`crate::ErrorKind::Io`] when the
    /// store can't be written.
    pub async fn get<E: From<Error>>(
        &self,
        key: &Key,
        events: &Events,
        make: impl AsyncFnOnce(&Path) -> Result<Option<String>, E>,
    ) -> Result<Made, E> {
        let folder = self.folder.join(key.name());
        let failed =
            |error: io::Error| Error::io(format_args!("use the template {}", folder.display()), &error);
        let doing = || format!("use the template {}", folder.display());
        let lock = match self.taken(key, &folder, events).await.map_err(|why| why.error(doing()))? {
            Taken::Whole(lock) => return Ok(ready(folder.clone(), lock, false).map_err(failed)?),
            Taken::ToMake(lock) => lock,
        };
        let making = self.folder.join(format!("{}{MAKING}", key.name()));
        // The lock stays held even if the caller is dropped in the meantime.
        let old = [folder.clone(), making.clone()];
        let gone = blocking(move || old.iter().try_for_each(|old| removed(old)).map(|()| lock));
        let lock = gone.await.map_err(failed)?;
        fs::DirBuilder::new().mode(0o700).create(&making).map_err(failed)?;
        // The folder is removed also if the caller is dropped.
        let unfinished = Unfinished(making);
        let outcome = match make(&unfinished.0).await {
            Ok(outcome) => outcome,
            Err(error) => {
                // The folder has to be gone before the lock is released.
                let gone = blocking(move || {
                    drop(unfinished);
                    drop(lock);
                    Ok(())
                });
                let _ = gone.await;
                return Err(error);
            }
        };
        // This may read hundreds of MiB. The folder and the lock stay held even if the caller is dropped in
        // the meantime.
        let to = folder.clone();
        let finished = blocking(move || unfinished.finish(&to, outcome).map(|()| lock));
        let lock = finished.await.map_err(failed)?;
        // Another process may get the lock between exclusive and shared, but it finds a complete template.
        let shared = file_lock::lock(&lock, Mode::Shared, MOMENT, |_| ()).await;
        shared.map_err(|why| why.error(doing()))?;
        let store = self.folder.clone();
        let pruned = blocking(move || {
            prune::to_size(&store);
            Ok(())
        });
        pruned.await.map_err(failed)?;
        Ok(ready(folder.clone(), lock, true).map_err(failed)?)
    }

    /// Returns the template of `key` if it exists and is not being made.
    pub(super) async fn whole(&self, key: &Key) -> io::Result<Option<TemplateLease>> {
        let folder = self.folder.join(key.name());
        let Some(lock) = opened(&self.folder.join(format!("{}{LOCK}", key.name())))? else { return Ok(None) };
        if !try_lock(&lock, Mode::Shared)? || broken(&folder).await.is_some() {
            return Ok(None);
        }
        Ok(match ready(folder, lock, false)? {
            Made::Ready(template) => Some(template),
            Made::Impossible(_) => None,
        })
    }

    /// Whether there is a template of `key`. It may be stale or damaged.
    pub(super) fn has(&self, key: &Key) -> bool {
        let folder = self.folder.join(key.name());
        folder.is_dir() && !folder.join(IMPOSSIBLE).exists()
    }

    /// Discards a template whose clones do not run, unless a machine uses it. Returns whether it is gone.
    pub(super) async fn discard(&self, folder: &Path) -> bool {
        let (path, its) = (folder.with_extension(&LOCK[1..]), folder.to_owned());
        let gone = move || match opened(&path)? {
            Some(lock) if try_lock(&lock, Mode::Exclusive)? => removed(&its).map(|()| true),
            _ => Ok(false),
        };
        blocking(gone).await.unwrap_or_else(|error| {
            tracing::debug!(%error, folder = %folder.display(), "could not discard a bad template");
            false
        })
    }

    /// Waits until the template is complete and can be used, or until the caller may make it.
    async fn taken(&self, key: &Key, folder: &Path, events: &Events) -> Result<Taken, NotLocked> {
        let path = self.folder.join(format!("{}{LOCK}", key.name()));
        let mut wait = Wait::new(LIMIT);
        let mut told = false;
        loop {
            let Some(lock) = opened(&path)? else { continue };
            if try_lock(&lock, Mode::Shared)? {
                match broken(folder).await {
                    None => return Ok(Taken::Whole(lock)),
                    // Noted once, even if it takes long until no process uses it any more.
                    Some(why) if folder.exists() && !std::mem::replace(&mut told, true) => {
                        tracing::debug!(folder = %folder.display(), why, "discarding a template");
                        events.note(format!("a template is made again: {why}"));
                    }
                    Some(_) => {}
                }
                if try_lock(&lock, Mode::Exclusive)? {
                    // Other processes may get the lock between shared and exclusive.
                    return Ok(match broken(folder).await {
                        None => {
                            file_lock::lock(&lock, Mode::Shared, MOMENT, |_| ()).await?;
                            Taken::Whole(lock)
                        }
                        Some(_) => Taken::ToMake(lock),
                    });
                }
            }
            wait.again(&lock, |by| {
                events.note(format!(
                    "waiting for the template that another scenario or process is making: {by}"
                ));
            })?;
            tokio::time::sleep(file_lock::PAUSE).await;
        }
    }
}

/// Runs `what` on a thread of its own. It may hash or remove hundreds of MiB, or wait for the turn of shared
/// files, and the caller's thread may serve the consoles of other machines.
async fn blocking<T: Send + 'static>(what: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    threads::aside(what).await.flatten()
}

/// Runs [`seal::broken`] on a thread of its own, because it may read hundreds of MiB.
async fn broken(folder: &Path) -> Option<String> {
    let folder = folder.to_owned();
    let looked = blocking(move || Ok(seal::broken(&folder))).await;
    looked.unwrap_or_else(|error| Some(format!("it could not be examined: {error}")))
}

enum Taken {
    Whole(File),
    ToMake(File),
}

/// An unfinished folder. It is removed on drop, unless it was finished and renamed.
struct Unfinished(PathBuf);

impl Unfinished {
    /// Turns it into the template `folder`, or into a record of why there can be none.
    fn finish(self, folder: &Path, impossible: Option<String>) -> io::Result<()> {
        let making = &self.0;
        if let Some(why) = impossible {
            removed(making)?;
            fs::DirBuilder::new().mode(0o700).create(making)?;
            fs::write(making.join(IMPOSSIBLE), why)?;
        }
        let store = folder.parent().unwrap_or(folder);
        let records = Records::in_store(store);
        // The slow part, which does not need the turn.
        for file in shared_file::in_folder(making)? {
            records.digest(&file, None)?;
        }
        // The turn is held until the rename, so that the next process finds this template and shares its
        // files.
        let turn = match shared_file::in_folder(making)?.is_empty() {
            true => None,
            false => records.turn(),
        };
        if let Some(turn) = &turn {
            let others: Vec<PathBuf> =
                folders(store)?.into_iter().filter(|path| path.extension().is_none()).collect();
            records.merge(turn, making, &others)?;
        }
        seal::close(making, turn.as_ref())?;
        fs::rename(making, folder)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = removed(&self.0);
    }
}

/// Returns the folders in a store: templates, finished or not.
pub(super) fn folders(store: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(store)? {
        let entry = entry?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !hidden && entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

fn ready(folder: PathBuf, lock: File, is_new: bool) -> io::Result<Made> {
    match fs::read_to_string(folder.join(IMPOSSIBLE)) {
        Ok(why) => Ok(Made::Impossible(why)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Pruning goes by this time. Ignore a failure: without write permission this user can't prune
            // anyway.
            let _ = lock.set_modified(SystemTime::now());
            Ok(Made::Ready(TemplateLease { folder, lock, is_new }))
        }
        Err(error) => Err(error),
    }
}

/// Opens a lock file. Returns `None` if it was removed in the meantime, and the caller has to open the new
/// one.
pub(super) fn opened(path: &Path) -> io::Result<Option<File>> {
    let lock = file_lock::open(path)?;
    let ours = lock.metadata()?.ino();
    Ok(fs::metadata(path).is_ok_and(|its| its.ino() == ours).then_some(lock))
}

/// Removes a folder of a store, if it exists.
pub(super) fn removed(path: &Path) -> io::Result<()> {
    let records = Records::in_store(path.parent().unwrap_or(path));
    let shared = shared_file::in_folder(path)?;
    records.while_names_change(&shared, || match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    })
}
