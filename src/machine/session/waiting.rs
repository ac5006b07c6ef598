//! What waits at the other end of a console where nobody has logged in: a prompt for a name, or the shell of whom the console
//! has logged in by itself (`services.getty.autologinUser`, or a getty that asks nothing).
//!
//! A name is typed at a prompt alone: in a shell it is a command, and nobody wants root to run `postgres`. agetty prints
//! `login: ` also before it logs somebody in, so the prompt has to answer: at Enter it is printed anew.

use std::sync::LazyLock;
use std::time::Instant;

use regex::bytes::Regex;

use crate::console::Console;
use crate::machine::Life;
use crate::machine::language::Language;
use crate::machine::session::dialogue::{ALIVE, AUTOMATIC, LOGIN, PASSWORD, PROMPT, WIZARD, answers};
use crate::machine::session::frame::Nonce;
use crate::machine::session::noise::without_records;
use crate::machine::session::shell::probe;
use crate::{ErrorKind, Result};

/// So many lines tell what happened last. A greeting can be long.
const LINES: usize = 100;
/// So many silences are answered by Enter, in case it was lost, before a question for a shell is typed.
const PRESSES: usize = 2;
/// Silences after which an Enter that no prompt has answered is taken for lost.
const LOST: usize = 3;

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// A login prompt.
    Prompt,
    /// A shell that answers, of a user who is not known yet.
    Shell(Language),
}

/// The last lines of a console, as far as they tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// login has refused somebody and asks for another name. It takes an empty one as a name.
    AskedAgain,
    /// Somebody was logged in without being asked.
    Automatic,
    /// The last thing is a login prompt.
    Prompt,
    /// The last thing looks like the prompt of a shell.
    Shell,
    /// Anything else.
    Other,
}

