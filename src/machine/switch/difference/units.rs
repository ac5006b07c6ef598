//! What differs in the units of two systems: section by section and key by key, as a switch compares them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::tree::{Content, Node, Tree, content};
use crate::{Result, text};

/// Where units are, in a system.
pub(super) const FOLDER: &str = "etc/systemd/system";
/// Keys of `[Unit]` that no switch regards.
const IGNORED: [&str; 12] = [
    "AllowIsolate",
    "CollectMode",
    "Description",
    "Documentation",
    "IgnoreOnIsolate",
    "OnFailure",
    "OnFailureJobMode",
    "OnSuccess",
    "RefuseManualStart",
    "RefuseManualStop",
    "SourcePath",
    "StopWhenUnneeded",
];
/// Keys that NixOS gives the path of a file with a list in it (nixos/lib/systemd-lib.nix). The list says what changed.
const LISTS: [&str; 2] = ["X-Restart-Triggers", "X-Reload-Triggers"];
/// Maximum number of drop-ins of a unit.
const DROP_INS: usize = 256;
/// How much of a value is shown, in characters.
const VALUE: usize = 300;
/// How many values of a key are shown.
const VALUES: usize = 8;

/// A key of a unit that differs between two systems.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct KeyChange {
    /// The section, as in `Service`. It is empty for what is said of the whole unit: its `state` (`present`, `masked` or
    /// `absent`), or its `file`, if that is not read.
    pub(crate) section: String,
    /// The key, as in `ExecStart`.
    pub(crate) key: String,
    /// The values in the old system, in the order of the files. None if it has no such key.
    pub(crate) before: Vec<String>,
    /// The values in the new system.
    pub(crate) after: Vec<String>,
}

/// Shows the change as a line for each value: `- ExecStart=old` and `+ ExecStart=new`, with the section before them.
impl fmt::Display for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let section = if self.section.is_empty() { String::new() } else { format!("[{}] ", self.section) };
        write!(f, "{}{}", text::line(&section), text::line(&self.key))?;
        for (sign, values, others) in [('-', &self.before, &self.after), ('+', &self.after, &self.before)] {
            // What both have is no news.
            let own: Vec<&String> = values.iter().filter(|value| !others.contains(value)).collect();
            let own = if own.is_empty() && self.before.len() == self.after.len() {
                values.iter().collect()
            } else {
                own
            };
            for value in own.iter().take(VALUES) {
                write!(f, "\n  {sign} {}", shown(value))?;
            }
            if own.len() > VALUES {
                write!(f, "\n  {sign} … and {} more", own.len() - VALUES)?;
            }
        }
        Ok(())
    }
}

/// Shortens a value, and makes it fit for a terminal.
fn shown(value: &str) -> String {
    let value = text::line(value);
    match value.char_indices().nth(VALUE) {
        Some((at, _)) => format!("{}…", value.get(..at).unwrap_or_default()),
        None => value,
    }
}

/// Returns the keys in which the unit differs between the systems at these paths, by section and key. Keys that no
/// switch regards are left out: those of `[Install]`, and some of `[Unit]`, such as `Description`. Drop-ins count. An
/// instance of a template (`x@y.service`) without a file of its own has that of the template (`x@.service`).
///
/// # Errors
/// [`crate::ErrorKind::Io`] when a file of the systems can't be read.
pub(crate) fn unit_changes(old: &Path, new: &Path, unit: &str) -> Result<Vec<KeyChange>> {
    changes_of(&Tree::open(old)?, &Tree::open(new)?, unit)
}

pub(super) fn changes_of(old: &Tree, new: &Tree, unit: &str) -> Result<Vec<KeyChange>> {
    let (old, new) = (Unit::read(old, unit)?, Unit::read(new, unit)?);
    let (before, after) = match (old, new) {
        (Unit::Present(before), Unit::Present(after)) => (before, after),
        (old, new) if old.state() == new.state() => return Ok(Vec::new()),
        (old, new) => {
            let state = |unit: &Unit| vec![unit.state().to_owned()];
            return Ok(vec![KeyChange {
                section: String::new(),
                key: "state".to_owned(),
                before: state(&old),
                after: state(&new),
            }]);
        }
    };
    let keys: BTreeSet<&(String, String)> = before.keys().chain(after.keys()).collect();
    let change = |key: &(String, String)| KeyChange {
        section: key.0.clone(),
        key: key.1.clone(),
        before: before.get(key).cloned().unwrap_or_default(),
        after: after.get(key).cloned().unwrap_or_default(),
    };
    Ok(keys.into_iter().map(change).filter(|change| change.before != change.after).collect())
}

/// Returns the names of all units of a system. A unit of which only drop-ins are there counts, too.
pub(super) fn names(tree: &Tree) -> Result<BTreeSet<String>> {
    let names = tree.names(Path::new(FOLDER))?;
    Ok(names
        .iter()
        .map(|name| name.strip_suffix(".d").unwrap_or(name))
        .filter(|name| is_unit(name))
        .map(str::to_owned)
        .collect())
}

