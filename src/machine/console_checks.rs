//! What a console says when something went wrong that no command of the scenario noticed.
//!
//! A scenario can be green while the kernel reports a bug or a service crashes. Each check here looks for
//! one kind of such lines in a console's log. It looks for the very form in which the kernel and systemd
//! print them: a kernel's line begins with its time stamp, a unit's with `[FAILED]`. What a command prints
//! is no kernel's line, so `echo segfault` is none either.

use std::sync::LazyLock;

use regex::Regex;

/// A kind of trouble that a console's log can show.
#[derive(Debug)]
pub struct ConsoleCheck {
    name: &'static str,
    meaning: &'static str,
    pattern: &'static LazyLock<Option<Regex>>,
}

/// A line that a check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The check's name.
    pub check: &'static str,
    /// What such a line means.
    pub meaning: &'static str,
    /// The line, as it stands in the log.
    pub line: String,
    /// Its number in the log, from 1.
    pub number: usize,
}

impl ConsoleCheck {
    /// Its name, by which it is allowed: `segfault`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it looks for, in a few words.
    pub fn meaning(&self) -> &'static str {
        self.meaning
    }
}

/// Makes the list; each pattern is tried on a line, and a kernel's stands behind a time stamp.
macro_rules! checks {
    ($($name:literal, $meaning:literal, $start:ident $pattern:literal;)*) => {
        &[$({
            static PATTERN: LazyLock<Option<Regex>> = LazyLock::new(|| compiled(concat!($start!(), "(?:", $pattern, ")")));
            ConsoleCheck { name: $name, meaning: $meaning, pattern: &PATTERN }
        }),*]
    };
}

/// `[    1.234567] ` or, with the caller's id, `[    1.234567][  T123] ` (dmesg has a space between). It may
/// come in the middle of a line.
macro_rules! kernel {
    () => {
        r"\[ *[0-9]+\.[0-9]{6}\](?: ?\[ *[TC][0-9]+\])? "
    };
}

/// At the start of a line.
macro_rules! line {
    () => {
        "^"
    };
}

static CHECKS: &[ConsoleCheck] = checks![
    "kernel panic", "the kernel stopped for good", kernel "Kernel panic - not syncing";
    "kernel oops", "a bug in the kernel or a driver", kernel r"(?:BUG: (?:kernel|unable|KASAN|KFENCE|scheduling|Bad|sleeping|workqueue)|Oops:|general protection fault[,:].*\[#[0-9]|kernel BUG at |Unable to handle kernel |stack segment: |invalid opcode: [0-9]+ \[#|double fault: )";
    "kernel warning", "the kernel met something that should not be", kernel r"WARNING: CPU: [0-9]+ PID: ";
    "segfault", "a program crashed", kernel r"(?:[^:\[]*\[[0-9]+\]: segfault at |traps: [^\[]*\[[0-9]+\] (?:trap|general protection))";
    "OOM kill", "the kernel killed a program since memory ran out", kernel r"(?:Out of memory: Kill|Memory cgroup out of memory: Kill|oom-kill:|[^ ]+ invoked oom-killer)";
    "hung task", "a task made no progress for minutes", kernel r"(?:INFO: task .* blocked for more than|watchdog: BUG: soft lockup|rcu: INFO: .* (?:self-)?detected stall)";
    "file system", "a file system is damaged", kernel r"(?:EXT4-fs error |XFS \([^)]*\): (?:Corruption|Metadata corruption|Internal error)|BTRFS (?:error|critical))";
    "I/O error", "a disk failed, or was pulled out while it was read", kernel r"(?:Buffer I/O error on dev|(?:blk_update_request: )?I/O error, dev )";
    "failed unit", "a unit of systemd could not be started", line r"\[FAILED\] Failed to (?:start|mount|listen|activate) ";
    "emergency mode", "the system did not come up", line r"(?:.* )?You are in (?:emergency|rescue) mode";
];

/// Every check, the worst first.
pub fn console_checks() -> &'static [ConsoleCheck] {
    CHECKS
}

/// The lines of a console's log ([`Machine::get_console_log`](super::Machine::get_console_log)) that a
/// check finds, except those of the checks that are named in `allowed`. The same line said twice (a
/// command may print the kernel's log) counts once.
///
/// ```
/// use nixvm_test::machine::check_console;
/// let log = "[    3.120000] nginx[412]: segfault at 0 ip 0000000000401136 sp 00007ffe error 4\n";
/// assert_eq!(check_console(log, &[])[0].check, "segfault");
/// assert!(check_console(log, &["segfault"]).is_empty());
/// ```
pub fn check_console(log: &str, allowed: &[&str]) -> Vec<Finding> {
    let checks: Vec<_> = CHECKS.iter().filter(|check| !allowed.contains(&check.name)).collect();
    let mut found: Vec<Finding> = Vec::new();
    for (number, line) in log.lines().enumerate() {
        let check =
            checks.iter().find(|check| check.pattern.as_ref().is_some_and(|pattern| pattern.is_match(line)));
        if let Some(check) = check
            && !found.iter().any(|known| known.line == line)
        {
            let ConsoleCheck { name, meaning, .. } = *check;
            found.push(Finding { check: name, meaning, line: line.to_owned(), number: number + 1 });
        }
    }
    found
}

