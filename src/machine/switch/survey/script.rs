//! The script that looks at a machine.

use super::{BOOTED, Survey};
use crate::machine::command_text::quoted;
use crate::machine::switch::known::KnownUnits;
use crate::machine::switch::usual::Marks;

/// Properties of units that are read.
const PROPERTIES: [&str; 13] = [
    "Id",
    "Names",
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "InvocationID",
    "NRestarts",
    "MainPID",
    "ExecStart",
    "Environment",
    "StateDirectory",
    "TriggeredBy",
];

/// Files in /etc without which no user can log in, or a machine is another one.
const ETC: &str = "/etc/passwd /etc/group /etc/shadow /etc/pam.d /etc/nsswitch.conf /etc/os-release /etc/machine-id \
                   /etc/ssh/ssh_host_*_key";

/// Files whose first line tells a machine from others.
const IDENTITY: &str = "/etc/machine-id /etc/ssh/ssh_host_*_key.pub";

/// Prints what the log of this boot says of activation snippets that failed. A boot has no other trace of them: the
/// kernel's log has the lines of NixOS's second stage, and a systemd initrd activates in a unit.
const SNIPPETS: &str = "journalctl --no-pager -q -b -o cat -g 'Activation script snippet .* failed' \
                        _TRANSPORT=kernel + _SYSTEMD_UNIT=initrd-nixos-activation.service";

/// Prints the command lines of the main processes of the units in `$u`. Each is one line: a process may have any text in its own.
const PROCESSES: &str = r#"for p in $(sed -n 's/^MainPID=//p' <<<"$u" | sort -u); do
[ "$p" != 0 ] && [ -r "/proc/$p/cmdline" ] || continue
l=; while IFS= read -r -d '' a || [ -n "$a" ]; do l="$l ${a//[[:cntrl:]]/ }"; done <"/proc/$p/cmdline"
printf '%s %s\n' "$p" "${l:0:4096}"; done 2>/dev/null"#;

/// Prints how often each unit has failed in this boot. systemd logs each failure with this number (systemd's
/// `sd-messages.h`: `SD_MESSAGE_UNIT_FAILURE_RESULT`).
const FAILURES: &str = "[ -z \"$(journalctl --no-pager -q -b -n 1 -o cat)\" ] || { echo readable; journalctl --no-pager -q \
                        -b -o cat MESSAGE_ID=d9b373ed55a64feb8242e02dbe79a49c | sed -n 's/: Failed with result.*//p' | sort \
                        | uniq -c; }";

impl Survey {
    /// Returns the script that looks at everything. `target` is the path of the system that the machine is switched to.
    pub(crate) fn script(target: &str) -> String {
        let properties = PROPERTIES.map(|property| format!("-p {property}")).join(" ");
        // A switch prints them itself.
        let snippets = if target.is_empty() { SNIPPETS } else { ":" };
        let links = ["/run/current-system", "/run/booted-system"];
        let parts = ["/run/booted-system", "/run/current-system"]
            .iter()
            .flat_map(|system| BOOTED.map(|part| format!("{system}/{part}")));
        let links = links.map(str::to_owned).into_iter().chain(parts).collect::<Vec<_>>().join(" ");
        // A part that fails leaves its section short, and the rest is read nevertheless.
        format!(
            r#"set +e; export LC_ALL=C
s() {{ printf '\n\036%s\n' "$1"; }}
s target; printf '%s\n' {target}
s units; u=$(systemctl show --no-pager --all {properties} '*'); printf '%s\n' "$u"
s processes; {processes}
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
s fstab; cat /etc/fstab
s addresses; cat /proc/net/fib_trie
s addresses6; cat /proc/net/if_inet6
s etc; for f in {ETC}; do [ ! -e "$f" ] || echo "$f"; done
s identity; for f in {IDENTITY}; do [ ! -r "$f" ] || {{ read -r l <"$f"; printf '%s %s\n' "$f" "$l"; }}; done
s state; ls -1Uqd /var/lib/*/ /var/lib/*/*/ 2>/dev/null | head -n 4000
s snippets; {snippets}
s boot; cat /proc/sys/kernel/random/boot_id
s failures; {FAILURES}
s local-ports; cat /proc/sys/net/ipv4/ip_local_port_range
s end
"#,
            files = KnownUnits::files(),
            processes = PROCESSES,
            target = quoted(target),
            marks = Marks::SCRIPT,
        )
    }
}
