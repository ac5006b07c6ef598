//! What stands on a machine's virtual terminals (tty1, tty2, …), as text.

use nixvm_test_macros::tracked;

use crate::Result;
use crate::console::Pattern;
use crate::machine::Machine;

/// # Virtual terminals
///
/// As root: only root may read what stands on a terminal.
impl Machine {
    /// The text on a virtual terminal, without the blanks at the ends of lines and the empty lines below.
    ///
    /// # Errors
    /// [`crate::ErrorKind::CommandFailed`] when there is no such terminal, and those of [`crate::machine::User::execute`].
    #[tracked]
    pub async fn get_tty_text(&self, tty: u32) -> Result<String> {
        let output = self.root().succeed(format!("cat /dev/vcsa{tty}")).await?;
        Ok(screen(output.bytes()))
    }

    /// Waits until the text on a virtual terminal matches; lines are told apart by newlines. Returns the
    /// text.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Timeout`] after the limit ([`Machine::within`]) with what stands there, and those of
    /// [`crate::machine::User::execute`].
    #[tracked]
    pub async fn wait_until_tty_matches(&self, tty: u32, pattern: impl Into<Pattern>) -> Result<String> {
        let (pattern, life) = (pattern.into(), self.life());
        // The first look fails by name when there is no such terminal.
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
            error.section(format!("what stands on tty{tty}"), screen(&in_vain.last))
        })
    }
}

/// Reads a screen: the number of lines and of columns, the cursor's place, then a character and an
/// attribute for each cell (vcs(4)).
fn screen(bytes: &[u8]) -> String {
    let (Some(&columns), Some(cells)) = (bytes.get(1), bytes.get(4..)) else { return String::new() };
    let characters: Vec<u8> = cells.iter().step_by(2).copied().collect();
    let lines: Vec<String> = characters
        .chunks(usize::from(columns).max(1))
        .map(|line| String::from_utf8_lossy(line).trim_end_matches([' ', '\0']).to_owned())
        .collect();
    lines.join("\n").trim_end_matches('\n').to_owned()
}

#[cfg(test)]
mod tests {
    use super::screen;

    #[test]
    fn a_screen_is_read_line_by_line() {
        let mut bytes = vec![3, 4, 0, 0];
        for character in b"ab  c   \0\0\0\0" {
            bytes.extend([*character, 7]);
        }
        assert_eq!(screen(&bytes), "ab\nc");
        assert_eq!(screen(b""), "");
        assert_eq!(screen(&[0, 0, 0, 0, b'x', 7]), "x");
    }
}
