//! Whether guests run on the host's processor, and why not.

use super::{Finding, State};
use crate::qemu::accelerator::{Accelerator, standing};

pub(super) fn finding() -> Finding {
    let (accelerator, reason) = standing();
    match accelerator {
        Some(Accelerator::Kvm) => Finding::ok("KVM", reason),
        None => Finding::ok("KVM", reason),
        Some(Accelerator::Tcg) => {
            let found = format!("machines are emulated, some ten times slower: {reason}");
            Finding::new("KVM", State::Warning, found, mend(&reason))
        }
    }
}

/// What mends it, by the reason.
fn mend(reason: &str) -> &'static str {
    if reason.contains("there is no /dev/kvm") {
        "sudo modprobe kvm_intel (AMD: kvm_amd); if that fails, switch virtualization on in the firmware, or, in a virtual \
         machine or container, nested virtualization at its host"
    } else if reason.contains("no right") {
        "sudo usermod -aG kvm \"$USER\", then log in again"
    } else if reason.contains("NIXVM_ACCELERATOR") {
        "unset NIXVM_ACCELERATOR"
    } else {
        "nothing on this host: its KVM is there, but runs no guest, as where virtualization is nested. The next boot of \
         the host is tried anew"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_what_mends_it() {
        assert!(mend("there is no /dev/kvm (…)").contains("modprobe"));
        assert!(mend("no right to open /dev/kvm (…)").contains("usermod -aG kvm"));
        assert!(mend("NIXVM_ACCELERATOR says so").contains("unset"));
        assert!(mend("/dev/kvm opens, but QEMU ended with it").contains("nested"));
    }
}
