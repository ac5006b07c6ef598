//! Makes the reports in the record again after each scenario, on a thread of its own. Events that arrive
//! while it works are in the next reports. It also updates the reports that were requested in addition to the
//! record.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{html, junit};
use crate::beneath::Beneath;
use crate::file_lock::{self, Mode};
use crate::mutex::lock;
use crate::record::{EVENTS, Folder, History, in_a_path};
use crate::requested_reports::{Format, RequestedReports};
use crate::{Error, ErrorKind, Event, FileKind, Result};

/// The reports in a record.
const JUNIT: &str = "junit.xml";
const PAGE: &str = "report.html";

/// The limit for a report and for a file of a record, in bytes.
const LARGEST: u64 = 1 << 30;

/// The folder in the cache for pages of other users' records, and the maximum number of these pages.
const PAGES: &str = "pages";
const MOST_PAGES: usize = 16;

/// The lock of the process that makes the reports of a record.
const LOCK: &str = ".reports.lock";

/// How long to wait for the last reports, and for another process that makes reports.
const PATIENCE: Duration = Duration::from_secs(30);

/// After making reports, the thread sleeps for this many times as long, because running machines are more
/// urgent than reports.
const REST: u32 = 4;

/// The reports of one record, which are updated as its events arrive.
#[derive(Debug)]
pub struct Rendering {
    folder: PathBuf,
    reports: RequestedReports,
    /// `None` after the end.
    thread: Mutex<Option<(Sender<Word>, JoinHandle<()>)>>,
}

enum Word {
    Changed,
    Last,
}

impl Rendering {
    /// Starts with the record in `folder`, and the reports that were requested in addition.
    pub fn start(folder: &Path, reports: RequestedReports) -> Self {
        let (tell, hear) = mpsc::channel();
        let (of, copied) = (folder.to_owned(), reports.clone());
        let thread = std::thread::Builder::new().name("reports".to_owned());
        let thread = thread.spawn(move || run(&hear, &of, &copied)).map(|thread| (tell, thread));
        if let Err(error) = &thread {
            tracing::warn!(%error, "could not start the thread for reports, so they are written only at the end");
        }
        Self { folder: folder.to_owned(), reports, thread: Mutex::new(thread.ok()) }
    }

    /// Handles an event that is in the record now.
    pub fn event(&self, event: &Event) {
        if !matches!(event, Event::ScenarioFinished { .. } | Event::ScenarioSkipped { .. }) {
            return;
        }
        if let Some((tell, _)) = &*lock(&self.thread) {
            let _ = tell.send(Word::Changed);
        }
    }

