//! Keeps the files of a machine: copies its consoles' transcripts from the run directory, which is removed, to the
//! record, and makes readable files from them.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::film::Film;
use super::screen::Screen;
use super::tape::{self, Tape};
use super::{cast, log, picture};
use crate::beneath::Beneath;
use crate::{Event, Events, FileKind};

/// Maximum size of a kept transcript in bytes. Its beginning is kept, since the times refer to it.
pub(crate) const MOST: u64 = 64 << 20;

/// Only the user may read a file of a record, since it contains what the guest printed.
const MODE: u32 = 0o600;

/// Maximum size of a console's film in bytes, for a scenario that passed and for one that failed. Of a longer film the
/// end is kept.
const FILM: (usize, usize) = (256 << 10, 2 << 20);

/// Puts files of one scenario into the record.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    files: Arc<Beneath>,
    /// The wanted path of the scenario's folder in the record.
    wanted: PathBuf,
    /// Its actual path, since another scenario may have the name.
    folder: Arc<OnceLock<PathBuf>>,
    events: Events,
}

impl Keeper {
    /// Creates a keeper that puts files into the folder `folder` of the record with these files.
    pub(crate) fn new(files: Arc<Beneath>, folder: PathBuf, events: Events) -> Self {
        Self { files, wanted: folder, folder: Arc::default(), events }
    }

    /// Returns the record's folder.
    pub(crate) fn record(&self) -> &Path {
        self.files.path()
    }

    /// Returns the scenario's folder, if it exists.
    pub(crate) fn made(&self) -> Option<PathBuf> {
        Some(self.record().join(self.folder.get()?))
    }

    /// Returns the scenario's folder and creates it on the first call.
    pub(crate) fn folder(&self) -> PathBuf {
        self.record().join(self.within())
    }

    /// Returns the scenario's folder, relative to the record's.
    fn within(&self) -> &Path {
        self.folder.get_or_init(|| claim(&self.files, &self.wanted))
    }

