//! The exit codes of `nixvm-test` and of every suite.

use std::process::ExitCode;

use crate::{Error, ErrorKind};

/// How a run ended, as its exit code says. Mixed failures are [`Exit::Failed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Every scenario that ran passed.
    Passed = 0,
    /// A scenario failed.
    Failed = 1,
    /// The request makes no sense as given: an unknown flag, a missing file, no configuration.
    Usage = 2,
    /// The configuration could not be built, or a scenario's file could not be compiled.
    Build = 3,
    /// The VM did not reach its login prompt.
    Boot = 4,
    /// The host lacks something: QEMU, Nix, cargo.
    Host = 5,
}

/// The table of exit codes, as `--help` shows it.
pub const TABLE: &str = "\
Exit codes:
  0  every scenario passed
  1  a scenario failed
  2  the command line is wrong
  3  the configuration could not be built, or a scenario not compiled
  4  the VM did not boot as far as its login prompt
  5  the host lacks something (QEMU, Nix, cargo)
A run that is ended by a signal gives 128 + the number of the signal.";

impl Exit {
    /// Returns the code of a failure before a scenario's body began. `at` is [`Exit::Build`] while its
    /// machines were being built, [`Exit::Boot`] while they were booting.
    pub fn before_the_body(error: &Error, at: Self) -> Self {
        match error.kind() {
            ErrorKind::Host => Self::Host,
            ErrorKind::Build => Self::Build,
            ErrorKind::Usage => Self::Usage,
            _ => at,
        }
    }

    /// Returns the common code of several failures, or [`Exit::Failed`] if they differ.
    pub fn of_all(failures: impl IntoIterator<Item = Self>) -> Self {
        let mut failures = failures.into_iter().filter(|exit| *exit != Self::Passed);
        match failures.next() {
            None => Self::Passed,
            Some(first) if failures.all(|exit| exit == first) => first,
            Some(_) => Self::Failed,
        }
    }

    /// Returns the number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_one_kind_keep_their_code() {
        assert_eq!(Exit::of_all([]), Exit::Passed);
        assert_eq!(Exit::of_all([Exit::Passed, Exit::Build, Exit::Build]), Exit::Build);
        assert_eq!(Exit::of_all([Exit::Boot, Exit::Build]), Exit::Failed);
    }

    #[test]
    fn the_code_says_where_it_went_wrong() {
        let code = |kind| Exit::before_the_body(&Error::new(kind, ""), Exit::Boot).code();
        assert_eq!(code(ErrorKind::Usage), 2);
        assert_eq!(code(ErrorKind::Build), 3);
        assert_eq!(code(ErrorKind::KernelPanic), 4);
        assert_eq!(code(ErrorKind::NoLoginPrompt), 4);
        assert_eq!(code(ErrorKind::QemuGone), 4);
        assert_eq!(code(ErrorKind::Host), 5);
    }

    #[test]
    fn the_table_names_every_code() {
        let all = [Exit::Passed, Exit::Failed, Exit::Usage, Exit::Build, Exit::Boot, Exit::Host];
        for exit in all {
            assert!(TABLE.contains(&format!("\n  {}  ", exit.code())), "{exit:?}");
        }
    }
}
