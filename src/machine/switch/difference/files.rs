//! The files in /etc of two systems, apart from units of the system.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use similar::{ChangeTag, TextDiff};

use super::tree::{Content, Node, Tree, are_equal, content};
use crate::{Result, text};

/// Maximum number of lines of one file that are told.
const LINES: usize = 40;
/// How much of a line is shown, in characters.
const LINE: usize = 300;
/// The longest text whose lines are compared, in bytes.
const TEXT: usize = 256 << 10;

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct FileChange {
    /// Its path in the system, as in `etc/ssh/sshd_config`.
    pub(super) path: String,
    pub(super) kind: Kind,
    /// Lines that differ, each with `- ` or `+ ` before it. Empty for a file that is not text.
    pub(super) lines: Vec<String>,
    /// How many further lines differ.
    pub(super) more: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Added,
    Removed,
    Changed,
}

impl fmt::Display for FileChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = text::line(&self.path);
        match self.kind {
            Kind::Added => write!(f, "+ /{path}")?,
            Kind::Removed => write!(f, "- /{path}")?,
            Kind::Changed => write!(f, "/{path}")?,
        }
        for line in &self.lines {
            write!(f, "\n  {}", text::line(line))?;
        }
        match self.more {
            0 => Ok(()),
            1 => write!(f, "\n  … and 1 more line"),
            more => write!(f, "\n  … and {more} more lines"),
        }
    }
}

/// Compares the files below a folder of two systems.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when one can't be read.
pub(super) fn compare(old: &Tree, new: &Tree, folder: &str, skip: &[&str]) -> Result<Vec<FileChange>> {
    let (before, after) = (old.below(Path::new(folder), skip)?, new.below(Path::new(folder), skip)?);
    let paths: BTreeSet<&PathBuf> = before.keys().chain(after.keys()).collect();
    let mut changes = Vec::new();
    for path in paths {
        let (lines, kind) = match (before.get(path), after.get(path)) {
            (Some(before), Some(after)) if is_same(before, after)? => continue,
            (Some(before), Some(after)) => (lines(before, after)?, Kind::Changed),
            (None, _) => (Vec::new(), Kind::Added),
            (_, None) => (Vec::new(), Kind::Removed),
        };
        let more = lines.len().saturating_sub(LINES);
        let lines = lines.into_iter().take(LINES).collect();
        changes.push(FileChange { path: format!("{folder}/{}", path.display()), kind, lines, more });
    }
    Ok(changes)
}

fn is_same(before: &Node, after: &Node) -> Result<bool> {
    match (before, after) {
        (Node::File(before), Node::File(after)) => are_equal(before, after),
        _ => Ok(before == after),
    }
}

/// Returns the lines that differ. A link that leads out of the system has its target as its one line.
fn lines(before: &Node, after: &Node) -> Result<Vec<String>> {
    let (Some(before), Some(after)) = (text_of(before)?, text_of(after)?) else { return Ok(Vec::new()) };
    let diff = TextDiff::from_lines(&before, &after);
    let changed = diff.iter_all_changes().filter_map(|change| {
        let sign = match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => return None,
        };
        let line: String = change.value().trim_end_matches(['\n', '\r']).chars().take(LINE).collect();
        Some(format!("{sign} {line}"))
    });
    Ok(changed.collect())
}

fn text_of(node: &Node) -> Result<Option<String>> {
    match node {
        Node::Outside(target) => Ok(Some(format!("-> {}\n", target.display()))),
        Node::Folder(_) => Ok(None),
        Node::File(path) => Ok(match content(path)? {
            Content::Text(text) if text.len() <= TEXT => Some(text),
            _ => None,
        }),
    }
}
