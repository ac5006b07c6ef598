//! Reads what `switch-to-configuration` prints: lists of units, failed activation snippets, refusals.
//!
//! The Perl program and the one in Rust print the same lists (nixpkgs: `switch-to-configuration.pl`,
//! `switch-to-configuration-ng`), some on standard output and some on standard error. Activation scripts write to the
//! same two streams. So only whole beginnings of lines count.

/// Beginnings of lines about jobs that failed: the program's own, and those of `systemctl`.
const FAILED_JOBS: [&str; 5] =
    ["Failed to start ", "Failed to restart ", "Failed to stop ", "Failed to reload ", "Job for "];

/// What the program printed, sorted by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Words {
    /// Units that were or would be stopped.
    pub(crate) stopped: Vec<String>,
    /// Units that were or would be restarted.
    pub(crate) restarted: Vec<String>,
    /// Units that were or would be reloaded.
    pub(crate) reloaded: Vec<String>,
    /// Units that were or would be started.
    pub(crate) started: Vec<String>,
    /// Units that started in addition.
    pub(crate) new: Vec<String>,
    /// Units that changed and were or would be left alone.
    pub(crate) skipped: Vec<String>,
    /// Units that had failed when the program ended.
    pub(crate) failed: Vec<String>,
    /// What the program says of jobs that failed.
    pub(crate) failed_jobs: Vec<String>,
    /// Activation snippets that failed, with their status.
    pub(crate) snippets: Vec<(String, String)>,
    /// Why a check before the switch refused it.
    pub(crate) refusals: Vec<String>,
    /// Accounts whose number differs from the configuration's, in the program's words.
    pub(crate) kept_numbers: Vec<String>,
    /// Whether the lines of a list of refusals follow.
    in_refusals: bool,
    /// Whether systemd was or would be executed again.
    pub(crate) restarts_systemd: bool,
    /// Whether the activation began.
    pub(crate) activates: bool,
}

impl Words {
    /// Reads both outputs.
    pub(crate) fn of(stdout: &str, stderr: &str) -> Self {
        let mut words = Self::default();
        for line in stdout.lines().chain(stderr.lines()) {
            words.line(line.trim_end());
        }
        for list in [
            &mut words.stopped,
            &mut words.restarted,
            &mut words.reloaded,
            &mut words.started,
            &mut words.new,
            &mut words.skipped,
            &mut words.failed,
        ] {
            list.sort_unstable();
            list.dedup();
        }
        words
    }

    /// Whether each message about a job says only that systemd did not answer in time.
    pub(crate) fn no_job_failed(&self) -> bool {
        self.failed_jobs.iter().all(|line| line.contains(": Did not receive a reply."))
    }

    fn line(&mut self, line: &str) {
        if line.is_empty() {
            return;
        }
        // The built-in check lists one component a line, between these two sentences.
        if line.starts_with("There are changes to critical components") {
            self.in_refusals = true;
            return;
        }
        if self.in_refusals && line.starts_with("Switching into") {
            self.in_refusals = false;
            return;
        }
        if line == "activating the configuration..." {
            self.activates = true;
            return;
        }
        if line == "restarting systemd..." || line == "would restart systemd" {
            self.restarts_systemd = true;
            return;
        }
        if FAILED_JOBS.iter().any(|words| line.starts_with(words)) {
            self.failed_jobs.push(line.to_owned());
        } else if let Some((name, status)) = snippet(line) {
            self.snippets.push((name.to_owned(), status.to_owned()));
        } else if self.in_refusals {
            let component = line.trim_start().trim_start_matches("- ");
            self.refusals.push(component.replacen(" : ", ": ", 1));
        } else if let Some(check) = refusal(line) {
            // The built-in check has named the components.
            if check != "switchInhibitors" || self.refusals.is_empty() {
                self.refusals.push(check.to_owned());
            }
        } else if line.starts_with("warning: not applying UID change")
            || line.starts_with("warning: not applying GID change")
        {
            self.kept_numbers.push(line.trim_start_matches("warning: ").to_owned());
        } else if let Some((list, units)) = self.list(line) {
            list.extend(units.split(", ").map(|unit| unit.trim().to_owned()).filter(|unit| !unit.is_empty()));
        }
    }

    /// Returns the list that a line belongs to, and the units in the line.
    fn list<'a>(&mut self, line: &'a str) -> Option<(&mut Vec<String>, &'a str)> {
        let (heading, units) = line.split_once(": ")?;
        if heading == "warning" {
            // The newest program has the same lists for the units of users.
            let mut lists = ["the following units failed: ", "the following user units failed: "].into_iter();
            return Some((&mut self.failed, lists.find_map(|heading| units.strip_prefix(heading))?));
        }
        let heading = heading.strip_prefix("would ").unwrap_or(heading);
        let mut kinds = ["units", "changed units", "user units", "changed user units"].into_iter();
        let what = kinds.find_map(|kind| heading.strip_suffix(kind)?.strip_suffix(" the following "));
        let list = match (what, heading) {
            (Some("stop" | "stopping"), _) => &mut self.stopped,
            (Some("restart" | "restarting"), _) => &mut self.restarted,
            (Some("reload" | "reloading"), _) => &mut self.reloaded,
            (Some("start" | "starting"), _) => &mut self.started,
            (Some("NOT stop" | "NOT restart" | "NOT stopping" | "NOT restarting"), _) => &mut self.skipped,
            (_, "the following new units were started" | "the following new user units were started") => {
                &mut self.new
            }
            _ => return None,
        };
        Some((list, units))
    }
}

