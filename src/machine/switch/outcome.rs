//! What a switch did.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::Action;
use super::survey::{Survey, UnitState};
use super::usual::belongs_to_system;
use super::words::Words;
use crate::Events;
use crate::machine::services::units::with_suffix;

/// The beginning of the names of transient units of the control channel.
const OUR_UNITS: &str = "nixvm-";

/// What a switch did, judged by a look at the machine before it and another one a few seconds after it. Made by
/// [`Machine::switch`](crate::machine::Machine::switch) and its siblings.
///
/// ```no_run
/// # async fn example(machine: nixvm_test::machine::Machine, next: nixvm_test::machine::System) -> nixvm_test::Result {
/// let outcome = machine.try_switch(&next).await?;
/// assert!(outcome.switched());
/// assert_eq!(outcome.failed(), ["broken.service"]);
/// assert!(!outcome.disturbed("postgresql.service"));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Outcome {
    pub(crate) machine: String,
    pub(crate) events: Events,
    pub(crate) target: String,
    pub(crate) action: Action,
    /// Whether it is a rollback.
    pub(crate) back: bool,
    pub(crate) status: i32,
    pub(crate) words: Words,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) before: Survey,
    pub(crate) after: Survey,
    pub(crate) took: Duration,
    /// The paths of the two systems on this host, if they are built here.
    pub(crate) systems: Option<(PathBuf, PathBuf)>,
    /// The ends of the journals of units that failed.
    pub(crate) journals: BTreeMap<String, String>,
    /// Processes that use a file system that could not be unmounted, by its path.
    pub(crate) holders: BTreeMap<String, Vec<String>>,
}

/// How accounts changed: see [`Outcome::accounts`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Users that are gone.
    pub gone: Vec<String>,
    /// Users that are new, with their numbers.
    pub new: Vec<(String, u32)>,
    /// Users whose number changed: name, number before and after.
    pub renumbered: Vec<(String, u32, u32)>,
    /// Users and groups that kept their number although the configuration has another, in the words of NixOS.
    pub kept: Vec<String>,
    /// Home folders that belong to another user: path, and the owner's number.
    pub foreign_homes: Vec<(String, u32)>,
}

impl Outcome {
    /// Returns the exit status of `switch-to-configuration`: 0 is success; 1, refused or an internal error; 2, the
    /// activation failed in part; 3, systemd or its temporary files failed; 4, units failed, and the system **is**
    /// switched; 100, another init interface, which takes effect at the next boot; 11, another switch has the lock.
    /// [`Outcome::meaning`] says it in words.
    pub fn status(&self) -> i32 {
        self.status
    }

