//! What a switch did, in words: one line, and one list for each kind of difference.

use std::collections::BTreeMap;
use std::fmt;

use super::Action;
use super::outcome::Outcome;
use super::survey::{SNIPPETS, UnitState};
use super::usual::belongs_to_system;

/// Shows lists of units that an interrupted switch left.
pub(super) fn lists(lists: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    lists.iter().map(|(list, units)| format!("{list}: {}", units.join(" "))).collect()
}

impl Outcome {
    /// Returns the summary of a switch in one line.
    pub(crate) fn summary(&self) -> String {
        let failed = self.failed();
        let mut parts = vec![self.state()];
        if !self.refused_by().is_empty() {
            parts.push(format!("refused before anything was done: {}", self.refused_by().join(", ")));
        }
        match failed.as_slice() {
            [] => {}
            [unit] => parts.push(format!("{unit} failed")),
            units => parts.push(format!("{} units failed: {}", units.len(), units.join(", "))),
        }
        if self.status != 0 {
            parts.extend(self.words.failed_jobs.iter().cloned());
        }
        for (name, status) in &self.words.snippets {
            parts.push(format!("activation snippet {name} failed ({status})"));
        }
        let is_explained =
            !self.refused_by().is_empty() || !failed.is_empty() || !self.words.snippets.is_empty();
        if self.status != 0 && !is_explained {
            parts.push(format!("status {}: {}", self.status, self.meaning()));
        }
        crate::text::line(&parts.join("; "))
    }

    /// Says which system the machine runs now.
    fn state(&self) -> String {
        if self.half_switched() {
            let units = self.left_stopped();
            let number = match units.len() {
                0 => return "half switched".to_owned(),
                1 => "1 unit was".to_owned(),
                number => format!("{number} units were"),
            };
            return format!("half switched: {number} stopped and not started: {}", units.join(", "));
        }
        let state = match (self.switched() && self.refused_by().is_empty(), self.back) {
            (true, false) => "switched",
            (true, true) => "rolled back",
            (false, _) if self.action == Action::Boot && self.status == 0 => "set for the next boot",
            (false, false) => "not switched",
            (false, true) => "not rolled back",
        };
        state.to_owned()
    }

    /// Returns the parts that only a reboot changes, with the kernel parameters that differ.
    fn after_a_reboot(&self) -> Vec<String> {
        let part = |part: &String| match part.as_str() {
            "kernel-params" => format!("kernel-params ({})", self.after.parameters.join(" ")),
            part => part.to_owned(),
        };
        self.needs_reboot().iter().map(part).collect()
    }

    /// Returns the units that started without a change of their files, with the reason, and all others that started.
    fn started_units(&self, restarted: &[String]) -> (Vec<String>, Vec<String>) {
        let (mut unchanged, mut others) = (Vec::new(), Vec::new());
        let printed = |unit: &String| self.words.started.contains(unit) || self.words.new.contains(unit);
        let is_news = |unit: &String| {
            !restarted.contains(unit)
                && belongs_to_system(unit)
                && !self.after.marks.happens_at_every_switch(unit)
                && (printed(unit) || !self.after.has_a_timer_since(&self.before, unit))
        };
        for unit in self.all_started().into_iter().filter(is_news) {
            let targets = super::why::unchanged(self.systems.as_ref(), &unit);
            match targets.filter(|_| !self.words.started.contains(&unit) && !self.ran_before(&unit)) {
                Some(targets) if targets.is_empty() => unchanged.push(format!("{unit} (it was not active)")),
                Some(targets) => {
                    unchanged
                        .push(format!("{unit} ({} wants it, and it was not active)", targets.join(", ")));
                }
                None => others.push(unit),
            }
        }
        (unchanged, others)
    }

    fn ran_before(&self, unit: &str) -> bool {
        self.before.units.get(unit).is_some_and(UnitState::is_active)
    }

    /// Returns what became of mounts: those that are gone, and those that should be and are used.
    fn mounts(&self) -> (Vec<String>, Vec<String>) {
        let lost_line = |path: &str| self.before.fstab.contains(path) && !self.after.fstab.contains(path);
        let gone = self.unmounted().into_iter().map(|path| match lost_line(&path) {
            true => format!("{path} (its line is gone from /etc/fstab)"),
            false => path,
        });
        let held = self.holders.iter().map(|(path, processes)| match processes.is_empty() {
            true => path.clone(),
            false => format!("{path} (used by {})", processes.join(", ")),
        });
        (gone.collect(), held.collect())
    }

