//! How QEMU ended, and what that most likely means.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::port_holder;
use crate::{Error, ErrorKind};

/// How the run script, and hence QEMU, ended.
#[derive(Debug, Clone)]
pub struct Exit {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// The last lines it wrote to stdout and stderr, without control characters.
    pub stderr: String,
}

impl Exit {
    /// "exit status 1" or "killed by signal 6 (SIGABRT)".
    pub fn describe(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => match signal_name(signal) {
                Some(name) => format!("killed by signal {signal} ({name})"),
                None => format!("killed by signal {signal}"),
            },
            (None, None) => self.status.to_string(),
        }
    }

    /// The error for something that needed a running QEMU: `summary` says what; status, stderr and the
    /// likely cause are added. Its kind is [`ErrorKind::QemuGone`], or [`ErrorKind::Host`] when the run
    /// script did not find QEMU.
    pub fn error(&self, summary: impl std::fmt::Display) -> Error {
        let kind = if missing_program(&self.stderr) { ErrorKind::Host } else { ErrorKind::QemuGone };
        let error = Error::new(kind, format!("{summary}: {}", self.describe()))
            .section("QEMU's stderr", self.stderr.as_str());
        if let Some(taken) = port_holder::taken(&self.stderr) {
            return taken.explain(error);
        }
        match likely_cause(&self.stderr) {
            Some((cause, next)) => error.likely_cause(cause).next_step(next),
            None if self.status.signal() == Some(9) => {
                error.likely_cause("somebody killed it; the kernel does when memory runs out (see dmesg)")
            }
            None => error,
        }
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        _ => return None,
    })
}

/// What the words of QEMU, qemu-img, mkfs and the shell mean: (cause, what to do).
/// Texts as QEMU 7.2 to 10 and Linux print them.
const CAUSES: [(&str, &str, &str); 11] = [
    (
        "No space left on device",
        "the host's disk is full: the disk image could not be made or could not grow",
        "free some space, or set TMPDIR to a folder on a disk that has it",
    ),
    (
        "failed to set MSR",
        "/dev/kvm opens, but can't run a guest on this host (nested virtualization without support)",
        "set NIXVM_ACCELERATOR=tcg",
    ),
    (
        "Could not access KVM kernel module",
        "KVM is not usable here: no kernel module, or no right to /dev/kvm (group kvm)",
        "set NIXVM_ACCELERATOR=tcg, or get access to /dev/kvm",
    ),
    (
        "requires KVM",
        "the VM's own options ask for a CPU model that only KVM has",
        "take `-cpu host` out of virtualisation.qemu.options",
    ),
    (
        "\"-machine accel=\" options are incompatible",
        "the VM's own options choose the accelerator by `-accel`, which can't be overridden",
        "write `-machine accel=kvm:tcg` in virtualisation.qemu.options instead",
    ),
    (
        "Could not set up host forwarding rule",
        "a forwarded port is in use on the host",
        "end what listens there, or forward another port",
    ),
    (
        "Failed to get \"write\" lock",
        "another QEMU uses the same disk image",
        "end it, or run without --keep-state",
    ),
    (
        "Cannot allocate memory",
        "the host has too little free memory for this VM",
        "lower virtualisation.memorySize, or run fewer machines at a time",
    ),
    (
        "cannot set up guest memory",
        "the host has too little free memory for this VM",
        "lower virtualisation.memorySize, or run fewer machines at a time",
    ),
    (
        "invalid option",
        "QEMU does not know an option",
        "look at virtualisation.qemu.options and at QEMU_OPTS, and at QEMU's version",
    ),
    (
        ": not found",
        "a program that the run script needs is missing",
        "build the VM again; its parts may have been removed from the Nix store",
    ),
];

/// Whether a shell said that QEMU or its tools are not there: dash "qemu-img: not found", bash
/// "qemu-img: command not found".
fn missing_program(stderr: &str) -> bool {
    stderr.lines().any(|line| line.contains("qemu-") && line.ends_with("not found"))
}

/// The likely cause of an end with these last words, and what to do.
pub(super) fn likely_cause(stderr: &str) -> Option<(&'static str, &'static str)> {
    if missing_program(stderr) {
        return Some((
            "QEMU is not installed here, or is not on PATH",
            "install it (Debian: apt-get install qemu-system-x86 qemu-utils)",
        ));
    }
    CAUSES.iter().find(|(words, ..)| stderr.contains(words)).map(|(_, cause, next)| (*cause, *next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(raw: i32, stderr: &str) -> Exit {
        Exit { status: ExitStatus::from_raw(raw), stderr: stderr.to_owned() }
    }

    #[test]
    fn a_full_disk_is_named_as_the_cause() {
        let error = exit(1 << 8, "qemu-img: nixos.qcow2: No space left on device").error("boot failed");
        assert_eq!(error.kind(), ErrorKind::QemuGone);
        let text = error.to_string();
        assert!(text.contains("boot failed: exit status 1"), "{text}");
        assert!(text.contains("likely cause: the host's disk is full"), "{text}");
    }

    #[test]
    fn a_signal_has_its_name() {
        assert_eq!(exit(6 | 0x80, "").describe(), "killed by signal 6 (SIGABRT)");
        assert!(exit(9, "").error("gone").to_string().contains("memory runs out"));
    }
}