/// What was found in the kernel's own log, without what `known` has of it. A line on a console may begin and
/// end otherwise than in the log, but its time is the same, to the microsecond.
pub(super) fn unless_known(mut in_log: Vec<Finding>, known: &[Finding]) -> Vec<Finding> {
    in_log.retain(|finding| {
        // What the log begins a line with: `[   99.000001]`.
        let time = finding.line.split_inclusive(']').next().unwrap_or_default();
        !known.iter().any(|known| known.check == finding.check && known.line.contains(time))
    });
    in_log
}

/// A pattern of this file; the tests show that each is one.
fn compiled(pattern: &str) -> Option<Regex> {
    Regex::new(pattern).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as the kernel (6.1 to 6.12) and systemd print them.
    const LINES: [(&str, &str); 24] = [
        ("kernel panic", "[    1.000000] Kernel panic - not syncing: VFS: Unable to mount root fs"),
        ("kernel oops", "[   12.345678] BUG: kernel NULL pointer dereference, address: 0000000000000000"),
        ("kernel oops", "[   12.345678] BUG: unable to handle page fault for address: ffffffffc0000000"),
        ("kernel oops", "[   12.345678][  T123] Oops: 0002 [#1] PREEMPT SMP NOPTI"),
        (
            "kernel oops",
            "[   12.345678] general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP",
        ),
        ("kernel oops", "[   12.345678] kernel BUG at mm/slub.c:4023!"),
        ("kernel oops", "[   12.345678] Unable to handle kernel paging request at virtual address ffff"),
        ("kernel oops", "[   12.345678] BUG: KASAN: slab-out-of-bounds in foo+0x1/0x2"),
        ("kernel warning", "[ 1234.345678] WARNING: CPU: 1 PID: 77 at kernel/foo.c:12 foo+0x1/0x2"),
        (
            "segfault",
            "alice@nixos:~]$ [   99.000001] crash[77]: segfault at 0 ip 0000000000401136 sp 00007ffe error 4 in crash[401000+1000]",
        ),
        (
            "segfault",
            "[   99.000001] traps: crash[77] trap invalid opcode ip:401136 sp:7ffe error:0 in crash[401000+1000]",
        ),
        ("segfault", "[   99.000001] traps: a b[77] general protection fault ip:401136 sp:7ffe error:0"),
        ("OOM kill", "[   50.000000] tail invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0"),
        ("OOM kill", "[   50.000000] Out of memory: Killed process 812 (tail) total-vm:1kB"),
        ("OOM kill", "[   50.000000] Memory cgroup out of memory: Killed process 812 (tail) total-vm:1kB"),
        ("hung task", "[  242.000000] INFO: task sync:812 blocked for more than 120 seconds."),
        ("hung task", "[  242.000000] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [sh:9]"),
        ("hung task", "[  242.000000] rcu: INFO: rcu_preempt self-detected stall on CPU"),
        (
            "file system",
            "[    5.000000] EXT4-fs error (device vda): ext4_lookup:1785: inode #2: comm ls: bad",
        ),
        ("I/O error", "[    5.000000] I/O error, dev vda, sector 1 op 0x1:(WRITE) flags 0x0 phys_seg 1"),
        ("I/O error", "[    5.000000] Buffer I/O error on dev vda1, logical block 0, lost async page write"),
        ("failed unit", "[FAILED] Failed to start nginx.service - Nginx Web Server."),
        ("failed unit", "[FAILED] Failed to mount /data."),
        ("emergency mode", "You are in emergency mode. After logging in, type \"journalctl -xb\""),
    ];

    const HARMLESS: [&str; 10] = [
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
    ];

    #[test]
    fn each_check_finds_its_lines_and_says_where_they_stand() {
        for (check, line) in LINES {
            let found = check_console(&format!("before\n{line}\nafter\n"), &[]);
            let [finding] = &found[..] else { panic!("{line}: {found:?}") };
            assert_eq!((finding.check, finding.number, finding.line.as_str()), (check, 2, line));
            assert_eq!(check_console(line, &[check]), [], "allowed");
        }
        for check in console_checks() {
            assert!(LINES.iter().any(|(name, _)| *name == check.name()), "no line for {}", check.name());
            assert!(!check.meaning().is_empty());
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
        let (_, line) = LINES[0];
        assert_eq!(check_console(&format!("{line}\n{line}\n"), &[]).len(), 1);
    }
}
