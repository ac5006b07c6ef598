//! The path of a file within a commit.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use super::{Repository, listed, refused};
use crate::{Error, ErrorKind, Result, nearest};

/// An entry of a commit's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// From the root of the repository.
    pub(super) path: PathBuf,
    /// The size of a file.
    pub(super) size: Option<u64>,
}

/// The kind of an entry, by its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Link,
    Folder,
    Submodule,
}

/// Takes the output of `git ls-tree -z --long` apart. What is not understood is left out.
pub(super) fn entries(output: &[u8]) -> Vec<Entry> {
    let entry = |record: &[u8]| {
        let tab = record.iter().position(|byte| *byte == b'\t')?;
        let (fields, path) = (record.get(..tab)?, record.get(tab + 1..)?);
        let mut fields = std::str::from_utf8(fields).ok()?.split_ascii_whitespace();
        let kind = match fields.next()? {
            "120000" => Kind::Link,
            "160000" => Kind::Submodule,
            "040000" => Kind::Folder,
            _ => Kind::File,
        };
        let size = fields.nth(2).and_then(|size| size.parse().ok());
        Some(Entry { kind, path: PathBuf::from(OsString::from_vec(path.to_vec())), size })
    };
    output.split(|byte| *byte == 0).filter_map(entry).collect()
}

impl Repository {
    /// Returns a path from the root of the repository. `written` starts there, or at `folder` if it begins with `./` or
    /// `../`, as in git's own `REV:PATH`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when it leads out of the repository.
    pub(super) fn inside(&self, written: &str, folder: &Path) -> Result<PathBuf> {
        let path = Path::new(written);
        let relative = matches!(path.components().next(), Some(Component::CurDir | Component::ParentDir));
        let mut inside = if relative { self.place_of(folder)? } else { PathBuf::new() };
        for component in path.components() {
            let is_within = match component {
                Component::CurDir => true,
                Component::ParentDir => inside.pop(),
                Component::Normal(name) => {
                    inside.push(name);
                    true
                }
                Component::RootDir | Component::Prefix(_) => false,
            };
            if !is_within {
                let summary = format!("the path {written:?} leads out of {}", self.root.display());
                return Err(Error::new(ErrorKind::Usage, summary).next_step(
                    "write a path from the root of the repository, or one that begins with ./ from the scenario's folder",
                ));
            }
        }
        Ok(inside)
    }

    /// Returns where a file or folder of the working tree is, from the root of the repository. The file itself may be a
    /// link.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when it is elsewhere; [`ErrorKind::Io`] when its folder can't be read.
    pub(super) fn place_of(&self, path: &Path) -> Result<PathBuf> {
        let real = |path: &Path| {
            path.canonicalize().map_err(|source| Error::io(format_args!("find {}", path.display()), &source))
        };
        let found = match (path.parent(), path.file_name()) {
            (Some(folder), Some(name)) if !path.is_dir() => {
                let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
                real(folder)?.join(name)
            }
            _ => real(path)?,
        };
        found.strip_prefix(real(&self.root)?).map(Path::to_owned).map_err(|_| {
            let (path, root) = (path.display(), self.root.display());
            Error::new(ErrorKind::Usage, format!("{path} is not in the repository {root}"))
                .next_step("name the file in the commit: git:REV:PATH")
        })
    }

    /// Returns the entry at `path` in `commit`, if there is one.
    pub(super) fn entry(&self, commit: &str, path: &Path) -> Result<Option<Entry>> {
        if path.as_os_str().is_empty() {
            return Ok(Some(Entry { kind: Kind::Folder, path: PathBuf::new(), size: None }));
        }
        let found = self.tree(commit, path.as_os_str())?;
        Ok(found.into_iter().find(|entry| entry.path == path))
    }

    /// Returns the names in a folder of `commit`.
    fn names(&self, commit: &str, folder: &Path) -> Result<Vec<String>> {
        let mut within = folder.as_os_str().to_owned();
        if !within.is_empty() {
            within.push("/");
        }
        let name = |entry: Entry| Some(entry.path.file_name()?.to_string_lossy().into_owned());
        Ok(self.tree(commit, &within)?.into_iter().filter_map(name).collect())
    }

    fn tree(&self, commit: &str, path: &OsStr) -> Result<Vec<Entry>> {
        let mut arguments = ["ls-tree", "-z", "--long", "--full-tree", "--", commit].map(OsStr::new).to_vec();
        arguments.extend(Some(path).filter(|path| !path.as_bytes().is_empty()));
        let answer = self.ask(&arguments)?;
        match answer.status.success() {
            true => Ok(entries(&answer.stdout)),
            false => Err(refused(&format!("list the commit {commit}"), &answer)),
        }
    }

    /// Checks that there is something at `path` in `commit`; `written` is the source for messages.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with what is there instead.
    pub(super) fn check(&self, commit: &str, path: &Path, written: &str) -> Result {
        if let Some(found) = self.entry(commit, path)? {
            return if found.kind == Kind::Submodule { Err(within_submodule(path, path)) } else { Ok(()) };
        }
        let mut missing = path;
        for folder in path.ancestors().skip(1) {
            match self.entry(commit, folder)?.map(|entry| entry.kind) {
                // Where the link leads is seen in the checkout.
                Some(Kind::Link) => return Ok(()),
                Some(Kind::Submodule) => return Err(within_submodule(path, folder)),
                Some(kind) => {
                    let names = if kind == Kind::Folder { self.names(commit, folder)? } else { Vec::new() };
                    return Err(self.absent(path, missing, folder, &names, written));
                }
                None => missing = folder,
            }
        }
        Ok(())
    }

    fn absent(&self, path: &Path, missing: &Path, folder: &Path, names: &[String], written: &str) -> Error {
        let title = match folder.as_os_str().is_empty() {
            true => "in its root are".to_owned(),
            false => format!("in its {} are", folder.display()),
        };
        let error = Error::new(ErrorKind::Usage, format!("{written}: the commit has no {}", path.display()))
            .section(title, listed(names));
        let word = missing.file_name().unwrap_or_default().to_string_lossy();
        let near = nearest(&word, names.iter().map(String::as_str));
        match near {
            _ if self.root.join(path).exists() => error
                .likely_cause("the file is in the working tree and was not in that commit")
                .next_step("commit it, or name another revision"),
            Some(near) => error.next_step(format!("did you mean {}?", folder.join(near).display())),
            None => error.next_step("name the file as it was called then: git:REV:PATH"),
        }
    }
}

fn within_submodule(path: &Path, submodule: &Path) -> Error {
    let (path, submodule) = (path.display(), submodule.display());
    Error::new(ErrorKind::Usage, format!("{path} is in the submodule {submodule}, which is not checked out"))
        .next_step("name a commit of the submodule's own repository, from a scenario in it")
}
