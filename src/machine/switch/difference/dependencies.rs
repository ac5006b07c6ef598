//! For which other units a unit stops or starts, as far as the files of a system tell.

use std::collections::BTreeSet;
use std::path::Path;

use super::tree::Tree;
use super::units::{FOLDER, Keys, changes_of, is_unit, keys_of};
use crate::Result;

/// Keys of `[Unit]` for which systemd stops or restarts a unit together with the named ones (systemd.unit(5)).
const STOPS_WITH: [&str; 5] = ["BindsTo", "PartOf", "Requires", "Requisite", "StopPropagatedFrom"];
/// Maximum number of units that are followed.
const FOLLOWED: usize = 200;

/// A unit that a unit depends on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Dependency {
    /// The unit that has the key.
    pub(crate) of: String,
    /// The key, as in `Requires`.
    pub(crate) key: String,
    /// The unit that the key names.
    pub(crate) on: String,
}

/// Returns the way from a unit to the nearest one that changed and with which systemd stops it: each step depends on the
/// next one. It is empty if there is none.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when a file of the systems can't be read.
pub(crate) fn way_to_a_change(old: &Path, new: &Path, unit: &str) -> Result<Vec<Dependency>> {
    let (old, new) = (Tree::open(old)?, Tree::open(new)?);
    let mut seen = BTreeSet::from([unit.to_owned()]);
    let mut ways: Vec<Vec<Dependency>> = vec![Vec::new()];
    let mut next = 0;
    while let Some(way) = ways.get(next).cloned() {
        next += 1;
        let last = way.last().map_or(unit, |step| step.on.as_str());
        // What is stopped was started by the old system.
        for step in stops_with(&old, last)? {
            if ways.len() > FOLLOWED || !seen.insert(step.on.clone()) {
                continue;
            }
            let changed = !changes_of(&old, &new, &step.on)?.is_empty();
            let longer = [way.as_slice(), &[step]].concat();
            if changed {
                return Ok(longer);
            }
            ways.push(longer);
        }
    }
    Ok(Vec::new())
}

/// Returns the units of a system that want or require a unit by a link, sorted: targets that start it.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when a folder of the system can't be read.
pub(crate) fn wanted_by(system: &Path, unit: &str) -> Result<Vec<String>> {
    let tree = Tree::open(system)?;
    let mut names = Vec::new();
    for folder in tree.names(Path::new(FOLDER))? {
        let Some(name) = [".wants", ".requires"].iter().find_map(|kind| folder.strip_suffix(kind)) else {
            continue;
        };
        if is_unit(name) && tree.node(&Path::new(FOLDER).join(&folder).join(unit))?.is_some() {
            names.push(name.to_owned());
        }
    }
    names.dedup();
    Ok(names)
}

/// Returns the units with which systemd stops this one.
fn stops_with(tree: &Tree, unit: &str) -> Result<BTreeSet<Dependency>> {
    let keys = keys_of(tree, unit)?;
    let mut found: BTreeSet<Dependency> =
        STOPS_WITH.into_iter().flat_map(|key| named(&keys, key, unit)).collect();
    let folder = format!("{unit}.requires");
    for on in tree.names(&Path::new(FOLDER).join(folder))?.into_iter().filter(|name| is_unit(name)) {
        found.insert(Dependency { of: unit.to_owned(), key: "Requires".to_owned(), on });
    }
    Ok(found)
}

/// Returns the units that a key names. An empty value clears those before it.
fn named(keys: &Keys, key: &str, of: &str) -> Vec<Dependency> {
    let mut units: Vec<String> = Vec::new();
    for value in keys.get(&("Unit".to_owned(), key.to_owned())).into_iter().flatten() {
        if value.is_empty() {
            units.clear();
        }
        units.extend(value.split_whitespace().filter(|name| is_unit(name)).map(str::to_owned));
    }
    let dependency = |on| Dependency { of: of.to_owned(), key: key.to_owned(), on };
    units.into_iter().map(dependency).collect()
}
