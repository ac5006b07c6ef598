//! Finds out what waits on a console before a login: a prompt for a name, or the shell of an automatic login
//! (`services.getty.autologinUser`, or a getty that asks nothing).
//!
//! A name is typed only at a prompt. In a shell it would run as a command, and root must not run `postgres` by
//! accident. agetty prints `login: ` before an automatic login too, so the prompt has to react: after Enter, a real
//! prompt is printed again.

use crate::stopped::Instant;
use std::sync::LazyLock;

use regex::bytes::Regex;

use crate::console::{Console, Mark};
use crate::machine::Life;
use crate::machine::session::dialogue::{ALIVE, ASKED, answers};
use crate::machine::session::frame::Nonce;
use crate::machine::session::probe::{Answered, probe};
use crate::machine::session::question::{
    Asks, Question, asks_at_start, host_of, last_line, question, without_notices,
};
use crate::machine::session::rest::{News, REST, Said};
use crate::machine::session::shell_line::INTERRUPT_KEY;
use crate::mutex::lock;
use crate::{ErrorKind, Result};

/// Number of recent lines that are examined. A greeting can be long.
const LINES: usize = 100;
/// Number of silences that are answered by Enter, in case one was lost, before a question for a shell is typed.
const PRESSES: usize = 2;
/// Number of silences after which an unanswered Enter is considered lost.
const LOST: usize = 3;

/// What waits on the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// A login prompt, and the host's name if it is known.
    Prompt { prompt: String, host: String },
    /// A shell that answers. Its user is not known yet.
    Shell(Answered),
}

/// What the last lines of a console show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// login has refused a user and asks for another name. It takes an empty one as a name.
    AskedAgain,
    /// A user was logged in automatically.
    Automatic,
    /// The output ends with a login prompt.
    Prompt,
    /// The output ends like the prompt of a shell.
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
/// agetty's prompt, followed by anything. The host's name has no blanks.
#[allow(clippy::expect_used)]
static HOST: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^(\S+) login:(?: \S*)?\s*$").expect("a constant pattern"));

/// agetty's prompt, followed by words that something else has printed there.
#[allow(clippy::expect_used)]
static TORN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^\S+ login: +\S").expect("a constant pattern"));

/// Returns the last lines without lines of the kernel and of systemd.
fn without_kernel(tail: &str) -> String {
    // A rendered text lacks its last newline, but a record needs one.
    without_notices(format!("{tail}\n").as_bytes()).trim_end().to_owned()
}

/// Returns the host's name from the prompts of the gettys in a text.
pub(crate) fn host_in(text: &str) -> &str {
    let host = HOST.captures_iter(text.as_bytes()).last().and_then(|found| found.get(1));
    host.map(|host| &text[host.range()]).unwrap_or_default()
}

pub(crate) fn shown(tail: &str) -> Shown {
    let text = without_kernel(tail);
    if ASKED_AGAIN.is_match(text.as_bytes()) {
        Shown::AskedAgain
    } else if question(last_line(&text), host_in(&text)) == Some(Question::Name) {
        Shown::Prompt
    } else if is_logged_in_by_itself(&text) {
        Shown::Automatic
    } else if is_shells_prompt(&text) {
        Shown::Shell
    } else {
        Shown::Other
    }
}

/// Returns the console's last lines, without lines of the kernel and of systemd.
pub(crate) fn last_lines(console: &Console) -> String {
    without_kernel(&console.tail(LINES))
}

/// Returns the same of the output since a mark, however many lines of the kernel come after it.
pub(crate) fn last_lines_since(console: &Console, mark: Mark) -> String {
    let text = without_kernel(&console.text_since(mark).text);
    let from = text.rmatch_indices('\n').nth(LINES).map_or(0, |(at, _)| at + 1);
    text[from..].to_owned()
}

/// Returns whether a text has a getty's prompt with other words behind it.
pub(crate) fn has_words_behind_a_prompt(text: &str) -> bool {
    TORN.is_match(text.as_bytes())
}

