//! Where templates are, who makes them and who uses them.

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

/// How long another process may take to make a template: longer than the slowest boot and its saving.
const LIMIT: Duration = Duration::from_secs(60 * 60);
/// In a template's folder, instead of a template: why there can't be one.
const IMPOSSIBLE: &str = "impossible";
/// What a folder in the making ends with.
pub(super) const MAKING: &str = ".making";
/// What a lock ends with.
pub(super) const LOCK: &str = ".lock";

/// The folder with all templates of this user.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// What asking for a template gave.
#[derive(Debug)]
pub enum Made {
    /// It is there.
    Ready(TemplateLease),
    /// There can be none: why, in a few words.
    Impossible(String),
}

impl Store {
    /// The store in the cache folder.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Host`] and [`crate::ErrorKind::Io`] when there is no such folder and none can be made.
    pub fn open() -> Result<Self> {
        Self::at(crate::cache::dir()?.join("templates"))
    }

    /// The store in `folder`, made if it is missing. Only this user may look into it.
    pub(super) fn at(folder: PathBuf) -> Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| Error::io(format_args!("make {}", folder.display()), &error))?;
        Ok(Self { folder })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The template of `key`: taken if it is there, made by `make` if not. Any number of callers, in any
    /// number of processes, make it once; the others wait. `make` is given an empty folder and says in the end
    /// why there can be no template, if so: that is remembered, too.
    ///
    /// # Errors
    /// Those of `make`: nothing of it is left then. [`crate::ErrorKind::Io`] when the store can't be written.
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
        // A caller that gives up meanwhile does not let go of the lock.
        let old = [folder.clone(), making.clone()];
        let gone = blocking(move || old.iter().try_for_each(|old| removed(old)).map(|()| lock));
        let lock = gone.await.map_err(failed)?;
        fs::DirBuilder::new().mode(0o700).create(&making).map_err(failed)?;
        // Also when the caller gives up in the middle.
        let unfinished = Unfinished(making);
        let outcome = match make(&unfinished.0).await {
            Ok(outcome) => outcome,
            Err(error) => {
                // In this order.
                let gone = blocking(move || {
                    drop(unfinished);
                    drop(lock);
                    Ok(())
                });
                let _ = gone.await;
                return Err(error);
            }
        };
        // It may read hundreds of MiB; a caller that gives up meanwhile lets go of neither the folder nor the lock.
        let to = folder.clone();
        let finished = blocking(move || unfinished.finish(&to, outcome).map(|()| lock));
        let lock = finished.await.map_err(failed)?;
        // From alone to shared: another may come in between, who finds it whole.
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

    /// The template of `key` if it is there and nobody is making it.
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

    /// Whether there is a template of `key` already; nothing is said of its being whole.
    pub(super) fn has(&self, key: &Key) -> bool {
        let folder = self.folder.join(key.name());
        folder.is_dir() && !folder.join(IMPOSSIBLE).exists()
    }

    /// Throws a template away of which no machine goes on, unless a machine uses it. Whether it is gone.
    pub(super) async fn discard(&self, folder: &Path) -> bool {
        let (path, its) = (folder.with_extension(&LOCK[1..]), folder.to_owned());
        let gone = move || match opened(&path)? {
            Some(lock) if try_lock(&lock, Mode::Exclusive)? => removed(&its).map(|()| true),
            _ => Ok(false),
        };
        blocking(gone).await.unwrap_or_else(|error| {
            tracing::debug!(%error, folder = %folder.display(), "a bad template stays");
            false
        })
    }

    /// Waits until the template is whole and can be used, or is this caller's to make.
    async fn taken(&self, key: &Key, folder: &Path, events: &Events) -> Result<Taken, NotLocked> {
        let path = self.folder.join(format!("{}{LOCK}", key.name()));
        let mut wait = Wait::new(LIMIT);
        let mut told = false;
        loop {
            let Some(lock) = opened(&path)? else { continue };
            if try_lock(&lock, Mode::Shared)? {
                match broken(folder).await {
                    None => return Ok(Taken::Whole(lock)),
                    // Said once, however long it takes until nobody uses it any more.
                    Some(why) if folder.exists() && !std::mem::replace(&mut told, true) => {
                        tracing::debug!(folder = %folder.display(), why, "a template is thrown away");
                        events.note(format!("a template is made again: {why}"));
                    }
                    Some(_) => {}
                }
                if try_lock(&lock, Mode::Exclusive)? {
                    // Letting the shared lock go for the other one lets others in between.
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
                    "waiting for the template, which another scenario or process is making: {by}"
                ));
            })?;
            tokio::time::sleep(file_lock::PAUSE).await;
        }
    }
}

/// Does on a thread of its own what hashes, or removes, hundreds of MiB, or waits for the turn of the shared files: the
/// consoles of other machines may live on the caller's.
async fn blocking<T: Send + 'static>(what: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    threads::aside(what).await.flatten()
}

/// [`seal::broken`], which may read hundreds of MiB.
async fn broken(folder: &Path) -> Option<String> {
    let folder = folder.to_owned();
    let looked = blocking(move || Ok(seal::broken(&folder))).await;
    looked.unwrap_or_else(|error| Some(format!("it could not be looked at: {error}")))
}

enum Taken {
    Whole(File),
    ToMake(File),
}

/// A folder in the making, removed unless it was finished (and is not there any more).
struct Unfinished(PathBuf);

impl Unfinished {
    /// Makes it the template `folder`, or what says why there can be none.
    fn finish(self, folder: &Path, impossible: Option<String>) -> io::Result<()> {
        let making = &self.0;
        if let Some(why) = impossible {
            removed(making)?;
            fs::DirBuilder::new().mode(0o700).create(making)?;
            fs::write(making.join(IMPOSSIBLE), why)?;
        }
        let store = folder.parent().unwrap_or(folder);
        let records = Records::in_store(store);
        // The long part, without the turn.
        for file in shared_file::in_folder(making)? {
            records.digest(&file, None)?;
        }
        // Up to the renaming: who takes the turn next finds this template, and shares its files.
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

/// The folders in a store: templates, and what is in the making.
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
            // For pruning: when it was used last. Who may not set it does not prune either.
            let _ = lock.set_modified(SystemTime::now());
            Ok(Made::Ready(TemplateLease { folder, lock, is_new }))
        }
        Err(error) => Err(error),
    }
}

/// Opens a lock; `None` when it was removed meanwhile, and another is to be opened.
pub(super) fn opened(path: &Path) -> io::Result<Option<File>> {
    let lock = file_lock::open(path)?;
    let ours = lock.metadata()?.ino();
    Ok(fs::metadata(path).is_ok_and(|its| its.ino() == ours).then_some(lock))
}

/// Removes a folder of a store, if it is there.
pub(super) fn removed(path: &Path) -> io::Result<()> {
    let records = Records::in_store(path.parent().unwrap_or(path));
    let shared = shared_file::in_folder(path)?;
    records.while_names_change(&shared, || match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    })
}
