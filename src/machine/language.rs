//! The language of a user's shell.

/// The language of a shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Language {
    /// bash or zsh: `eval` survives a syntax error.
    Bash,
    /// dash, ksh, busybox sh: `eval` is a special builtin, in which an error ends its caller; `command` prevents that
    /// (POSIX, 2.14 and `command`).
    Posix,
    /// fish: a plain sh runs the loop and starts the user's shell for each command.
    Other,
}