/// Returns whether a text reports an automatic login.
pub(crate) fn is_logged_in_by_itself(text: &str) -> bool {
    LOGGED_IN.is_match(text.as_bytes())
}

/// Returns whether a text ends as nearly every shell's prompt does. The shell itself is asked for certainty.
pub(crate) fn is_shells_prompt(text: &str) -> bool {
    text.strip_suffix(' ').unwrap_or(text).ends_with(['$', '#', '%', '>', '❯', '»', 'λ', '➜'])
}

/// Returns whether the console's last line looks like the prompt of a shell.
pub(crate) fn ends_at_a_shell(tail: &str) -> bool {
    shown(tail) == Shown::Shell
}

/// The last line of a console, if it looks like the prompt of a shell.
pub(crate) fn prompt_of_a_shell(tail: &str) -> Option<String> {
    ends_at_a_shell(tail).then(|| last_line(&without_kernel(tail)).trim().to_owned())
}

/// Returns whether the console's output ends with the prompt of a getty. Enter makes a getty print it again.
pub(crate) fn is_at_prompt(console: &Console) -> bool {
    shown(&console.tail(LINES)) == Shown::Prompt
}

impl Life {
    /// Returns whether the console shows that something waits there.
    pub(crate) fn is_waiting(&self) -> bool {
        shown(&self.console.tail(LINES)) != Shown::Other
    }

    /// Returns whether the console's output ends with this text.
    pub(crate) fn ends_with(&self, text: &str) -> bool {
        last_lines(&self.console).ends_with(text)
    }

    /// Returns whether the console's output ends with a question for a name.
    pub(crate) fn waits_for_a_name(&self) -> bool {
        matches!(shown(&self.console.tail(LINES)), Shown::Prompt | Shown::AskedAgain)
    }

    /// Remembers the text before the prompt of a getty, which is the last line of `tail`: its greeting, and earlier
    /// output.
    fn note_getty(&self, tail: &str) {
        let prompt = last_line(tail);
        let before: Vec<&str> = tail.lines().take_while(|line| line.trim() != prompt).collect();
        let mut getty = lock(&self.channels.getty);
        if getty.greeting.is_empty() {
            getty.greeting = before.join("\n");
        }
    }

    /// Finds out what waits on the console.
    pub(crate) async fn who_waits(&self) -> Result<Waiting> {
        let waiting = self.what_waits().await?;
        let host = match &waiting {
            Waiting::Prompt { host, .. } => host.clone(),
            Waiting::Shell(_) => host_of_automatic_login(&last_lines(&self.console)),
        };
        if !host.is_empty() {
            lock(&self.channels.getty).host = host;
        }
        Ok(waiting)
    }