    /// Returns what is different after the switch: one list for each kind that is not empty. What every switch does is
    /// left out.
    pub(crate) fn findings(&self) -> Vec<(&'static str, Vec<String>)> {
        let accounts = self.accounts();
        // Every change of the system's packages reloads the bus.
        let is_bus = |unit: &String| matches!(unit.as_str(), "dbus.service" | "dbus-broker.service");
        let reloaded = self.words.reloaded.iter().filter(|unit| !is_bus(unit)).cloned().collect();
        let (restarted, stopped): (Vec<String>, Vec<String>) =
            self.disturbed_beyond_every_switch().into_iter().partition(|unit| self.runs_now(unit));
        let (unchanged, started) = self.started_units(&restarted);
        let (unmounted, still_mounted) = self.mounts();
        let snippets =
            self.failed_snippets().iter().map(|(name, status)| format!("{name} ({status})")).collect();
        let renumbered = accounts.renumbered.iter().map(|(name, was, is)| format!("{name} ({was} to {is})"));
        let owned = accounts.foreign_homes.iter().map(|(path, owner)| format!("{path} belongs to {owner}"));
        let new = accounts.new.iter().map(|(name, number)| format!("{name} ({number})"));
        let lists = [
            ("failed", self.failed()),
            ("failed before the switch", self.failed_before()),
            (SNIPPETS, snippets),
            ("left by an interrupted switch", self.left_before()),
            ("stopped", stopped),
            ("restarted", restarted),
            ("reloaded", reloaded),
            ("started", started),
            ("ran, though unchanged", unchanged),
            ("changed and left alone", self.words.skipped.clone()),
            (
                "still runs its old command",
                self.stale().iter().map(|unit| self.stale_command(unit)).collect(),
            ),
            ("state that moved", self.moved_state_lines()),
            ("new accounts", new.collect()),
            ("accounts that are gone", accounts.gone),
            ("accounts with another number", renumbered.collect()),
            ("accounts that kept their number", accounts.kept),
            ("groups that are gone", self.after.lost_groups(&self.before)),
            ("groups with another number", self.after.renumbered_groups(&self.before)),
            ("homes of other users", owned.collect()),
            ("unmounted", unmounted),
            ("could not be unmounted", still_mounted),
            ("closed ports", self.closed_ports()),
            ("new ports", self.opened_ports()),
            ("addresses that are gone", self.lost_addresses()),
            ("new addresses", self.new_addresses()),
            ("gone from /etc", self.after.lost_files(&self.before)),
            ("another identity", self.after.changed_identity(&self.before)),
            ("only a reboot shows", self.after_a_reboot()),
            ("left in /run/nixos", lists(&self.after.left_lists)),
        ];
        lists.into_iter().filter(|(_, list): &(_, Vec<String>)| !list.is_empty()).collect()
    }

    /// Returns a line for each path of a service's state that moved.
    pub(super) fn moved_state_lines(&self) -> Vec<String> {
        let line = |(unit, before, after): (String, String, String)| {
            let is_new =
                self.after.state_folders.contains(&after) && !self.before.state_folders.contains(&after);
            let new = if is_new { ", which was not there before" } else { "" };
            format!("{unit}: {before} to {after}{new}")
        };
        self.moved_state().into_iter().map(line).collect()
    }

    fn stale_command(&self, unit: &str) -> String {
        let program = |command: &str| command.split_ascii_whitespace().next().unwrap_or_default().to_owned();
        match self.commands(unit) {
            Some((runs, file)) => {
                let (old, new) = (program(runs), program(file));
                let (old, new) = if old == new { (runs.to_owned(), file.to_owned()) } else { (old, new) };
                format!("{unit} (runs {old}, its file has {new})")
            }
            None => unit.to_owned(),
        }
    }
}

