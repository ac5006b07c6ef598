//! Mutants of a configuration: the user's own files with one definition removed or changed at a time. A mutant that no
//! scenario notices shows what the scenarios do not test.
//!
//! This module finds the mutants, keeps the copy of the files in which they are made, and writes what became of them.
//! `nixvm-test mutants` builds and runs them.

mod files;
mod in_diff;
mod outcome;
mod output;
mod scratch;
mod syntax;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{digest, secrets};

pub(crate) use files::OwnFiles;
pub(crate) use in_diff::Diff;
pub(crate) use outcome::{Outcome, Tally, Tried};
pub(crate) use output::{Output, place};
pub(crate) use scratch::{Scratch, prune};

/// How a text is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operator {
    /// A definition of a set is left out.
    DropDefinition,
    /// An element of a list is left out.
    DropElement,
    /// An element of `imports` is left out.
    DropImport,
    /// `true` becomes `false`, or the reverse.
    FlipBoolean,
    /// An integer becomes greater by one.
    AddOne,
    /// `mkIf`, `mkForce` and the like are left out; the definition stays.
    Unwrap,
}

impl Operator {
    /// Returns its name, as files have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DropDefinition => "drop_definition",
            Self::DropElement => "drop_element",
            Self::DropImport => "drop_import",
            Self::FlipBoolean => "flip_boolean",
            Self::AddOne => "add_one",
            Self::Unwrap => "unwrap",
        }
    }
}

/// One change of one file. Its texts are fit for a terminal, and passwords in them are masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Mutant {
    /// Names this mutant. It stays when lines are added elsewhere in the file.
    pub(crate) id: String,
    /// The file, relative to the repository of the configuration, or else to its folder.
    pub(crate) file: PathBuf,
    /// The line of the change, from 1 on.
    pub(crate) line: usize,
    /// The column of the change, in characters from 1 on.
    pub(crate) column: usize,
    /// The last line of the change.
    pub(crate) end_line: usize,
    /// How the text is changed.
    pub(crate) operator: Operator,
    /// What is changed, in words.
    pub(crate) change: String,
    /// The changed text, cut to a line.
    pub(crate) before: String,
    /// The text that takes its place; empty if it is left out.
    pub(crate) after: String,
    #[serde(skip)]
    inner: syntax::Change,
}

impl Mutant {
    /// Returns the mutants of a file, in the order of its text.
    fn all_of(file: &Path, text: &str, changes: Vec<syntax::Change>) -> Vec<Self> {
        let mut seen = std::collections::HashMap::new();
        let all = changes.into_iter().map(|change| {
            let part = text.get(change.range.clone()).unwrap_or_default();
            let key = digest::of_parts([
                file.as_os_str().as_encoded_bytes(),
                change.operator.name().as_bytes(),
                change.subject.as_bytes(),
                part.as_bytes(),
            ]);
            // Equal definitions at several places are told apart by their order.
            let same = seen.entry(key.clone()).or_insert(0_u32);
            *same += 1;
            let id = digest::of_parts([key.as_bytes(), &same.to_le_bytes()]);
            let (line, column) = position(text, change.range.start);
            let end_line = line + part.trim_end().matches('\n').count();
            Self {
                id: id.chars().take(8).collect(),
                file: file.to_owned(),
                line,
                column,
                end_line,
                operator: change.operator,
                change: secrets::line(&in_words(&change)),
                before: secrets::line(&syntax::short(part)),
                after: secrets::line(&change.after),
                inner: change,
            }
        });
        all.collect()
    }

    /// Returns `text`, the file that this mutant belongs to, with the change.
    pub(crate) fn applied(&self, text: &str) -> String {
        self.inner.applied(text)
    }

    /// Returns the difference in the form of `diff -u` without context. Passwords are masked.
    pub(crate) fn diff(&self, text: &str) -> String {
        let changed = self.applied(text);
        let count = self.end_line + 1 - self.line;
        let part = |text: &str, sign: char| -> String {
            let lines = text.lines().skip(self.line - 1).take(count);
            lines.map(|line| format!("{sign}{}\n", secrets::line(line).trim_end())).collect()
        };
        let name = secrets::line(&self.file.display().to_string());
        let span = format!("{},{count}", self.line);
        let (before, after) = (part(text, '-'), part(&changed, '+'));
        format!("--- a/{name}\n+++ b/{name}\n@@ -{span} +{span} @@ {}\n{before}{after}", self.change)
    }
}

/// Returns the line and the column of the byte `at`, each from 1 on.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

fn in_words(change: &syntax::Change) -> String {
    let (subject, before, after) = (&change.subject, &change.before, &change.after);
    let of = if subject.is_empty() { String::new() } else { format!(" of {subject}") };
    let in_it = if subject.is_empty() { String::new() } else { format!(" in {subject}") };
    match change.operator {
        Operator::DropDefinition => format!("drop {subject}"),
        Operator::DropElement => format!("drop {before}{of}"),
        Operator::DropImport => format!("drop the import {before}"),
        Operator::FlipBoolean | Operator::AddOne => format!("change {before} to {after}{in_it}"),
        Operator::Unwrap => format!("unwrap {before}{in_it}"),
    }
}

#[cfg(test)]
mod tests;