    async fn what_waits(&self) -> Result<Waiting> {
        let limit = self.login_limit();
        let started = Instant::now();
        let nonce = Nonce::new();
        let answers = answers(&nonce)?;
        let tail = last_lines(&self.console);
        let before = shown(&tail);
        let prompt_before = last_line(&tail);
        if before == Shown::AskedAgain {
            return Ok(prompt_of(prompt_before, &tail));
        }
        let host = host_in(&tail);
        if before == Shown::Prompt {
            self.note_getty(&tail);
        }
        let mut automatic = before == Shown::Automatic;
        if automatic {
            self.check_start_up(started + limit).await?;
        }
        let (mut shell_asked, mut silences) = (false, 0);
        // Each Enter is answered by a prompt. An Enter that is still on its way would end the name before it is typed.
        let mut pressed = 1;
        let mut said = Said::from_now(self);
        self.console.send(b"\r").await?;
        loop {
            let news = said.next(self, &answers, started + limit).await?;
            let line = said.last_line();
            let asked = question(line, if host.is_empty() { host_of(line) } else { host });
            let prompts = said.text().lines().filter(|other| other.trim() == line.trim()).count();
            automatic |= is_logged_in_by_itself(said.text());
            match news {
                News::Came(ALIVE, found) => return Ok(Waiting::Shell(Answered::read(&found.text()))),
                News::Came(..) => self.console.send(b"q").await?,
                News::Over => {
                    return Err(self
                        .failure(
                            ErrorKind::Timeout,
                            "neither a login prompt nor a shell answered on the console".to_owned(),
                        )
                        .took(started.elapsed(), limit));
                }
                News::Pause | News::Rest if asked == Some(Question::Name) => {
                    let is_sure = matches!(news, News::Rest) || line.trim() == prompt_before;
                    if is_sure && prompts >= pressed {
                        return Ok(prompt_of(line, &tail));
                    }
                }
                // login was about to ask for a password; an empty one ends that.
                News::Rest if asked == Some(Question::Password) => {
                    self.console.send(b"\r").await?;
                }
                // `/etc/issue` can contain such characters too. It is not answered before the first login.
                News::Pause if automatic && !shell_asked && is_shells_prompt(line) => {
                    shell_asked = true;
                    self.console.send_line(&probe(&nonce)).await?;
                }
                News::Pause | News::Rest => {}
                News::Silence(at_rest) => {
                    silences += 1;
                    match shown(&self.console.tail(LINES)) {
                        Shown::Prompt | Shown::AskedAgain if said.text().trim().is_empty() => {
                            pressed += 1;
                            self.console.send(b"\r").await?;
                        }
                        Shown::Prompt | Shown::AskedAgain if automatic || at_rest >= LOST => {
                            return Ok(prompt_of(line, &tail));
                        }
                        Shown::Prompt | Shown::AskedAgain => {}
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

impl Life {
    /// Returns an error for start-up files of an automatic login that ask something: the first Enter would answer it.
    async fn check_start_up(&self, deadline: Instant) -> Result {
        let text = || last_lines(&self.console);
        let asks = |text: &str| {
            let is_last = !is_logged_in_by_itself(last_line(text));
            asks_at_start(last_line(text), "").filter(|_| is_last)
        };
        if self.console.is_at_an_editor(Mark::BEGINNING) {
            return Ok(());
        }
        let (before, since) = (text(), Instant::now());
        let Some(asks) = asks(&before) else { return Ok(()) };
        let silence = self.quiet() * if asks == Asks::Surely { ASKED.0 } else { ASKED.1 };
        while text() == before && Instant::now() < deadline {
            if since.elapsed() >= silence {
                let question = crate::text::line(last_line(&before).trim());
                self.console.send(INTERRUPT_KEY).await?;
                return Err(self
                    .failure(
                        ErrorKind::LoginRefused,
                        format!("the shell of the automatic login asks {question:?}"),
                    )
                    .likely_cause(
                        "the start-up files of the user whom the console logs in by itself ask it",
                    ));
            }
            tokio::time::sleep(REST).await;
        }
        Ok(())
    }
}

/// Returns the host's name in the last message of an automatic login; empty if there is none.
fn host_of_automatic_login(text: &str) -> String {
    let line = text.lines().rev().find(|line| is_logged_in_by_itself(line));
    line.and_then(|line| line.split_once(" login: ")).map_or_else(String::new, |(host, _)| host.to_owned())
}

/// Returns the prompt of a console whose last lines were `tail`.
fn prompt_of(prompt: &str, tail: &str) -> Waiting {
    let host = match host_of(prompt) {
        "" => host_in(tail),
        host => host,
    };
    Waiting::Prompt { prompt: prompt.to_owned(), host: host.to_owned() }
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
            ("nixos login: bob\nPasswort:\n\nLogin fehlerhaft\n\nnixos Anmeldename:", Shown::Prompt),
            ("client login: ", Shown::Prompt),
            ("Demo machine. login: alice\nPassword: test\n\ntest login: ", Shown::Prompt),
            ("Demo machine. login: alice\nPassword: test\n", Shown::Other),
            ("[alice@nixos:~]$", Shown::Shell),
            ("Welcome to grub", Shown::Other),
            ("", Shown::Other),
        ] {
            assert_eq!(shown(&format!("{issue}{text}")), expected, "{text:?}");
        }
    }
}
