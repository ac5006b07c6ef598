//! What a command gave.

use std::fmt;
use std::sync::OnceLock;

/// What a command printed, and its exit status.
///
/// A command of a [`Session`](crate::machine::Session) prints on the console, where standard output and standard
/// error are one. On the control channel ([`User`](crate::machine::User)) they are apart.
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

    /// The outputs of two commands that ran one after the other, with the status of the second.
    pub(crate) fn and(mut self, next: Self) -> Self {
        self.command = format!("{}\n{}", self.command, next.command);
        self.bytes.extend_from_slice(&next.bytes);
        self.stderr.extend_from_slice(&next.stderr);
        Self::new(&self.command, next.status, self.bytes, self.stderr)
    }

    /// The command as it was given.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// The exit status: 0 is success; above 128 the command was ended by signal `status - 128`.
    pub fn status(&self) -> i32 {
        self.status
    }

    /// Whether the exit status is 0.
    pub fn success(&self) -> bool {
        self.status == 0
    }

    /// The signal that ended it, if one did.
    pub fn signal(&self) -> Option<i32> {
        (129..=192).contains(&self.status).then_some(self.status - 128)
    }

    /// Exactly the bytes that the command printed to standard output; of a session's command those to
    /// standard error, too, as they came on the console. Escape codes are in it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Exactly the bytes that the command printed to standard error; none of a session's command.
    pub fn stderr(&self) -> &[u8] {
        &self.stderr
    }

    /// [`Output::bytes`] as text without escape codes: what a person reads. Bytes that are no UTF-8 become
    /// U+FFFD; a newline at the end stays.
    pub fn text(&self) -> &str {
        self.text
            .get_or_init(|| String::from_utf8_lossy(&crate::text::strip_escapes(&self.bytes)).into_owned())
    }

    /// The lines of [`Output::text`].
    pub fn lines(&self) -> std::str::Lines<'_> {
        self.text().lines()
    }
}

/// The text without the white space around it.
impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().trim())
    }
}
