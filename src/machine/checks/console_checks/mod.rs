//! Finds console lines that show trouble that no command of the scenario noticed.
//!
//! A scenario can pass although the kernel reports a bug or a service crashes. Each check looks for one kind of such
//! lines in a console's log. It matches the exact form in which the kernel and systemd print them: a kernel line begins
//! with its time stamp, a unit's line with `[FAILED]`. A command's output has no time stamp, so `echo segfault` is not
//! a finding.

mod forms;

use std::sync::LazyLock;

use regex::{Regex, RegexSet};

use forms::{Anchor, FORMS, Form};

/// Soft lockups, RCU stalls and hung tasks.
pub(crate) const HUNG_TASK: &str = "hung task";
/// The console's transcript could not be checked completely.
pub(crate) const INCOMPLETE_TRANSCRIPT: &str = "incomplete transcript";
/// A part of the kernel's log was never read.
pub(crate) const INCOMPLETE_KERNEL_LOG: &str = "incomplete kernel log";
/// The machine did not answer a question.
pub(crate) const UNANSWERED: &str = "unanswered check";

/// A kind of trouble in a console, a kernel log or systemd, or a reason why the checks are incomplete.
#[derive(Debug)]
pub struct ConsoleCheck {
    name: &'static str,
    meaning: &'static str,
}

/// A line that a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The check's name.
    pub check: &'static str,
    /// What such a line means.
    pub meaning: &'static str,
    /// The line as it is in the log.
    pub line: String,
    /// Its number in the log, from 1.
    pub number: usize,
}

impl ConsoleCheck {
    /// Returns the check's name, which is used to allow it: `segfault`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns whether its lines report only that something took too long, which the host can cause.
    pub(crate) fn is_of_time(&self) -> bool {
        self.name == HUNG_TASK
    }

    /// Returns a short description of what it looks for.
    pub fn meaning(&self) -> &'static str {
        self.meaning
    }
}

const fn check(name: &'static str, meaning: &'static str) -> ConsoleCheck {
    ConsoleCheck { name, meaning }
}

static CHECKS: &[ConsoleCheck] = &[
    check("kernel panic", "the kernel stopped for good"),
    check("kernel oops", "a bug in the kernel or a driver"),
    check("kernel warning", "the kernel warned about an unexpected state"),
    check("segfault", "a program crashed"),
    check("OOM kill", "the kernel killed a program because memory ran out"),
    check(HUNG_TASK, "a task made no progress for minutes"),
    check("file system", "a file system is damaged"),
    check("I/O error", "a disk failed, or was removed while it was in use"),
    check("failed unit", "a unit of systemd could not be started"),
    check("emergency mode", "the system did not come up"),
    check(INCOMPLETE_TRANSCRIPT, "a part of its console's output is lost"),
    check(INCOMPLETE_KERNEL_LOG, "a part of its kernel's log was not read"),
    check(UNANSWERED, "it did not answer whether there is trouble"),
];

/// Returns all checks, the worst first. The last three find no lines: they report that other checks were incomplete.
pub fn console_checks() -> &'static [ConsoleCheck] {
    CHECKS
}

/// Returns whether a finding's line contains a kernel record.
pub(crate) fn is_the_kernels(finding: &Finding) -> bool {
    PATTERNS.as_ref().is_some_and(|patterns| {
        patterns.matches(&finding.line).iter().any(|at| FORMS[at].place == Anchor::Kernel)
    })
}

/// Returns the check with this name.
pub(crate) fn check_called(name: &str) -> Option<&'static ConsoleCheck> {
    CHECKS.iter().find(|check| check.name == name)
}

/// `[    1.234567] ` or, with the caller's id, `[    1.234567][  T123] ` (dmesg has a space between). It may
/// come in the middle of a line.
const STAMP: &str = r"\[ *[0-9]+\.[0-9]{6}\](?: ?\[ *[TC][0-9]+\])? ";

/// The patterns of all forms, in the same order. The tests show that each is valid.
static PATTERNS: LazyLock<Option<RegexSet>> = LazyLock::new(|| {
    let pattern = |form: &Form| match form.place {
        Anchor::Kernel => format!("{STAMP}(?:{})", form.pattern),
        Anchor::Line => format!("^(?:{})", form.pattern),
    };
    RegexSet::new(FORMS.iter().map(pattern)).ok()
});

