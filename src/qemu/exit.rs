//! How QEMU ended, and what that most likely means.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::causes::{about_kvm_in, likely_cause, missing_program};
use super::port_holder;
use crate::error::Doubt;
use crate::{Error, ErrorKind, host_limits};

/// The title of what QEMU and the run script wrote, in errors.
pub(crate) const STDERR: &str = "QEMU's stderr";
const SIGABRT: i32 = 6;

/// How the run script, and hence QEMU, ended.
#[derive(Debug, Clone)]
pub struct Exit {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// The last lines that QEMU wrote to stdout and stderr, without control characters.
    pub stderr: String,
    /// Those of the run script before it, where QEMU did not get as far as to answer.
    pub script: String,
    /// Whether this process killed it.
    pub(crate) killed: bool,
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

    /// Adds earlier words that tell why it ended, unless they are among the last ones.
    pub(super) fn with_words(&mut self, words: &str, of_qemu: bool) {
        if !self.script.contains(words) && !self.stderr.contains(words) {
            let its = if of_qemu { &mut self.stderr } else { &mut self.script };
            *its = format!("{words}\n{its}");
        }
    }

    /// The error for something that needed a running QEMU: `summary` says what; status, stderr and the
    /// likely cause are added. Its kind is [`ErrorKind::QemuGone`], or [`ErrorKind::Host`] when the run
    /// script did not find QEMU or a limit of the host ended it.
    pub fn error(&self, summary: impl std::fmt::Display) -> Error {
        let said = format!("{}\n{}", self.script, self.stderr);
        let kind = if missing_program(&said) { ErrorKind::Host } else { ErrorKind::QemuGone };
        let error = Error::new(kind, format!("{summary}: {}", self.describe()))
            .section("what the run script printed last", self.script.as_str())
            .section(STDERR, self.stderr.as_str())
            .doubted(self.doubt());
        if let Some(taken) = port_holder::taken(&said) {
            return taken.explain(error);
        }
        let error = error.because_of_words(&said);
        if error.is_of_a_limit() {
            return error.doubted(None);
        }
        match likely_cause(&said) {
            Some(cause) => error.likely_cause(cause.means).next_step(cause.next),
            None if self.killed => error.likely_cause("the scenario ended the machine: `stop()`, `crash()`"),
            None if self.status.signal() == Some(9) => error.likely_cause(
                "another program killed it, or the kernel did because memory ran out (see dmesg)",
            ),
            None => error,
        }
    }

    /// Whether KVM of this host may be why it ended. QEMU aborts where KVM refuses what can't fail.
    pub(super) fn doubt(&self) -> Option<Doubt> {
        if [&self.stderr, &self.script].into_iter().any(|said| host_limits::in_words(said).is_some()) {
            return None;
        }
        let said = about_kvm_in(&self.stderr).and_then(|(_, cause)| cause.kvm);
        said.or_else(|| (self.status.signal() == Some(SIGABRT)).then_some(Doubt::Suspected))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(raw: i32, stderr: &str) -> Exit {
        Exit {
            status: ExitStatus::from_raw(raw),
            stderr: stderr.to_owned(),
            script: String::new(),
            killed: false,
        }
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
    fn a_limit_of_processes_that_ended_qemu_is_the_hosts_and_no_doubt_about_kvm() {
        let said = "qemu: qemu_thread_create: Resource temporarily unavailable";
        let error = exit(6 | 0x80, said).error("boot failed");
        assert_eq!((error.kind(), error.doubt()), (ErrorKind::Host, None));
        assert!(error.is_of_a_limit());
        assert_eq!(exit(6 | 0x80, said).doubt(), None);
        assert_eq!(exit(6 | 0x80, "").doubt(), Some(Doubt::Suspected));
    }

    #[test]
    fn a_signal_has_its_name() {
        assert_eq!(exit(6 | 0x80, "").describe(), "killed by signal 6 (SIGABRT)");
        assert!(exit(9, "").error("gone").to_string().contains("memory ran out"));
    }
}
