//! Finds the user's own files that a configuration consists of, and what its evaluation needs beside them.
//!
//! The paths in the texts are followed, as Nix resolves them. A path that only an evaluation knows (`./. + "/x"`,
//! `./${name}.nix`) stands for the folder that it begins with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::Mutant;
use super::syntax::{self, RelativePath};
use crate::lexical_path::plain;
use crate::presence::is_absent;
use crate::{Error, ErrorKind, Result, secrets};

/// The number of files that are read for one configuration.
const FILES: usize = 1000;

/// The size of a file that is read, in bytes. A larger one is not changed, but copied.
const LARGEST: u64 = syntax::LARGEST as u64;

/// The number of links that are followed from one path, as Nix has it.
const LINKS: usize = 32;

/// The user's own files of a configuration: the file itself, and what it imports by relative paths in the same repository.
#[derive(Debug)]
pub(crate) struct OwnFiles {
    /// The root of the repository that contains the configuration, or else the folder of the configuration.
    pub(crate) folder: PathBuf,
    /// The configuration.
    pub(crate) configuration: PathBuf,
    /// The text of each file that may be changed, by its path relative to the folder.
    texts: BTreeMap<PathBuf, String>,
    /// All mutants, in the order of files and lines.
    pub(crate) mutants: Vec<Mutant>,
    /// The absolute paths that the files name. A folder stands for everything in it.
    pub(crate) needed: BTreeSet<PathBuf>,
    /// The files that are not changed, with the reason.
    pub(crate) left_out: Vec<String>,
}

/// What remains to be done for a path.
struct Reading {
    own: OwnFiles,
    to_read: Vec<PathBuf>,
    seen: BTreeSet<PathBuf>,
}

impl OwnFiles {
    /// Reads the configuration at `path`, and everything that it imports.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when it is not there, is not a file or can't be changed; [`ErrorKind::Build`] when it has a
    /// syntax error; [`ErrorKind::Io`] when it can't be read.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        // Nix follows links before it resolves the paths in a file.
        let configuration = path.canonicalize().map_err(|source| match is_absent(&source) {
            true => Error::new(ErrorKind::Usage, format!("there is no configuration {}", path.display()))
                .next_step("name one: `nixvm-test mutants FILE.nix`"),
            false => Error::io(format_args!("find {}", path.display()), &source),
        })?;
        if !configuration.is_file() {
            return Err(Error::new(ErrorKind::Usage, format!("{} is not a file", path.display()))
                .next_step("name the configuration file itself: `nixvm-test mutants FILE.nix`"));
        }
        let folder = configuration.parent().unwrap_or(Path::new("/"));
        let repository = folder.ancestors().find(|folder| folder.join(".git").exists());
        let folder = repository.unwrap_or(folder).to_owned();
        let own = Self {
            folder,
            configuration: configuration.clone(),
            texts: BTreeMap::new(),
            mutants: Vec::new(),
            needed: BTreeSet::from([configuration.clone()]),
            left_out: Vec::new(),
        };
        let mut reading = Reading { own, to_read: vec![configuration.clone()], seen: BTreeSet::new() };
        while let Some(path) = reading.to_read.pop() {
            if !reading.seen.insert(path.clone()) {
                continue;
            }
            if reading.seen.len() > FILES {
                reading.own.left_out.push(format!("more than {FILES} files: the rest is not changed"));
                break;
            }
            match reading.read(&path) {
                // Nothing is known of the files that it imports.
                Err(unread) if path == configuration => return Err(unread.of_configuration(&path)),
                // Nix says so, too, if it needs the file.
                Err(unread) => reading.own.leave_out(&path, &unread.to_string()),
                Ok(()) => {}
            }
        }
        reading.own.mutants.sort_by(|one, other| {
            (&one.file, one.line, one.column).cmp(&(&other.file, other.line, other.column))
        });
        Ok(reading.own)
    }

    /// Returns the text of the file that a mutant is of.
    pub(crate) fn text(&self, mutant: &Mutant) -> &str {
        self.texts.get(&mutant.file).map(String::as_str).unwrap_or_default()
    }

    /// Returns the files that may be changed, relative to the folder.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.texts.keys().map(PathBuf::as_path)
    }

    fn leave_out(&mut self, path: &Path, why: &str) {
        let path = path.strip_prefix(&self.folder).unwrap_or(path);
        self.left_out.push(format!("{} is not changed: {why}", path.display()));
    }
}

