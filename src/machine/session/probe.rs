//! Asks any shell which shell it is.
//!
//! A person knows their shell; a program has to ask, in words that every shell understands in the same way. `sh`
//! answers for the shell, because shells treat unset variables differently (`set -u`), and their syntax has only single
//! quotes in common. `sh` reports the program that has started it, and whether a terminal multiplexer is in between.

use crate::machine::Life;
use crate::machine::language::Language;
use crate::machine::session::frame::Nonce;
use crate::machine::session::noise::{remove_records, tolerant, tolerant_word};
use crate::{Error, ErrorKind, Result};

/// Returns the text that is typed. Later input is not echoed (line editors follow the terminal's echo, too). ^V quotes
/// again, which agetty leaves turned off. The answer is overwritten with blanks for people. The leading space keeps the
/// line out of most histories.
pub(crate) fn probe(nonce: &Nonce) -> String {
    let Nonce { first, second } = nonce;
    // No exclamation mark: csh treats it as a history reference, even in quotes.
    format!(
        r#" /bin/sh -c 'stty -echo iexten;n=;read -r n </proc/$PPID/comm;printf "%s%s n%s m%s ;\r%60s\r" {first} {second} "${{n:-${{SHELL##*/}}}}" "${{TMUX:+tmux}}${{STY:+screen}}${{ZELLIJ:+zellij}}"'"#
    )
}

/// Returns the regex for the answer to [`probe`]. Kernel records may stand within the answer.
pub(crate) fn alive(nonce: &Nonce) -> String {
    let nonce = tolerant(&format!("{}{} n", nonce.first, nonce.second));
    let word = tolerant_word();
    format!("{nonce}{word}{}{word}{}", tolerant(" m"), tolerant(" ;"))
}

/// The content of the answer to [`probe`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answered {
    /// The name of the shell's program.
    pub(crate) shell: String,
    /// The terminal multiplexer in which it runs; empty if there is none.
    multiplexer: String,
}

/// Shells that support neither POSIX sh nor fish syntax.
const OTHERS: [&str; 17] = [
    "csh",
    "tcsh",
    "nu",
    "nushell",
    "elvish",
    "xonsh",
    "pwsh",
    "powershell",
    "ion",
    "oil",
    "ysh",
    "murex",
    "es",
    "rc",
    "scsh",
    "eshell",
    "nologin",
];

impl Answered {
    pub(crate) fn read(answer: &str) -> Self {
        let answer = remove_records(answer.as_bytes(), 0.0..=f64::INFINITY);
        let answer = String::from_utf8_lossy(&answer);
        let field = |letter: &str| {
            let from = answer.find(letter).map_or("", |at| &answer[at + letter.len()..]);
            crate::text::line(from.split(' ').next().unwrap_or_default())
        };
        // A wrapper of nixpkgs renames the program to `.zsh-wrapped`.
        let name = field(" n");
        let name = name.strip_prefix('.').unwrap_or(&name);
        let name = name.strip_suffix("-wrapped").unwrap_or(name);
        Self { shell: name.to_owned(), multiplexer: field(" m") }
    }

    /// Returns the shell's language; `None` for a shell that can't serve. An unknown name may be any POSIX shell.
    fn language(&self) -> Option<Language> {
        match self.shell.as_str() {
            "bash" | "zsh" => Some(Language::Bash),
            "fish" => Some(Language::Other),
            name if OTHERS.contains(&name) || name.starts_with("python") => None,
            _ => Some(Language::Posix),
        }
    }
}

impl Life {
    /// Returns the language of the shell that answered, which belongs to `user`; `None` if its user is unknown.
    ///
    /// # Errors
    /// [`ErrorKind::LoginRefused`] for a shell that can't serve, and for one within a terminal multiplexer. Such a
    /// shell is ended.
    pub(crate) async fn language_of(&self, answered: &Answered, user: Option<&str>) -> Result<Language> {
        let user = user.unwrap_or("the user whom the console logs in automatically");
        let error = match answered.language() {
            Some(language) if answered.multiplexer.is_empty() => return Ok(language),
            _ if !answered.multiplexer.is_empty() => self.within_multiplexer(answered, user),
            _ => self.unknown_language(&answered.shell, user),
        };
        self.console.send_line(" exit").await?;
        Err(error)
    }

    fn unknown_language(&self, shell: &str, user: &str) -> Error {
        let summary = format!("the shell of {user} is {shell}, which is neither a POSIX shell nor fish");
        self.failure(ErrorKind::LoginRefused, summary).next_step(
            "log in as a user with bash, zsh, fish or another POSIX shell; commands in this shell are run by \
             `machine.as_user(…).in_own_shell()`",
        )
    }

    fn within_multiplexer(&self, answered: &Answered, user: &str) -> Error {
        let name = &answered.multiplexer;
        let summary =
            format!("the shell of {user} runs within {name}, where the console shows that program's screen");
        self.failure(ErrorKind::LoginRefused, summary)
            .likely_cause(format!("the start-up files of {user} start {name} (`exec {name}`)"))
            .next_step(format!(
                "start {name} only where the terminal is not the serial console: `[ \"$(tty)\" = /dev/ttyS0 ] || exec {name}`"
            ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce() -> Nonce {
        Nonce { first: "0123abcd".into(), second: "4567cdef".into() }
    }

    fn language(answer: &str) -> Option<Language> {
        Answered::read(answer).language()
    }

    #[test]
    fn the_whole_nonce_is_never_typed() {
        assert!(!probe(&nonce()).contains("0123abcd4567cdef"));
    }

    /// csh would see a history reference, or an early end of the quote.
    #[test]
    fn the_question_is_one_word_in_single_quotes_for_every_shell() {
        let typed = probe(&nonce());
        assert_eq!(typed.matches('\'').count(), 2, "{typed}");
        assert!(!typed.contains('!') && !typed.contains('\n'), "{typed}");
    }

    #[test]
    fn a_shell_is_known_by_its_answer() {
        assert_eq!(language("0123 nbash m ;"), Some(Language::Bash));
        assert_eq!(language("0123 n.zsh-wrapped m ;"), Some(Language::Bash));
        assert_eq!(language("0123 nfish m ;"), Some(Language::Other));
        assert_eq!(language("0123 ndash m ;"), Some(Language::Posix));
        assert_eq!(language("0123 nmy-shell m ;"), Some(Language::Posix));
        for name in ["tcsh", "nu", "xonsh", "elvish", "python3.11"] {
            assert_eq!(language(&format!("0123 n{name} m ;")), None, "{name}");
        }
    }

    #[test]
    fn a_multiplexer_is_known_by_its_variable() {
        assert_eq!(Answered::read("0123 nbash mtmux ;").multiplexer, "tmux");
        assert_eq!(Answered::read("0123 nba[   12.345678] usb\nsh m ;").multiplexer, "");
    }
}
