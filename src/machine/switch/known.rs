//! The units that a machine knows by name, so that a question about a misspelt name is noticed, and one by another name
//! of a unit is answered for the unit.

use std::collections::{BTreeMap, BTreeSet};

use crate::nearest::nearest;

/// The folders with the files of units, so that a unit that is not loaded is known.
const FOLDERS: &str = "/etc/systemd/system /run/systemd/system /run/systemd/transient /run/systemd/generator \
                       /run/systemd/generator.late /usr/lib/systemd/system /lib/systemd/system";

/// The units of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KnownUnits {
    /// Names of units that systemd has loaded, and of unit files.
    names: BTreeSet<String>,
    /// Other names of loaded units, with their own name (`[Install] Alias=`).
    aliases: BTreeMap<String, String>,
}

impl KnownUnits {
    /// Begins the list of unit files in the output of [`KnownUnits::script`].
    const FILES: &str = "\n\u{1e}\n";

    /// Returns the script that lists the unit files, and the instances of templates that a target wants.
    pub(super) fn files() -> String {
        format!(
            "ls -1Uq {FOLDERS} 2>/dev/null; ls -1Uq /etc/systemd/system/*.wants /etc/systemd/system/*.requires \
             2>/dev/null"
        )
    }

    /// Returns the script that lists loaded units and unit files.
    pub(super) fn script() -> String {
        let units = "systemctl show --no-pager --all -p Id -p Names -p LoadState '*'";
        format!("export LC_ALL=C; {units}; printf '\\n\\036\\n'; {}; true", Self::files())
    }

    /// Reads what the script prints.
    pub(super) fn parse(printed: &str) -> Self {
        let (units, files) = printed.split_once(Self::FILES).unwrap_or((printed, ""));
        Self::of(units, files)
    }

    /// Reads blocks of properties, one for each loaded unit, and names of files, one a line. Other lines, such as those
    /// with the names of folders, name no unit.
    pub(super) fn of(units: &str, files: &str) -> Self {
        let mut known = Self::default();
        for block in units.split("\n\n") {
            let value = |key: &str| {
                block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
            };
            let id = value("Id");
            if id.is_empty() || value("LoadState") == "not-found" {
                continue;
            }
            known.names.insert(id.to_owned());
            for name in value("Names").split_ascii_whitespace().filter(|name| *name != id) {
                known.aliases.insert(name.to_owned(), id.to_owned());
            }
        }
        known.names.extend(files.lines().filter(|line| line.contains('.')).map(str::to_owned));
        known
    }

    /// Whether there is a unit of this name. An instance of a template is one if it is loaded, or a target wants it.
    pub(super) fn has(&self, unit: &str) -> bool {
        self.names.contains(unit) || self.aliases.contains_key(unit)
    }

    /// Returns a unit's own name.
    pub(super) fn id_of<'a>(&'a self, unit: &'a str) -> &'a str {
        self.aliases.get(unit).map_or(unit, String::as_str)
    }

    /// Says that there is no unit of this name, and what may have been meant.
    pub(super) fn unknown(&self, unit: &str) -> String {
        let meant = nearest(unit, self.names.iter().map(String::as_str));
        let meant = meant.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        format!("there is no unit `{unit}`{meant}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_known_by_its_file_or_if_it_is_loaded_and_an_instance_of_a_template_is_not_by_the_template() {
        let printed = "Id=dbus-broker.service\nNames=dbus.service dbus-broker.service\nLoadState=loaded\n\n\
                       Id=none.service\nNames=none.service\nLoadState=not-found\n\n\u{1e}\n\
                       /etc/systemd/system:\ngetty@.service\nbackup.service\n\nmulti-user.target.wants\n\
                       /etc/systemd/system/getty.target.wants:\ngetty@tty1.service\n";
        let known = KnownUnits::parse(printed);
        for unit in ["backup.service", "getty@tty1.service", "dbus-broker.service", "dbus.service"] {
            assert!(known.has(unit), "{unit}");
        }
        for unit in ["none.service", "getty@tty2.service", "getty@", "x@y.service"] {
            assert!(!known.has(unit), "{unit}");
        }
        assert_eq!(known.id_of("dbus.service"), "dbus-broker.service");
        assert_eq!(known.id_of("backup.service"), "backup.service");
        assert_eq!(
            known.unknown("bakcup.service"),
            "there is no unit `bakcup.service`; did you mean `backup.service`?"
        );
    }
}
