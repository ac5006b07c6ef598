//! A configuration as it was committed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::{Repository, refused};
use crate::nix::source::Source;
use crate::{Error, ErrorKind, Result, cache, digest, text};

/// The name of a configuration that is searched for.
const NAME: &str = "configuration.nix";
/// How much of a commit's subject is shown, in characters.
const SUBJECT: usize = 72;

/// A configuration as it was committed: `git:HEAD:hosts/web.nix`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Committed {
    /// As the user wrote it.
    written: String,
    pub(super) repository: Repository,
    /// The whole id of the commit.
    pub(super) commit: String,
    /// The id of its tree.
    tree: String,
    /// From the root of the repository.
    pub(super) path: PathBuf,
    /// The commit in words: its short id, its date and its subject.
    title: String,
}

impl Committed {
    /// Finds the commit of a text `REV[:PATH]`. `folder` is that of the scenario, `usual` the source that it would
    /// have without the text, and `written` the whole text for messages.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when there is no such commit, or the place of the file in it is not known.
    pub(crate) fn find(
        written: &str,
        text: &str,
        folder: &Path,
        usual: impl FnOnce() -> Result<Source>,
    ) -> Result<Self> {
        let (revision, path) = split(text);
        // Without a revision the path would be one of the index, as in git's own `:PATH`.
        if revision.starts_with('-') || revision.chars().any(char::is_control) || revision.is_empty() {
            return Err(Error::new(ErrorKind::Usage, format!("{written:?} names no commit"))
                .next_step("write a branch, a tag or a commit: git:HEAD~1, git:main:hosts/web.nix"));
        }
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let repository = Repository::around(folder)?;
        let commit = repository.commit(revision)?;
        let path = match path {
            Some(path) => repository.inside(path, folder)?,
            None => repository.usual_place(&commit, folder, written, usual)?,
        };
        let (tree, title) = repository.describe(&commit)?;
        Ok(Self { written: written.to_owned(), repository, commit, tree, path, title })
    }

    /// Returns the text that the user wrote.
    pub(crate) fn written(&self) -> &str {
        &self.written
    }

    /// Returns the file in the working tree that has its place. It may not exist there.
    pub(crate) fn in_the_working_tree(&self) -> PathBuf {
        self.repository.root.join(&self.path)
    }

    /// Returns the file that changes whenever HEAD names another commit.
    pub(crate) fn log_of_head(&self) -> PathBuf {
        self.repository.git_dir.join("logs/HEAD")
    }

    /// Returns the folder of the checkout, which may not exist. The repository's own folder has its name below it, since
    /// a configuration that copies itself (`${./.}`) has that name in its store path.
    ///
    /// # Errors
    /// Those of [`cache::dir`].
    pub(crate) fn place(&self) -> Result<PathBuf> {
        // Filters of a repository change what is checked out of the same commit.
        let root = self.repository.root.as_os_str().as_bytes();
        let id = digest::of_parts([root, self.commit.as_bytes(), self.tree.as_bytes()]);
        Ok(cache::dir()?.join(super::checkout::FOLDER).join(id))
    }

    /// Returns the name of the checkout in its folder.
    pub(super) fn root_name(&self) -> &OsStr {
        self.repository.root.file_name().unwrap_or(OsStr::new("root"))
    }

    /// Returns where its file is in the checkout.
    ///
    /// # Errors
    /// Those of [`cache::dir`].
    pub(crate) fn file(&self) -> Result<PathBuf> {
        let root = self.place()?.join(self.root_name());
        // `join` of an empty path would add a slash.
        Ok(if self.path.as_os_str().is_empty() { root } else { root.join(&self.path) })
    }

    /// Says which commit it is, and which changes of the working tree are not in it.
    pub(super) fn says(&self) -> String {
        let mut said = format!("{} is {}", text::line(&self.written), self.title);
        let changed = self.repository.uncommitted(&self.commit);
        let own = changed.iter().any(|path| path == &self.path || path.starts_with(&self.path));
        let others = changed.len() - usize::from(own);
        let files = if others == 1 { "1 other file".to_owned() } else { format!("{others} other files") };
        let path = text::line(&self.path.display().to_string());
        match (own, others) {
            (false, 0) => {}
            (true, 0) => said.push_str(&format!("; the uncommitted change of {path} is not in it")),
            (true, _) => {
                said.push_str(&format!("; the uncommitted changes of {path} and {files} are not in it"));
            }
            (false, _) => said
                .push_str(&format!("; uncommitted changes of {} are not in it", files.replace(" other", ""))),
        }
        said
    }
}