    /// Makes the last reports, and waits for them at most 30 s.
    pub fn finish(&self) {
        let thread = lock(&self.thread).take();
        let Some((tell, thread)) = thread else { return make(&self.folder, &self.reports) };
        let _ = tell.send(Word::Last);
        let begun = Instant::now();
        while !thread.is_finished() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn run(hear: &Receiver<Word>, folder: &Path, reports: &RequestedReports) {
    while let Ok(mut word) = hear.recv() {
        // The reports that are made next contain everything that has arrived.
        while let Ok(next) = hear.try_recv() {
            word = next;
        }
        let begun = Instant::now();
        make(folder, reports);
        if matches!(word, Word::Last) {
            return;
        }
        let rested = Instant::now() + begun.elapsed() * REST;
        let mut changed = false;
        loop {
            match hear.recv_timeout(rested.saturating_duration_since(Instant::now())) {
                Ok(Word::Changed) => changed = true,
                Ok(Word::Last) | Err(mpsc::RecvTimeoutError::Disconnected) => return make(folder, reports),
                Err(mpsc::RecvTimeoutError::Timeout) => break,
            }
        }
        if changed {
            make(folder, reports);
        }
    }
}

/// Makes every report that is older than the events.
fn make(folder: &Path, reports: &RequestedReports) {
    if let Err(error) = try_to_make(folder, reports) {
        crate::record::incomplete("its reports are not up to date", &error);
    }
}

/// Makes the page of a record, and returns its path. The page is in the record, with the other reports,
/// unless the record belongs to another user. Such a record is only read, and its page is in this user's
/// cache.
///
/// # Errors
/// [`ErrorKind::Io`] when the record can't be read or the page can't be written, for example because the disk
/// is full, or because another process has held the lock for 30 s.
pub fn render(record: &Folder) -> Result<PathBuf> {
    if !record.may_be_written() {
        return elsewhere(record);
    }
    make_now(record.files(), record.is_own(), &RequestedReports::default()).map_err(|why| {
        let summary = format!("could not make the reports in {}: {why}", record.path().display());
        Error::new(ErrorKind::Io, summary)
            .next_step("copy the record to a folder that you can write to, and use the copy")
    })?;
    Ok(record.path().join(PAGE))
}

/// Makes the page of a read-only record.
fn elsewhere(record: &Folder) -> Result<PathBuf> {
    let history = History::of(record.files())?;
    let path = std::path::absolute(record.path())
        .map_err(|error| Error::io(format_args!("find {}", record.path().display()), &error))?;
    let name = in_a_path(&path.file_name().unwrap_or_default().to_string_lossy());
    let digest = crate::digest::of_parts([path.as_os_str().as_bytes()]);
    let name = format!("{name:.64}-{digest:.16}.html");
    let write = || {
        let pages = Beneath::private(crate::cache::dir().map_err(io::Error::other)?.join(PAGES))?;
        let of = html::Pages { record: record.files(), is_own: false, is_elsewhere: true };
        pages.replace(&name, &html::render(&history, of)?, 0o600)?;
        keep_newest(&pages)?;
        io::Result::Ok(pages.path().join(&name))
    };
    write().map_err(|error| Error::io("write the page of the record", &error))
}

/// Removes the oldest pages of other users' records.
fn keep_newest(pages: &Beneath) -> io::Result<()> {
    let changed = |name: &OsString| pages.file(name).ok()?.0.metadata().ok()?.modified().ok();
    let mut all: Vec<_> =
        pages.names(MOST_PAGES * 8)?.into_iter().map(|name| (changed(&name), name)).collect();
    all.sort();
    let surplus = all.len().saturating_sub(MOST_PAGES);
    all[..surplus].iter().try_for_each(|(_, name)| pages.remove_file(name))
}

fn try_to_make(folder: &Path, reports: &RequestedReports) -> Result<(), String> {
    let record = Beneath::open(folder).map_err(|error| error.to_string())?;
    make_now(&record, true, reports)
}

/// Makes the reports in a record. Reports in a record from elsewhere are not trusted, so they are made again.
fn make_now(record: &Beneath, is_own: bool, reports: &RequestedReports) -> Result<(), String> {
    let words = |error: io::Error| error.to_string();
    let mut lock = record.open_or_create(LOCK, 0o600).map_err(words)?;
    file_lock::lock_blocking(&lock, Mode::Exclusive, PATIENCE).map_err(|why| format!("{LOCK}: {why}"))?;
    // The lock file stores how much of the events is in the reports.
    let (_, size) = record.file(EVENTS).map_err(words)?;
    let known = || {
        let mut text = String::new();
        (&lock).take(32).read_to_string(&mut text).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let all_there = || [JUNIT, PAGE].iter().all(|name| record.file(name).is_ok());
    if !is_own || known() != Some(size) || !all_there() {
        let history = History::of(record).map_err(|error| error.to_string())?;
        let junit = junit::render(&history, record.path()).map_err(|error| error.to_string())?;
        record.replace(JUNIT, junit.as_bytes(), 0o600).map_err(words)?;
        let page = html::render(&history, html::Pages { record, is_own, is_elsewhere: false });
        record.replace(PAGE, &page.map_err(words)?, 0o600).map_err(words)?;
        note(&mut lock, size).map_err(words)?;
    }
    for (format, path) in reports.iter() {
        copy(record, format, path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn note(lock: &mut File, size: u64) -> io::Result<()> {
    use std::io::Seek as _;
    lock.set_len(0)?;
    lock.rewind()?;
    write!(lock, "{size}")
}

fn copy(record: &Beneath, format: Format, path: &Path) -> io::Result<()> {
    let whole = |name: &str| replace(path, &record.read(name, LARGEST)?);
    match format {
        Format::Junit => whole(JUNIT),
        Format::Html => whole(PAGE),
        Format::Jsonl => whole(EVENTS),
        Format::Cast => {
            let history = History::of(record).map_err(io::Error::other)?;
            let attempts = history.scenarios.iter().flat_map(|scenario| &scenario.attempts);
            let files = attempts.flat_map(|attempt| &attempt.machines).flat_map(|machine| &machine.files);
            for file in files.filter(|file| file.kind == FileKind::Cast) {
                // The paths in a record must not lead out of the requested folder.
                if !file.is_within() {
                    continue;
                }
                let to = path.join(&file.path);
                let (_, size) = record.file(&file.path)?;
                if fs::metadata(&to).ok().map(|found| found.len()) != Some(size) {
                    replace(&to, &record.read(&file.path, LARGEST)?)?;
                }
            }
            Ok(())
        }
    }
}

/// Replaces a file atomically, so that readers see either the old or the new content.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(".report-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    // Keeps the permissions of an existing file. A new one is as readable as the user's other files, because
    // it was requested for reading.
    let mode = fs::metadata(path)
        .map_or(0o644, |known| std::os::unix::fs::PermissionsExt::mode(&known.permissions()));
    fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(mode & 0o777))?;
    file.persist(path).map(drop).map_err(|error| error.error)
}
