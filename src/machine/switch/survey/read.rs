//! Reads what the script of a look printed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Account, BOOTED, MARK, Survey, UnitState};
use crate::machine::switch::known::KnownUnits;
use crate::machine::switch::usual::Marks;

impl Survey {
    /// Reads what the script printed. Returns `None` if it did not reach its end.
    pub(crate) fn parse(printed: &str) -> Option<Self> {
        let mut sections = BTreeMap::new();
        for section in printed.split(MARK).skip(1) {
            let (name, text) = section.split_once('\n')?;
            // A text of the machine has imitated the mark.
            if sections.insert(name, text).is_some() {
                return None;
            }
        }
        sections.get("end")?;
        let section = |name: &str| sections.get(name).copied().unwrap_or_default();
        let processes = processes(section("processes"));
        let mut links = section("links").lines().map(str::to_owned);
        let mut next = || links.next().unwrap_or_default();
        let (current, booted) = (next(), next());
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
        let (was, is) = (section("booted-params").trim(), section("current-params").trim());
        if was != is {
            needs_reboot.push("kernel-params".to_owned());
        }
        let mut ports = listening(section("tcp"), "tcp", "0A");
        // The kernel gives such ports to clients.
        let own = local_ports(section("local-ports"));
        let clients = |port: &String| is_within(port, own);
        ports.extend(listening(section("udp"), "udp", "07").into_iter().filter(|port| !clients(port)));
        // WireGuard's own port is in this range, and its socket belongs to the kernel.
        ports.extend(listening(&of_the_kernel(section("udp")), "udp", "07"));
        Some(Self {
            target: section("target").trim().to_owned(),
            known: KnownUnits::of(section("units"), section("unit-files")),
            units: units(section("units"), &processes),
            marks: Marks::of(section("marks")),
            current,
            booted,
            needs_reboot,
            parameters: parameters(was, is),
            left_lists: lists(section("lists")),
            users: section("users").lines().filter_map(account).collect(),
            groups: section("groups").lines().filter_map(group).collect(),
            homes: section("homes").lines().filter_map(home).collect(),
            mounts: section("mounts").lines().filter_map(mount).collect(),
            fstab: section("fstab").lines().filter_map(mount_point).collect(),
            ports,
            addresses: addresses(section("addresses"), section("addresses6")),
            etc: paths(section("etc")),
            identity: section("identity").lines().filter_map(pair).collect(),
            state_folders: paths(section("state")),
            snippets: section("snippets").lines().filter_map(snippet).collect(),
            boot: section("boot").trim().to_owned(),
            failures: failures(section("failures")),
        })
    }
}

