//! The lines that a diff touches, in the unified format of `git diff` and `diff -u`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Mutant, Operator};

/// The lines that a diff adds or changes, by the names of files in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Diff(BTreeMap<PathBuf, BTreeSet<usize>>);

impl Diff {
    /// Reads a diff. What it does not understand, such as the head of an e-mail, is skipped.
    pub(crate) fn read(text: &str) -> Self {
        let mut diff = Self::default();
        let mut file: Option<PathBuf> = None;
        // The next line of the new file, and how many lines of both files are left of this part.
        let (mut line, mut old, mut new) = (0, 0, 0);
        for row in text.lines() {
            if old == 0 && new == 0 {
                if let Some(name) = row.strip_prefix("+++ ") {
                    file = name_of(name);
                } else if let Some(part) = row.strip_prefix("@@ ") {
                    (line, old, new) = part_of(part).unwrap_or_default();
                }
                continue;
            }
            match row.bytes().next() {
                Some(b'+') => {
                    if let Some(file) = &file {
                        diff.0.entry(file.clone()).or_default().insert(line);
                    }
                    (line, new) = (line + 1, new.saturating_sub(1));
                }
                Some(b'-') => old = old.saturating_sub(1),
                // "\ No newline at end of file"
                Some(b'\\') => {}
                _ => (line, old, new) = (line + 1, old.saturating_sub(1), new.saturating_sub(1)),
            }
        }
        diff
    }

    /// Returns the mutants on its lines. Names in it are relative to one of `folders`, with or without a first part
    /// (`a/`, `b/`). A mutant that contains others counts only on lines that none of them is on: who changes one line
    /// of a long definition does not ask what happens without all of it.
    pub(crate) fn touched(&self, mutants: Vec<Mutant>, folder: &Path, folders: &[PathBuf]) -> Vec<Mutant> {
        let lines_of = |file: &Path| -> BTreeSet<usize> {
            let path = folder.join(file);
            let is_it = |name: &&Path| {
                folders.iter().any(|base| base.join(name).canonicalize().is_ok_and(|its| its == path))
            };
            let named = self.0.iter().filter(|(name, _)| {
                let shorter: PathBuf = name.components().skip(1).collect();
                [name.as_path(), shorter.as_path()].iter().any(is_it)
            });
            named.flat_map(|(_, lines)| lines.iter().copied()).collect()
        };
        let files: BTreeSet<PathBuf> = mutants.iter().map(|mutant| mutant.file.clone()).collect();
        let lines: BTreeMap<PathBuf, BTreeSet<usize>> =
            files.into_iter().map(|file| (file.clone(), lines_of(&file))).collect();
        let is_touched: Vec<bool> = mutants
            .iter()
            .map(|mutant| {
                lines.get(&mutant.file).is_some_and(|lines| {
                    let mut within = lines.range(mutant.line..=mutant.end_line);
                    within.any(|line| !mutants.iter().any(|other| is_inside(other, mutant, *line)))
                })
            })
            .collect();
        mutants
            .into_iter()
            .zip(is_touched)
            .filter(|(_, is_touched)| *is_touched)
            .map(|(mutant, _)| mutant)
            .collect()
    }
}

/// Returns whether `line` belongs to `inner`, a part of `outer` that begins on a later line.
fn is_inside(inner: &Mutant, outer: &Mutant, line: usize) -> bool {
    let drops =
        matches!(inner.operator, Operator::DropDefinition | Operator::DropElement | Operator::DropImport);
    drops
        && inner.file == outer.file
        && inner.line > outer.line
        && inner.end_line <= outer.end_line
        && (inner.line..=inner.end_line).contains(&line)
}

/// Returns the name in a line that begins with `+++ `; `None` for a file that is gone.
fn name_of(text: &str) -> Option<PathBuf> {
    // A time may follow after a tab.
    let name = text.split('\t').next().unwrap_or_default().trim_end();
    let name = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(name);
    (name != "/dev/null" && !name.is_empty()).then(|| PathBuf::from(name))
}

/// Returns the first new line, and how many old and new lines follow: `-1,2 +3,4 @@ …`.
fn part_of(text: &str) -> Option<(usize, usize, usize)> {
    let mut words = text.split_whitespace();
    let (_, old) = span(words.next()?.strip_prefix('-')?)?;
    let (line, new) = span(words.next()?.strip_prefix('+')?)?;
    Some((line, old, new))
}

fn span(text: &str) -> Option<(usize, usize)> {
    match text.split_once(',') {
        Some((line, count)) => Some((line.parse().ok()?, count.parse().ok()?)),
        None => Some((text.parse().ok()?, 1)),
    }
}

#[cfg(test)]
mod tests;