/// Returns the keys of a unit of a system, or none if the system has no file of it.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when a file of the system can't be read.
pub(super) fn keys_of(tree: &Tree, unit: &str) -> Result<Keys> {
    Ok(match Unit::read(tree, unit)? {
        Unit::Present(keys) => keys,
        Unit::Absent | Unit::Masked => Keys::new(),
    })
}

/// Returns whether it is the name of a unit, and not of a folder such as `multi-user.target.wants`.
pub(super) fn is_unit(name: &str) -> bool {
    const KINDS: [&str; 10] =
        ["automount", "device", "mount", "path", "scope", "service", "slice", "socket", "swap", "target"];
    name.rsplit_once('.')
        .is_some_and(|(stem, kind)| !stem.is_empty() && (KINDS.contains(&kind) || kind == "timer"))
}

/// The values of each key, by section and key.
pub(super) type Keys = BTreeMap<(String, String), Vec<String>>;

/// A unit of a system.
#[derive(Debug, PartialEq, Eq)]
enum Unit {
    Absent,
    /// A link to /dev/null, or an empty file.
    Masked,
    Present(Keys),
}

impl Unit {
    fn state(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Masked => "masked",
            Self::Present(_) => "present",
        }
    }

    fn read(tree: &Tree, name: &str) -> Result<Self> {
        // Names come from a guest's output, too.
        if name.contains('/') || !is_unit(name) {
            return Ok(Self::Absent);
        }
        let folder = Path::new(FOLDER);
        let template = template(name);
        let mut node = tree.node(&folder.join(name))?;
        if let (None, Some(template)) = (&node, &template) {
            node = tree.node(&folder.join(template))?;
        }
        let mut keys = Keys::new();
        let mut is_there = false;
        match &node {
            Some(Node::Outside(target)) if target == Path::new("/dev/null") => return Ok(Self::Masked),
            Some(Node::File(real)) => {
                match content(real)? {
                    Content::Text(text) if text.trim().is_empty() => return Ok(Self::Masked),
                    Content::Text(text) => parse(&text, &mut keys),
                    Content::Opaque => add_file(&mut keys, real),
                }
                is_there = true;
            }
            // The file of a unit that the guest's own distribution has.
            Some(Node::Outside(target)) => {
                add_file(&mut keys, target);
                is_there = true;
            }
            Some(Node::Folder(_)) | None => {}
        }
        // systemd takes them in the order of their names, and one of the instance instead of one of the template.
        let mut drop_ins: BTreeMap<String, PathBuf> = BTreeMap::new();
        for unit in template.iter().map(String::as_str).chain([name]) {
            let folder = folder.join(format!("{unit}.d"));
            for name in tree.names(&folder)?.into_iter().filter(|name| name.ends_with(".conf")).take(DROP_INS)
            {
                let path = folder.join(&name);
                drop_ins.insert(name, path);
            }
        }
        for path in drop_ins.values() {
            if let Some(text) = tree.text(path)? {
                parse(&text, &mut keys);
                is_there = true;
            }
        }
        if !is_there {
            return Ok(Self::Absent);
        }
        for ((_, key), values) in keys.iter_mut().filter(|((_, key), _)| LISTS.contains(&key.as_str())) {
            *values = listed(tree, key, std::mem::take(values))?;
        }
        keys.retain(|(section, key), _| {
            section != "Install" && !(section == "Unit" && IGNORED.contains(&key.as_str()))
        });
        Ok(Self::Present(keys))
    }
}

/// Returns the words of the lists whose paths are the values of a key. A value that is no such path stays as it is.
fn listed(tree: &Tree, key: &str, values: Vec<String>) -> Result<Vec<String>> {
    let mut words = Vec::new();
    for value in values {
        let text = match value.contains(key) {
            true => tree.text_in_store(Path::new(&value))?,
            false => None,
        };
        match text {
            Some(text) => words.extend(text.split_whitespace().map(str::to_owned)),
            None => words.push(value),
        }
    }
    Ok(words)
}

/// Adds the path of a unit's file, where that is all that is known of it.
fn add_file(keys: &mut Keys, path: &Path) {
    keys.insert((String::new(), "file".to_owned()), vec![path.display().to_string()]);
}

/// Returns the template of an instance: `x@.service` for `x@y.service`.
fn template(name: &str) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.')?;
    let (before, instance) = stem.split_once('@')?;
    (!instance.is_empty()).then(|| format!("{before}@.{kind}"))
}

/// Adds the keys of a file of systemd.syntax(7).
fn parse(text: &str, keys: &mut Keys) {
    let mut section = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut line = line.trim().to_owned();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        while let Some(begun) = line.strip_suffix('\\') {
            // Comments within a continued line are left out.
            let Some(next) = lines.by_ref().find(|next| !next.trim_start().starts_with(['#', ';'])) else {
                line = begun.to_owned();
                break;
            };
            line = format!("{} {}", begun.trim_end(), next.trim());
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            let key = (section.clone(), key.trim_end().to_owned());
            keys.entry(key).or_default().push(value.trim_start().to_owned());
        }
    }
}
