//! What of two systems takes effect at the next boot: kernel, initrd, kernel parameters, systemd.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::tree::{Node, Tree};
use crate::{Result, text};

/// The links of a system that the boot uses, and what they are called.
const LINKS: [(&str, &str); 4] = [
    ("kernel", "kernel"),
    ("kernel-modules", "kernel modules"),
    ("initrd", "initrd"),
    ("systemd", "systemd"),
];

/// A part of the boot that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct BootChange {
    /// What it is, as in `initrd` or `kernel parameters`.
    pub(super) what: String,
    /// The store path, or the parameters that only the old system has.
    pub(super) before: String,
    pub(super) after: String,
}

impl fmt::Display for BootChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        for (sign, value) in [('-', &self.before), ('+', &self.after)] {
            if !value.is_empty() {
                write!(f, "\n  {sign} {}", text::line(value))?;
            }
        }
        Ok(())
    }
}

/// Compares what the next boot uses.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when a file can't be read.
pub(super) fn compare(old: &Tree, new: &Tree) -> Result<Vec<BootChange>> {
    let mut changes = Vec::new();
    for (link, what) in LINKS {
        let (before, after) = (place(old, link)?, place(new, link)?);
        if before != after {
            changes.push(BootChange { what: what.to_owned(), before, after });
        }
    }
    let parameters = |tree: &Tree| -> Result<Vec<String>> {
        let text = tree.text(Path::new("kernel-params"))?.unwrap_or_default();
        Ok(text.split_whitespace().map(str::to_owned).collect())
    };
    let (before, after) = (parameters(old)?, parameters(new)?);
    if before != after {
        let own = |these: &[String], others: &[String]| {
            let own: Vec<&str> = these.iter().filter(|it| !others.contains(it)).map(String::as_str).collect();
            own.join(" ")
        };
        let what = "kernel parameters".to_owned();
        let (mut old, mut new) = (own(&before, &after), own(&after, &before));
        if old.is_empty() && new.is_empty() {
            // The order, or a repetition.
            (old, new) = (before.join(" "), after.join(" "));
        }
        changes.push(BootChange { what, before: old, after: new });
    }
    Ok(changes)
}

fn place(tree: &Tree, link: &str) -> Result<String> {
    Ok(match tree.node(Path::new(link))? {
        Some(Node::File(path) | Node::Folder(path) | Node::Outside(path)) => path.display().to_string(),
        None => String::new(),
    })
}