/// Returns the first check that finds this line and is not `allowed`.
pub(crate) fn check_of(line: &str, allowed: &[&str]) -> Option<&'static ConsoleCheck> {
    let matches = PATTERNS.as_ref()?.matches(line);
    let form = matches.iter().map(|at| &FORMS[at]).find(|form| !allowed.contains(&form.check))?;
    check_called(form.check)
}

/// Returns the lines of a console's log ([`Machine::get_console_log`](crate::machine::Machine::get_console_log)) that a
/// check finds, except those of the checks that are named in `allowed`. A repeated line counts once, because a command
/// may print the kernel's log.
///
/// ```
/// use nixvm_test::machine::check_console;
/// let log = "[    3.120000] nginx[412]: segfault at 0 ip 0000000000401136 sp 00007ffe error 4\n";
/// assert_eq!(check_console(log, &[])[0].check, "segfault");
/// assert!(check_console(log, &["segfault"]).is_empty());
/// ```
pub fn check_console(log: &str, allowed: &[&str]) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    let mut known = std::collections::HashSet::new();
    for (number, line) in log.lines().enumerate() {
        if let Some(check) = check_of(line, allowed)
            && known.insert(line)
        {
            let ConsoleCheck { name, meaning } = *check;
            found.push(Finding { check: name, meaning, line: line.to_owned(), number: number + 1 });
        }
    }
    found
}

/// Returns the time of the kernel record in a line as printed: `[   99.000001]`.
pub(crate) fn stamp(line: &str) -> Option<&str> {
    static TIME: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\[ *[0-9]+\.[0-9]{6}\]").ok());
    Some(TIME.as_ref()?.find(line)?.as_str())
}

/// Returns whether two lines are the same kernel record. A line on a console may begin and end differently than in the
/// log, but its time (`[   99.000001]`) is the same, to the microsecond.
pub(crate) fn same_record(one: &str, other: &str) -> bool {
    match stamp(one) {
        Some(time) => other.contains(time),
        None => one == other,
    }
}

