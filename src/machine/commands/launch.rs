//! The commands that start the control channel's server in the guest.

use crate::channel::guest::no_pager;
use crate::machine::command_text::quoted;

/// The script for root's shell; `$1` is the nonce. It opens the port and fetches the server, which turns itself into a
/// service. The script contains no single quote. It searches for the port in sysfs, which needs no udev rule. It ends
/// an earlier service, which may still hold the port. Input without the nonce was meant for an earlier guest: it waited
/// in the line until the port was opened again. A file of that name is removed first, because a running program can't
/// be overwritten.
///
/// Its own failures have status 69, which separates them from a refusal of sudo. `command` prevents that a failed `exec`
/// ends the shell with another status.
///
/// The host waits for the script, and in an emulated guest each program that has not run since the boot takes a tenth
/// of a second and more. So it starts few programs. All of it is typed and appears in sudo's log, so it is short.
pub(crate) const LOADER: &str = r#"export LC_ALL=C;for d in /sys/class/virtio-ports/*;do [ -r "$d/name" ]&&read -r n <"$d/name"&&[ "$n" = nixvm ]&&p=/dev/${d##*/};done;[ -c "$p" ]||{ echo "no virtio-serial port called nixvm: virtio_console is not loaded">&2;exit 69;};[ ! -e /run/systemd/transient/nixvm-channel.service ]||systemctl stop nixvm-channel.service 2>/dev/null;command exec 3<>"$p"||exit 69;f=/run/nixvm-$1;{ read -r m </proc/sys/kernel/arch;} 2>/dev/null||m=$(uname -m);printf "\nnixvm-channel %s %s\n" "$1" "$m" >&3;while IFS=" " read -r w n x <&3;do [ "$x" = "$1" ]||continue;[ ! -e "$f" ]||rm -f "$f";head -c "$n" <&3 >"$f"||exit 69;[ "$w" = helper ]||{ set -- "$1" "$p";. "$f";};chmod 755 "$f";exec 3>&-;"$f" begin "$f" "$p"&&exit;command exec 3<>"$p"||exit 69;printf "refused\n" >&3;done"#;

/// Returns the command that is typed; `before` is the prefix that makes a user root.
pub(crate) fn launch(before: &str, nonce: &str) -> String {
    // The transcript shows the first line.
    format!("# open the control channel\n{before}sh -c '{LOADER}' nixvm {nonce}")
}

/// Returns the command that root's channel runs: the same server again, in a session of `user` as logind and PAM create
/// it, with the environment of their login shell.
pub(crate) fn launch_for(user: &str, helper: &str, nonce: &str) -> String {
    let (user, no_pager) = (quoted(user), no_pager());
    format!(
        r#"exec systemd-run --quiet --collect --pipe --wait --description="nixvm-test control channel" -p User={user} -p PAMName=login -p 'WorkingDirectory=~' -p OOMPolicy=continue -p TimeoutStopSec=5s "$BASH" -l -c '{no_pager};exec "$0" serve - "$BASH" "$1"' /run/nixvm-{helper} {nonce}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_single_quotes_has_none() {
        assert!(!LOADER.contains('\''));
    }
}
