//! What happens at every switch, or only at the first boot of a disk, and is no news after a switch.

use std::collections::BTreeSet;

/// Units that the first switch after a boot starts, or every switch.
const AT_EVERY_SWITCH: [&str; 3] =
    ["sysinit-reactivation.target", "systemd-tmpfiles-resetup.service", "nixos-activation.service"];

/// Whether systemd starts a unit again after each session on its terminal.
pub(super) fn ends_with_a_session(unit: &str) -> bool {
    ["getty@", "serial-getty@", "autovt@", "console-getty.", "container-getty@"]
        .iter()
        .any(|name| unit.starts_with(name))
}

/// Whether a unit is a part of the system, and not of a session, of a single command, of a switch itself or of the
/// control channel.
pub(crate) fn belongs_to_system(unit: &str) -> bool {
    let passing = ["user@", "user.slice", "nixvm-", "systemd-fsck@", "nixos-rebuild-switch-to-"];
    // logind and systemd-run name units by numbers: `session-c1.scope`, `user-1000.slice`, `run-r0f.service`, `run-u7.service`.
    let is_numbered = |begin: &str, kinds: &str| {
        unit.strip_prefix(begin).and_then(|rest| rest.split('.').next()).is_some_and(|rest| {
            let digits = rest.trim_start_matches(|c| kinds.contains(c));
            !digits.is_empty()
                && rest.len() - digits.len() <= 1
                && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    };
    let is_passing = is_numbered("session-", "c") || is_numbered("user-", "") || is_numbered("run-", "rup");
    let kinds = [".service", ".socket", ".timer", ".path", ".mount", ".target", ".swap"];
    kinds.iter().any(|kind| unit.ends_with(kind))
        && !is_passing
        && !passing.iter().any(|name| unit.starts_with(name))
        && !AT_EVERY_SWITCH.contains(&unit)
}

/// What the files of units say about switches and boots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Units that run at the first boot of a disk, or after an update of the system, and not at others.
    first_boot: BTreeSet<String>,
    /// Targets that every switch stops and starts again.
    cycled: BTreeSet<String>,
}

impl Marks {
    /// Prints the lines of unit files that say it. On NixOS, additions to a unit of systemd's own are in a folder beside
    /// it.
    pub(crate) const SCRIPT: &str = "grep -sHE '^(ConditionNeedsUpdate|ConditionFirstBoot|X-StopOnReconfiguration)=' \
                                     /etc/systemd/system/*.service /etc/systemd/system/*.target \
                                     /etc/systemd/system/*.d/*.conf /usr/lib/systemd/system/*.service \
                                     /lib/systemd/system/*.service";

    /// Reads what the script prints.
    pub(crate) fn of(printed: &str) -> Self {
        let mut marks = Self::default();
        for line in printed.lines() {
            let Some((path, mark)) = line.split_once(':') else { continue };
            let mut names = path.rsplit('/');
            let (file, folder) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
            let unit = folder.strip_suffix(".d").unwrap_or(file).to_owned();
            match mark.split_once('=') {
                Some(("X-StopOnReconfiguration", value)) => {
                    if matches!(value.trim(), "true" | "yes" | "1" | "on") {
                        marks.cycled.insert(unit);
                    }
                }
                _ => {
                    marks.first_boot.insert(unit);
                }
            }
        }
        marks
    }

    /// Whether a unit runs at the first boot of a disk, or after an update of the system, and not at others.
    pub(crate) fn is_of_first_boot(&self, unit: &str) -> bool {
        self.first_boot.contains(unit)
    }

    /// Whether a switch restarts or starts a unit although nothing changed: targets that it stops so that units start in
    /// their order, and oneshots of NixOS and systemd that run again because a target that is started wants them.
    pub(crate) fn happens_at_every_switch(&self, unit: &str) -> bool {
        self.cycled.contains(unit) || unit == "suid-sgid-wrappers.service" || unit.starts_with("modprobe@")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_sessions_and_single_commands_are_known_by_their_numbers() {
        for unit in [
            "session-3.scope",
            "session-c1.service",
            "user-1000.target",
            "run-u12.service",
            "run-r0f3a.timer",
        ] {
            assert!(!belongs_to_system(unit), "{unit}");
        }
        for unit in ["session-store.service", "user-sync.service", "run-backup.service", "run-data.mount"] {
            assert!(belongs_to_system(unit), "{unit}");
        }
    }

    #[test]
    fn what_every_switch_does_is_known_from_the_files_of_units() {
        let marks = Marks::of(
            "/etc/systemd/system/systemd-update-done.service:ConditionNeedsUpdate=|/etc\n\
             /etc/systemd/system/local-fs.target.d/overrides.conf:X-StopOnReconfiguration=true\n\
             /etc/systemd/system/own.target:X-StopOnReconfiguration=false\n",
        );
        for unit in ["local-fs.target", "suid-sgid-wrappers.service", "modprobe@efi_pstore.service"] {
            assert!(marks.happens_at_every_switch(unit), "{unit}");
        }
        for unit in ["own.target", "systemd-update-done.service", "sshd.service", "overrides.conf"] {
            assert!(!marks.happens_at_every_switch(unit), "{unit}");
        }
        assert!(
            marks.is_of_first_boot("systemd-update-done.service") && !marks.is_of_first_boot("own.target")
        );
    }
}
