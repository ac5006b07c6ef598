//! Configurations as they were committed. A commit is checked out into the cache; the user's working tree and index are
//! neither read for it nor changed.

mod checkout;
mod committed;
mod path;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub(super) use checkout::Checkout;
pub(crate) use checkout::prune;
pub use committed::Committed;

use super::ask::{Answer, ask};
use crate::packages::{Distribution, GIT};
use crate::{Error, ErrorKind, Result, environment, nearest};

/// Time limit of a question to git. A partial clone may have to fetch an object.
const LIMIT: Duration = Duration::from_secs(60);
/// Maximum number of names that an error shows.
const SHOWN: usize = 12;

/// A repository with a working tree.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Repository {
    /// The root of the working tree. It has no links on the way.
    root: PathBuf,
    /// The folder that git itself uses: in a linked working tree the one of that tree.
    git_dir: PathBuf,
}

impl Repository {
    /// Finds the repository that `folder` is in.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when it is in none, or git refuses it; [`ErrorKind::Host`] without git.
    fn around(folder: &Path) -> Result<Self> {
        let answer = answer(git(folder, ["rev-parse", "--show-toplevel", "--absolute-git-dir"]))?;
        match answer.line().map(|paths| paths.split('\n').collect::<Vec<_>>()).as_deref() {
            Some([root, git_dir]) => Ok(Self { root: PathBuf::from(root), git_dir: PathBuf::from(git_dir) }),
            _ if answer.stderr.contains("not a git repository") => {
                let summary = format!("{} is in no git repository", folder.display());
                Err(Error::new(ErrorKind::Usage, summary)
                    .next_step("name a file instead, or make it a repository: git init"))
            }
            _ => Err(refused(&format!("find the repository of {}", folder.display()), &answer)),
        }
    }

    /// Asks git about the repository.
    fn ask(&self, arguments: &[&OsStr]) -> Result<Answer> {
        answer(git(&self.root, arguments))
    }

    /// Returns git's answer, if it has one.
    fn line(&self, arguments: &[&str]) -> Result<Option<String>> {
        let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        Ok(self.ask(&arguments)?.line().map(str::to_owned))
    }

    /// Returns the whole id of the commit that `revision` names.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when it names none.
    fn commit(&self, revision: &str) -> Result<String> {
        // In two steps: a search for a message (`:/fix`) takes everything behind it for a part of the message.
        let named = self.ask(&["rev-parse", "--verify", revision].map(OsStr::new))?;
        let Some(object) = named.line().filter(|id| is_id(id)) else {
            return Err(self.unknown(revision, &named));
        };
        let commit = self.ask(&["rev-parse", "--verify", &format!("{object}^{{commit}}")].map(OsStr::new))?;
        match commit.line().filter(|id| is_id(id)) {
            Some(commit) => Ok(commit.to_owned()),
            // git takes any whole id for one, whether there is such an object or not.
            None if self.line(&["cat-file", "-t", object])?.is_none() => Err(self.unknown(revision, &commit)),
            None => Err(Error::new(ErrorKind::Usage, format!("{revision:?} names no commit"))
                .section("git says", commit.said())),
        }
    }

    fn unknown(&self, revision: &str, answer: &Answer) -> Error {
        let summary = format!("there is no revision {revision:?} in {}", self.root.display());
        let mut error = Error::new(ErrorKind::Usage, summary).section("git says", answer.said());
        if self.line(&["rev-parse", "--is-shallow-repository"]).is_ok_and(|is| is.as_deref() == Some("true"))
        {
            return error.likely_cause("this clone is shallow: it has only the newest commits").next_step(
                "fetch the others: git fetch --unshallow (with actions/checkout: fetch-depth: 0)",
            );
        }
        let names = self.line(&["for-each-ref", "--format=%(refname:short)", "refs"]).ok().flatten();
        let names = names.unwrap_or_default();
        let word = revision.split(['~', '^', '@', ':']).next().unwrap_or_default();
        error = match nearest(word, names.lines().chain(["HEAD"])) {
            Some(near) if near != word => error.likely_cause(format!("did you mean {near}?")),
            _ => error,
        };
        error.next_step("write what `git rev-parse` accepts: a branch, a tag, a commit, HEAD~1")
    }
}

/// Returns whether it is the whole id of an object.
fn is_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns a command of git in `folder`. It runs no hook and no monitor, asks for no password, and changes no index.
fn git<A: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(GIT.name);
    // A hook of git's sets variables that name another repository or another index. The user's configuration in
    // variables stays.
    let own = |name: &str| name.starts_with("GIT_") && !name.starts_with("GIT_CONFIG");
    for (name, _) in environment::all() {
        if name.to_str().is_some_and(own) {
            command.env_remove(name);
        }
    }
    let settings = [
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_LITERAL_PATHSPECS", "1"),
        ("GCM_INTERACTIVE", "never"),
        ("SSH_ASKPASS", ""),
        ("LC_ALL", "C"),
    ];
    command.envs(settings).arg("-C").arg(folder).arg("--no-pager");
    for setting in [
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        "core.askPass=",
        "core.sparseCheckout=false",
        "core.splitIndex=false",
        "core.symlinks=true",
        "i18n.logOutputEncoding=UTF-8",
        "log.showSignature=false",
    ] {
        command.args(["-c", setting]);
    }
    command.args(arguments);
    command
}

fn answer(command: Command) -> Result<Answer> {
    ask(command, LIMIT).map_err(|source| not_run(&source))
}

/// Returns the error for a git that could not be run.
fn not_run(source: &std::io::Error) -> Error {
    if source.kind() == std::io::ErrorKind::NotFound {
        let root = rustix::process::geteuid().is_root();
        return Error::new(ErrorKind::Host, "this host lacks git")
            .next_step(Distribution::of_this_host().install(&[GIT], root));
    }
    if source.kind() == std::io::ErrorKind::TimedOut {
        return Error::new(ErrorKind::Timeout, "git did not answer").took(LIMIT, LIMIT);
    }
    Error::io("run git", source)
}

/// Returns the error for what git refused.
fn refused(doing: &str, answer: &Answer) -> Error {
    Error::new(ErrorKind::Usage, format!("git could not {doing}: it ended with {}", answer.status))
        .section("git says", answer.said())
}

/// Lists names for an error.
fn listed(names: &[String]) -> String {
    let mut list = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
    if names.len() > SHOWN {
        list.push_str(&format!("\n… and {} more", names.len() - SHOWN));
    }
    list
}
