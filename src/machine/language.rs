//! What a user's shell speaks.

/// Which language a shell speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Language {
    /// bash or zsh: `eval` survives a syntax error.
    Bash,
    /// dash, ksh, busybox sh: `eval` is a special builtin, where an error ends what called it;
    /// `command` takes that from it (POSIX, 2.14 and `command`).
    Posix,
    /// fish: a plain sh runs the loop and starts the user's shell for each command.
    Other,
}
