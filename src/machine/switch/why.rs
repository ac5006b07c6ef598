//! Says why a switch touches a unit.

use std::path::{Path, PathBuf};

use super::difference::unit_changes;
use crate::presence::is_known_absent;

/// Returns the keys of a unit's file that differ between two systems, for a person.
pub(super) fn of(systems: Option<&(PathBuf, PathBuf)>, unit: &str) -> String {
    let Some((old, new)) = systems else {
        return format!("{unit}: not compared, because the systems are not on this host");
    };
    match unit_changes(old, new, unit) {
        Err(error) => format!("{unit}: not compared: {}", error.summary()),
        Ok(changes) if changes.is_empty() && ![old, new].iter().any(|system| has_file(system, unit)) => {
            format!("{unit}: neither system has a file of this unit in etc/systemd/system")
        }
        Ok(changes) if changes.is_empty() => format!(
            "{unit}: its file is the same in both systems; systemd does it for another unit (PartOf=, Requires=, BindsTo=, \
             or a target that wants it)"
        ),
        Ok(changes) => {
            let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
            format!("{unit}: {}", changes.join("\n"))
        }
    }
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
        assert!(of(Some(&paths), "b.service").contains("PartOf="));
        assert!(of(Some(&paths), "c.service").contains("neither system"));
        assert!(of(None, "a.service").contains("not on this host"));
    }
}
