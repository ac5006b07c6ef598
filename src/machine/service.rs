//! The service in the guest that opens the control channel's port, and the commands that start it.

/// What root's service runs: `$1` is the nonce, `$2` the port. It has no single quote in it. What comes without
/// the nonce was meant for an earlier guest: it waited in the line until the port was opened again. A file of that name
/// is removed first, since a program that still runs can't be written to.
pub(super) const SERVICE: &str = r#"exec 3<>"$2" || exit;export HOME=/root USER=root LOGNAME=root SHELL=/bin/sh;cd /root 2>/dev/null||cd /;[ -r /etc/profile ] && . /etc/profile >/dev/null 2>&1;f=/run/nixvm-$1;{ read -r m </proc/sys/kernel/arch;} 2>/dev/null||m=$(uname -m);printf "\nnixvm-channel %s %s\n" "$1" "$m" >&3;while IFS=" " read -r w n x <&3;do [ "$x" = "$1" ] || continue;[ ! -e "$f" ] || rm -f "$f";head -c "$n" <&3 >"$f" || exit;case $w in helper) chmod 755 "$f";"$f" check && exec "$f" serve 3 "$(command -v bash)";printf "refused\n" >&3;;shell) exec sh "$f";;esac;done"#;

/// What root's shell runs to start the service: `$1` is the nonce, `$2` [`SERVICE`]. The port is looked
/// for in sysfs, which needs no udev rule. A service of before, which may still hold it, is ended.
///
/// The host waits for both, and each program that has not run since the boot takes an emulated guest a tenth of a second
/// and more. So they start few.
const START: &str = r#"for d in /sys/class/virtio-ports/*;do [ -r "$d/name" ] && read -r n <"$d/name" && [ "$n" = nixvm ] && p=/dev/${d##*/};done;[ -c "$p" ]||{ echo "no virtio-serial port called nixvm: virtio_console is not loaded">&2;exit 69;};if command -v systemd-run >/dev/null;then [ ! -e /run/systemd/transient/nixvm-control.service ]||systemctl stop nixvm-control.service 2>/dev/null;exec systemd-run --quiet --collect --unit=nixvm-control --description="nixvm-test control channel" -p OOMPolicy=continue -p TimeoutStopSec=5s /bin/sh -c "$2" nixvm "$1" "$p";fi;setsid sh -c "$2" nixvm "$1" "$p" </dev/null >/dev/null 2>&1 &"#;

/// The command that is typed for `user`.
pub(super) fn launch(user: &str, nonce: &str) -> String {
    let sudo = if user == "root" { "" } else { "sudo " };
    // The first line is what stands in the transcript.
    format!("# open the control channel\n{sudo}sh -c '{START}' nixvm {nonce} '{SERVICE}'")
}

/// The command that root's channel runs: the same server once more, in a session of `user` as logind and
/// PAM make it, with the environment of their login shell.
pub(super) fn launch_for(user: &str, helper: &str, nonce: &str) -> String {
    let user = quoted(user);
    format!(
        r#"exec systemd-run --quiet --collect --pipe --wait --description="nixvm-test control channel" -p User={user} -p PAMName=login -p 'WorkingDirectory=~' -p OOMPolicy=continue -p TimeoutStopSec=5s "$BASH" -l -c 'exec "$0" serve - "$BASH" "$1"' /run/nixvm-{helper} {nonce}"#
    )
}

/// `text` as one word of a shell.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_single_quotes_has_none() {
        assert!(!SERVICE.contains('\''));
        assert!(!START.contains('\''));
    }

    #[test]
    fn a_word_stays_one_word() {
        assert_eq!(quoted("a b'c"), r"'a b'\''c'");
    }
}
