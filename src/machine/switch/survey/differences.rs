//! What differs between two looks at a machine.

use super::Survey;
use crate::machine::switch::usual::belongs_to_system;

/// The kind of units that have failed.
pub(crate) const FAILED: &str = "failed";
/// The kind of what a boot's log says of its activation.
pub(crate) const SNIPPETS: &str = "activation snippets that failed";
/// The kind of units that systemd started again.
pub(crate) const CRASHES: &str = "restarted by systemd after a failure";

impl Survey {
    /// Returns what is worse or other than in `before`, one list for each kind. What sessions and single commands start
    /// does not count.
    pub(crate) fn differences(&self, before: &Self) -> Vec<(&'static str, Vec<String>)> {
        let was_active =
            before.units.iter().filter(|(unit, state)| state.active == "active" && belongs_to_system(unit));
        let ended = was_active.map(|(unit, _)| unit).filter(|unit| {
            self.known.has(unit)
                && !self.marks.is_of_first_boot(unit)
                && self.units.get(*unit).is_none_or(|state| !state.is_active() && !state.has_failed())
        });
        let crashing =
            self.crashing(before).into_iter().map(|(unit, count)| format!("{unit} ({count} times)"));
        let gone = before.users.keys().filter(|name| !self.users.contains_key(*name));
        let new = self.users.keys().filter(|name| !before.users.contains_key(*name));
        let renumbered = self.users.iter().filter_map(|(name, now)| {
            let was = before.users.get(name)?.number;
            (was != now.number).then(|| format!("{name} ({was} to {})", now.number))
        });
        let owners = self.homes.iter().filter_map(|(path, now)| {
            let was = before.homes.get(path)?;
            (was != now).then(|| format!("{path} ({was} to {now})"))
        });
        let unmounted = before.mounts.keys().filter(|path| !self.mounts.contains_key(*path));
        let mounted = self.mounts.keys().filter(|path| !before.mounts.contains_key(*path));
        let lists = [
            (FAILED, self.failed().difference(&before.failed()).cloned().collect()),
            (SNIPPETS, self.snippets.difference(&before.snippets).cloned().collect()),
            (CRASHES, crashing.collect()),
            ("ran and does not run", ended.cloned().collect()),
            ("accounts that are gone", gone.cloned().collect()),
            ("new accounts", new.cloned().collect()),
            ("accounts with another number", renumbered.collect()),
            ("groups that are gone", self.lost_groups(before)),
            ("groups with another number", self.renumbered_groups(before)),
            ("homes with another owner", owners.collect()),
            ("unmounted", unmounted.cloned().collect()),
            ("mounted", mounted.cloned().collect()),
            ("closed ports", before.ports.difference(&self.ports).cloned().collect()),
            ("new ports", self.ports.difference(&before.ports).cloned().collect()),
            ("addresses that are gone", before.addresses.difference(&self.addresses).cloned().collect()),
            ("new addresses", self.addresses.difference(&before.addresses).cloned().collect()),
            ("gone from /etc", self.lost_files(before)),
            ("another identity", self.changed_identity(before)),
        ];
        lists.into_iter().filter(|(_, list): &(_, Vec<String>)| !list.is_empty()).collect()
    }
}

impl Survey {
    /// Returns the groups that are gone.
    pub(crate) fn lost_groups(&self, before: &Self) -> Vec<String> {
        before.groups.keys().filter(|name| !self.groups.contains_key(*name)).cloned().collect()
    }

    /// Returns the groups whose number changed, with both numbers.
    pub(crate) fn renumbered_groups(&self, before: &Self) -> Vec<String> {
        let changed = self.groups.iter().filter_map(|(name, now)| {
            let was = before.groups.get(name)?;
            (was != now).then(|| format!("{name} ({was} to {now})"))
        });
        changed.collect()
    }

    /// Returns the files of `/etc` without which no user can log in, that were there and are not now.
    pub(crate) fn lost_files(&self, before: &Self) -> Vec<String> {
        before.etc.difference(&self.etc).cloned().collect()
    }

    /// Returns the files that tell this machine from others and have changed: the machine's number, and host keys.
    pub(crate) fn changed_identity(&self, before: &Self) -> Vec<String> {
        let changed = before
            .identity
            .iter()
            .filter(|(path, was)| self.identity.get(*path).is_some_and(|is| is != *was));
        changed.map(|(path, _)| path.clone()).collect()
    }
}
