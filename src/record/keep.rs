//! Keeps what a machine leaves: its consoles' transcripts go from the run directory, which vanishes, to the record, with
//! what is made of them for people.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::film::Film;
use super::screen::Screen;
use super::tape::{self, Tape};
use super::{cast, log, picture};
use crate::{Event, Events, FileKind};

/// As much of a transcript is kept: the beginning of it, which its times are for.
pub(super) const MOST: u64 = 64 << 20;

/// As large is the film of a console, in bytes, of a scenario that passed and of one that failed; of a longer one the
/// end is kept.
const FILM: (usize, usize) = (256 << 10, 2 << 20);

/// Puts files of one scenario into the record.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    record: PathBuf,
    /// The scenario's folder in it, as it is to be called.
    wanted: PathBuf,
    /// As it is called: another scenario may have the name.
    folder: Arc<OnceLock<PathBuf>>,
    events: Events,
}

impl Keeper {
    /// Files go to `folder`, which is in the record `record`.
    pub(crate) fn new(record: &Path, folder: PathBuf, events: Events) -> Self {
        Self { record: record.to_owned(), wanted: folder, folder: Arc::default(), events }
    }

    /// The record's folder.
    pub(crate) fn record(&self) -> &Path {
        &self.record
    }

    /// The scenario's folder in the record, if there is anything in it.
    pub(crate) fn made(&self) -> Option<&Path> {
        self.folder.get().map(PathBuf::as_path)
    }

    /// The scenario's folder in the record: made when it is asked for first.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.get_or_init(|| claim(&self.wanted))
    }

    /// Events of the scenario, of which those that tell of a file elsewhere have it copied to the record.
    pub(crate) fn taking_in(&self) -> Events {
        let keeper = self.clone();
        Events::new(move |event| match event {
            Event::FileKept { machine, kind, path } if path.is_absolute() => {
                keeper.take_in(machine, *kind, path)
            }
            event => keeper.events.send(event.clone()),
        })
    }

    fn take_in(&self, machine: &str, kind: FileKind, path: &Path) {
        let name = super::in_a_path(&path.file_name().unwrap_or_default().to_string_lossy());
        let free = |number: u32| {
            let to = self.folder().join(if number > 1 { format!("{number}-{name}") } else { name.clone() });
            File::create_new(&to).ok().map(|file| (file, to))
        };
        // A screenshot of the same name in each round of a loop: there is an end to it.
        let Some((mut file, to)) = (1..1000).find_map(free) else { return };
        match File::open(path).and_then(|mut from| io::copy(&mut from, &mut file)) {
            Ok(_) => self.kept(machine, kind, &to),
            Err(error) => super::incomplete(&to.display().to_string(), &error),
        }
    }

    /// Writes the journal of `machine` to the record.
    pub(crate) fn journal(&self, machine: &str, journal: &str) {
        let to = self.folder().join(format!("{}.journal", super::in_a_path(machine)));
        match fs::write(&to, journal) {
            Ok(()) => self.kept(machine, FileKind::Journal, &to),
            Err(error) => super::incomplete(&to.display().to_string(), &error),
        }
    }

    /// Copies the transcripts of the machine `machine`, whose run directory this is.
    pub(crate) fn transcripts(&self, machine: &str, run_directory: &Path, passed: bool) {
        let name = super::in_a_path(machine);
        for number in 1.. {
            let (from, to) = match number {
                1 => ("transcript".to_owned(), format!("{name}.transcript")),
                _ => (format!("transcript.{number}"), format!("{name}.{number}.transcript")),
            };
            let from = run_directory.join(from);
            if !from.exists() {
                break;
            }
            self.transcript(machine, &from, &to, passed);
        }
    }

    /// Copies what the machine `machine` answered, whose run directory this is.
    pub(crate) fn answers(&self, machine: &str, answers: &Path) {
        let to = self.folder().join(format!("{}.answers", super::in_a_path(machine)));
        if answers.exists()
            && let Err(error) = fs::copy(answers, &to)
        {
            super::incomplete(&to.display().to_string(), &error);
        }
    }

    /// Copies one transcript, with its times, and makes of it what people look at.
    pub(crate) fn transcript(&self, machine: &str, from: &Path, name: &str, passed: bool) {
        let to = self.folder().join(name);
        match copy(&tape::times_of(from), &tape::times_of(&to)).and_then(|()| copy(from, &to)) {
            Ok(()) => {
                self.kept(machine, FileKind::Transcript, &to);
                self.derive(machine, to, passed);
            }
            Err(error) => super::incomplete(&to.display().to_string(), &error),
        }
    }

    /// Makes films, pictures and logs, on a thread of its own: whatever a guest printed, and whatever that does to the
    /// emulator, is the scenario's failure no more.
    fn derive(&self, machine: &str, transcript: PathBuf, passed: bool) {
        let keeper = self.clone();
        let of = machine.to_owned();
        let thread = std::thread::Builder::new().name("films".to_owned()).spawn(move || {
            if let Err(error) = keeper.make(&of, &transcript, passed) {
                super::incomplete(&format!("the film of {}", transcript.display()), &error);
            }
        });
        match thread.map(std::thread::JoinHandle::join) {
            Ok(Ok(())) => {}
            _ => super::incomplete("a film", &format!("what {machine} printed could not be drawn")),
        }
    }

    fn make(&self, machine: &str, transcript: &Path, passed: bool) -> io::Result<()> {
        let tape = Tape::read(transcript)?;
        let title = match self.folder().file_name() {
            Some(scenario) => format!("{}: {machine}", scenario.to_string_lossy()),
            None => machine.to_owned(),
        };
        let file = |extension| {
            let path = transcript.with_extension(extension);
            File::create(&path).map(|file| (BufWriter::new(file), path))
        };
        let (mut out, path) = file("cast")?;
        cast::write(&tape, &title, &mut out).and_then(|()| out.flush())?;
        self.kept(machine, FileKind::Cast, &path);
        let (mut out, path) = file("log")?;
        log::write(&tape, &mut out).and_then(|()| out.flush())?;
        self.kept(machine, FileKind::Log, &path);
        let mut screen = Screen::new();
        screen.write(super::film::last_lines(tape.bytes()));
        let path = transcript.with_extension("svg");
        fs::write(&path, picture::svg(&screen, &format!("{title}, the last screen")))?;
        self.kept(machine, FileKind::Screen, &path);
        // Not told of: it is for the report alone, which is made anew over and over.
        let (mut out, _) = file(super::FILM)?;
        serde_json::to_writer(&mut out, &Film::of(&tape, if passed { FILM.0 } else { FILM.1 }))?;
        out.flush()
    }

    /// Says that a file is in the record.
    pub(crate) fn kept(&self, machine: &str, kind: FileKind, path: &Path) {
        let path = path.strip_prefix(&self.record).unwrap_or(path).to_owned();
        self.events.send(Event::FileKept { machine: machine.to_owned(), kind, path });
    }
}

