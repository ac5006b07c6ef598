//! The text of a command: as a word of a shell, and as it stands in a message.

use crate::secrets;

/// `text` as one word of a shell.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A command as it stands in a message: one line, not too long. Passwords are masked before it is cut: the rest of one
/// would not be found.
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