impl Reading {
    /// Reads a file, and notes which paths it names.
    fn read(&mut self, path: &Path) -> Result<(), Unread> {
        let size = path.metadata().map_err(Unread::Io)?.len();
        if size > LARGEST {
            return Err(Unread::Unfit(format!("it has {size} bytes, and at most {LARGEST} are read")));
        }
        let text = String::from_utf8(std::fs::read(path).map_err(Unread::Io)?).map_err(|error| {
            let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            let line = memchr::memchr_iter(b'\n', before).count() + 1;
            Unread::Unfit(format!("line {line} is not UTF-8"))
        })?;
        let found = syntax::read(&text).map_err(Unread::Syntax)?;
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        for named in &found.paths {
            self.follow(named, &folder);
        }
        // Before anything is said of the file.
        found.secrets.iter().for_each(|secret| secrets::know(secret));
        // A link may lead anywhere, so only what lies in the folder without one is the user's own.
        let is_own = path.canonicalize().is_ok_and(|real| real == path);
        if let Some(name) = path.strip_prefix(&self.own.folder).ok().filter(|_| is_own) {
            self.own.mutants.extend(Mutant::all_of(name, &text, found.changes));
            self.own.texts.insert(name.to_owned(), text);
        } else if path.starts_with(&self.own.folder) {
            self.own.leave_out(path, "a link leads to it");
        } else {
            let folder = self.own.folder.display().to_string();
            self.own.leave_out(path, &format!("it is not in {folder}"));
        }
        Ok(())
    }

    /// Notes a path in a file of `folder`.
    fn follow(&mut self, named: &RelativePath, folder: &Path) {
        let written = match named.goes_on {
            true => named.text.rsplit_once('/').map_or(".", |(folder, _)| folder),
            false => &named.text,
        };
        let mut path = plain(&folder.join(written));
        for _ in 0..LINKS {
            let Ok(target) = path.read_link() else { break };
            self.own.needed.insert(path.clone());
            path = plain(&path.parent().unwrap_or(Path::new("/")).join(target));
        }
        if path.symlink_metadata().is_ok() {
            self.own.needed.insert(path.clone());
        } else {
            self.own.needed.extend(beginning_with(&path));
        }
        let file = if path.is_dir() { path.join("default.nix") } else { path };
        if file.extension().is_some_and(|extension| extension == "nix") && file.is_file() {
            self.to_read.push(file);
        }
    }
}

/// Why nothing is known of the text of a file.
enum Unread {
    Io(io::Error),
    /// It is too large, or no text.
    Unfit(String),
    Syntax(String),
}

impl Unread {
    /// Returns the error for the configuration itself.
    fn of_configuration(&self, path: &Path) -> Error {
        let path = path.display();
        match self {
            Self::Io(source) => Error::io(format_args!("read {path}"), source),
            Self::Unfit(why) => Error::new(ErrorKind::Usage, format!("{path} can't be changed: {why}")),
            Self::Syntax(why) => Error::new(ErrorKind::Build, format!("{path} is not understood: {why}")),
        }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(source) => source.fmt(f),
            Self::Unfit(why) => f.write_str(why),
            Self::Syntax(why) => write!(f, "it is not understood ({why})"),
        }
    }
}

/// Returns the paths that begin with `path`, which is not there: more may be appended to it (`./host + ".nix"`).
fn beginning_with(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let begins =
        |entry: &std::fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(name.as_encoded_bytes());
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(begins).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests;