impl Repository {
    /// Returns the place of the configuration that would be used without a commit.
    fn usual_place(
        &self,
        commit: &str,
        folder: &Path,
        written: &str,
        usual: impl FnOnce() -> Result<Source>,
    ) -> Result<PathBuf> {
        match usual() {
            Ok(Source::Configuration(file)) => self.place_of(&file),
            Ok(Source::Committed(other)) if other.repository == *self => Ok(other.path),
            Ok(other) => Err(Error::new(
                ErrorKind::Usage,
                format!("{written} names no file, and what is used without it is no file either: {other}"),
            )
            .next_step("name the file: git:REV:PATH; a flake of a commit is flake:.?ref=BRANCH#HOST or flake:.?rev=COMMIT#HOST")),
            // It may have been there when that commit was made.
            Err(error) => {
                let here = self.place_of(folder)?;
                for folder in here.ancestors() {
                    let path = folder.join(NAME);
                    if self.entry(commit, &path)?.is_some() {
                        return Ok(path);
                    }
                }
                Err(error)
            }
        }
    }

    /// Returns the tree of a commit, and the commit in words.
    fn describe(&self, commit: &str) -> Result<(String, String)> {
        let answer = self.ask(
            &["log", "-1", "--date=short", "--format=%T%x00%h%x00%cd%x00%s", commit, "--"].map(OsStr::new),
        )?;
        let said = String::from_utf8_lossy(&answer.stdout).into_owned();
        let mut fields = said.trim_end_matches('\n').splitn(4, '\0');
        match (fields.next(), fields.next(), fields.next(), fields.next()) {
            (Some(tree), Some(short), Some(date), Some(subject)) if answer.status.success() => {
                let mut shown: String = text::line(subject).chars().take(SUBJECT).collect();
                if subject.chars().count() > SUBJECT {
                    shown.push('…');
                }
                Ok((tree.to_owned(), text::line(&format!("{short} of {date} ({shown})"))))
            }
            _ => Err(refused(&format!("describe the commit {commit}"), &answer)),
        }
    }

    /// Returns the files whose changes are not committed, if `commit` is the present HEAD. This is for a message, so an
    /// error means that none is known.
    fn uncommitted(&self, commit: &str) -> Vec<PathBuf> {
        let is_head =
            self.line(&["rev-parse", "--verify", "HEAD"]).is_ok_and(|head| head.as_deref() == Some(commit));
        if !is_head {
            return Vec::new();
        }
        let arguments = [
            "diff",
            "--name-only",
            "-z",
            "--no-ext-diff",
            "--no-textconv",
            "--ignore-submodules=all",
            "HEAD",
            "--",
        ];
        let Ok(answer) = self.ask(&arguments.map(OsStr::new)) else { return Vec::new() };
        let names = answer.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        names.map(|name| PathBuf::from(OsStr::from_bytes(name))).collect()
    }
}

/// Splits `REV:PATH` as git does: at the first colon that is not in braces. A search for a message (`:/fix`) has no path.
fn split(text: &str) -> (&str, Option<&str>) {
    if text.starts_with(":/") {
        return (text, None);
    }
    let mut depth = 0_usize;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ':' if depth == 0 => return (text.get(..at).unwrap_or_default(), text.get(at + 1..)),
            _ => {}
        }
    }
    (text, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_told_from_its_path_as_git_tells_them() {
        for (text, revision, path) in [
            ("HEAD", "HEAD", None),
            ("HEAD~1:web.nix", "HEAD~1", Some("web.nix")),
            ("main:./a:b.nix", "main", Some("./a:b.nix")),
            ("HEAD:", "HEAD", Some("")),
            ("HEAD@{2026-01-01 10:00:00}:x", "HEAD@{2026-01-01 10:00:00}", Some("x")),
            ("HEAD^{/fix: it}", "HEAD^{/fix: it}", None),
            (":/fix: it", ":/fix: it", None),
            (":web.nix", "", Some("web.nix")),
        ] {
            assert_eq!(split(text), (revision, path), "{text}");
        }
    }
}
