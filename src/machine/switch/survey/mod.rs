//! Looks at everything in a machine that a switch may change: units, accounts, links of the system, mounts, ports.
//!
//! What a switch did is judged by two such looks, one before and one after it. Its printed lists name neither the units
//! that systemd stopped for a dependency nor those that failed a second later.

mod differences;
mod read;
mod script;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use self::differences::{CRASHES, FAILED, SNIPPETS};
use super::known::KnownUnits;
use super::usual::{Marks, ends_with_a_session};

/// Begins the name of a section. A control character begins no line of the files and lists that are read.
const MARK: char = '\u{1e}';

/// The links of a system that a switch can't change until the next boot.
const BOOTED: [&str; 4] = ["kernel", "initrd", "kernel-modules", "systemd"];

/// What was seen in the machine at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// The path of the system that the machine is switched to.
    pub(crate) target: String,
    /// Units that systemd has loaded, by name.
    pub(crate) units: BTreeMap<String, UnitState>,
    /// The names of those units, other than the ones without a file, and of all unit files.
    pub(crate) known: KnownUnits,
    /// What the files of units say about switches and boots.
    pub(crate) marks: Marks,
    /// The target of /run/current-system.
    pub(crate) current: String,
    /// The target of /run/booted-system.
    pub(crate) booted: String,
    /// The parts in which the booted system differs from the current one: `kernel`, `initrd`, `kernel-modules`,
    /// `systemd`, `kernel-params`.
    pub(crate) needs_reboot: Vec<String>,
    /// Kernel parameters that only the booted system (`-quiet`) or only the current one (`+quiet`) has.
    pub(crate) parameters: Vec<String>,
    /// Lists that an interrupted switch left in /run/nixos: the file's name, and the units in it.
    pub(crate) left_lists: BTreeMap<String, Vec<String>>,
    /// Accounts: name to user number and home folder.
    pub(crate) users: BTreeMap<String, Account>,
    /// Groups: name to number.
    pub(crate) groups: BTreeMap<String, u32>,
    /// Home folders: path to the number of the owner.
    pub(crate) homes: BTreeMap<String, u32>,
    /// Mounted file systems: path to type and source.
    pub(crate) mounts: BTreeMap<String, String>,
    /// Mount points in /etc/fstab.
    pub(crate) fstab: BTreeSet<String>,
    /// Ports that are listened on, such as `tcp 22`.
    pub(crate) ports: BTreeSet<String>,
    /// Addresses of the network cards that do not come and go by themselves.
    pub(crate) addresses: BTreeSet<String>,
    /// Files in /etc without which no user can log in.
    pub(crate) etc: BTreeSet<String>,
    /// What tells this machine from others: path to first line of the file.
    pub(crate) identity: BTreeMap<String, String>,
    /// Folders of services below /var/lib.
    pub(crate) state_folders: BTreeSet<String>,
    /// What the log of this boot says of activation snippets that failed.
    pub(crate) snippets: BTreeSet<String>,
    /// The number of this boot.
    pub(crate) boot: String,
    /// How often each unit has failed in this boot; `None` if the log could not be read.
    pub(crate) failures: Option<BTreeMap<String, u32>>,
}

/// The state of one unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UnitState {
    pub(crate) load: String,
    pub(crate) active: String,
    pub(crate) sub: String,
    pub(crate) result: String,
    /// Changes with each start.
    pub(crate) invocation: String,
    /// How often systemd started it again by itself since it was last started by a job.
    pub(crate) restarts: u32,
    /// The program of the unit's file, with its arguments.
    pub(crate) command: String,
    /// The command line of its main process.
    pub(crate) running: String,
    /// Its variables and the names of its state folders, as systemd prints them.
    pub(crate) environment: String,
    /// The timers that start it.
    pub(crate) timers: Vec<String>,
}

/// A user's account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) number: u32,
    pub(crate) home: String,
}

impl UnitState {
    /// Whether it runs: a unit that starts or reloads does, too. One that has ended and waits to be started again does not.
    pub(crate) fn is_active(&self) -> bool {
        !self.sub.starts_with("auto-restart")
            && matches!(self.active.as_str(), "active" | "reloading" | "refreshing" | "activating")
    }

    /// Whether its main process runs the command that its file had `before`, and not the one that the file has now. A unit
    /// whose command has ended (`RemainAfterExit=`, such as NixOS's firewall) runs none.
    pub(crate) fn runs_the_command_of(&self, before: &Self) -> bool {
        if self.sub == "exited" {
            return false;
        }
        // A script stands behind its interpreter.
        let runs = |command: &str| {
            let before = self.running.strip_suffix(command);
            !command.is_empty() && before.is_some_and(|words| words.is_empty() || words.ends_with(' '))
        };
        if self.command == before.command || runs(&self.command) {
            return false;
        }
        runs(&before.command) || !self.runs_its_program()
    }

    /// Whether the command line of its main process shows the program of its file, as after a rollback of a unit that was
    /// left alone. Some programs put words around their command line.
    fn runs_its_program(&self) -> bool {
        let program = self.command.split_ascii_whitespace().next();
        program.is_some_and(|program| self.running.split_ascii_whitespace().any(|word| word == program))
    }

    /// Whether it has failed, or waits to be started again after a failure.
    pub(crate) fn has_failed(&self) -> bool {
        self.active == "failed" || (self.sub.starts_with("auto-restart") && self.result != "success")
    }
}

impl Survey {
    /// Whether a timer starts a unit that ran before and goes on: a start of the unit says nothing about a switch.
    pub(crate) fn has_a_timer_since(&self, before: &Self, unit: &str) -> bool {
        let invocation = |survey: &Self, timer: &str| {
            let state = survey.units.get(timer).filter(|state| state.is_active());
            state.map(|state| state.invocation.clone())
        };
        let goes_on = |timer: &String| {
            let was = invocation(before, timer);
            was.is_some() && was == invocation(self, timer)
        };
        self.units.get(unit).is_some_and(|state| state.timers.iter().any(goes_on))
    }

    /// Returns the units that failed and were started again by systemd since `before`, each with how often.
    pub(crate) fn crashing(&self, before: &Self) -> BTreeMap<String, u32> {
        let since = |name: &str, now: &UnitState| {
            let Some(was) = before.units.get(name) else { return now.restarts };
            // A job that starts the unit sets the number back, and so does a boot.
            let is_another_run = was.invocation != now.invocation;
            let is_set_back = now.restarts < was.restarts || (now.restarts == was.restarts && is_another_run);
            if is_set_back { now.restarts } else { now.restarts.saturating_sub(was.restarts) }
        };
        // systemd also starts a unit again that has ended well (`Restart=always`).
        let has_failed = |name: &str| {
            let Some(failures) = &self.failures else { return true };
            let earlier = before.failures.as_ref().filter(|_| before.boot == self.boot);
            let count = |failures: &BTreeMap<String, u32>| failures.get(name).copied().unwrap_or_default();
            count(failures) > earlier.map_or(0, count)
        };
        let units = self.units.iter().filter(|(name, _)| !ends_with_a_session(name));
        let units = units.map(|(name, state)| (name.clone(), since(name, state)));
        units.filter(|(name, count)| *count > 0 && has_failed(name)).collect()
    }

    /// Returns the units that have failed, sorted.
    pub(crate) fn failed(&self) -> BTreeSet<String> {
        let failed = self.units.iter().filter(|(_, state)| state.has_failed());
        failed.map(|(name, _)| name.clone()).collect()
    }
}
