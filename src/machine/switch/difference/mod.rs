//! What differs between two systems, read from what was built. No machine is asked.

mod boot;
mod dependencies;
mod files;
mod packages;
#[cfg(test)]
mod tests;
mod tree;
mod units;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::boot::BootChange;
pub(super) use self::dependencies::{Dependency, wanted_by, way_to_a_change};
use self::files::FileChange;
use self::packages::PackageChange;
use self::tree::Tree;
use self::units::KeyChange;
pub(super) use self::units::unit_changes;
use crate::machine::System;
use crate::{Result, nix, text};

/// How many items of one kind are shown.
const SHOWN: usize = 200;
/// The folder below /etc with what the modules of the build step say to the runner. It is no part of the configuration.
const OURS: &str = "nixvm-test";

/// What differs between two systems; made by [`System::diff`]. Its lists are sorted by name. Its display has a part for
/// each kind that differs, or `no difference`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[must_use]
pub struct SystemDiff {
    packages: Vec<PackageChange>,
    units: Vec<UnitChange>,
    files: Vec<FileChange>,
    boot: Vec<BootChange>,
}

/// A unit that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct UnitChange {
    name: String,
    keys: Vec<KeyChange>,
}

/// # Comparison
impl System {
    /// Compares this system with `other`, the newer one. It reads what was built, and asks no machine.
    ///
    /// ```no_run
    /// use nixvm_test::prelude::*;
    ///
    /// #[scenario(today = "git:HEAD")] // next is the uncommitted configuration
    /// async fn the_kernel_stays(today: System, next: System) -> Result {
    ///     let diff = today.diff(&next)?;
    ///     println!("{diff}");
    ///     assert!(diff.boot().next().is_none(), "a reboot is needed");
    ///     Ok(())
    /// }
    ///
    /// nixvm_test::main!();
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotRecorded`] in a replay, which builds nothing; [`crate::ErrorKind::Usage`] when a built VM has no
    /// `system` link; [`crate::ErrorKind::Io`] when a file can't be read; [`crate::ErrorKind::Host`] without Nix.
    pub fn diff(&self, other: &System) -> Result<SystemDiff> {
        let (old, new) = (self.path()?, other.path()?);
        if old == new {
            return Ok(SystemDiff::none());
        }
        SystemDiff::of(old, new, &nix::closure(old)?, &nix::closure(new)?)
    }
}

impl SystemDiff {
    fn none() -> Self {
        Self { packages: Vec::new(), units: Vec::new(), files: Vec::new(), boot: Vec::new() }
    }

    fn of(old: &Path, new: &Path, before: &[PathBuf], after: &[PathBuf]) -> Result<Self> {
        let packages = packages::compare(before, after, |path| path.join("bin").is_dir());
        let (old, new) = (Tree::open(old)?, Tree::open(new)?);
        let names: BTreeSet<String> = units::names(&old)?.into_iter().chain(units::names(&new)?).collect();
        let mut units = Vec::new();
        for name in names {
            let keys = units::changes_of(&old, &new, &name)?;
            if !keys.is_empty() {
                units.push(UnitChange { name, keys });
            }
        }
        let files = files::compare(&old, &new, "etc", &["systemd/system", OURS])?;
        Ok(Self { packages, units, files, boot: boot::compare(&old, &new)? })
    }

    /// Returns whether nothing differs that is compared.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.units.is_empty() && self.files.is_empty() && self.boot.is_empty()
    }

    /// Returns each package that was added, removed or has another version: its name, its versions in the older system
    /// and those in the newer one. A package without a version has an empty one.
    pub fn packages(&self) -> impl Iterator<Item = (&str, &[String], &[String])> {
        self.packages.iter().map(|one| (one.name.as_str(), one.before.as_slice(), one.after.as_slice()))
    }

    /// Returns the name of each unit that differs in more than a switch ignores (such as its description), with what
    /// differs: lines that begin with the section and the key, and lines with the old (`-`) and new (`+`) values.
    pub fn units(&self) -> impl Iterator<Item = (&str, String)> {
        self.units.iter().map(|unit| {
            let keys: Vec<String> = unit.keys.iter().map(KeyChange::to_string).collect();
            (unit.name.as_str(), keys.join("\n"))
        })
    }

    /// Returns the path of each other file in /etc that differs, with what differs: the lines of a text, each with `-`
    /// or `+` before it. They are empty for other files, and for those that only one of the systems has.
    pub fn files(&self) -> impl Iterator<Item = (String, &[String])> {
        self.files.iter().map(|file| (format!("/{}", file.path), file.lines.as_slice()))
    }

    /// Returns what the next boot uses instead of the present one (`kernel`, `kernel modules`, `initrd`, `systemd`, `kernel
    /// parameters`), with the store path of each, or the parameters that only one of the systems has.
    pub fn boot(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.boot.iter().map(|one| (one.what.as_str(), one.before.as_str(), one.after.as_str()))
    }
}

impl fmt::Display for UnitChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = text::line(&self.name);
        let state = self.keys.iter().find(|key| key.section.is_empty() && key.key == "state");
        let word = |values: &[String]| values.first().map(String::as_str).unwrap_or_default().to_owned();
        match state.map(|state| (word(&state.before), word(&state.after))) {
            Some((before, _)) if before == "absent" => write!(f, "+ {name}"),
            Some((_, after)) if after == "absent" => write!(f, "- {name}"),
            Some((before, after)) => write!(f, "{name}: {before} → {after}"),
            None => {
                write!(f, "{name}")?;
                self.keys.iter().try_for_each(|key| write!(f, "\n{}", indented(&key.to_string())))
            }
        }
    }
}

/// Shows the parts that differ, each with its title, or `no difference`.
impl fmt::Display for SystemDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("no difference");
        }
        let mut parts = Vec::new();
        part(&mut parts, "packages", &self.packages);
        part(&mut parts, "units", &self.units);
        part(&mut parts, "files in /etc", &self.files);
        part(&mut parts, "from the next boot on", &self.boot);
        f.write_str(&parts.join("\n"))
    }
}

fn part<T: fmt::Display>(parts: &mut Vec<String>, title: &str, items: &[T]) {
    if items.is_empty() {
        return;
    }
    parts.push(format!("{title}:"));
    parts.extend(items.iter().take(SHOWN).map(|item| indented(&item.to_string())));
    if items.len() > SHOWN {
        parts.push(format!("  … and {} more", items.len() - SHOWN));
    }
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("  {line}")).collect();
    lines.join("\n")
}
