//! Tells a session that has ended from a program that prints what looks like a login prompt.
//!
//! The words alone prove nothing. Root's channel knows whether the shell lives. Without it, a getty answers Enter with
//! its greeting and its prompt; Enter is pressed only at the prompt of this console's own getty, or at words of that
//! form that have stood for long.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::machine::Life;
use crate::machine::session::question::last_line;
use crate::machine::session::rest::REST;
use crate::machine::session::shell_line::{ASKS_BY_WORDS, Running, ShellLine};
use crate::machine::session::waiting::{is_logged_in_by_itself, is_shells_prompt};
use crate::mutex::lock;
use crate::stopped::Instant;
use crate::{ErrorKind, Result};

/// The limit for a getty to answer Enter, on a fast host.
const ANSWER: Duration = Duration::from_secs(3);

/// What is known of the getty on the console.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Getty {
    /// The host's name in its prompt; empty if unknown.
    pub(crate) host: String,
    /// The text before an earlier prompt: its greeting, and earlier output.
    pub(crate) greeting: String,
}

/// How much the end of an output looks like the end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Likeness {
    None,
    /// It has the form of a login prompt, of a host that is not this one.
    Form,
    /// It is the prompt of this console's getty, or the shell of its automatic login.
    Own,
}

impl Getty {
    fn likeness(&self, text: &str) -> Likeness {
        let line = last_line(text);
        let (is_prompt, host) = match line.strip_suffix("login: ") {
            Some("") => (true, ""),
            Some(host) => {
                let host = host.strip_suffix(' ').unwrap_or(" ");
                (!host.contains(char::is_whitespace), host)
            }
            None => (false, ""),
        };
        if is_prompt {
            let is_own = !self.host.is_empty() && host == self.host;
            return if is_own { Likeness::Own } else { Likeness::Form };
        }
        if is_logged_in_by_itself(text) && is_shells_prompt(text) {
            let own = format!("{} login: ", self.host);
            let is_own = !self.host.is_empty() && text.lines().any(|line| line.starts_with(&own));
            return if is_own { Likeness::Own } else { Likeness::Form };
        }
        Likeness::None
    }

    /// Returns whether `text`, which came after Enter, is the answer of this getty, whose prompt was `prompt`: its
    /// prompt again, behind a greeting if it has one. A greeting may tell the time. A `login` that a command runs prints
    /// its prompt alone.
    fn has_answered(&self, text: &str, prompt: &str) -> bool {
        let Some(before) = text.strip_suffix(last_line(text)) else { return false };
        let greets = self.greeting.is_empty() || !before.trim().is_empty();
        last_line(text).trim() == prompt.trim() && !before.is_empty() && greets
    }
}

impl ShellLine {
    /// Returns whether the session has ended, after a silence: `None` if that has to be asked again later. Its output has
    /// ended with the same words for `stood`.
    pub(super) async fn has_ended(
        &self,
        life: &Life,
        running: &Running,
        stood: Duration,
    ) -> Result<Option<bool>> {
        let text = running.collector().end_of_text();
        let getty = lock(&life.channels.getty).clone();
        let likeness = getty.likeness(&text);
        if likeness == Likeness::None {
            return Ok(None);
        }
        if let Some(lives) = life.lives(self.pid()).await {
            return Ok(Some(!lives));
        }
        if likeness == Likeness::Form && stood < life.limit(ASKS_BY_WORDS) {
            return Ok(None);
        }
        self.is_answered_by(&getty, life, running, last_line(&text)).await.map(Some)
    }

    /// Presses Enter, and returns whether a getty or a shell prints its prompt again. A program that does not read leaves
    /// the key to the shell's loop, which ignores it.
    async fn is_answered_by(
        &self,
        getty: &Getty,
        life: &Life,
        running: &Running,
        prompt: &str,
    ) -> Result<bool> {
        let from = running.collector().printed();
        life.console.send(b"\r").await?;
        let deadline = Instant::now() + life.limit(ANSWER);
        let mut printed = from;
        loop {
            let ended = running.collector().status().is_some() || running.collector().asked().is_some();
            if ended || Instant::now() >= deadline {
                return Ok(false);
            }
            match running.progress(&life.console, life.limit(REST)).await {
                Ok(()) => continue,
                Err(error) if error.kind() == ErrorKind::Timeout => {}
                Err(error) => return Err(error),
            }
            let collector = running.collector();
            if collector.printed() == printed && printed > from {
                let text = collector.text_since(from);
                let is_shell = !prompt.trim_end().ends_with("login:");
                return Ok(match is_shell {
                    true => last_line(&text).trim() == prompt.trim(),
                    false => getty.has_answered(&text, prompt),
                });
            }
            printed = collector.printed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn getty() -> Getty {
        Getty { host: "nixos".into(), greeting: "boot\n\n<<< Welcome >>>\n\nRun 'nixos-help'.\n".into() }
    }

    #[test]
    fn only_the_prompt_of_the_own_getty_looks_like_it() {
        for (text, likeness) in [
            ("bye\n\nnixos login: ", Likeness::Own),
            ("client login: ", Likeness::Form),
            ("login: ", Likeness::Form),
            ("Please give your login: ", Likeness::None),
            ("the nixos login: ", Likeness::None),
            ("nixos login: alice", Likeness::None),
            ("nixos login: \n", Likeness::None),
            ("nixos login: root (automatic login)\n\n[root@nixos:~]# ", Likeness::Own),
            ("other login: root (automatic login)\n\n[root@nixos:~]# ", Likeness::Form),
        ] {
            assert_eq!(getty().likeness(text), likeness, "{text:?}");
        }
        assert_eq!(Getty::default().likeness("nixos login: "), Likeness::Form);
    }

    #[test]
    fn a_getty_answers_with_its_greeting_and_its_prompt() {
        let prompt = "nixos login: ";
        for (text, answered) in [
            ("\n<<< Welcome >>>\n\nIt is 12:34.\n\nnixos login: ", true),
            ("\nnixos login: ", false),
            ("nixos login: ", false),
            ("\nPassword: ", false),
            ("", false),
        ] {
            assert_eq!(getty().has_answered(text, prompt), answered, "{text:?}");
        }
        assert!(Getty::default().has_answered("\nnixos login: ", prompt));
    }
}