/// Returns the findings of the kernel's own log that are not in `known`.
pub(crate) fn unless_known(mut in_log: Vec<Finding>, known: &[Finding]) -> Vec<Finding> {
    in_log.retain(|finding| {
        !known.iter().any(|known| known.check == finding.check && same_record(&finding.line, &known.line))
    });
    in_log
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a sample as a console shows it, before and after other output.
    fn shown(form: &Form, line: &str) -> Vec<String> {
        match form.place {
            Anchor::Line => vec![line.to_owned()],
            Anchor::Kernel => vec![
                format!("[   12.345678] {line}"),
                format!("[   12.345678][  T123] {line}"),
                format!("[12345.678901] [    C1] {line}"),
                format!("alice@nixos:~]$ [   99.000001] {line}"),
            ],
        }
    }

    const HARMLESS: [&str; 31] = [
        "segfault",
        "echo 'crash[77]: segfault at 0'",
        "Kernel panic - not syncing",
        "[    0.100000] Kernel command line: panic=1 oops=panic",
        "[    0.100000] Spectre V2 : WARNING: Unprivileged eBPF is enabled",
        "[    5.000000] EXT4-fs (vda): mounted filesystem with ordered data mode",
        "[  OK  ] Started nginx.service - Nginx Web Server.",
        "grep '[FAILED] Failed to start' log",
        "[    9.000000] systemd[1]: Started A service that watches for segfault at work.",
        "[    0.000000] BUG: is spelled so in this test alone",
        "[    9.000000] audit: type=1701 audit(1.0:2): auid=0 uid=0 ses=1 pid=812 comm=\"crash\" sig=11",
        "[    0.000000] WARNING: CPU and memory are mentioned at large, without a number",
        "[    5.000000] EXT4-fs (vda): recovery complete",
        "[    5.000000] EXT4-fs (vda): re-mounted. Opts: errors=remount-ro",
        "[    5.000000] XFS (vda): Starting recovery (logdev: internal)",
        "[    5.000000] XFS (vda): Ending clean mount",
        "[    5.000000] BTRFS info (device vda): using crc32c (crc32c-intel) checksum algorithm",
        "[    5.000000] FAT-fs (vda1): Volume was not properly unmounted. Some data may be corrupt. Please run fsck.",
        "[    5.000000] operation not supported error, dev loop0, sector 2 op 0x9:(WRITE_ZEROES) flags 0x800 phys_seg 0",
        "[    5.000000] critical target error, dev sda, sector 2 op 0x3:(DISCARD) flags 0x800 phys_seg 1 prio class 0",
        "[    5.000000] rcu: Hierarchical RCU implementation.",
        "[    5.000000] rcu: RCU calculated value of scheduler-enlistment delay is 25 jiffies.",
        "[    5.000000] NMI watchdog: Enabled. Permanently consumes one hw-PMU counter.",
        "[    5.000000] clocksource: timekeeping watchdog on CPU0: Marking clocksource 'tsc' as unstable",
        "[    5.000000] Out of memory is what this module is called",
        "[    5.000000] nixvm-test: clock 0123456789abcdef",
        "[    5.000000] oom_reaper: started",
        "[    5.000000] printk: console [ttyS0] enabled",
        "[    5.000000] PM: hibernation: INFO: task freezing is over",
        "[    5.000000] traps: unhandled ones are shown",
        "[    5.000000] systemd[1]: Condition check resulted in Out of memory kills being skipped.",
    ];

    #[test]
    fn each_form_finds_its_lines_and_says_where_they_stand() {
        assert!(PATTERNS.is_some(), "each pattern is a regular expression");
        for form in FORMS {
            for (from, sample) in form.samples {
                for line in shown(form, sample) {
                    let found = check_console(&format!("before\n{line}\nafter\n"), &[]);
                    let [finding] = &found[..] else { panic!("{from}: {line}: {found:?}") };
                    let expected = (form.check, 2, line.as_str());
                    assert_eq!((finding.check, finding.number, finding.line.as_str()), expected, "{from}");
                    assert!(!check_console(&line, &[form.check]).iter().any(|left| left.check == form.check));
                }
            }
        }
    }

    #[test]
    fn each_form_belongs_to_a_check_and_names_where_its_lines_come_from() {
        for form in FORMS {
            assert!(check_called(form.check).is_some(), "{form:?}");
            assert!(!form.samples.is_empty(), "{form:?}");
            for (from, _) in form.samples {
                let version = from.rsplit_once(", ").unwrap_or_else(|| panic!("{from}: FILE, VERSION")).1;
                assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{from}");
            }
        }
        let order: Vec<_> = CHECKS.iter().map(ConsoleCheck::name).collect();
        let places = FORMS.iter().map(|form| order.iter().position(|name| *name == form.check));
        assert!(places.is_sorted(), "the forms of the worst check come first");
    }

    #[test]
    fn the_names_that_scenarios_allow_stay_what_they_are() {
        let names: Vec<_> = CHECKS.iter().map(ConsoleCheck::name).collect();
        assert_eq!(
            names,
            [
                "kernel panic",
                "kernel oops",
                "kernel warning",
                "segfault",
                "OOM kill",
                "hung task",
                "file system",
                "I/O error",
                "failed unit",
                "emergency mode",
                "incomplete transcript",
                "incomplete kernel log",
                "unanswered check",
            ]
        );
        assert!(CHECKS.iter().all(|check| !check.meaning().is_empty()));
    }

    #[test]
    fn a_sample_that_a_command_prints_without_a_time_is_no_kernels_line() {
        for form in FORMS.iter().filter(|form| form.place == Anchor::Kernel) {
            for (from, sample) in form.samples {
                assert_eq!(check_console(sample, &[]), [], "{from}");
            }
        }
    }

    #[test]
    fn what_only_looks_so_is_passed_over() {
        assert_eq!(check_console(&HARMLESS.join("\n"), &[]), []);
    }

    #[test]
    fn what_the_kernels_log_alone_has_is_found_and_what_the_console_has_counts_once() {
        let console = "[alice@nixos:~]$ [   99.000001][  T77] crash[77]: segfault at 0 ip 0\n";
        let log = "[   99.000001] [  T77] crash[77]: segfault at 0 ip 0 in libc.so\n\
                   [   99.000002] crash[78]: segfault at 0 ip 0\n\
                   [   99.000001] Out of memory: Killed process 812 (tail)\n";
        let in_log = check_console(log, &[]);
        assert_eq!(unless_known(in_log.clone(), &[]).len(), 3);
        let found = unless_known(in_log, &check_console(console, &[]));
        let checks: Vec<_> = found.iter().map(|finding| (finding.check, finding.number)).collect();
        assert_eq!(checks, [("segfault", 2), ("OOM kill", 3)]);
    }

    #[test]
    fn a_line_said_again_counts_once() {
        let line = "[    1.000000] Kernel panic - not syncing: for a test";
        assert_eq!(check_console(&format!("{line}\n{line}\n"), &[]).len(), 1);
    }
}
