//! The text of a command: as a word of a shell, and as shown in a message.

use crate::secrets;

/// Quotes `text` as one word of a shell.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Shortens a command for a message: one line, not too long. Passwords are masked before the cut, because a cut-off
/// password would not be found.
pub(crate) fn shorten(command: &str) -> String {
    const LONGEST: usize = 120;
    let command = secrets::words(command);
    let line: String = command.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    if line.chars().count() < command.chars().count() { line + " …" } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word() {
        assert_eq!(quoted("a b'c"), r"'a b'\''c'");
    }
}