    /// Returns events of the scenario that copy files from elsewhere to the record.
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
            let to = self.within().join(if number > 1 { format!("{number}-{name}") } else { name.clone() });
            self.files.create(&to, MODE).ok().map(|file| (file, to))
        };
        // A loop may take a screenshot of the same name in each round, so the number of names is limited.
        let Some((mut file, to)) = (1..1000).find_map(free) else { return };
        match File::open(path).and_then(|mut from| io::copy(&mut from, &mut file)) {
            Ok(_) => self.kept(machine, kind, &to),
            Err(error) => super::incomplete(&to.display().to_string(), &error),
        }
    }

    /// Writes the journal of `machine` to the record.
    pub(crate) fn journal(&self, machine: &str, journal: &str) {
        let to = self.within().join(format!("{}.journal", super::in_a_path(machine)));
        match self.files.replace(&to, crate::secrets::words(journal).as_bytes(), MODE) {
            Ok(()) => self.kept(machine, FileKind::Journal, &to),
            Err(error) => super::incomplete(&to.display().to_string(), &error),
        }
    }

    /// Writes the packets that passed a VLAN of the scenario to the record, as `write` does it.
    pub(crate) fn capture(&self, vlan: u8, write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) {
        let to = self.within().join(format!("vlan{vlan}.pcapng"));
        let written = self.files.replace_with(&to, MODE, |file| {
            let mut out = BufWriter::new(file);
            write(&mut out)?;
            out.flush()
        });
        match written {
            Ok(()) => self.kept("", FileKind::Packets, &to),
            Err(error) => super::incomplete(&to.display().to_string(), &error),
        }
    }

    /// Creates the files in the record for the transcript that a machine writes at `path`, and for its times. If the
    /// run is killed, their content so far remains. At the end they are replaced by the complete ones.
    pub(crate) fn begin_transcript(&self, machine: &str, path: &Path) -> io::Result<(File, File)> {
        let name = super::in_a_path(machine);
        let written = path.file_name().unwrap_or_default().to_string_lossy();
        let to = self.within().join(match written.strip_prefix("transcript.") {
            Some(number) => format!("{name}.{number}.transcript"),
            None => format!("{name}.transcript"),
        });
        let begun = |path: &Path| {
            self.files.replace(path, b"", MODE)?;
            self.files.append(path, MODE)
        };
        let files = (begun(&to)?, begun(&tape::times_of(&to))?);
        self.kept(machine, FileKind::Transcript, &to);
        Ok(files)
    }

    /// Creates a keeper that adds to the files of a scenario that did not end: those in the folder `folder` of the
    /// record.
    pub(super) fn unfinished(record: Arc<Beneath>, folder: PathBuf, events: Events) -> Self {
        let known = OnceLock::new();
        let _ = known.set(folder.clone());
        Self { files: record, wanted: folder, folder: Arc::new(known), events }
    }

    /// Copies the transcripts of the machine `machine` from its run directory.
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

    /// Creates the file in the record for the answers that a machine writes at `path`, with those that are there. If the
    /// run is killed, they remain.
    pub(crate) fn begin_answers(&self, machine: &str, path: &Path) -> io::Result<File> {
        let to = self.answers_of(machine);
        self.copy(path, &to, u64::MAX)?;
        self.files.append(&to, MODE)
    }

    fn answers_of(&self, machine: &str) -> PathBuf {
        self.within().join(format!("{}.answers", super::in_a_path(machine)))
    }

    /// Copies the answers of the machine `machine` from its run directory.
    pub(crate) fn answers(&self, machine: &str, answers: &Path) {
        let to = self.answers_of(machine);
        if answers.exists()
            && let Err(error) = self.copy(answers, &to, u64::MAX)
        {
            super::incomplete(&to.display().to_string(), &error);
        }
    }

    /// Copies one transcript with its times, and makes readable files from it.
    pub(crate) fn transcript(&self, machine: &str, from: &Path, name: &str, passed: bool) {
        let to = self.within().join(name);
        let times = || self.copy(&tape::times_of(from), &tape::times_of(&to), MOST);
        match times().and_then(|()| self.copy_masked(from, &to)) {
            Ok(()) => {
                self.kept(machine, FileKind::Transcript, &to);
                self.derive(machine, to, passed);
            }
            Err(error) => super::incomplete(&to.display().to_string(), &error),
        }
    }

    /// Makes films, pictures and logs in a separate thread, so that guest output that makes the emulator panic can't
    /// fail the scenario.
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

    /// Masks in a transcript in the record the passwords that this process knows by now.
    pub(super) fn mask(&self, transcript: &Path) -> io::Result<()> {
        let bytes = self.files.read(transcript, MOST)?;
        let mut masked = bytes.clone();
        crate::secrets::bytes::mask_in_place(&mut masked);
        // No process writes to it any more.
        if masked == bytes { Ok(()) } else { self.files.replace(transcript, &masked, MODE) }
    }

    /// Makes films, pictures and logs of a transcript in the record.
    pub(super) fn make(&self, machine: &str, transcript: &Path, passed: bool) -> io::Result<()> {
        let tape = Tape::read(&self.files, transcript)?;
        let title = match self.within().file_name() {
            Some(scenario) => format!("{}: {machine}", scenario.to_string_lossy()),
            None => machine.to_owned(),
        };
        self.write(machine, transcript, "cast", Some(FileKind::Cast), |out| cast::write(&tape, &title, out))?;
        self.write(machine, transcript, "log", Some(FileKind::Log), |out| log::write(&tape, out))?;
        let mut screen = Screen::new();
        screen.write(super::film::last_lines(tape.bytes()));
        let picture = picture::svg(&screen, &format!("{title}, the last screen"));
        self.write(machine, transcript, "svg", Some(FileKind::Screen), |out| {
            out.write_all(picture.as_bytes())
        })?;
        // Not reported: the film is only for the report, which is rewritten repeatedly.
        self.write(machine, transcript, super::FILM, None, |out| {
            Ok(serde_json::to_writer(out, &Film::of(&tape, if passed { FILM.0 } else { FILM.1 }))?)
        })
    }

    /// Writes a file made from a transcript beside it, and reports it if it has a `kind`.
    fn write(
        &self,
        machine: &str,
        transcript: &Path,
        extension: &str,
        kind: Option<FileKind>,
        write: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
    ) -> io::Result<()> {
        let path = transcript.with_extension(extension);
        self.files.replace_with(&path, MODE, |file| {
            let mut out = BufWriter::new(file);
            write(&mut out)?;
            out.flush()
        })?;
        if let Some(kind) = kind {
            self.kept(machine, kind, &path);
        }
        Ok(())
    }

    /// Copies at most `most` bytes of a file.
    fn copy(&self, from: &Path, to: &Path, most: u64) -> io::Result<()> {
        let from = File::open(from)?;
        let length = from.metadata()?.len();
        let mut from = from.take(most);
        self.files.replace_with(to, MODE, |file| io::copy(&mut from, file).map(drop))?;
        say_if_cut(to, length, most);
        Ok(())
    }

    /// Copies a transcript. Masks passwords that became known only after the guest had printed them, or that it printed
    /// with escape sequences in them. Masking does not move bytes, since answers refer to positions in the transcript.
    fn copy_masked(&self, from: &Path, to: &Path) -> io::Result<()> {
        let from = File::open(from)?;
        let length = from.metadata()?.len();
        let mut bytes = Vec::new();
        from.take(MOST).read_to_end(&mut bytes)?;
        crate::secrets::bytes::mask_in_place(&mut bytes);
        self.files.replace(to, &bytes, MODE)?;
        say_if_cut(to, length, MOST);
        Ok(())
    }

    /// Reports that a file is in the record.
    pub(crate) fn kept(&self, machine: &str, kind: FileKind, path: &Path) {
        let path = path.strip_prefix(self.record()).unwrap_or(path).to_owned();
        self.events.send(Event::FileKept { machine: machine.to_owned(), kind, path });
    }
}

