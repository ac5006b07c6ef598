//! Whether guests run on the host's processor, and why not.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::{Finding, State};
use crate::environment;
use crate::qemu::accelerator::{Accelerator, VARIABLE, standing};

/// A guest of ten bytes ends in milliseconds; on hosts with a KVM that runs nothing it hangs.
const TRIAL: Duration = Duration::from_secs(10);

/// A boot sector that tells isa-debug-exit (docs/specs in QEMU's sources; port 0xf4) that it runs:
/// `mov dx, 0xf4; mov al, 0x10; out dx, al; hlt; jmp -3`.
const SECTOR: [u8; 9] = [0xba, 0xf4, 0x00, 0xb0, 0x10, 0xee, 0xf4, 0xeb, 0xfd];

/// QEMU's status then: twice the number, plus 1.
const RAN: i32 = 0x10 * 2 + 1;

pub(super) async fn finding() -> Finding {
    let (accelerator, reason) = standing();
    let chosen = environment::is_set(VARIABLE);
    let (emulated, reason) = match accelerator {
        Some(Accelerator::Tcg) => (true, reason),
        _ if chosen => (false, reason),
        // What some VM's kernel did says little of the next one's where not even this runs.
        _ => match trial().await {
            Some(why) => (true, why),
            None => (false, reason),
        },
    };
    if !emulated {
        return Finding::ok("KVM", reason);
    }
    let found = format!("machines are emulated, some ten times slower: {reason}");
    Finding::new("KVM", State::Warning, found, mend(&reason))
}

/// Why the smallest guest there is does not run with KVM, and the processor that NixOS asks for (`-cpu max`). `None` if
/// it does, and where it can't be tried.
async fn trial() -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return None;
    }
    let mut disk = tempfile::NamedTempFile::new().ok()?;
    let mut sector = [0; 512];
    sector[..SECTOR.len()].copy_from_slice(&SECTOR);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    disk.write_all(&sector).ok()?;
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "kvm", "-cpu", "max", "-m", "16", "-nodefaults", "-display", "none", "-no-reboot"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-drive"])
        .arg(format!("file={},format=raw,if=ide", disk.path().display()))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let ended = match tokio::time::timeout(TRIAL, qemu.output()).await {
        Ok(ended) => ended.ok()?,
        Err(_) => {
            return Some(format!("a guest of a few bytes did not run with it in {} s", TRIAL.as_secs()));
        }
    };
    if ended.status.code() == Some(RAN) {
        return None;
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let line = said.lines().find(|line| line.contains("error")).or(said.lines().next()).unwrap_or_default();
    Some(format!("QEMU failed with /dev/kvm: {}", crate::text::line(line)))
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
