//! Makes the reports in the record anew after each scenario, on a thread of its own: what came while it was at work is
//! in the next ones. Whatever is asked for beside the record is kept up to date with it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{html, junit};
use crate::copies::{Copies, Format};
use crate::file_lock::{self, Mode};
use crate::mutex::lock;
use crate::record::{EVENTS, History};
use crate::{Error, ErrorKind, Event, FileKind, Result};

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
    copies: Copies,
    /// Gone once the last word is said.
    thread: Mutex<Option<(Sender<Word>, JoinHandle<()>)>>,
}

enum Word {
    Changed,
    Last,
}

impl Rendering {
    /// Begins with the record in `folder`, and with what is asked for beside it.
    pub fn start(folder: &Path, copies: Copies) -> Self {
        let (tell, hear) = mpsc::channel();
        let (of, copied) = (folder.to_owned(), copies.clone());
        let thread = std::thread::Builder::new().name("reports".to_owned());
        let thread = thread.spawn(move || run(&hear, &of, &copied)).map(|thread| (tell, thread));
        if let Err(error) = &thread {
            tracing::warn!(%error, "the reports are made at the end alone");
        }
        Self { folder: folder.to_owned(), copies, thread: Mutex::new(thread.ok()) }
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
        let Some((tell, thread)) = thread else { return make(&self.folder, &self.copies) };
        let _ = tell.send(Word::Last);
        let begun = Instant::now();
        while !thread.is_finished() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn run(hear: &Receiver<Word>, folder: &Path, copies: &Copies) {
    while let Ok(mut word) = hear.recv() {
        // All that has come is in the reports that are made now.
        while let Ok(next) = hear.try_recv() {
            word = next;
        }
        let begun = Instant::now();
        make(folder, copies);
        if matches!(word, Word::Last) {
            return;
        }
        let rested = Instant::now() + begun.elapsed() * REST;
        let mut changed = false;
        loop {
            match hear.recv_timeout(rested.saturating_duration_since(Instant::now())) {
                Ok(Word::Changed) => changed = true,
                Ok(Word::Last) | Err(mpsc::RecvTimeoutError::Disconnected) => return make(folder, copies),
                Err(mpsc::RecvTimeoutError::Timeout) => break,
            }
        }
        if changed {
            make(folder, copies);
        }
    }
}

/// Makes every report, unless they are as new as the events.
fn make(folder: &Path, copies: &Copies) {
    if let Err(error) = try_to_make(folder, copies) {
        crate::record::incomplete("its reports are not up to date", &error);
    }
}

/// Makes the reports of the record in `folder` now, unless they are as new as its events.
///
/// # Errors
/// [`ErrorKind::Io`] when one of them can't be made: the folder can't be written to, or another process has been at work
/// on them for 30 s.
pub fn render(folder: &Path) -> Result {
    try_to_make(folder, &Copies::default()).map_err(|why| {
        Error::new(ErrorKind::Io, format!("could not make the reports in {}: {why}", folder.display()))
            .next_step("copy the record to a folder that you may write to, and name that")
    })
}

fn try_to_make(folder: &Path, copies: &Copies) -> Result<(), String> {
    let words = |error: io::Error| error.to_string();
    let mut lock = file_lock::open(&folder.join(LOCK)).map_err(|error| format!("{LOCK}: {error}"))?;
    file_lock::lock_blocking(&lock, Mode::Exclusive, PATIENCE).map_err(|why| format!("{LOCK}: {why}"))?;
    // The lock's file says how much of the events is in the reports.
    let size = fs::metadata(folder.join(EVENTS)).map_err(words)?.len();
    let known = io::read_to_string(&lock).unwrap_or_default().trim().parse::<u64>().ok();
    let all_there = ["junit.xml", "report.html"].iter().all(|name| folder.join(name).is_file());
    if known != Some(size) || !all_there {
        let history = History::read(folder).map_err(|error| error.to_string())?;
        let junit = junit::render(&history, folder).map_err(|error| error.to_string())?;
        replace(&folder.join("junit.xml"), junit.as_bytes()).map_err(words)?;
        html::render(&history, folder, &folder.join("report.html")).map_err(words)?;
        note(&mut lock, size).map_err(words)?;
    }
    for (format, path) in copies.iter() {
        copy(folder, format, path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn note(lock: &mut File, size: u64) -> io::Result<()> {
    use std::io::Seek as _;
    lock.set_len(0)?;
    lock.rewind()?;
    write!(lock, "{size}")
}

fn copy(folder: &Path, format: Format, path: &Path) -> io::Result<()> {
    let whole = |name: &str| replace(path, &fs::read(folder.join(name))?);
    match format {
        Format::Junit => whole("junit.xml"),
        Format::Html => whole("report.html"),
        Format::Jsonl => whole(EVENTS),
        Format::Cast => {
            let history = History::read(folder).map_err(io::Error::other)?;
            let attempts = history.scenarios.iter().flat_map(|scenario| &scenario.attempts);
            let files = attempts.flat_map(|attempt| &attempt.machines).flat_map(|machine| &machine.files);
            for file in files.filter(|file| file.kind == FileKind::Cast) {
                // What a record from elsewhere names stays within the folder.
                if !file.is_within() {
                    continue;
                }
                let to = path.join(&file.path);
                let from = folder.join(&file.path);
                let is_there =
                    |to: &Path| Some(fs::metadata(to).ok()?.len() == fs::metadata(&from).ok()?.len());
                if is_there(&to) != Some(true) {
                    replace(&to, &fs::read(&from)?)?;
                }
            }
            Ok(())
        }
    }
}

/// Puts a file in the place of another: whoever reads it reads all of the one or all of the other.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
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
