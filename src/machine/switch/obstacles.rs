//! What stands in the way of a switch: another one that is under way, and programs that use a file system.

use std::collections::BTreeMap;

use super::outcome::Outcome;
use super::report::ANSWER;
use super::{UNIT, text_of};
use crate::machine::Machine;
use crate::machine::command_text::quoted;

/// Begins the reason of a refusal by another switch.
pub(super) const ANOTHER: &str = "another switch";
/// The lock of a switch that runs.
const LOCK: &str = "/run/nixos/switch-to-configuration.lock";
/// How many file systems are looked at, because each takes the machine a moment.
const MOUNTS: usize = 5;
/// How many processes are named that use a file system.
const HOLDERS: usize = 10;

impl Outcome {
    /// Returns the file systems that the switch was to unmount and that are mounted: their line is gone from
    /// /etc/fstab, or a job of theirs failed.
    pub(super) fn still_mounted(&self) -> Vec<String> {
        let has_failed = |path: &str| {
            let unit = mount_unit(path);
            self.words.failed_jobs.iter().any(|job| job.split_ascii_whitespace().any(|word| word == unit))
        };
        let lost_line = |path: &String| self.before.fstab.contains(path) && !self.after.fstab.contains(path);
        let both = self.before.mounts.keys().filter(|path| self.after.mounts.contains_key(*path));
        both.filter(|path| lost_line(path) || has_failed(path)).cloned().collect()
    }
}

impl Machine {
    /// Returns which other switch refused this one: its process, and since when it runs. `None` if none did.
    pub(super) async fn other_switch(&self, status: i32, stderr: &str) -> Option<String> {
        let is_loaded = stderr.contains(&format!("Unit {UNIT}.service was already loaded"));
        if !(is_loaded || status == 11 && stderr.contains("lock")) {
            return None;
        }
        let text = format!(
            "systemctl show -p MainPID -p ExecMainStartTimestamp {UNIT}.service; \
             find /proc/[0-9]*/fd -lname {LOCK} -printf 'lock=%h\\n' 2>/dev/null || true"
        );
        let asked = self.root().command(&text).within(ANSWER).named("look for another switch").output().await;
        let said = asked.map(|output| text_of(output.bytes())).unwrap_or_default();
        Some(other(&said, is_loaded))
    }

    /// Returns the processes that use file systems: their numbers and command lines.
    pub(super) async fn holders_of(&self, mounts: &[String]) -> BTreeMap<String, Vec<String>> {
        let mut holders = BTreeMap::new();
        for mount in mounts.iter().take(MOUNTS) {
            let pattern = escaped(mount);
            let text = format!(
                "find /proc/[0-9]*/cwd /proc/[0-9]*/root /proc/[0-9]*/exe /proc/[0-9]*/fd -maxdepth 1 \
                 \\( -lname {path} -o -lname {below} \\) 2>/dev/null | cut -d/ -f3 | sort -un | head -n {HOLDERS} | \
                 while read -r p; do printf '%s %s\\n' \"$p\" \"$(tr '\\0' ' ' <\"/proc/$p/cmdline\")\"; done",
                path = quoted(&pattern),
                below = quoted(&format!("{pattern}/*")),
            );
            let asked =
                self.root().command(&text).within(ANSWER).named("look who uses a file system").output().await;
            // That it is still mounted matters more than who uses it.
            let said = asked.map(|output| text_of(output.bytes())).unwrap_or_default();
            let line = |line: &str| crate::text::line(line.trim());
            holders.insert(mount.clone(), said.lines().map(line).collect());
        }
        holders
    }
}

/// Reads the answer of systemd about the unit of the other switch, and the processes that hold the lock.
fn other(said: &str, is_loaded: bool) -> String {
    let value = |key: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(str::trim).filter(|value| !value.is_empty() && *value != "0")
    };
    let holder = || value("lock")?.strip_prefix("/proc/")?.split('/').next().map(str::to_owned);
    let process = value("MainPID").filter(|_| is_loaded).map(str::to_owned).or_else(holder);
    match (process, value("ExecMainStartTimestamp").filter(|_| is_loaded)) {
        (Some(process), Some(since)) => format!("{ANOTHER} is under way (process {process}, since {since})"),
        (Some(process), None) => format!("{ANOTHER} is under way (process {process})"),
        (None, _) if is_loaded => format!("{ANOTHER} left its unit ({UNIT}.service)"),
        (None, _) => format!("{ANOTHER} holds the lock"),
    }
}

/// Returns the name of a mount's unit, as `systemd-escape --path --suffix=mount` makes it.
fn mount_unit(path: &str) -> String {
    let path = path.trim_matches('/');
    if path.is_empty() {
        return "-.mount".to_owned();
    }
    let mut name = String::new();
    for (at, byte) in path.bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if at == 0 => name.push_str("\\x2e"),
            byte if byte.is_ascii_alphanumeric() || b":_.".contains(&byte) => name.push(char::from(byte)),
            byte => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    name + ".mount"
}

/// Escapes what `find -lname` takes for a pattern.
fn escaped(path: &str) -> String {
    path.chars().flat_map(|c| "\\*?[".contains(c).then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_switch_is_named_with_its_process_and_its_age() {
        let said = "MainPID=812\nExecMainStartTimestamp=Mon 2026-11-30 05:20:10 UTC\nlock=/proc/812/fd\n";
        let expected = "another switch is under way (process 812, since Mon 2026-11-30 05:20:10 UTC)";
        assert_eq!(other(said, true), expected);
        let by_hand = "MainPID=0\nExecMainStartTimestamp=\nlock=/proc/99/fd\nlock=/proc/100/fd\n";
        assert_eq!(other(by_hand, false), "another switch is under way (process 99)");
        assert_eq!(
            other("MainPID=0\n", true),
            "another switch left its unit (nixos-rebuild-switch-to-configuration.service)"
        );
        assert_eq!(other("", false), "another switch holds the lock");
    }

    #[test]
    fn units_of_mounts_have_the_names_that_systemd_gives() {
        for (path, unit) in [
            ("/", "-.mount"),
            ("/var/lib/data", "var-lib-data.mount"),
            ("/a b/c-d", "a\\x20b-c\\x2dd.mount"),
            ("/.hidden", "\\x2ehidden.mount"),
        ] {
            assert_eq!(mount_unit(path), unit);
        }
        assert_eq!(escaped("/a*[b]?\\"), "/a\\*\\[b]\\?\\\\");
    }
}