#[allow(clippy::expect_used)] // constants, and a test compiles them
static ASKED_AGAIN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"Login incorrect\s*\n(?:[^\n]* )?login: ?\s*\z").expect("a constant pattern")
});
#[allow(clippy::expect_used)]
static LOGGED_IN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?m)(?:^| )login: [^\n]{1,64} \(automatic login\)\s*$").expect("a constant pattern")
});
#[allow(clippy::expect_used)]
static LOGIN_PROMPT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?:^|[\n ])login: ?\s*\z").expect("a constant pattern"));
#[allow(clippy::expect_used)]
static SHELL_PROMPT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[$#%>❯»λ➜] ?\z").expect("a constant pattern"));

/// The last lines without what the kernel said in between.
fn without_kernel(tail: &str) -> Vec<u8> {
    // A rendered text has lost its last newline, and a record ends in one.
    let mut text = without_records(format!("{tail}\n").as_bytes());
    text.truncate(text.trim_ascii_end().len());
    text
}

fn shown(tail: &str) -> Shown {
    let text = without_kernel(tail);
    if ASKED_AGAIN.is_match(&text) {
        Shown::AskedAgain
    } else if LOGIN_PROMPT.is_match(&text) {
        Shown::Prompt
    } else if LOGGED_IN.is_match(&text) {
        Shown::Automatic
    } else if SHELL_PROMPT.is_match(&text) {
        Shown::Shell
    } else {
        Shown::Other
    }
}

/// Whether the console's last line looks like the prompt of a shell.
pub(crate) fn ends_at_a_shell(tail: &str) -> bool {
    shown(tail) == Shown::Shell
}

/// Whether the last thing on a console is the prompt of a getty, which Enter asks for again.
pub(crate) fn is_at_prompt(console: &Console) -> bool {
    shown(&console.tail(LINES)) == Shown::Prompt
}

impl Life {
    /// Whether the console shows that something waits there.
    pub(crate) fn is_waiting(&self) -> bool {
        shown(&self.console.tail(LINES)) != Shown::Other
    }

    /// Whether this is the last thing on the console.
    pub(crate) fn ends_with(&self, text: &str) -> bool {
        without_kernel(&self.console.tail(LINES)).ends_with(text.as_bytes())
    }

    /// Whether the last thing on the console asks for a name.
    pub(crate) fn waits_for_a_name(&self) -> bool {
        matches!(shown(&self.console.tail(LINES)), Shown::Prompt | Shown::AskedAgain)
    }

    /// Finds out what waits.
    pub(crate) async fn who_waits(&self) -> Result<Waiting> {
        let limit = self.login_limit();
        let started = Instant::now();
        let nonce = Nonce::new();
        let answers = answers(&nonce)?;
        let before = shown(&self.console.tail(LINES));
        if before == Shown::AskedAgain {
            return Ok(Waiting::Prompt);
        }
        let mut automatic = before == Shown::Automatic;
        let mut shell_asked = false;
        let mut silences = 0;
        // Each Enter is answered by a prompt. One that is still on its way would end the name before it is typed.
        let (mut pressed, mut prompts, mut silences_at_prompt) = (1, 0, 0);
        self.console.send(b"\r").await?;
        loop {
            let left = limit.saturating_sub(started.elapsed());
            match self.console.expect_any(&answers, self.quiet().min(left)).await {
                Ok((ALIVE, found)) => return Ok(Waiting::Shell(Language::named(&found.text()))),
                Ok((AUTOMATIC, _)) => automatic = true,
                Ok((LOGIN, _)) if !automatic => {
                    (prompts, silences_at_prompt) = (prompts + 1, 0);
                    if prompts >= pressed {
                        return Ok(Waiting::Prompt);
                    }
                }
                // login was about to ask for a password, which an empty one ends.
                Ok((PASSWORD, _)) => self.console.send(b"\r").await?,
                Ok((WIZARD, _)) => self.console.send(b"q").await?,
                // The issue has such characters, too; where nobody was logged in yet it is not answered.
                Ok((PROMPT, _)) if automatic && !shell_asked => {
                    shell_asked = true;
                    self.console.send_line(&probe(&nonce)).await?;
                }
                Ok(_) => {}
                Err(error) if error.kind() != ErrorKind::Timeout => return Err(error),
                Err(_) if started.elapsed() >= limit => {
                    return Err(self
                        .failure(
                            ErrorKind::Timeout,
                            "neither a login prompt nor a shell answered on the console".to_owned(),
                        )
                        .took(started.elapsed(), limit));
                }
                Err(_) => {
                    silences += 1;
                    match shown(&self.console.tail(LINES)) {
                        Shown::Prompt | Shown::AskedAgain if automatic => return Ok(Waiting::Prompt),
                        Shown::Prompt | Shown::AskedAgain if prompts > 0 => {
                            silences_at_prompt += 1;
                            if silences_at_prompt >= LOST {
                                return Ok(Waiting::Prompt);
                            }
                        }
                        Shown::Prompt | Shown::AskedAgain => {
                            pressed += 1;
                            self.console.send(b"\r").await?;
                        }
                        Shown::Other if !automatic && silences <= PRESSES => {
                            pressed += 1;
                            self.console.send(b"\r").await?;
                        }
                        _ => self.console.send_line(&probe(&nonce)).await?,
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_tell_what_waits() {
        let issue = "<<< Welcome to NixOS 23.11 (x86_64) - ttyS0 >>>\n\nRun 'nixos-help'.\n\n";
        for (text, expected) in [
            ("nixos login: ", Shown::Prompt),
            ("nixos login:", Shown::Prompt),
            ("login: ", Shown::Prompt),
            ("Last login: ", Shown::Prompt),
            ("nixos login: [   12.345678] random: crng reseeded\n", Shown::Prompt),
            ("nixos lo[   12.345678] one\ngin: [   12.345679] two", Shown::Prompt),
            ("nixos login: root (automatic login)", Shown::Automatic),
            ("nixos login: root (automatic login)\n\n\n[root@nixos:~]#", Shown::Automatic),
            ("nixos login: alice\nPassword:\n\nLogin incorrect\nnixos login: ", Shown::AskedAgain),
            ("\nLogin incorrect\n\nnixos login:", Shown::AskedAgain),
            ("\nLogin incorrect\n\n<<< Welcome >>>\n\nnixos login: ", Shown::Prompt),
            ("nixos login: root (automatic login)\n\nnixos login: ", Shown::Prompt),
            ("[alice@nixos:~]$", Shown::Shell),
            ("Welcome to grub", Shown::Other),
            ("", Shown::Other),
        ] {
            assert_eq!(shown(&format!("{issue}{text}")), expected, "{text:?}");
        }
    }
}
