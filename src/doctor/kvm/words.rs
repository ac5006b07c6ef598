//! The messages of QEMU and the kernel when KVM does not run a guest.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use crate::qemu::line_about_kvm;
use crate::text;

/// How much of a line is shown, in characters.
const SHOWN: usize = 160;

/// Returns the most informative line, without control characters.
pub(super) fn telling(said: &str) -> String {
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = line_about_kvm(said).or_else(|| lines.next_back());
    text::line(line.unwrap_or_default().trim()).chars().take(SHOWN).collect()
}

/// Describes how QEMU ended, with its message. `status` is `None` if QEMU still runs, with a guest that KVM
/// has stopped.
pub(super) fn ended(status: Option<ExitStatus>, said: &str) -> String {
    let words = telling(said);
    let how = match status {
        Some(status) if status.signal() == Some(6) => "QEMU aborted".to_owned(),
        Some(status) => format!("QEMU ended ({status})"),
        None => "KVM stopped the guest".to_owned(),
    };
    if words.is_empty() { how } else { format!("{how}: {words}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_most_is_shown_and_nothing_that_a_terminal_acts_on() {
        let said = "warning: host doesn't support\nKVM internal error. Suberror: 1\x1b[2J\nEAX=00000000\n";
        assert!(telling(said).starts_with("KVM internal error. Suberror: 1"));
        assert!(!telling(said).contains('\x1b'));
        assert_eq!(telling("one\n two \n\n"), "two");
        assert_eq!(telling(""), "");
    }

    #[test]
    fn an_abort_an_end_and_a_guest_that_stands_still_are_told_apart() {
        let of = |raw| Some(ExitStatus::from_raw(raw));
        let msr = "error: failed to set MSR 0x10a to 0x0\nassertion failed\n";
        assert_eq!(ended(of(6), msr), "QEMU aborted: error: failed to set MSR 0x10a to 0x0");
        assert!(ended(of(1 << 8), "").starts_with("QEMU ended (exit status: 1)"));
        assert_eq!(
            ended(None, "KVM internal error. Suberror: 1"),
            "KVM stopped the guest: KVM internal error. Suberror: 1"
        );
    }
}
