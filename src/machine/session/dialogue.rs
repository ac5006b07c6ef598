//! The conversation of a login: from a name, or a command that logs in, to a shell that answers.

use std::time::Instant;

use crate::console::{Mark, Match, Pattern};
use crate::machine::Life;
use crate::machine::language::Language;
use crate::machine::session::frame::Nonce;
use crate::machine::session::login::DELAYED;
use crate::machine::session::noise::{tolerant, without_records};
use crate::machine::session::shell::{alive, probe};
use crate::machine::session::shell_line::{INTERRUPT_KEY, ShellLine};
use crate::{Error, ErrorKind, Result};

/// How often a name is typed when the prompt comes back without a word, or the name is lost.
const TRIES: usize = 3;
/// Silences after which something is taken for lost.
const LOST: usize = 3;
/// ^U, which empties a line that is being typed.
const EMPTY_LINE_KEY: &[u8] = b"\x15";

/// What begins the conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Opening<'a> {
    /// The user's name, at a login prompt.
    Name,
    /// A command at a shell's prompt.
    Command(&'a str),
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The name or the command was typed. A prompt that comes now answers an Enter that was typed before it.
    Typed,
    /// The console has shown it.
    Seen,
    /// The name was typed again, without Enter: that follows where the name is seen. If the console had taken the first name and
    /// asks for the password by now, the second one is no wrong password.
    Half,
    /// The password was given.
    Answered,
}

/// A shell that answers.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) shell: ShellLine,
    /// Something asked for the password, and took it.
    pub(crate) asked: bool,
}

impl Life {
    /// Answers what is asked until a shell answers. `prompt_came` says, with an error, that the login prompt is back.
    pub(crate) async fn converse(
        &self,
        opening: Opening<'_>,
        user: &str,
        password: &str,
        prompt_came: &mut bool,
    ) -> Result<Begun> {
        let limit = self.login_limit();
        let started = Instant::now();
        let nonce = Nonce::new();
        let answers = answers(&nonce)?;
        let typed = match opening {
            Opening::Name => user.to_owned(),
            Opening::Command(command) => format!(" {command}"),
        };
        let mut stage = Stage::Typed;
        let mut names_typed = 1;
        // Silences since the console last asked something.
        let mut silences = 0;
        // What looks like a prompt need not be one, and the question itself looks like one when the
        // terminal echoes it: so it is asked once, and then again only after a silence.
        let mut shell_asked = false;
        // A question before it was answered.
        let mut mark = self.console.mark();
        self.console.send_line(&typed).await?;
        loop {
            let left = limit.saturating_sub(started.elapsed());
            let answer = match self.console.expect_any(&answers, self.quiet().min(left)).await {
                Ok((answer, found)) => Some((answer, found)),
                Err(error) if error.kind() == ErrorKind::Timeout && started.elapsed() < limit => None,
                Err(error) if error.kind() == ErrorKind::Timeout => {
                    return Err(self
                        .failure(ErrorKind::Timeout, format!("no shell answered after the login of {user}"))
                        .took(started.elapsed(), limit)
                        .likely_cause("the user's shell hangs in its start-up files, asks something, or speaks neither POSIX sh nor fish"));
                }
                Err(error) => return Err(error),
            };
            *prompt_came = matches!(answer, Some((LOGIN, _)));
            let echo = answer.as_ref().and_then(|(_, found)| shows(found, &typed));
            if echo.is_some() && stage == Stage::Typed {
                stage = Stage::Seen;
            }
            // Before the echo of a command comes the prompt at which it is typed.
            let is_shells =
                matches!(stage, Stage::Seen | Stage::Answered) || matches!(opening, Opening::Name);
            match answer {
                Some((PASSWORD, _))
                    if stage != Stage::Answered
                        && echo == Some(Position::Last)
                        && self.is_asked_since(mark) =>
                {
                    self.give(password, stage).await?;
                    (stage, shell_asked, silences) = (Stage::Answered, false, 0);
                    mark = self.console.mark();
                }
                // A greeting may say it. A question is followed by silence, which is answered below.
                Some((PASSWORD, _)) => {}
                Some((answer @ (INCORRECT | NOT_YET | NEW_PASSWORD), _)) => {
                    if answer == NEW_PASSWORD {
                        // Its questions are ended by ^C, and then the login prompt is back.
                        self.console.send(INTERRUPT_KEY).await?;
                    }
                    return Err(self.refused(answer, user));
                }
                Some((LOGIN, _)) if matches!(opening, Opening::Command(_)) => {
                    return Err(self.refused(INCORRECT, user));
                }
                Some((LOGIN, _)) if stage == Stage::Answered => {
                    return Err(self
                        .failure(
                            ErrorKind::LoginRefused,
                            format!("{user} was let in, and the session ended at once"),
                        )
                        .likely_cause(
                            "the user's shell is nologin or can't be started, or its start-up files end it",
                        ));
                }
                Some((LOGIN, _)) if stage != Stage::Seen => {}
                Some((LOGIN, _)) if names_typed < TRIES => {
                    (stage, silences) = (Stage::Half, 0);
                    names_typed += 1;
                    self.console.send(user.as_bytes()).await?;
                }
                Some((LOGIN, _)) => {
                    return Err(self.failure(
                        ErrorKind::LoginRefused,
                        format!(
                            "the login prompt came back {TRIES} times without asking for {user}'s password"
                        ),
                    ));
                }
                Some((ALIVE, found)) => {
                    let language = Language::named(&found.text());
                    let shell = ShellLine::start(self, user, password, language).await?;
                    return Ok(Begun { shell, asked: stage == Stage::Answered });
                }
                Some((WIZARD, _)) => {
                    shell_asked = false;
                    self.console.send(b"q").await?;
                }
                Some(_) if shell_asked || !is_shells => {}
                Some(_) => {
                    shell_asked = true;
                    self.console.send_line(&probe(&nonce)).await?;
                }
                None if self.is_asked_since(mark) => {
                    self.give(password, stage).await?;
                    (stage, shell_asked, silences) = (Stage::Answered, false, 0);
                    mark = self.console.mark();
                }
                // The first name may be seen only now: its question would follow.
                None if stage == Stage::Half && silences > 0 && self.ends_with(user) => {
                    (stage, silences) = (Stage::Seen, 0);
                    self.console.send(b"\r").await?;
                }
                // The prompt still waits for a name: agetty throws away what was typed before it opened the line.
                None if matches!(stage, Stage::Typed | Stage::Half)
                    && silences >= LOST
                    && names_typed < TRIES
                    && self.waits_for_a_name() =>
                {
                    (stage, silences) = (Stage::Half, 0);
                    names_typed += 1;
                    self.console.send(user.as_bytes()).await?;
                }
                // PAM takes its time over the password. What is typed meanwhile would be taken for a name, if it refuses.
                None if stage == Stage::Answered
                    && self.console.quiet_for() < DELAYED
                    && self.is_silent_since(mark) => {}
                // A shell without a prompt, or one that was not ready for the question.
                None if stage == Stage::Answered || (stage != Stage::Half && silences >= LOST) => {
                    silences += 1;
                    self.console.send_line(&probe(&nonce)).await?;
                }
                None => silences += 1,
            }
        }
    }

