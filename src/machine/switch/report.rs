//! The errors of a switch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::outcome::Outcome;
use super::{UNIT, obstacles};
use crate::machine::command_text::quoted;
use crate::machine::system::System;
use crate::machine::{Life, Machine, Stream};
use crate::mutex::lock;
use crate::stopped::Instant;
use crate::{Error, ErrorKind};

/// Maximum number of units whose journals are quoted.
const JOURNALS: usize = 5;
/// Number of lines that are quoted of each journal.
const LINES: usize = 15;
/// Maximum number of lines of the program's output that are quoted.
const OUTPUT: usize = 60;
/// The limit for each question about a switch that does not end, on a fast host.
pub(super) const ANSWER: Duration = Duration::from_secs(20);

/// What systemd does at the moment: its jobs, the age and the journal of those that run, who holds the lock, and the lists
/// of units that are still to be started.
const JOBS: &str = r#"set +e; export LC_ALL=C
systemctl list-jobs --no-pager --plain
units=$(systemctl list-jobs --no-pager --plain --no-legend | while read -r _ unit _ state; do
  if [ "$state" = running ]; then echo "$unit"; fi; done | head -n 3)
for unit in $units; do echo; systemctl status --no-pager --full -n 10 -- "$unit"; done
for p in $(find /proc/[0-9]*/fd -lname /run/nixos/switch-to-configuration.lock 2>/dev/null); do
  p=${p#/proc/}; p=${p%%/*}
  echo; echo "the lock is held by process $p: $(tr '\0' ' ' <"/proc/$p/cmdline")"
done
for l in /run/nixos/*-list; do if [ -s "$l" ]; then echo; echo "$l:"; cat "$l"; fi; done"#;

/// The last line that a program has printed so far.
#[derive(Debug, Clone, Default)]
pub(super) struct LastLine(Arc<Mutex<Vec<u8>>>);

impl LastLine {
    /// Returns what has to be called with the program's output.
    pub(super) fn watcher(&self) -> impl FnMut(Stream, &[u8]) + Send + 'static {
        let kept = Arc::clone(&self.0);
        move |_, bytes| {
            const KEPT: usize = 4096;
            let mut kept = lock(&kept);
            kept.extend_from_slice(bytes);
            let excess = kept.len().saturating_sub(KEPT);
            kept.drain(..excess);
        }
    }

    fn text(&self) -> String {
        let text = super::text_of(&lock(&self.0));
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("(nothing)");
        crate::text::line(last.trim_end())
    }
}

impl Machine {
    /// Returns the ends of the journals of units.
    pub(super) async fn journals_of(&self, units: &[String]) -> BTreeMap<String, String> {
        let mut journals = BTreeMap::new();
        for unit in units.iter().take(JOURNALS) {
            let text = format!("journalctl --no-pager -q -b -n {LINES} -o short -u {}", quoted(unit));
            // A journal that can't be read is left out: the failure itself is what matters.
            if let Ok(output) = self.root().command(&text).within(ANSWER).output().await {
                let text = crate::console::shown(output.bytes(), LINES);
                if !text.trim().is_empty() {
                    journals.insert(unit.clone(), text);
                }
            }
        }
        journals
    }

    /// Returns the error for a switch that has not ended within its limit. It goes on in the machine.
    pub(super) async fn still_switching(
        &self,
        life: &Life,
        last: &LastLine,
        started: Instant,
        limit: Duration,
    ) -> Error {
        let took = started.elapsed();
        let asked = self.root().command(JOBS).within(ANSWER).named("ask systemd for its jobs").output().await;
        let summary = format!("{}: the switch did not end within its limit", life.name);
        let error = Error::new(ErrorKind::Timeout, summary)
            .took(took, limit)
            .section("the last line it printed", last.text());
        let error = match asked {
            Ok(output) => error.section("what systemd does", crate::console::shown(output.bytes(), OUTPUT)),
            Err(why) => {
                error.section("what systemd does", format!("it could not be asked: {}", why.summary()))
            }
        };
        error.likely_cause("a unit does not start or stop: the job that is running").next_step(format!(
            "the switch goes on in the machine, as {UNIT}.service; give it more time with `within`"
        ))
    }
}

/// Returns the error for an outcome that is not clean.
pub(super) fn not_clean(outcome: &Outcome, next: &System) -> Error {
    let what = if outcome.back { "rollback" } else { "switch" };
    let summary = format!("{}: the {what} to {next} is not clean: {}", outcome.machine, outcome.summary());
    let mut error = Error::new(ErrorKind::SwitchFailed, summary);
    for (unit, journal) in &outcome.journals {
        error = error.section(format!("the end of the journal of {unit}"), journal.clone());
    }
    let printed = outcome.output();
    let shown = if printed.is_empty() { "(nothing)".to_owned() } else { tail(&printed, OUTPUT) };
    error = error.section("what the switch printed", shown).section("what is different", outcome.to_string());
    match advice(outcome) {
        Some((cause, next)) => error.likely_cause(cause).next_step(next),
        None => error,
    }
}

fn advice(outcome: &Outcome) -> Option<(String, String)> {
    let refusals = outcome.refused_by();
    let (cause, next) = if refusals.iter().any(|refusal| refusal.starts_with(obstacles::ANOTHER)) {
        (
            "another switch is under way, or one was broken off and left its unit".to_owned(),
            "wait for its end: `systemctl status nixos-rebuild-switch-to-configuration.service`",
        )
    } else if !refusals.is_empty() && !refusals.iter().any(|refusal| refusal.contains(':')) {
        (
            format!("a check of the configuration failed: {}", refusals.join(", ")),
            "its own lines are in what the switch printed; `no_check()` skips it",
        )
    } else if !refusals.is_empty() {
        (
            "a running system can't exchange these components".to_owned(),
            "rehearse it with a reboot: `reboot_into(&next)`; or skip the check: `no_check()`",
        )
    } else if outcome.status() == 11 && !outcome.switched() {
        (
            outcome.meaning().to_owned(),
            "see who does: `systemctl status nixos-rebuild-switch-to-configuration systemd-logind`",
        )
    } else if outcome.status() == 100 {
        (outcome.meaning().to_owned(), "rehearse it with a reboot: `reboot_into(&next)`")
    } else if outcome.status() == 4 && outcome.failed().is_empty() && outcome.words.no_job_failed() {
        (
            outcome.meaning().to_owned(),
            "run it again on a host that is less busy; `systemctl list-jobs` shows what is under way",
        )
    } else if outcome.half_switched() {
        (
            "the program ended in the middle: units were stopped and not started".to_owned(),
            "switch again, to either system: it takes up the lists in /run/nixos",
        )
    } else {
        return None;
    };
    Some((cause, next.to_owned()))
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_came_too_late_is_told_from_a_failure() {
        // What the program in Rust printed on a loaded host, and what systemctl prints of a job that failed.
        const LATE: &str = "Failed to restart sysinit-reactivation.target: Did not receive a reply. Possible causes include: \
                            the remote application did not send a reply, the message bus security policy blocked the reply, \
                            the reply timeout expired, or the network connection was broken.";
        let outcome = |printed: &str| Outcome {
            machine: "machine".to_owned(),
            events: crate::Events::none(),
            target: "/nix/store/b".to_owned(),
            action: crate::machine::Action::Switch,
            back: false,
            status: 4,
            words: super::super::words::Words::of("", printed),
            stdout: String::new(),
            stderr: printed.to_owned(),
            before: Default::default(),
            after: Default::default(),
            took: Duration::ZERO,
            systems: None,
            journals: BTreeMap::new(),
            holders: BTreeMap::new(),
        };
        let (cause, next) = advice(&outcome(LATE)).unwrap();
        assert!(cause.contains("not answered in time") && next.contains("less busy"), "{cause}; {next}");
        assert_eq!(advice(&outcome("Job for x.service failed because of a timeout.")), None);
    }

    #[test]
    fn the_last_line_is_known_however_the_output_comes() {
        let last = LastLine::default();
        let mut watch = last.watcher();
        assert_eq!(last.text(), "(nothing)");
        for piece in ["stopping the foll", "owing units: a\nactivating the con", "figuration...\n\n"] {
            watch(Stream::Stderr, piece.as_bytes());
        }
        assert_eq!(last.text(), "activating the configuration...");
        watch(Stream::Stdout, &[b'x'; 10_000]);
        assert!(last.text().len() <= 4096);
    }
}
