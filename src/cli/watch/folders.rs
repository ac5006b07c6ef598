//! Reports when one of some files is saved, by inotify(7).
//!
//! Watches folders, not files: most editors write a new file and rename it to the old name. For a missing path, the
//! nearest existing folder above it is watched.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout_at};

/// A save is complete after this long without an event: editors take several steps.
const QUIET: Duration = Duration::from_millis(20);

/// Maximum time to wait if events never stop.
const LONGEST: Duration = Duration::from_millis(200);

/// An event of the kernel: its watch, what happened, and the file's name.
type Said = (i32, ReadFlags, Option<OsString>);

/// The watched files, and their folders.
pub struct Folders {
    inotify: Arc<OwnedFd>,
    said: UnboundedReceiver<io::Result<Said>>,
    /// The folder of each watch; several, if they are the same folder through a link.
    watches: HashMap<i32, BTreeSet<PathBuf>>,
    wanted: BTreeSet<PathBuf>,
    /// Changes that were not yet reported.
    changed: BTreeSet<PathBuf>,
}

impl Folders {
    /// Creates it without any watch.
    pub fn new() -> io::Result<Self> {
        let inotify = Arc::new(inotify::init(CreateFlags::CLOEXEC)?);
        let (tell, said) = unbounded_channel();
        let of_the_thread = inotify.clone();
        std::thread::Builder::new().name("watch".to_owned()).spawn(move || listen(&of_the_thread, &tell))?;
        let (watches, wanted, changed) = Default::default();
        Ok(Self { inotify, said, watches, wanted, changed })
    }

    /// Watches exactly these files from now on, and in a folder all Rust and Nix files. A newly added file that was
    /// written after `since` counts as changed, since no watch covered it then.
    pub fn want(&mut self, paths: BTreeSet<PathBuf>, since: SystemTime) -> io::Result<()> {
        let before = std::mem::replace(&mut self.wanted, paths);
        self.place()?;
        for path in self.wanted.difference(&before) {
            let written = path.metadata().and_then(|about| about.modified());
            if path.is_file() && written.is_ok_and(|written| written > since) {
                self.changed.insert(path.clone());
            }
        }
        Ok(())
    }

    /// Returns how many files and folders are watched.
    pub fn count(&self) -> usize {
        self.wanted.len()
    }

    /// Waits for changes and returns all of them. Cancel safe: no change is lost if the future is dropped.
    pub async fn changed(&mut self) -> io::Result<BTreeSet<PathBuf>> {
        while self.changed.is_empty() {
            self.hear().await?;
        }
        let latest = Instant::now() + LONGEST;
        while let Ok(heard) = timeout_at(latest.min(Instant::now() + QUIET), self.hear()).await {
            heard?;
        }
        Ok(std::mem::take(&mut self.changed))
    }

    /// Waits for events of the kernel and stores them.
    async fn hear(&mut self) -> io::Result<()> {
        let mut said = self.said.recv().await;
        while let Some(heard) = said {
            let (watch, what, name) = heard?;
            self.take(watch, what, name.as_deref());
            said = self.said.try_recv().ok();
        }
        // Folders may have been created or removed.
        self.place()
    }

    fn take(&mut self, watch: i32, what: ReadFlags, name: Option<&OsStr>) {
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.changed.extend(self.wanted.iter().cloned());
        }
        if what.contains(ReadFlags::IGNORED) {
            self.watches.remove(&watch);
            return;
        }
        let (Some(folders), Some(name)) = (self.watches.get(&watch), name) else { return };
        for path in folders.iter().map(|folder| folder.join(name)) {
            // A file that was just created is still empty, unless it is a hard link.
            let whole = |path: &Path| {
                path.symlink_metadata().is_ok_and(|about| !about.is_file() || about.nlink() > 1)
            };
            if (!what.contains(ReadFlags::CREATE) || whole(&path)) && self.is_wanted(&path) {
                self.changed.insert(path);
            }
        }
    }

    /// Returns whether `path` is watched, is in a watched folder, or is a folder above a watched path.
    fn is_wanted(&self, path: &Path) -> bool {
        let code = path.extension().is_some_and(|extension| extension == "rs" || extension == "nix");
        let on_the_way =
            || self.wanted.range(path.to_owned()..).next().is_some_and(|next| next.starts_with(path));
        let inside = || path.parent().is_some_and(|folder| self.wanted.contains(folder));
        on_the_way() || (code && inside())
    }

    /// Adds the watches that are needed and removes the others.
    fn place(&mut self) -> io::Result<()> {
        const SAVED: WatchFlags =
            WatchFlags::CLOSE_WRITE.union(WatchFlags::MOVED_TO).union(WatchFlags::CREATE);
        const GONE: WatchFlags = WatchFlags::DELETE_SELF.union(WatchFlags::MOVE_SELF);
        let mut needed = BTreeSet::new();
        for path in &self.wanted {
            needed.extend(path.is_dir().then(|| path.clone()));
            needed.extend(path.ancestors().skip(1).find(|folder| folder.is_dir()).map(Path::to_owned));
        }
        let mut watches: HashMap<i32, BTreeSet<PathBuf>> = HashMap::new();
        for folder in needed {
            let flags = SAVED | GONE | WatchFlags::ONLYDIR;
            match inotify::add_watch(&self.inotify, &folder, flags) {
                Ok(watch) => drop(watches.entry(watch).or_default().insert(folder)),
                // It is gone or can't be read; try again at the next event.
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::ACCESS) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        for watch in self.watches.keys().filter(|watch| !watches.contains_key(watch)) {
            // The kernel may have removed it already.
            let _ = inotify::remove_watch(&self.inotify, *watch);
        }
        self.watches = watches;
        Ok(())
    }
}

/// Passes on the kernel's events until the receiver is dropped.
fn listen(inotify: &OwnedFd, tell: &UnboundedSender<io::Result<Said>>) {
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut reader = Reader::new(inotify, &mut buffer);
    loop {
        let said = match reader.next() {
            Ok(event) => {
                let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned());
                Ok((event.wd(), event.events(), name))
            }
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => Err(errno.into()),
        };
        let last = said.is_err();
        if tell.send(said).is_err() || last {
            return;
        }
    }
}
