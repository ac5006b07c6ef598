//! Looks at everything in a machine that a switch may change: units, accounts, links of the system, mounts, ports.
//!
//! What a switch did is judged by two such looks, one before and one after it. Its printed lists name neither the units
//! that systemd stopped for a dependency nor those that failed a second later.

use std::collections::{BTreeMap, BTreeSet};

use super::known::KnownUnits;
use super::usual::{Marks, belongs_to_system, ends_with_a_session};
use crate::machine::command_text::quoted;

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
    /// The system of the profile, which boots next where a boot loader is used.
    pub(crate) profile: String,
    /// The parts in which the booted system differs from the current one: `kernel`, `initrd`, `kernel-modules`,
    /// `systemd`, `kernel-params`.
    pub(crate) needs_reboot: Vec<String>,
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
    /// Ports that are listened on, such as `tcp 22`.
    pub(crate) ports: BTreeSet<String>,
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
    /// The timers that start it.
    timers: Vec<String>,
}

/// A user's account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) number: u32,
    pub(crate) home: String,
}

impl UnitState {
    /// Whether it runs: a unit that starts or reloads does, too.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self.active.as_str(), "active" | "reloading" | "refreshing" | "activating")
    }

    /// Whether its main process runs the command that its file had `before`, and not the one that the file has now.
    pub(crate) fn runs_the_command_of(&self, before: &Self) -> bool {
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
    /// Returns the script that looks at everything. `target` is the path of the system that the machine is switched to.
    pub(crate) fn script(target: &str) -> String {
        let properties = [
            "Id",
            "LoadState",
            "ActiveState",
            "SubState",
            "Result",
            "InvocationID",
            "NRestarts",
            "MainPID",
            "ExecStart",
            "TriggeredBy",
        ]
        .map(|property| format!("-p {property}"))
        .join(" ");
        let links = ["/run/current-system", "/run/booted-system", "/nix/var/nix/profiles/system"];
        let parts = ["/run/booted-system", "/run/current-system"]
            .iter()
            .flat_map(|system| BOOTED.map(|part| format!("{system}/{part}")));
        let links = links.map(str::to_owned).into_iter().chain(parts).collect::<Vec<_>>().join(" ");
        // A part that fails leaves its section short, and the rest is read nevertheless.
        format!(
            r#"set +e; export LC_ALL=C
s() {{ printf '\n\036%s\n' "$1"; }}
s target; printf '%s\n' {target}
s units; systemctl show --no-pager --all {properties} '*'
s processes; head -v -c 4096 /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' '
s unit-files; {files}
s marks; {marks}
s links; readlink -m {links}
s booted-params; cat /run/booted-system/kernel-params
s current-params; cat /run/current-system/kernel-params
s lists; for f in /run/nixos/*-list; do [ ! -s "$f" ] || {{ printf '=%s\n' "${{f##*/}}"; cat "$f"; }}; done
s users; cat /etc/passwd
s groups; cat /etc/group
s homes; stat -c '%u %n' /root /home/* 2>/dev/null
s mounts; cat /proc/1/mountinfo
s tcp; cat /proc/net/tcp /proc/net/tcp6
s udp; cat /proc/net/udp /proc/net/udp6
s local-ports; cat /proc/sys/net/ipv4/ip_local_port_range
s end
"#,
            files = KnownUnits::files(),
            target = quoted(target),
            marks = Marks::SCRIPT,
        )
    }

    /// Reads what the script printed. Returns `None` if it did not reach its end.
    pub(crate) fn parse(printed: &str) -> Option<Self> {
        let mut sections = BTreeMap::new();
        for section in printed.split(MARK).skip(1) {
            let (name, text) = section.split_once('\n')?;
            sections.insert(name, text);
        }
        sections.get("end")?;
        let section = |name: &str| sections.get(name).copied().unwrap_or_default();
        let processes = processes(section("processes"));
        let mut links = section("links").lines().map(str::to_owned);
        let mut next = || links.next().unwrap_or_default();
        let (current, booted, profile) = (next(), next(), next());
        let booted_parts = BOOTED.map(|_| next());
        let current_parts = BOOTED.map(|_| next());
        // A system without such a link has the path of the link itself.
        let linked = |system: &str, part: &str, path: &String| {
            (*path != format!("{system}/{part}")).then(|| path.clone())
        };
        let differs = BOOTED
            .iter()
            .zip(booted_parts.iter().zip(&current_parts))
            .map(|(part, (was, is))| (part, (linked(&booted, part, was), linked(&current, part, is))));
        let mut needs_reboot: Vec<String> = differs
            .filter(|(_, (booted, current))| booted != current)
            .map(|(part, _)| (*part).to_owned())
            .collect();
        if section("booted-params").trim() != section("current-params").trim() {
            needs_reboot.push("kernel-params".to_owned());
        }
        let mut ports = listening(section("tcp"), "tcp", "0A");
        // The kernel gives such ports to clients.
        let own = local_ports(section("local-ports"));
        ports.extend(listening(section("udp"), "udp", "07").into_iter().filter(|port| !is_within(port, own)));
        let units = units(section("units"), &processes);
        let loaded =
            units.iter().filter(|(_, state)| state.load != "not-found").map(|(name, _)| name.as_str());
        Some(Self {
            target: section("target").trim().to_owned(),
            known: KnownUnits::of(loaded.chain(section("unit-files").lines())),
            units,
            marks: Marks::of(section("marks")),
            current,
            booted,
            profile,
            needs_reboot,
            left_lists: lists(section("lists")),
            users: section("users").lines().filter_map(account).collect(),
            groups: section("groups").lines().filter_map(group).collect(),
            homes: section("homes").lines().filter_map(home).collect(),
            mounts: section("mounts").lines().filter_map(mount).collect(),
            ports,
        })
    }

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
            let before = before.units.get(name).map_or(0, |state| state.restarts);
            // A job that starts the unit sets the number back.
            if now.restarts < before { now.restarts } else { now.restarts - before }
        };
        let units = self.units.iter().filter(|(name, _)| !ends_with_a_session(name));
        let units = units.map(|(name, state)| (name.clone(), since(name, state)));
        units.filter(|(_, count)| *count > 0).collect()
    }

    /// Returns the units that have failed, sorted.
    pub(crate) fn failed(&self) -> BTreeSet<String> {
        let failed = self.units.iter().filter(|(_, state)| state.has_failed());
        failed.map(|(name, _)| name.clone()).collect()
    }
}

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
            ("failed", self.failed().difference(&before.failed()).cloned().collect()),
            ("restarted by systemd after a failure", crashing.collect()),
            ("ran and does not run", ended.cloned().collect()),
            ("accounts that are gone", gone.cloned().collect()),
            ("new accounts", new.cloned().collect()),
            ("accounts with another number", renumbered.collect()),
            ("homes with another owner", owners.collect()),
            ("unmounted", unmounted.cloned().collect()),
            ("mounted", mounted.cloned().collect()),
            ("closed ports", before.ports.difference(&self.ports).cloned().collect()),
            ("new ports", self.ports.difference(&before.ports).cloned().collect()),
        ];
        lists.into_iter().filter(|(_, list): &(_, Vec<String>)| !list.is_empty()).collect()
    }
}

/// Reads blocks of `Name=value` lines, one block a unit.
fn units(text: &str, processes: &BTreeMap<&str, &str>) -> BTreeMap<String, UnitState> {
    let mut units = BTreeMap::new();
    for block in text.split("\n\n") {
        let (mut name, mut state) = (String::new(), UnitState::default());
        for line in block.lines() {
            let Some((property, value)) = line.split_once('=') else { continue };
            let value = || value.to_owned();
            match property {
                "Id" => name = value(),
                "LoadState" => state.load = value(),
                "ActiveState" => state.active = value(),
                "SubState" => state.sub = value(),
                "Result" => state.result = value(),
                "InvocationID" => state.invocation = value(),
                "MainPID" => {
                    state.running = processes.get(value().as_str()).copied().unwrap_or_default().to_owned();
                }
                "TriggeredBy" => {
                    let triggers = value();
                    let timers = triggers.split_ascii_whitespace();
                    state.timers =
                        timers.filter(|unit| unit.ends_with(".timer")).map(str::to_owned).collect();
                }
                "NRestarts" => state.restarts = value().parse().unwrap_or_default(),
                // A unit may have several commands.
                "ExecStart" => {
                    if !state.command.is_empty() {
                        state.command.push('\n');
                    }
                    state.command.push_str(command(line));
                }
                _ => {}
            }
        }
        if !name.is_empty() {
            units.insert(name, state);
        }
    }
    units
}

/// Reads the command lines that `head -v` prints, by the numbers of their processes.
fn processes(text: &str) -> BTreeMap<&str, &str> {
    let process = |part| {
        let (name, line): (&str, &str) = str::split_once(part, " <==\n")?;
        Some((name.strip_suffix("/cmdline")?, line.trim()))
    };
    text.split("==> /proc/").filter_map(process).collect()
}

/// Returns the arguments in `ExecStart={ path=… ; argv[]=… ; ignore_errors=… ; start_time=… }`. The rest changes with
/// each start.
fn command(line: &str) -> &str {
    let Some((_, rest)) = line.split_once("argv[]=") else { return "" };
    rest.split_once(" ; ignore_errors=").map_or(rest, |(arguments, _)| arguments)
}

fn lists(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut lists: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut list = None;
    for line in text.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix('=') {
            Some(name) => list = Some(lists.entry(name.to_owned()).or_default()),
            None => list.iter_mut().for_each(|list| list.push(line.to_owned())),
        }
    }
    lists
}

/// Reads a line of /etc/passwd.
fn account(line: &str) -> Option<(String, Account)> {
    let mut fields = line.split(':');
    let (name, _, number, _, _, home) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let account = Account { number: number.parse().ok()?, home: home.to_owned() };
    Some((name.to_owned(), account))
}

/// Reads a line of /etc/group.
fn group(line: &str) -> Option<(String, u32)> {
    let mut fields = line.split(':');
    let (name, _, number) = (fields.next()?, fields.next()?, fields.next()?);
    Some((name.to_owned(), number.parse().ok()?))
}

fn home(line: &str) -> Option<(String, u32)> {
    let (owner, path) = line.split_once(' ')?;
    Some((path.to_owned(), owner.parse().ok()?))
}

/// Reads a line of /proc/PID/mountinfo (proc_pid_mountinfo(5)): the fifth field is the path; the type and the source
/// stand behind a lone hyphen.
fn mount(line: &str) -> Option<(String, String)> {
    let (before, behind) = line.split_once(" - ")?;
    let path = before.split(' ').nth(4)?;
    let mut rest = behind.split(' ');
    let (kind, source) = (rest.next()?, rest.next()?);
    // The credentials of a unit are mounted at each start. Our own disks with store paths lie below /run/nixvm-store.
    let passing =
        ["/run/credentials/", "/run/user/", "/run/nixvm-store"].iter().any(|start| path.starts_with(start));
    (!passing).then(|| (path.to_owned(), format!("{kind} {source}")))
}

/// Reads the first and the last port that the kernel chooses by itself.
fn local_ports(text: &str) -> Option<(u16, u16)> {
    let mut ports = text.split_ascii_whitespace().map(|port| port.parse().ok());
    Some((ports.next()??, ports.next()??))
}

fn is_within(port: &str, range: Option<(u16, u16)>) -> bool {
    let number = port.rsplit(' ').next().and_then(|number| number.parse().ok());
    number.zip(range).is_some_and(|(number, (first, last)): (u16, _)| (first..=last).contains(&number))
}

/// Reads /proc/net/tcp and its like: the second field is the local address, the fourth the state.
fn listening(text: &str, protocol: &str, state: &str) -> BTreeSet<String> {
    let port = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (local, its) = (fields.nth(1)?, fields.nth(1)?);
        let (_, port) = local.rsplit_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        (its == state && port != 0).then(|| format!("{protocol} {port}"))
    };
    text.lines().filter_map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the script printed on a real machine, shortened.
    const PRINTED: &str = "
\u{1e}target
/nix/store/b-nixos
\u{1e}units
ExecStart={ path=/nix/store/x/bin/sshd ; argv[]=/nix/store/x/bin/sshd -D -f /etc/ssh/sshd_config ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }
Id=sshd.service
LoadState=loaded
ActiveState=active
SubState=running
Result=success
MainPID=7
NRestarts=2
InvocationID=0f

Id=web.service
LoadState=loaded
ActiveState=activating
SubState=auto-restart
Result=exit-code
InvocationID=

Id=none.service
LoadState=not-found
ActiveState=inactive
SubState=dead

\u{1e}processes
==> /proc/1/cmdline <==
/sbin/init 
==> /proc/7/cmdline <==
sshd: /nix/store/x/bin/sshd -D -f /etc/ssh/sshd_config [listener] 
\u{1e}unit-files
/etc/systemd/system:
getty@.service
backup.service

\u{1e}marks
/etc/systemd/system/systemd-update-done.service:ConditionNeedsUpdate=|/etc
/etc/systemd/system/local-fs.target.d/overrides.conf:X-StopOnReconfiguration=true
/etc/systemd/system/own.target:X-StopOnReconfiguration=false
\u{1e}links
/nix/store/a-nixos
/nix/store/a-nixos
/nix/store/a-nixos
/nix/store/k1
/nix/store/i1
/nix/store/m1
/nix/store/s1
/nix/store/k2
/nix/store/i1
/nix/store/m1
/nix/store/s1

\u{1e}booted-params
loglevel=4
\u{1e}current-params
loglevel=4 quiet
\u{1e}lists
=start-list
web.service
db.service
\u{1e}users
root:x:0:0:System administrator:/root:/bin/bash
alice:x:1000:100::/home/alice:/bin/bash
odd line
\u{1e}groups
users:x:100:
\u{1e}homes
1000 /home/alice
0 /root
\u{1e}mounts
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
33 22 0:30 / /run/credentials/x.service ro - ramfs none rw
\u{1e}tcp
  sl  local_address rem_address   st tx_queue
   0: 00000000:0016 00000000:0000 0A 00000000:00000000
   1: 0100007F:1538 0100007F:9999 01 00000000:00000000
\u{1e}udp
   0: 00000000:0044 00000000:0000 07 00000000:00000000
   1: 00000000:9C40 00000000:0000 07 00000000:00000000
\u{1e}local-ports
32768\t60999
\u{1e}end
";

    #[test]
    fn a_survey_reads_what_its_script_prints() {
        let survey = Survey::parse(PRINTED).unwrap();
        assert_eq!(survey.target, "/nix/store/b-nixos");
        assert_eq!(
            (survey.current.as_str(), survey.booted.as_str()),
            ("/nix/store/a-nixos", "/nix/store/a-nixos")
        );
        let sshd = &survey.units["sshd.service"];
        assert!(sshd.is_active() && !sshd.has_failed());
        assert_eq!(sshd.running, "sshd: /nix/store/x/bin/sshd -D -f /etc/ssh/sshd_config [listener]");
        assert_eq!(sshd.command, "/nix/store/x/bin/sshd -D -f /etc/ssh/sshd_config");
        assert_eq!(survey.failed().into_iter().collect::<Vec<_>>(), ["web.service"]);
        assert_eq!(survey.needs_reboot, ["kernel", "kernel-params"]);
        assert_eq!(survey.left_lists["start-list"], ["web.service", "db.service"]);
        assert_eq!(survey.users["alice"], Account { number: 1000, home: "/home/alice".to_owned() });
        assert_eq!((survey.groups["users"], survey.homes["/home/alice"]), (100, 1000));
        assert_eq!(
            survey.mounts.iter().collect::<Vec<_>>(),
            [(&"/".to_owned(), &"ext4 /dev/vda".to_owned())]
        );
        assert_eq!(survey.ports.iter().collect::<Vec<_>>(), ["tcp 22", "udp 68"]);
    }

    #[test]
    fn a_system_without_a_link_to_its_kernel_does_not_differ_in_it() {
        let printed = PRINTED.replace("/nix/store/k1", "/nix/store/a-nixos/kernel");
        let printed = printed.replace("/nix/store/k2", "/nix/store/a-nixos/kernel");
        assert_eq!(Survey::parse(&printed).unwrap().needs_reboot, ["kernel-params"]);
    }

    #[test]
    fn a_unit_that_systemd_starts_again_and_again_is_found() {
        let after = Survey::parse(PRINTED).unwrap();
        let crashing = |before: &str| {
            let before = Survey::parse(&PRINTED.replace("NRestarts=2", before)).unwrap();
            after.crashing(&before).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(crashing("NRestarts=0"), [("sshd.service".to_owned(), 2)]);
        assert_eq!(crashing("NRestarts=1"), [("sshd.service".to_owned(), 1)]);
        assert_eq!(crashing("NRestarts=2"), []);
        assert_eq!(crashing("NRestarts=9"), [("sshd.service".to_owned(), 2)], "a job has started it since");
        let getty = |text: &str| {
            Survey::parse(&text.replace("Id=sshd.service", "Id=serial-getty@ttyS0.service")).unwrap()
        };
        let before = getty(&PRINTED.replace("NRestarts=2", "NRestarts=0"));
        assert!(getty(PRINTED).crashing(&before).is_empty(), "a user has logged out");
    }

    #[test]
    fn a_unit_is_known_if_it_is_loaded_or_has_a_file() {
        let survey = Survey::parse(PRINTED).unwrap();
        for unit in ["sshd.service", "backup.service", "getty@tty1.service"] {
            assert!(survey.known.has(unit), "{unit}");
        }
        for unit in ["none.service", "postgres.service", "x@y.service", "getty@"] {
            assert!(!survey.known.has(unit), "{unit}");
        }
    }

    #[test]
    fn a_unit_of_the_first_boot_does_not_run_at_later_ones_and_that_is_no_news() {
        let ran = |text: &str| text.replace("Id=sshd.service", "Id=systemd-update-done.service");
        let before = Survey::parse(&ran(PRINTED)).unwrap();
        let after = ran(PRINTED).replace("ActiveState=active\n", "ActiveState=inactive\n");
        let after = after.replace("NRestarts=2", "NRestarts=0");
        assert_eq!(Survey::parse(&after).unwrap().differences(&before), []);
        let other = |text: &str| text.replace("systemd-update-done.service\nLoad", "sshd.service\nLoad");
        let (before, after) = (Survey::parse(&other(&ran(PRINTED))), Survey::parse(&other(&after)));
        let found = after.unwrap().differences(&before.unwrap());
        assert_eq!(found, [("ran and does not run", vec!["sshd.service".to_owned()])]);
    }

    #[test]
    fn a_unit_that_a_timer_starts_is_told_from_one_that_a_switch_starts() {
        let look = |timer: &str| {
            let unit = format!(
                "\u{1e}units\nTriggeredBy=clean.timer clean.path\nId=clean.service\nActiveState=inactive\n\n\
                 Id=clean.timer\nActiveState=active\nInvocationID={timer}\n\n\u{1e}end\n"
            );
            Survey::parse(&unit).unwrap()
        };
        assert!(look("1").has_a_timer_since(&look("1"), "clean.service"));
        assert!(!look("2").has_a_timer_since(&look("1"), "clean.service"), "the timer is new");
        assert!(!look("1").has_a_timer_since(&Survey::default(), "clean.service"));
        assert!(!look("1").has_a_timer_since(&look("1"), "clean.timer"));
    }

    #[test]
    fn a_unit_runs_its_old_command_if_its_command_line_says_so() {
        let state = |command: &str, running: &str| UnitState {
            command: command.to_owned(),
            running: running.to_owned(),
            ..UnitState::default()
        };
        for (old, new, running, is_stale) in [
            ("/s/sleep 1", "/s/sleep 2", "/s/sleep 1", true),
            ("/s/sleep 1", "/s/sleep 2", "/s/sleep 2", false),
            ("/s/x --loud", "/s/x", "/s/x --loud", true),
            ("/s/x", "/s/x --loud", "/s/x --loud", false),
            ("/a/x", "/b/x", "/s/bash -e /a/x", true),
            ("/a/x", "/b/x", "/s/bash -e /b/x", false),
            ("/a/sshd -D", "/b/sshd -D", "sshd: /b/sshd -D [listener]", false),
            ("/a/sshd -D", "/b/sshd -D", "sshd: /a/sshd -D [listener]", true),
            ("/a/x", "/a/x", "x: worker", false),
        ] {
            let found = state(new, running).runs_the_command_of(&state(old, ""));
            assert_eq!(found, is_stale, "{old} -> {new}, runs {running}");
        }
    }

    #[test]
    fn output_that_was_cut_off_is_no_survey() {
        let cut = PRINTED.split("\u{1e}end").next().unwrap();
        assert_eq!(Survey::parse(cut), None);
        assert_eq!(Survey::parse(""), None);
    }
}