/// Reads blocks of `Name=value` lines, one block a unit.
fn units(text: &str, processes: &BTreeMap<&str, &str>) -> BTreeMap<String, UnitState> {
    let mut units = BTreeMap::new();
    for block in text.split("\n\n") {
        let (mut name, mut state) = (String::new(), UnitState::default());
        for line in block.lines() {
            let Some((property, text)) = line.split_once('=') else { continue };
            let value = || text.to_owned();
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
                    let timers = text.split_ascii_whitespace().filter(|unit| unit.ends_with(".timer"));
                    state.timers = timers.map(str::to_owned).collect();
                }
                "Environment" | "StateDirectory" if !text.is_empty() => {
                    state.environment.push_str(line);
                    state.environment.push('\n');
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

/// Reads the command lines of processes, each behind its number.
fn processes(text: &str) -> BTreeMap<&str, &str> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(process, line)| (process, line.trim())).collect()
}

/// Reads how often each unit has failed, as `uniq -c` counts it. Returns `None` if the log could not be read.
fn failures(text: &str) -> Option<BTreeMap<String, u32>> {
    let lines = text.trim_start().strip_prefix("readable")?.lines();
    let line = |line: &str| {
        let (count, unit) = line.trim().split_once(' ')?;
        Some((unit.to_owned(), count.parse().ok()?))
    };
    Some(lines.filter_map(line).collect())
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
    let path = plain(path);
    // The credentials of a unit are mounted at each start. Our own disks with store paths lie below /run/nixvm-store.
    let passing =
        ["/run/credentials/", "/run/user/", "/run/nixvm-store"].iter().any(|start| path.starts_with(start));
    (!passing).then(|| (path, format!("{kind} {source}")))
}

/// Reads a line of /etc/fstab (fstab(5)).
fn mount_point(line: &str) -> Option<String> {
    let line = line.trim();
    let path = line.split_ascii_whitespace().nth(1).filter(|path| path.starts_with('/'))?;
    (!line.starts_with('#')).then(|| plain(path))
}

/// Returns a path without the escapes of mountinfo and fstab.
fn plain(path: &str) -> String {
    [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", r"\")]
        .iter()
        .fold(path.to_owned(), |path, (escape, character)| path.replace(escape, character))
}

/// Returns the kernel parameters that only one of two command lines has.
fn parameters(booted: &str, current: &str) -> Vec<String> {
    let [was, is] = [booted, current].map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let own = |sign: char, these: &[&str], others: &[&str]| -> Vec<String> {
        these.iter().filter(|it| !others.contains(it)).map(|it| format!("{sign}{it}")).collect()
    };
    [own('-', &was, &is), own('+', &is, &was)].concat()
}

/// Reads a list of absolute paths, one a line.
fn paths(text: &str) -> BTreeSet<String> {
    let path = |line: &str| line.starts_with('/').then(|| line.trim_end_matches('/').to_owned());
    text.lines().filter_map(path).collect()
}

fn pair(line: &str) -> Option<(String, String)> {
    let (path, line) = line.split_once(' ')?;
    Some((path.to_owned(), line.to_owned()))
}

/// Reads a line of the log about an activation snippet that failed, without the word of the kernel's log before it.
fn snippet(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("Activation script snippet '")?;
    let (name, status) = rest.split_once("' failed (")?;
    Some(format!("{name} ({})", status.split_once(')')?.0))
}

/// Reads the machine's own addresses: leaves of /proc/net/fib_trie that are `host LOCAL`, and lines of
/// /proc/net/if_inet6. IPv6 addresses that a router or the kernel gives come seconds after a start, so they do not count.
fn addresses(trie: &str, six: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut leaf = "";
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address;
        } else if line == "/32 host LOCAL" && !leaf.starts_with("127.") {
            found.insert(leaf.to_owned());
        }
    }
    found.extend(six.lines().filter_map(permanent_address));
    found
}

/// Reads `ADDRESS INDEX LENGTH SCOPE FLAGS CARD`, all of them hexadecimal: an address of global scope that stays for good.
fn permanent_address(line: &str) -> Option<String> {
    const PERMANENT: u8 = 0x80;
    let mut fields = line.split_ascii_whitespace();
    let address = u128::from_str_radix(fields.next()?, 16).ok()?;
    let (scope, flags) = (fields.nth(2)?, u8::from_str_radix(fields.next()?, 16).ok()?);
    (scope == "00" && flags & PERMANENT != 0).then(|| std::net::Ipv6Addr::from(address).to_string())
}

/// Reads the first and the last port that the kernel chooses by itself.
fn local_ports(text: &str) -> Option<(u16, u16)> {
    let mut ports = text.split_ascii_whitespace().map(|port| port.parse().ok());
    Some((ports.next()??, ports.next()??))
}

