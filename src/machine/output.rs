//! The output of a command.

use std::fmt;
use std::sync::OnceLock;

/// The output of a command and its exit status.
///
/// A command of a [`Session`](crate::machine::Session) prints on the console, which mixes standard output and standard
/// error. On the control channel ([`User`](crate::machine::User)) they are separate.
///
/// ```
/// # async fn example(alice: nixvm_test::machine::Session) -> nixvm_test::Result {
/// let cow = alice.execute("cowsay hello | lolcat").await?;
/// assert!(cow.success());
/// assert!(cow.text().contains("< hello >"));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Output {
    command: String,
    status: i32,
    bytes: Vec<u8>,
    stderr: Vec<u8>,
    text: OnceLock<String>,
}

impl Output {
    pub(crate) fn new(command: &str, status: i32, bytes: Vec<u8>, stderr: Vec<u8>) -> Self {
        Self { command: command.to_owned(), status, bytes, stderr, text: OnceLock::new() }
    }

    /// Joins the outputs of two consecutive commands, with the status of the second.
    pub(crate) fn and(mut self, next: Self) -> Self {
        self.command = format!("{}\n{}", self.command, next.command);
        self.bytes.extend_from_slice(&next.bytes);
        self.stderr.extend_from_slice(&next.stderr);
        Self::new(&self.command, next.status, self.bytes, self.stderr)
    }

    /// Returns the command as it was given.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Returns the exit status: 0 is success; above 128, signal `status - 128` ended the command.
    pub fn status(&self) -> i32 {
        self.status
    }

    /// Returns whether the exit status is 0.
    pub fn success(&self) -> bool {
        self.status == 0
    }

    /// Returns the signal that ended it, if one did.
    pub fn signal(&self) -> Option<i32> {
        (129..=192).contains(&self.status).then_some(self.status - 128)
    }

    /// Returns the exact bytes that the command printed to standard output, including escape codes. For a session's
    /// command they include standard error, in the console's order.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the exact bytes that the command printed to standard error; empty for a session's command.
    pub fn stderr(&self) -> &[u8] {
        &self.stderr
    }

    /// Returns [`Output::bytes`] as text without escape codes, as a person reads it. Invalid UTF-8 becomes U+FFFD; a
    /// trailing newline stays.
    pub fn text(&self) -> &str {
        self.text
            .get_or_init(|| String::from_utf8_lossy(&crate::text::strip_escapes(&self.bytes)).into_owned())
    }

    /// Returns the lines of [`Output::text`].
    pub fn lines(&self) -> std::str::Lines<'_> {
        self.text().lines()
    }
}

/// Prints the text without surrounding white space.
impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().trim())
    }
}
