//! Says why a switch touches a unit.

use std::path::{Path, PathBuf};

use super::difference::{Dependency, unit_changes, wanted_by, way_to_a_change};
use crate::Result;
use crate::presence::is_known_absent;

/// Maximum number of targets that are named.
const TARGETS: usize = 3;

/// Returns the keys of a unit's file that differ between two systems, for a person. For a unit whose file is the same, it
/// names the unit that systemd stops it with, or the targets that want it.
pub(super) fn of(systems: Option<&(PathBuf, PathBuf)>, unit: &str) -> String {
    let Some((old, new)) = systems else {
        return format!("{unit}: not compared, because the systems are not on this host");
    };
    match unit_changes(old, new, unit) {
        Err(error) => format!("{unit}: not compared: {}", error.summary()),
        Ok(changes) if changes.is_empty() && ![old, new].iter().any(|system| has_file(system, unit)) => {
            format!("{unit}: neither system has a file of this unit in etc/systemd/system")
        }
        Ok(changes) if changes.is_empty() => {
            let reason = dependency(old, new, unit).unwrap_or_else(|error| error.summary().to_owned());
            format!("{unit}: its file is the same in both systems; {reason}")
        }
        Ok(changes) => format!("{unit}: {}", lines(&changes)),
    }
}

/// Returns the targets that want a unit whose file is the same in both systems. `None` for any other unit.
pub(super) fn unchanged(systems: Option<&(PathBuf, PathBuf)>, unit: &str) -> Option<Vec<String>> {
    let (old, new) = systems?;
    let same = unit_changes(old, new, unit).is_ok_and(|changes| changes.is_empty());
    if !same || !has_file(new, unit) {
        return None;
    }
    let mut targets = wanted_by(new, unit).unwrap_or_default();
    targets.truncate(TARGETS);
    Some(targets)
}

/// Says for which other unit systemd stops or starts a unit whose file is the same.
fn dependency(old: &Path, new: &Path, unit: &str) -> Result<String> {
    let way = way_to_a_change(old, new, unit)?;
    if let Some(Dependency { on, .. }) = way.last() {
        let steps: Vec<String> =
            way.iter().map(|Dependency { of, key, on }| format!("{of} has {key}={on}")).collect();
        let changes = unit_changes(old, new, on)?;
        return Ok(format!("{}, which changed:\n{}", steps.join(", "), lines(&changes)));
    }
    let mut targets = wanted_by(new, unit)?;
    if targets.is_empty() {
        return Ok("neither a unit that it depends on changed, nor does a target want it".to_owned());
    }
    targets.truncate(TARGETS);
    Ok(format!("{} wants it, so a switch starts it unless it is active", targets.join(", ")))
}

fn lines(changes: &[impl ToString]) -> String {
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn has_file(system: &Path, unit: &str) -> bool {
    let folder = system.join("etc/systemd/system");
    let template =
        unit.split_once('@').and_then(|(name, rest)| Some(format!("{name}@.{}", rest.rsplit_once('.')?.1)));
    let names = [Some(unit.to_owned()), Some(format!("{unit}.d")), template];
    // A file that can't be looked at may be there.
    names.iter().flatten().any(|name| !is_known_absent(&folder.join(name)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_keys_that_differ_are_named_and_a_unit_that_is_the_same_is_said_to_follow_another() {
        let systems = ["old", "new"].map(|which| {
            let folder = tempfile::tempdir().unwrap();
            let units = folder.path().join("etc/systemd/system");
            fs::create_dir_all(&units).unwrap();
            fs::write(units.join("a.service"), format!("[Service]\nExecStart=/bin/{which}\n")).unwrap();
            fs::write(units.join("b.service"), "[Service]\nExecStart=/bin/b\n").unwrap();
            folder
        });
        let systems = (systems[0].path().to_owned(), systems[1].path().to_owned(), systems);
        let paths = (systems.0, systems.1);
        let why = of(Some(&paths), "a.service");
        assert!(why.contains("ExecStart") && why.contains("/bin/old") && why.contains("/bin/new"), "{why}");
        assert!(of(Some(&paths), "b.service").contains("neither a unit that it depends on changed"));
        assert!(of(Some(&paths), "z.service").contains("neither system"));
        for (unit, text) in [
            ("c.service", "[Unit]\nRequires=x.service\nRequires=\nPartOf=b.service d.service"),
            ("d.service", "[Unit]\nBindsTo=c.service"),
            ("e.service", "[Unit]\nPartOf=c.service"),
            ("f.service", ""),
        ] {
            for system in [&paths.0, &paths.1] {
                let units = system.join("etc/systemd/system");
                fs::write(units.join(unit), text).unwrap();
                fs::create_dir_all(units.join("d.service.requires")).unwrap();
                fs::write(units.join("d.service.requires/a.service"), "").unwrap();
                fs::create_dir_all(units.join("multi-user.target.wants")).unwrap();
                fs::write(units.join("multi-user.target.wants/f.service"), "").unwrap();
            }
        }
        let why = of(Some(&paths), "e.service");
        let way = "e.service has PartOf=c.service, c.service has PartOf=d.service, d.service has Requires=a.service, \
                   which changed:\n[Service] ExecStart";
        assert!(why.contains(way), "{why}");
        let why = of(Some(&paths), "f.service");
        assert!(why.contains("multi-user.target wants it"), "{why}");
        assert!(of(None, "a.service").contains("not on this host"));
    }
}
