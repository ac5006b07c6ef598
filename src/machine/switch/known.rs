//! The units that a machine knows by name, so that a question about a misspelt name is noticed.

use std::collections::BTreeSet;

use crate::nearest::nearest;

/// The folders with the files of units, so that a unit that is not loaded is known.
const FOLDERS: &str = "/etc/systemd/system /run/systemd/system /run/systemd/transient /run/systemd/generator \
                       /run/systemd/generator.late /usr/lib/systemd/system /lib/systemd/system";

/// Names of units that systemd has loaded, and names of unit files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KnownUnits(BTreeSet<String>);

impl KnownUnits {
    /// Returns the script that lists the unit files.
    pub(super) fn files() -> String {
        format!("ls -1U {FOLDERS} 2>/dev/null")
    }

    /// Returns the script that lists loaded units and unit files.
    pub(super) fn script() -> String {
        format!(
            "export LC_ALL=C; systemctl list-units --all --full --plain --no-legend --no-pager \
             | sed '/ not-found /d; s/ .*//'; {}; true",
            Self::files()
        )
    }

    /// Reads names, one a line. Other lines, such as those with the names of folders, name no unit.
    pub(super) fn of<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        Self(lines.into_iter().filter(|line| line.contains('.')).map(str::to_owned).collect())
    }

    /// Whether there is a unit of this name, or the template of which it is an instance.
    pub(super) fn has(&self, unit: &str) -> bool {
        let template = || {
            let (name, rest) = unit.split_once('@')?;
            let (_, kind) = rest.rsplit_once('.')?;
            Some(format!("{name}@.{kind}"))
        };
        self.0.contains(unit) || template().is_some_and(|template| self.0.contains(&template))
    }

    /// Says that there is no unit of this name, and what may have been meant.
    pub(super) fn unknown(&self, unit: &str) -> String {
        let meant = nearest(unit, self.0.iter().map(String::as_str));
        let meant = meant.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        format!("there is no unit `{unit}`{meant}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_known_by_its_file_or_by_that_of_its_template() {
        let printed = "/etc/systemd/system:\ngetty@.service\nbackup.service\n\nmulti-user.target.wants\n";
        let known = KnownUnits::of(printed.lines());
        for unit in ["backup.service", "getty@tty1.service"] {
            assert!(known.has(unit), "{unit}");
        }
        for unit in ["none.service", "x@y.service", "getty@"] {
            assert!(!known.has(unit), "{unit}");
        }
        assert_eq!(
            known.unknown("bakcup.service"),
            "there is no unit `bakcup.service`; did you mean `backup.service`?"
        );
    }
}