/// Makes the folder, under another name where there is one: another file's scenario has the same name, or whoever runs
/// the suite tries again.
fn claim(wanted: &Path) -> PathBuf {
    let named = |number: u32| match number {
        1 => wanted.to_owned(),
        _ => PathBuf::from(format!("{}.{number}", wanted.display())),
    };
    for number in 1..1000 {
        let path = named(number);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return path,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // Whoever writes there says what is wrong.
            Err(_) => break,
        }
    }
    wanted.to_owned()
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    use std::io::Read as _;
    let mut from = File::open(from)?.take(MOST);
    io::copy(&mut from, &mut File::create(to)?).map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_file_elsewhere_is_copied_and_told_of_as_in_the_record() {
        let (base, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = told.clone();
        let events = Events::new(move |event| sink.lock().unwrap().push(event.clone()));
        let keeper = Keeper::new(base.path(), base.path().join("login"), events);
        let path = elsewhere.path().join("page.png");
        for content in ["one", "two"] {
            fs::write(&path, content).unwrap();
            let (machine, kind) = ("m".to_owned(), FileKind::Screenshot);
            keeper.taking_in().send(Event::FileKept { machine, kind, path: path.clone() });
        }
        let paths: Vec<PathBuf> = told
            .lock()
            .unwrap()
            .iter()
            .map(|event| match event {
                Event::FileKept { path, .. } => path.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(paths, ["login/page.png", "login/2-page.png"].map(PathBuf::from));
        assert_eq!(fs::read_to_string(base.path().join(&paths[1])).unwrap(), "two");
    }

    #[test]
    fn scenarios_of_one_name_have_folders_of_their_own() {
        let base = tempfile::tempdir().unwrap();
        let keeper = || Keeper::new(base.path(), base.path().join("login"), Events::none());
        let (one, other) = (keeper(), keeper());
        assert_eq!(one.folder(), base.path().join("login"));
        assert_eq!(other.folder(), base.path().join("login.2"));
        assert_eq!(one.clone().folder(), one.folder());
    }
}
