//! Makes the reports in the record anew after each scenario, on a thread of its own: what came while it was at work is
//! in the next ones. Whatever is asked for beside the record is kept up to date with it.

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

/// No report, and no file of a record, is larger, in bytes.
const LARGEST: u64 = 1 << 30;

/// Where the pages of records of other users are, in the cache, and how many of them.
const PAGES: &str = "pages";
const MOST_PAGES: usize = 16;

/// Held by whichever process is at work on the reports of a record.
const LOCK: &str = ".reports.lock";

/// So long is waited for the last reports, and for another process that makes some.
const PATIENCE: Duration = Duration::from_secs(30);

/// A rest after reports that took `1` is so many times as long: they are for the morning after, machines are for now.
const REST: u32 = 4;

/// Reports of one record, made as its events come.
#[derive(Debug)]
pub struct Rendering {
    folder: PathBuf,
    reports: RequestedReports,
    /// Gone once the last word is said.
    thread: Mutex<Option<(Sender<Word>, JoinHandle<()>)>>,
}

enum Word {
    Changed,
    Last,
}

impl Rendering {
    /// Begins with the record in `folder`, and with what is asked for beside it.
    pub fn start(folder: &Path, reports: RequestedReports) -> Self {
        let (tell, hear) = mpsc::channel();
        let (of, copied) = (folder.to_owned(), reports.clone());
        let thread = std::thread::Builder::new().name("reports".to_owned());
        let thread = thread.spawn(move || run(&hear, &of, &copied)).map(|thread| (tell, thread));
        if let Err(error) = &thread {
            tracing::warn!(%error, "the reports are made at the end alone");
        }
        Self { folder: folder.to_owned(), reports, thread: Mutex::new(thread.ok()) }
    }

    /// Something is in the record now.
    pub fn event(&self, event: &Event) {
        if !matches!(event, Event::ScenarioFinished { .. } | Event::ScenarioSkipped { .. }) {
            return;
        }
        if let Some((tell, _)) = &*lock(&self.thread) {
            let _ = tell.send(Word::Changed);
        }
    }

    /// Makes the last reports, and waits for them, 30 s at most.
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
        // All that has come is in the reports that are made now.
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

/// Makes every report, unless they are as new as the events.
fn make(folder: &Path, reports: &RequestedReports) {
    if let Err(error) = try_to_make(folder, reports) {
        crate::record::incomplete("its reports are not up to date", &error);
    }
}

/// Makes the page of a record, and says where it is: in the record, with the other reports, unless that belongs to
/// another user. Such a record is only read, and its page is in this user's cache.
///
/// # Errors
/// [`ErrorKind::Io`] when the record can't be read or the page can't be written: the disk is full, or another process has
/// been at work on the reports for 30 s.
pub fn render(record: &Folder) -> Result<PathBuf> {
    if !record.may_be_written() {
        return elsewhere(record);
    }
    make_now(record.files(), record.is_own(), &RequestedReports::default()).map_err(|why| {
        let summary = format!("could not make the reports in {}: {why}", record.path().display());
        Error::new(ErrorKind::Io, summary)
            .next_step("copy the record to a folder that you may write to, and name that")
    })?;
    Ok(record.path().join(PAGE))
}

/// The page of a record that is only read.
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

/// Removes the oldest pages of records of other users.
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

/// Makes the reports in a record. Those that are in one from elsewhere may be anything, and are made anew.
fn make_now(record: &Beneath, is_own: bool, reports: &RequestedReports) -> Result<(), String> {
    let words = |error: io::Error| error.to_string();
    let mut lock = record.open_or_create(LOCK, 0o600).map_err(words)?;
    file_lock::lock_blocking(&lock, Mode::Exclusive, PATIENCE).map_err(|why| format!("{LOCK}: {why}"))?;
    // The lock's file says how much of the events is in the reports.
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
                // What a record names stays within the folder that is asked for.
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

/// Puts a file in the place of another: whoever reads it reads all of the one or all of the other.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(".report-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    // As readable as what is there; a new one as the user's other files: it is asked for to be read.
    let mode = fs::metadata(path)
        .map_or(0o644, |known| std::os::unix::fs::PermissionsExt::mode(&known.permissions()));
    fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(mode & 0o777))?;
    file.persist(path).map(drop).map_err(|error| error.error)
}