    /// Returns what the status means.
    pub fn meaning(&self) -> &'static str {
        match self.status {
            0 => "success",
            1 | 11 if !self.words.refusals.is_empty() => "refused before anything was done",
            _ if self.half_switched() => "the program ended in the middle",
            1 => "refused, or the boot loader was not installed: nothing was activated",
            2 => "a part of the activation failed; the rest was done",
            3 => "systemd's configuration or its temporary files failed; the rest was done",
            4 if self.failed().is_empty() && !self.words.failed_jobs.is_empty() => {
                "a job of systemd failed or was not answered in time, and no further unit has failed: the system is switched"
            }
            4 => "units failed: the system is switched",
            11 => "another switch holds the lock, or logind does not answer",
            100 => {
                "the new system has another init interface: not activated, it takes effect at the next boot"
            }
            _ => "an error of the program itself",
        }
    }

    /// Whether the machine runs the new system now. It is `true` with status 4, where units failed.
    pub fn switched(&self) -> bool {
        self.action.activates() && !self.target.is_empty() && self.after.current == self.target
    }

    /// Whether the switch ended in the middle: units were stopped and not started, or the program left its lists of
    /// units in /run/nixos, which the next switch takes up.
    pub fn half_switched(&self) -> bool {
        // Lists that change then are those of another switch.
        if !self.refused_by().is_empty() {
            return false;
        }
        if !self.after.left_lists.is_empty() && self.after.left_lists != self.before.left_lists {
            return true;
        }
        let ended = matches!(self.status, 0 | 2 | 3 | 4 | 100);
        let stays_stopped = |unit: &String| !self.runs_now(unit) && self.after.known.has(unit);
        !ended && self.action.activates() && self.words.stopped.iter().any(stays_stopped)
    }

    /// Units that ran before and do not run now, although they have a file. Some of them were stopped for another one.
    pub(super) fn left_stopped(&self) -> Vec<&str> {
        let ran =
            self.before.units.iter().filter(|(unit, state)| state.is_active() && belongs_to_system(unit));
        let units = ran.map(|(unit, _)| unit.as_str());
        units.filter(|unit| !self.runs_now(unit) && self.after.known.has(unit)).collect()
    }

    /// Returns the units that failed since the switch began, sorted. Those that had failed before are in
    /// [`Outcome::failed_before`].
    pub fn failed(&self) -> Vec<String> {
        let before = self.before.failed();
        self.all_failed().difference(&before).cloned().collect()
    }

    /// Returns the units that had failed before the switch, sorted.
    pub fn failed_before(&self) -> Vec<String> {
        self.before.failed().into_iter().collect()
    }

    /// Units that have failed after the switch, whether or not they had before.
    fn all_failed(&self) -> BTreeSet<String> {
        let mut failed = self.after.failed();
        // A unit that failed at once may be starting again by now.
        // Activation scripts write to the same output.
        let is_known = |unit: &&String| self.after.known.has(unit) || self.before.known.has(unit);
        if self.status == 4 {
            failed.extend(self.words.failed.iter().filter(is_known).cloned());
        }
        // It may run at this moment, and fail again in the next.
        failed.extend(self.after.crashing(&self.before).into_keys());
        failed
    }

    /// Whether a unit that ran before the switch was stopped or restarted, for any reason: systemd gives each start of a
    /// unit a new InvocationID. A reload does not count.
    ///
    /// A name without a suffix is the name of a service. A unit that neither systemd nor a unit file knew before the
    /// switch counts as disturbed, and a note says so: an assertion on a misspelt name must not pass.
    pub fn disturbed(&self, unit: &str) -> bool {
        let unit = &with_suffix(unit);
        if !self.before.known.has(unit) {
            self.note_unknown(unit, "it counts as disturbed");
            return true;
        }
        self.was_disturbed(self.before.known.id_of(unit))
    }

    fn was_disturbed(&self, unit: &str) -> bool {
        let Some(before) = self.before.units.get(unit).filter(|state| state.is_active()) else {
            return false;
        };
        self.after
            .units
            .get(unit)
            .is_none_or(|after| !after.is_active() || after.invocation != before.invocation)
    }

    /// Returns why a unit was touched: the keys of its file that differ, with both values; or the dependency by which
    /// systemd stopped or started it. The text is for a person.
    pub fn why(&self, unit: &str) -> String {
        let unit = &with_suffix(unit);
        super::why::of(self.systems.as_ref(), unit)
    }

    /// Returns all units that ran before the switch and were stopped or restarted, sorted.
    pub fn all_disturbed(&self) -> Vec<String> {
        let running = self.before.units.iter().filter(|(_, state)| state.is_active());
        running.map(|(name, _)| name).filter(|name| self.was_disturbed(name)).cloned().collect()
    }

    /// Returns the units of the system that were disturbed, without those that every switch restarts.
    pub(crate) fn disturbed_beyond_every_switch(&self) -> Vec<String> {
        let is_usual = |unit: &String| self.runs_now(unit) && self.after.marks.happens_at_every_switch(unit);
        let disturbed = self.all_disturbed().into_iter().filter(|unit| belongs_to_system(unit));
        disturbed.filter(|unit| !is_usual(unit)).collect()
    }

    /// Whether a unit started during the switch, or in the few seconds after it: a unit that runs now and did not, or a
    /// oneshot that ran again. It is `false`, with a note, for a unit that neither systemd nor a unit file knows: assert on
    /// [`Outcome::all_started`] where a misspelt name must not pass.
    pub fn started(&self, unit: &str) -> bool {
        let unit = &with_suffix(unit);
        if !self.after.known.has(unit) && !self.before.known.has(unit) {
            self.note_unknown(unit, "it did not start");
        }
        self.ran_again(self.after.known.id_of(unit))
    }

    fn ran_again(&self, unit: &str) -> bool {
        let Some(after) = self.after.units.get(unit).filter(|after| !after.invocation.is_empty()) else {
            return false;
        };
        self.before.units.get(unit).is_none_or(|before| before.invocation != after.invocation)
    }

    /// Returns all units that started, sorted.
    pub fn all_started(&self) -> Vec<String> {
        self.after.units.keys().filter(|unit| self.ran_again(unit)).cloned().collect()
    }

    /// Returns the running units whose file has another command now, sorted: the old program goes on running. That is
    /// no failure (`restartIfChanged = false`).
    pub fn stale(&self) -> Vec<String> {
        let is_stale = |(name, after): &(&String, &UnitState)| {
            let before = self.before.units.get(*name);
            let is_old = |before: &UnitState| {
                before.invocation == after.invocation
                    && before.is_active()
                    && after.runs_the_command_of(before)
            };
            after.is_active()
                && !after.command.is_empty()
                && !name.starts_with(OUR_UNITS)
                && before.is_some_and(is_old)
        };
        self.after.units.iter().filter(is_stale).map(|(name, _)| name.clone()).collect()
    }

    /// Returns a running unit's command before the switch and the one in its file now, for a unit of [`Outcome::stale`].
    pub fn commands(&self, unit: &str) -> Option<(&str, &str)> {
        let unit = with_suffix(unit);
        let unit = self.after.known.id_of(&unit);
        Some((&self.before.units.get(unit)?.command, &self.after.units.get(unit)?.command))
    }

    /// Returns the activation snippets that failed, in their order: name and status.
    pub fn failed_snippets(&self) -> Vec<(&str, &str)> {
        self.words.snippets.iter().map(|(name, status)| (name.as_str(), status.as_str())).collect()
    }

    /// Returns how accounts changed.
    pub fn accounts(&self) -> Accounts {
        let (before, after) = (&self.before.users, &self.after.users);
        let gone = before.keys().filter(|name| !after.contains_key(*name)).cloned().collect();
        let new = after.iter().filter(|(name, _)| !before.contains_key(*name));
        let renumbered = after.iter().filter_map(|(name, now)| {
            let was = before.get(name)?.number;
            (was != now.number).then(|| (name.clone(), was, now.number))
        });
        let foreign = after.values().filter_map(|account| {
            let owner = *self.after.homes.get(&account.home)?;
            (owner != account.number).then(|| (account.home.clone(), owner))
        });
        Accounts {
            gone,
            new: new.map(|(name, account)| (name.clone(), account.number)).collect(),
            renumbered: renumbered.collect(),
            kept: self.words.kept_numbers.clone(),
            foreign_homes: foreign.collect(),
        }
    }

    /// Returns the parts in which the booted system differs from the one that runs now: `kernel`, `initrd`,
    /// `kernel-modules`, `systemd`, `kernel-params`. Only a reboot shows what they do.
    pub fn needs_reboot(&self) -> &[String] {
        &self.after.needs_reboot
    }

    /// Returns what refused the switch before anything was done: components of the system that can't be exchanged while
    /// it runs, checks, and another switch that is under way. Empty if it was not refused.
    pub fn refused_by(&self) -> &[String] {
        if self.status == 0 { &[] } else { &self.words.refusals }
    }

    /// Returns folders and files of services' state that moved: the unit, the path before and the path after.
    /// They are paths in the command and the variables of a unit, such as `PGDATA`; those of the system itself (`/nix`,
    /// `/etc`, `/run` …) do not count. A database whose folder moves starts empty, and nothing fails.
    pub fn moved_state(&self) -> Vec<(String, String, String)> {
        super::state::moved(&self.before, &self.after)
    }

    /// Returns the network addresses that the machine had before and has not now. Every IPv4 address counts, also one
    /// that a server leases. An IPv6 address counts if it has global scope and stays for good. So one that a router
    /// announces does not count.
    pub fn lost_addresses(&self) -> Vec<String> {
        self.before.addresses.difference(&self.after.addresses).cloned().collect()
    }

    /// Returns the network addresses that the machine has now and had not before.
    pub fn new_addresses(&self) -> Vec<String> {
        self.after.addresses.difference(&self.before.addresses).cloned().collect()
    }

    /// Returns the files without which no user can log in, or the machine is another one (`/etc/passwd`, `/etc/shadow`,
    /// SSH host keys, `/etc/machine-id` …), that were in `/etc` before and are not now, or have other contents.
    pub fn lost_files(&self) -> Vec<String> {
        [self.after.lost_files(&self.before), self.after.changed_identity(&self.before)].concat()
    }

    /// Returns the lists of units that a switch that was broken off had left in /run/nixos when this one began. A switch
    /// that activates the system takes them up; with [`Action::Boot`] they stay.
    pub fn left_before(&self) -> Vec<String> {
        // They belong to a switch that is under way, or are left for the next one.
        if !self.refused_by().is_empty() {
            return Vec::new();
        }
        super::findings::lists(&self.before.left_lists)
    }

    /// Returns the file systems that were mounted before and are not now.
    pub fn unmounted(&self) -> Vec<String> {
        self.before.mounts.keys().filter(|path| !self.after.mounts.contains_key(*path)).cloned().collect()
    }

    /// Returns the ports that were listened on before and are not now, such as `tcp 22`.
    pub fn closed_ports(&self) -> Vec<String> {
        self.before.ports.difference(&self.after.ports).cloned().collect()
    }

    /// Returns the ports that are listened on now and were not before.
    pub fn opened_ports(&self) -> Vec<String> {
        self.after.ports.difference(&self.before.ports).cloned().collect()
    }

    /// Returns what the program printed: standard output, then standard error, without control characters.
    pub fn output(&self) -> String {
        crate::text::lines(format!("{}{}", self.stdout, self.stderr).trim())
    }

    /// Returns how long the program ran.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Whether the switch did what it was asked for, completely: no failed unit that had not failed before, no failed
    /// snippet, and the new system runs.
    pub fn is_clean(&self) -> bool {
        let before = self.before.failed();
        let only_old_failures = self.status == 4
            && self.words.failed_jobs.is_empty()
            && !self.words.failed.is_empty()
            && self.words.failed.iter().all(|unit| before.contains(unit));
        let done = match self.action {
            Action::Boot => true,
            Action::Test | Action::Switch => self.switched(),
        };
        (self.status == 0 || only_old_failures)
            && done
            && self.failed().is_empty()
            && self.words.snippets.is_empty()
            && !self.half_switched()
    }

    pub(super) fn runs_now(&self, unit: &str) -> bool {
        self.after.units.get(unit).is_some_and(UnitState::is_active)
    }

    fn note_unknown(&self, unit: &str, so: &str) {
        self.events.note(format!("{}: {}, so {so}", self.machine, self.before.known.unknown(unit)));
    }
}
