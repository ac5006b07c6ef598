//! The files of a built system. Links are followed within the Nix store only: anything else they lead to is this
//! host's, and not the system's.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::presence::is_absent;
use crate::{Error, ErrorKind, Result};

/// Maximum size of a file that is read.
const FILE: u64 = 1 << 20;
/// Maximum number of files of one system.
const FILES: usize = 50_000;
/// Maximum depth of folders.
const DEPTH: usize = 32;

/// The files of one system.
#[derive(Debug)]
pub(super) struct Tree {
    /// Without links on the way.
    root: PathBuf,
    /// The folder that all store paths are in.
    store: PathBuf,
}

/// What is at a path of a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// A file in the store, by its path without links.
    File(PathBuf),
    Folder(PathBuf),
    /// A link that leads out of the store, or nowhere: its target as it is written.
    Outside(PathBuf),
}

/// The content of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Text(String),
    /// Not text, or too large to be shown.
    Opaque,
}

impl Tree {
    /// Opens the system at `root`, a path in a store.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it can't be found.
    pub(super) fn open(root: &Path) -> Result<Self> {
        let real = root.canonicalize().map_err(|source| failed("find", root, &source))?;
        let store = real.parent().unwrap_or(&real).to_owned();
        Ok(Self { root: real, store })
    }

    /// Returns what is at `path`, a path in the system; `None` if there is nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it can't be looked at.
    pub(super) fn node(&self, path: &Path) -> Result<Option<Node>> {
        self.look(&self.root.join(path))
    }

    fn look(&self, path: &Path) -> Result<Option<Node>> {
        let found = match path.symlink_metadata() {
            Ok(found) => found,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(failed("look at", path, &error)),
        };
        let real = match path.canonicalize() {
            Ok(real) if real.starts_with(&self.store) => real,
            // A loop of links leads nowhere, too.
            _ if found.is_symlink() => return Ok(Some(Node::Outside(self.target(path)?))),
            Ok(real) => return Ok(Some(Node::Outside(real))),
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(failed("look at", path, &error)),
        };
        let kind = real.metadata().map_err(|error| failed("look at", &real, &error))?;
        match () {
            () if kind.is_file() => Ok(Some(Node::File(real))),
            () if kind.is_dir() => Ok(Some(Node::Folder(real))),
            // A device, a FIFO, a socket: Nix makes none.
            () => Ok(Some(Node::Outside(real))),
        }
    }

    /// Returns where a link leads to, as far as that is in the store.
    fn target(&self, path: &Path) -> Result<PathBuf> {
        let mut path = path.to_owned();
        for _ in 0..DEPTH {
            let target = fs::read_link(&path).map_err(|error| failed("read the link", &path, &error))?;
            let next = path.parent().unwrap_or(&self.root).join(&target);
            let goes_on = next.symlink_metadata().is_ok_and(|found| found.is_symlink());
            if !goes_on || !next.starts_with(&self.store) {
                return Ok(target);
            }
            path = next;
        }
        Ok(path)
    }

    /// Returns all files and links below a folder of the system, by their paths below it. `skip` names folders that are
    /// left out.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when a folder can't be read, [`ErrorKind::Other`] for more files than a system has.
    pub(super) fn below(&self, folder: &Path, skip: &[&str]) -> Result<BTreeMap<PathBuf, Node>> {
        let mut found = BTreeMap::new();
        let mut folders = match self.node(folder)? {
            Some(Node::Folder(real)) => vec![(PathBuf::new(), real, 0)],
            _ => Vec::new(),
        };
        while let Some((path, real, depth)) = folders.pop() {
            for name in names(&real)? {
                let below = path.join(&name);
                if skip.iter().any(|skipped| below == Path::new(skipped)) {
                    continue;
                }
                match self.look(&real.join(&name))? {
                    Some(Node::Folder(real)) if depth < DEPTH => folders.push((below, real, depth + 1)),
                    Some(node) => drop(found.insert(below, node)),
                    None => {}
                }
                if found.len() + folders.len() > FILES {
                    let summary = format!("{} has more than {FILES} files", self.root.join(folder).display());
                    return Err(Error::new(ErrorKind::Other, summary));
                }
            }
        }
        Ok(found)
    }

    /// Returns the names in a folder of the system, sorted; none if it is no folder.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it can't be read.
    pub(super) fn names(&self, folder: &Path) -> Result<Vec<String>> {
        match self.node(folder)? {
            Some(Node::Folder(real)) => {
                Ok(names(&real)?.into_iter().map(|name| name.to_string_lossy().into_owned()).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Returns the text of a file of the system; `None` if it has no such file, or it is no text.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it can't be read.
    pub(super) fn text(&self, path: &Path) -> Result<Option<String>> {
        self.text_of(self.node(path)?)
    }

    /// Returns the text of a file by its own path in the store; `None` if there is no such file, or it is no text.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it can't be read.
    pub(super) fn text_in_store(&self, path: &Path) -> Result<Option<String>> {
        if !path.starts_with(&self.store) {
            return Ok(None);
        }
        self.text_of(self.look(path)?)
    }

    fn text_of(&self, node: Option<Node>) -> Result<Option<String>> {
        match node {
            Some(Node::File(real)) => match content(&real)? {
                Content::Text(text) => Ok(Some(text)),
                Content::Opaque => Ok(None),
            },
            _ => Ok(None),
        }
    }
}

/// Reads a file of the store.
///
/// # Errors
/// [`ErrorKind::Io`] when it can't be read.
pub(super) fn content(real: &Path) -> Result<Content> {
    let mut bytes = Vec::new();
    let read = fs::File::open(real).and_then(|file| file.take(FILE + 1).read_to_end(&mut bytes));
    read.map_err(|error| failed("read", real, &error))?;
    if bytes.len() as u64 > FILE || bytes.contains(&0) {
        return Ok(Content::Opaque);
    }
    Ok(String::from_utf8(bytes).map_or(Content::Opaque, Content::Text))
}

/// Whether two files of the store have the same content.
///
/// # Errors
/// [`ErrorKind::Io`] when one can't be read.
pub(super) fn are_equal(one: &Path, other: &Path) -> Result<bool> {
    if one == other {
        return Ok(true);
    }
    let open = |path: &Path| {
        let file = fs::File::open(path).map_err(|error| failed("read", path, &error))?;
        let size = file.metadata().map_err(|error| failed("read", path, &error))?.len();
        Ok::<_, Error>((io::BufReader::with_capacity(64 << 10, file), size))
    };
    let ((one_file, one_size), (other_file, other_size)) = (open(one)?, open(other)?);
    if one_size != other_size {
        return Ok(false);
    }
    let mut others = other_file.bytes();
    for byte in one_file.bytes() {
        let byte = byte.map_err(|error| failed("read", one, &error))?;
        match others.next() {
            Some(Ok(same)) if same == byte => {}
            Some(Err(error)) => return Err(failed("read", other, &error)),
            _ => return Ok(false),
        }
    }
    Ok(true)
}

fn names(real: &Path) -> Result<Vec<std::ffi::OsString>> {
    let entries = fs::read_dir(real).map_err(|error| failed("read the folder", real, &error))?;
    let names = entries.map(|entry| Ok(entry?.file_name()));
    let mut names = names.collect::<io::Result<Vec<_>>>().map_err(|error| failed("read", real, &error))?;
    names.sort();
    Ok(names)
}

fn failed(doing: &str, path: &Path, source: &io::Error) -> Error {
    Error::io(format_args!("{doing} {}", path.display()), source)
}