    /// Answers the question for the password, without what may have been typed half before it.
    async fn give(&self, password: &str, stage: Stage) -> Result {
        if stage == Stage::Half {
            self.console.send(EMPTY_LINE_KEY).await?;
        }
        self.console.send_secret(password).await
    }

    /// Whether nothing came since `mark` but ends of lines and the kernel's lines.
    fn is_silent_since(&self, mark: Mark) -> bool {
        without_records(self.console.text_since(mark).text.as_bytes()).trim_ascii().is_empty()
    }

    /// Whether the last thing since `mark` is a question for a password.
    fn is_asked_since(&self, mark: Mark) -> bool {
        without_records(self.console.text_since(mark).text.as_bytes()).ends_with(b"Password: ")
    }

    /// The error of a login that was turned down.
    fn refused(&self, answer: usize, user: &str) -> Error {
        let (summary, cause) = match answer {
            NOT_YET => (
                format!("the machine does not let {user} log in now"),
                "it is still booting or already shutting down".to_owned(),
            ),
            NEW_PASSWORD => {
                (format!("the console wants a new password of {user}"), "the password has expired".to_owned())
            }
            _ => (
                format!("the console refused to log in {user}"),
                format!(
                    "the configuration has no user {user}, no or another password for {user}, or the disk is an old one with an old password"
                ),
            ),
        };
        let error = self.failure(ErrorKind::LoginRefused, summary).likely_cause(cause);
        if answer != INCORRECT {
            return error;
        }
        error.next_step(format!(
            "look at users.users.{user} in the configuration; initialPassword holds only for a fresh disk"
        ))
    }
}

/// Where in a text something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// Nothing comes after it.
    Last,
    /// Something does.
    Earlier,
}

/// Where the echo of what was typed stands before what was found. What follows it at once is a program's answer, and no text of
/// a greeting.
fn shows(found: &Match, typed: &str) -> Option<Position> {
    // A line editor wraps what is typed.
    let solid = |text: &[u8]| -> Vec<u8> {
        text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect()
    };
    let (before, typed) = (solid(&without_records(found.before_bytes())), solid(typed.as_bytes()));
    let at = memchr::memmem::rfind(&before, &typed)?;
    Some(if at + typed.len() == before.len() { Position::Last } else { Position::Earlier })
}

// The answers to a name or a password, by their places in `answers`.
pub(crate) const PASSWORD: usize = 0;
const INCORRECT: usize = 1;
const NOT_YET: usize = 2;
const NEW_PASSWORD: usize = 3;
pub(crate) const AUTOMATIC: usize = 4;
pub(crate) const LOGIN: usize = 5;
pub(crate) const ALIVE: usize = 6;
pub(crate) const WIZARD: usize = 7;
pub(crate) const PROMPT: usize = 8;
/// What they are called in errors.
const ANSWER: &str = "an answer to the login";

/// What a console can say to a name, a password, or a question for a shell.
pub(crate) fn answers(nonce: &Nonce) -> Result<Vec<Pattern>> {
    let mut patterns = Vec::new();
    for text in [
        "Password: ",
        "Login incorrect",
        "not permitted to log in",
        "required to change your password",
        " (automatic login)",
    ] {
        patterns.push(Pattern::regex(&tolerant(text))?.called(ANSWER));
    }
    // "Last login: …" is the greeting of a session.
    let prompt = Pattern::regex(&format!(r"(?m)(?:^|^[^\n]*[^t\n] ){}", tolerant("login: ")))?;
    patterns.push(prompt.called(ANSWER));
    patterns.push(Pattern::regex(&alive(nonce))?.called(ANSWER));
    // zsh greets a user without start-up files so (zsh-newuser-install); `q` leaves everything as it is.
    patterns.push(Pattern::from("--- Type one of the keys in parentheses ---").called(ANSWER));
    // A shell's prompt ends so, nearly always. Whether it is one, the shell is asked.
    patterns.push(Pattern::regex(r"(?m)[$#%>❯»λ➜] ?$")?.called(ANSWER));
    Ok(patterns)
}