/// Reads `Activation script snippet 'NAME' failed (STATUS)`.
fn snippet(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.strip_prefix("Activation script snippet '")?.split_once("' failed (")?;
    Some((name, rest.strip_suffix(')')?))
}

/// Reads `Pre-switch check 'NAME' failed`.
fn refusal(line: &str) -> Option<&str> {
    line.strip_prefix("Pre-switch check '")?.split_once("' failed").map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_programs_lists_are_read() {
        let words = Words::of(
            "setting up /etc...\nActivation script snippet 'setupSecrets' failed (1)\n",
            "stopping the following units: changes.service, web.service\n\
             NOT restarting the following changed units: serial-getty@ttyS0.service\n\
             activating the configuration...\n\
             restarting systemd...\n\
             reloading user units for alice...\n\
             restarting sysinit-reactivation.target\n\
             reloading the following units: dbus.service\n\
             restarting the following units: late.service\n\
             starting the following units: changes.service\n\
             the following new units were started: fresh.service\n\
             warning: the following units failed: bad.service, worse.service\n",
        );
        assert_eq!(words.stopped, ["changes.service", "web.service"]);
        assert_eq!(words.skipped, ["serial-getty@ttyS0.service"]);
        assert_eq!(words.reloaded, ["dbus.service"]);
        assert_eq!(words.restarted, ["late.service"]);
        assert_eq!(words.started, ["changes.service"]);
        assert_eq!(words.new, ["fresh.service"]);
        assert_eq!(words.failed, ["bad.service", "worse.service"]);
        assert_eq!(words.snippets, [("setupSecrets".to_owned(), "1".to_owned())]);
        assert!(words.restarts_systemd);
    }

    #[test]
    fn a_dry_run_has_the_same_lists() {
        let words = Words::of(
            "",
            "would stop the following units: a.service\nwould NOT stop the following changed units: b.service\n\
             would NOT restart the following changed units: c.service\nwould activate the configuration...\n\
             would reload the following units: d.service\nwould restart the following units: e.service\n\
             would start the following units: f.service\n",
        );
        assert_eq!(
            (words.stopped, words.reloaded),
            (vec!["a.service".to_owned()], vec!["d.service".to_owned()])
        );
        assert_eq!(words.skipped, ["b.service", "c.service"]);
        assert_eq!(
            (words.restarted, words.started),
            (vec!["e.service".to_owned()], vec!["f.service".to_owned()])
        );
    }

    #[test]
    fn a_refusal_names_the_component() {
        let words = Words::of(
            "",
            "There are changes to critical components of the system:\n\n- dbus-implementation: dbus -> broker\n\
             init : a -> b\n\n\
             Switching into this system is not recommended.\nPre-switch check 'switchInhibitors' failed\n",
        );
        assert_eq!(words.refusals, ["dbus-implementation: dbus -> broker", "init: a -> b"]);
    }

    /// What the program in Rust of 2024-09 printed on NixOS's own modules on a loaded host, shortened. It prints the
    /// status of units that failed on standard output.
    #[test]
    fn a_bad_switch_by_the_program_in_rust_is_read() {
        let words = Words::of(
            "setting up /etc...\nActivation script snippet 'trouble' failed (1)\n\
             × fails.service\n     Loaded: loaded (/etc/systemd/system/fails.service; enabled; preset: enabled)\n\
             Nov 30 06:15:30 nixos systemd[1]: Failed to start fails.service.\n",
            "stopping the following units: changes.service, fresh.service, postgresql.service\n\
             NOT restarting the following changed units: left.service\n\
             activating the configuration...\nremoving user ‘bob’\nFailed to run activate script\n\
             reloading user units for alice...\nError: Failed to restart nixos-activation.service\n\nCaused by:\n    \
             Message recipient disconnected from message bus without replying\n\
             restarting sysinit-reactivation.target\n\
             reloading the following units: dbus.service, stc-loaded.service\n\
             restarting the following units: late.service\n\
             starting the following units: changes.service, postgresql.service\n\
             warning: the following units failed: dies.service, fails.service\n",
        );
        assert_eq!(words.stopped, ["changes.service", "fresh.service", "postgresql.service"]);
        assert_eq!(words.skipped, ["left.service"]);
        assert_eq!(words.reloaded, ["dbus.service", "stc-loaded.service"]);
        assert_eq!(words.failed, ["dies.service", "fails.service"]);
        assert_eq!(words.snippets, [("trouble".to_owned(), "1".to_owned())]);
        assert!(words.failed_jobs.is_empty(), "the journal's lines and a user's manager are no jobs");
    }

    #[test]
    fn what_an_activation_script_prints_is_no_list() {
        let words = Words::of("my script is stopping the following units: x.service\n", "a: b -> c\n");
        assert_eq!(words, Words::default());
    }
}
