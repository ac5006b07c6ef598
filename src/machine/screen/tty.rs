//! Reads the text on a machine's virtual terminals (tty1, tty2, …).

use nixvm_test_macros::tracked;

use crate::Result;
use crate::console::Pattern;
use crate::machine::Machine;

/// # Virtual terminals
///
/// As root: only root may read a terminal's text.
impl Machine {
    /// Returns the text on a virtual terminal: all its lines, each padded with blanks to the terminal's width and
    /// separated by newlines. So `login: ` keeps its trailing blank, as on the screen.
    ///
    /// # Errors
    /// [`crate::ErrorKind::CommandFailed`] when there is no such terminal, and those of
    /// [`crate::machine::User::execute`].
    #[tracked]
    pub async fn get_tty_text(&self, tty: u32) -> Result<String> {
        let output = self.root().succeed(format!("cat /dev/vcsa{tty}")).await?;
        Ok(screen(output.bytes()))
    }

    /// Waits until the text on a virtual terminal matches, in the form of [`Machine::get_tty_text`]. Returns the text.
    ///
    /// ```no_run
    /// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
    /// machine.wait_until_tty_matches(1, "nixos login: ").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::Timeout`] after the limit ([`Machine::within`]) with the terminal's text, and those of
    /// [`crate::machine::User::execute`].
    #[tracked]
    pub async fn wait_until_tty_matches(&self, tty: u32, pattern: impl Into<Pattern>) -> Result<String> {
        let (pattern, life) = (pattern.into(), self.life());
        // The first read returns a specific error when there is no such terminal.
        let text = self.get_tty_text(tty).await?;
        if pattern.matches(&text) {
            return Ok(text);
        }
        let wanted = pattern.clone();
        let judge = move |look: &[u8]| Some(screen(look)).filter(|text| wanted.matches(text));
        let name = format!("wait until tty{tty} matches {pattern}");
        let looked = self.root().look_until(&format!("cat /dev/vcsa{tty}"), &name, judge).await?;
        looked.map_err(|in_vain| {
            let error = in_vain.error(format!("{}: tty{tty} did not match {pattern}", life.name));
            pattern.hint(
                error.section(format!("the content of tty{tty}"), without_blanks(&screen(&in_vain.last))),
            )
        })
    }
}

/// Decodes a screen: the number of lines and columns, the cursor's position, then a character and an attribute for each
/// cell (vcs(4)).
fn screen(bytes: &[u8]) -> String {
    let (Some(&columns), Some(cells)) = (bytes.get(1), bytes.get(4..)) else { return String::new() };
    // An unused cell is a blank.
    let characters: Vec<u8> =
        cells.iter().step_by(2).map(|&character| if character == 0 { b' ' } else { character }).collect();
    let lines: Vec<String> = characters
        .chunks(usize::from(columns).max(1))
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    lines.join("\n")
}

/// Formats it for people: without trailing blanks and without empty lines at the bottom.
fn without_blanks(screen: &str) -> String {
    let lines: Vec<&str> = screen.lines().map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{screen, without_blanks};
    use crate::console::Pattern;

    #[test]
    fn a_screen_is_read_line_by_line() {
        let mut bytes = vec![3, 4, 0, 0];
        for character in b"ab  c   \0\0\0\0" {
            bytes.extend([*character, 7]);
        }
        assert_eq!(screen(&bytes), "ab  \nc   \n    ");
        assert_eq!(without_blanks(&screen(&bytes)), "ab\nc");
        assert_eq!(screen(b""), "");
        assert_eq!(screen(&[0, 0, 0, 0, b'x', 7]), "x");
    }

    /// 60 of the 109 patterns of nixpkgs' tests end in a blank.
    #[test]
    fn a_pattern_that_ends_in_a_blank_matches_a_prompt() {
        let mut bytes = vec![1, 20, 13, 0];
        for character in b"nixos login:        " {
            bytes.extend([*character, 7]);
        }
        let text = screen(&bytes);
        assert!(Pattern::from("login: ").matches(&text) && Pattern::regex("login: ").unwrap().matches(&text));
    }
}