/// Returns the lines of /proc/net/udp about sockets of the kernel itself: their tenth field, the inode, is 0.
fn of_the_kernel(text: &str) -> String {
    let own = text.lines().filter(|line| line.split_ascii_whitespace().nth(9) == Some("0"));
    own.collect::<Vec<_>>().join("\n")
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
Environment=PATH=/bin PGDATA=/var/lib/postgresql/15
StateDirectory=

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
1 /sbin/init
7 sshd: /nix/store/x/bin/sshd -D -f /etc/ssh/sshd_config [listener]
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
\u{1e}fstab
# a comment
/dev/disk/by-label/nixos / ext4 defaults 0 0
/dev/vdb /var/lib/data ext4 defaults 0 2
swap none swap sw 0 0
\u{1e}addresses
Local:
        |-- 10.0.2.0
           /24 link UNICAST
        |-- 10.0.2.15
           /32 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
\u{1e}addresses6
00000000000000000000000000000001 01 80 10 80       lo
fec0000000000000505400fffe123456 02 40 40 00     eth0
fe80000000000000505400fffe123456 02 40 20 80     eth0
20010db8000000000000000000000007 02 40 00 80     eth0
\u{1e}etc
/etc/passwd
/etc/pam.d
\u{1e}identity
/etc/ssh/ssh_host_ed25519_key.pub ssh-ed25519 AAAA root@nixos
\u{1e}state
/var/lib/postgresql/15/
\u{1e}snippets
stage-2-init: Activation script snippet 'secrets' failed (1)
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
        assert_eq!(survey.parameters, ["+quiet"]);
        assert_eq!(sshd.environment, "Environment=PATH=/bin PGDATA=/var/lib/postgresql/15\n");
        assert_eq!(survey.fstab.iter().collect::<Vec<_>>(), ["/", "/var/lib/data"]);
        assert_eq!(survey.addresses.iter().collect::<Vec<_>>(), ["10.0.2.15", "2001:db8::7"]);
        assert_eq!(survey.etc.iter().collect::<Vec<_>>(), ["/etc/pam.d", "/etc/passwd"]);
        assert!(survey.identity["/etc/ssh/ssh_host_ed25519_key.pub"].starts_with("ssh-ed25519 AAAA"));
        assert_eq!(survey.state_folders.iter().collect::<Vec<_>>(), ["/var/lib/postgresql/15"]);
        assert_eq!(survey.snippets.iter().collect::<Vec<_>>(), ["secrets (1)"]);
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
        // The switch has started it (0), and it has crashed as often as it had before.
        let again = PRINTED.replace("InvocationID=0f", "InvocationID=0e");
        assert_eq!(after.crashing(&Survey::parse(&again).unwrap()).len(), 1);
        let with_log = |count: &str| format!("{PRINTED}\u{1e}failures\nreadable\n{count}\u{1e}boot\nb1\n");
        let [none, one] =
            ["", "      1 sshd.service\n"].map(|count| Survey::parse(&with_log(count)).unwrap());
        let well = Survey::parse(&with_log("").replace("NRestarts=2", "NRestarts=0")).unwrap();
        assert!(none.crashing(&well).is_empty(), "it has ended well, and is started again");
        assert_eq!(one.crashing(&well).len(), 1);
        let getty = |text: &str| {
            Survey::parse(&text.replace("Id=sshd.service", "Id=serial-getty@ttyS0.service")).unwrap()
        };
        let before = getty(&PRINTED.replace("NRestarts=2", "NRestarts=0"));
        assert!(getty(PRINTED).crashing(&before).is_empty(), "a user has logged out");
    }

    #[test]
    fn a_unit_is_known_if_it_is_loaded_or_has_a_file() {
        let survey = Survey::parse(PRINTED).unwrap();
        for unit in ["sshd.service", "backup.service"] {
            assert!(survey.known.has(unit), "{unit}");
        }
        for unit in ["none.service", "postgres.service", "x@y.service", "getty@tty1.service", "getty@"] {
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
        // A oneshot that remains after its exit and was reloaded, and a service whose main process systemd does not know.
        for (sub, is_stale) in [("exited", false), ("running", true)] {
            let after = UnitState { sub: sub.to_owned(), ..state("/s/nft -f /b", "") };
            assert_eq!(after.runs_the_command_of(&state("/s/nft -f /a", "")), is_stale, "{sub}");
        }
    }

    #[test]
    fn a_text_that_imitates_a_section_is_no_survey() {
        let forged = PRINTED.replace("/sbin/init", "/sbin/init\n\u{1e}units\nId=db.service");
        assert_eq!(Survey::parse(&forged), None);
    }

    #[test]
    fn output_that_was_cut_off_is_no_survey() {
        let cut = PRINTED.split("\u{1e}end").next().unwrap();
        assert_eq!(Survey::parse(cut), None);
        assert_eq!(Survey::parse(""), None);
    }
}