/// Shows what is different after the switch, one line for each kind.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.machine, self.summary())?;
        for (what, list) in self.findings() {
            write!(f, "\n  {what}: {}", crate::text::line(&list.join(", ")))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::survey::Survey;
    use super::super::words::Words;
    use super::*;
    use crate::Events;

    /// Makes a look at a machine that runs a system, with units and their states.
    fn look(current: &str, units: &[(&str, &str)]) -> Survey {
        let unit = |(name, active): &(&str, &str)| {
            let state = UnitState { active: (*active).to_owned(), ..UnitState::default() };
            ((*name).to_owned(), state)
        };
        Survey {
            current: current.to_owned(),
            known: super::super::known::KnownUnits::of(
                "",
                &units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join("\n"),
            ),
            units: units.iter().map(unit).collect(),
            ..Survey::default()
        }
    }

    fn outcome(status: i32, stderr: &str, before: Survey, after: Survey) -> Outcome {
        Outcome {
            machine: "web".to_owned(),
            events: Events::new(|_| {}),
            target: "/nix/store/next".to_owned(),
            action: Action::Switch,
            back: false,
            status,
            words: Words::of("", stderr),
            stdout: String::new(),
            stderr: stderr.to_owned(),
            before,
            after,
            took: Duration::ZERO,
            systems: None,
            journals: BTreeMap::new(),
            holders: BTreeMap::new(),
        }
    }

    #[test]
    fn the_first_words_say_which_system_runs() {
        let (today, next) = ("/nix/store/today", "/nix/store/next");
        let unit = |state| [("a.service", state), ("b.service", state)];
        let (up, down) = (unit("active"), unit("inactive"));
        let broken = outcome(4, "", look(today, &up), look(next, &unit("failed")));
        assert_eq!(broken.summary(), "switched; 2 units failed: a.service, b.service");
        let back = Outcome { back: true, ..broken };
        assert_eq!(back.summary(), "rolled back; 2 units failed: a.service, b.service");
        let killed =
            outcome(137, "stopping the following units: a.service\n", look(today, &up), look(today, &down));
        assert_eq!(
            killed.summary(),
            "half switched: 2 units were stopped and not started: a.service, b.service; status 137: the program ended \
             in the middle"
        );
        let said = "There are changes to critical components of the system:\n\ndbus-implementation : dbus -> broker\n\n\
                    Switching into this system is not recommended.\nPre-switch checks failed\n";
        let refused = outcome(1, said, look(today, &up), look(today, &up));
        assert_eq!(
            refused.summary(),
            "not switched; refused before anything was done: dbus-implementation: dbus -> broker"
        );
        let reboot = outcome(100, "", look(today, &up), look(today, &up));
        let words = "not activated, it takes effect at the next boot";
        assert!(reboot.summary().ends_with(words), "{}", reboot.summary());
    }

    #[test]
    fn a_database_whose_folder_moves_and_what_is_gone_are_findings() {
        let mut before = look("/nix/store/today", &[("postgresql.service", "active")]);
        let mut after = look("/nix/store/next", &[("postgresql.service", "active")]);
        for (look, version) in [(&mut before, "15"), (&mut after, "17")] {
            if let Some(unit) = look.units.get_mut("postgresql.service") {
                unit.environment = format!("Environment=PGDATA=/var/lib/postgresql/{version}");
            }
            look.state_folders.insert(format!("/var/lib/postgresql/{version}"));
        }
        before.etc.insert("/etc/shadow".to_owned());
        before.addresses.insert("10.0.2.15".to_owned());
        before.mounts.insert("/data".to_owned(), "ext4 /dev/vdb".to_owned());
        before.fstab.insert("/data".to_owned());
        before.left_lists.insert("start-list".to_owned(), vec!["a.service".to_owned()]);
        after.needs_reboot.push("kernel-params".to_owned());
        after.parameters = vec!["-quiet".to_owned(), "+panic=5".to_owned()];
        let shown = outcome(0, "", before, after).to_string();
        for line in [
            "state that moved: postgresql.service: /var/lib/postgresql/15 to /var/lib/postgresql/17, which was not there \
             before",
            "unmounted: /data (its line is gone from /etc/fstab)",
            "gone from /etc: /etc/shadow",
            "addresses that are gone: 10.0.2.15",
            "left by an interrupted switch: start-list: a.service",
            "only a reboot shows: kernel-params (-quiet +panic=5)",
        ] {
            assert!(shown.contains(line), "{line:?} is not in:\n{shown}");
        }
    }
}