/// Adds a note if only part of a file of `length` bytes is kept.
fn say_if_cut(to: &Path, length: u64, most: u64) {
    if length > most {
        let why = format!("it has {length} bytes, and the first {most} are kept");
        super::incomplete(&to.display().to_string(), &why);
    }
}

/// Creates the folder, under another name if it exists: a scenario in another file has the same name, or the suite was
/// run again.
fn claim(files: &Beneath, wanted: &Path) -> PathBuf {
    let named = |number: u32| match number {
        1 => wanted.to_owned(),
        _ => PathBuf::from(format!("{}.{number}", wanted.display())),
    };
    for number in 1..1000 {
        let path = named(number);
        match files.make_folder(&path, 0o700) {
            Ok(_) => return path,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // The later write reports the error.
            Err(_) => break,
        }
    }
    wanted.to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Mutex;

    use super::*;

    fn keeper(base: &Path, events: Events) -> Keeper {
        Keeper::new(Arc::new(Beneath::open(base).unwrap()), "login".into(), events)
    }

    #[test]
    fn a_file_elsewhere_is_copied_and_told_of_as_in_the_record() {
        let (base, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = told.clone();
        let events = Events::new(move |event| sink.lock().unwrap().push(event.clone()));
        let keeper = keeper(base.path(), events);
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
    fn a_capture_is_a_file_for_the_user_alone_and_one_that_fails_leaves_none() {
        use std::os::unix::fs::PermissionsExt as _;
        let base = tempfile::tempdir().unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = told.clone();
        let keeper = keeper(base.path(), Events::new(move |event| sink.lock().unwrap().push(event.clone())));
        keeper.capture(2, |out| out.write_all(b"packets"));
        keeper.capture(3, |out| out.write_all(b"half").and(Err(io::ErrorKind::StorageFull.into())));
        let path = base.path().join("login/vlan2.pcapng");
        assert_eq!(fs::read(&path).unwrap(), b"packets");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert!(!base.path().join("login/vlan3.pcapng").exists());
        let path = PathBuf::from("login/vlan2.pcapng");
        let kept = Event::FileKept { machine: String::new(), kind: FileKind::Packets, path };
        assert_eq!(*told.lock().unwrap(), [kept]);
    }

    #[test]
    fn a_transcript_that_is_kept_in_part_is_said_to_be() {
        let base = tempfile::tempdir().unwrap();
        let told = Arc::new(Mutex::new(String::new()));
        let sink = told.clone();
        super::super::tell(Events::new(move |event| {
            sink.lock().unwrap().push_str(&format!("{event:?}"));
        }));
        let keeper = keeper(base.path(), Events::none());
        let from = base.path().join("transcript");
        for (length, said) in [(MOST, false), (MOST + 1, true)] {
            File::create(&from).unwrap().set_len(length).unwrap();
            keeper.copy_masked(&from, Path::new("kept")).unwrap();
            assert_eq!(fs::metadata(base.path().join("kept")).unwrap().len(), MOST);
            let told = told.lock().unwrap();
            let why = format!("kept: it has {length} bytes, and the first {MOST} are kept");
            assert_eq!(told.contains(&why), said, "{told}");
        }
    }

    #[test]
    fn scenarios_of_one_name_have_folders_of_their_own() {
        let base = tempfile::tempdir().unwrap();
        let (one, other) = (keeper(base.path(), Events::none()), keeper(base.path(), Events::none()));
        assert_eq!(one.folder(), base.path().join("login"));
        assert_eq!(other.folder(), base.path().join("login.2"));
        assert_eq!(one.clone().folder(), one.folder());
    }
}
