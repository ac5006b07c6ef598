//! Why Nix did not evaluate or build something, and who is at fault.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use super::diagnosis;
use super::error_text::Tail;
use crate::{Error, ErrorKind};

/// Who is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The configuration: with the same one it fails again.
    Configuration,
    /// The host, or perhaps the host: a full disk, a network that does not answer, a killed process.
    Host,
    /// It did not end within its limit.
    Limit,
}

/// A failure of Nix.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    /// The report.
    pub(crate) error: Error,
    /// Who is at fault.
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "only mutants ask for it"))]
    pub(crate) fault: Fault,
}

/// What Nix and its builders print when the host lacks something.
const OF_THE_HOST: [&str; 19] = [
    "Cannot allocate memory",
    "Connection refused",
    "Connection reset by peer",
    "Could not connect",
    "Could not resolve",
    "Couldn't resolve",
    "Disk quota exceeded",
    "Input/output error",
    "No space left on device",
    "Read-only file system",
    "Resource temporarily unavailable",
    "Temporary failure resolving",
    "Too many open files",
    "cannot connect to",
    "database is busy",
    "error: out of memory",
    "std::bad_alloc",
    "unable to download",
    "unable to fork",
];

/// The signals by which a program ends that exhausts its stack, as an evaluation without end does.
const BY_ITSELF: [i32; 2] = [6, 11];

impl Refused {
    /// Explains a command that ended with `status`: see [`diagnosis::explain`].
    pub(super) fn with_status(
        doing: &str,
        what: &str,
        home: Option<&Path>,
        status: ExitStatus,
        tail: &Tail,
    ) -> Self {
        let is_killed = status.signal().is_some_and(|signal| !BY_ITSELF.contains(&signal));
        // Nix goes on without a cache that it can't reach, so its warnings are not the reason.
        let mut lines = tail.lines.iter().filter(|line| !line.trim_start().starts_with("warning:"));
        let is_of_the_host = lines.any(|line| OF_THE_HOST.iter().any(|words| line.contains(words)));
        let fault = if is_killed || is_of_the_host { Fault::Host } else { Fault::Configuration };
        Self { error: diagnosis::explain(doing, what, home, status, tail), fault }
    }

    /// Explains a command that exceeded its limit.
    pub(super) fn too_long(doing: &str, what: &str, limit: Duration, tail: &Tail) -> Self {
        Self { error: diagnosis::too_long(doing, what, limit, tail), fault: Fault::Limit }
    }

    /// Adds the path of the log.
    #[must_use]
    pub(super) fn with_log(self, log: &Path) -> Self {
        Self { error: self.error.section("the whole output", log.display().to_string()), ..self }
    }
}

/// A failure before or beside Nix itself.
impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let fault = if error.kind() == ErrorKind::Build { Fault::Configuration } else { Fault::Host };
        Self { error, fault }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(status: i32, text: &str) -> Fault {
        let mut tail = Tail::default();
        text.lines().for_each(|line| tail.push(line));
        Refused::with_status("building", "a.nix", None, ExitStatus::from_raw(status), &tail).fault
    }

    #[test]
    fn a_failure_of_the_host_is_not_blamed_on_the_configuration() {
        for text in [
            "error: writing to file: No space left on device",
            "error: cannot connect to daemon at '/nix/var/nix/daemon-socket/socket': Connection refused",
            "error: unable to download 'https://example.org/x': Couldn't resolve host name (6)",
            "error: unable to fork: Resource temporarily unavailable",
        ] {
            assert_eq!(fault(1 << 8, text), Fault::Host, "{text}");
        }
        assert_eq!(fault(9, ""), Fault::Host, "killed, perhaps for lack of memory");
    }

    #[test]
    fn a_failure_of_the_configuration_is_its_own() {
        for text in [
            "error: undefined variable 'x'",
            "error: infinite recursion encountered",
            "error: Failed assertions:\n- no root file system",
            "error: builder for '/nix/store/x.drv' failed with exit code 1",
            "warning: unable to download 'https://cache.example/x.narinfo'\nerror: undefined variable 'x'",
        ] {
            assert_eq!(fault(1 << 8, text), Fault::Configuration, "{text}");
        }
        assert_eq!(fault(11, ""), Fault::Configuration, "a stack that an endless evaluation has exhausted");
    }
}
