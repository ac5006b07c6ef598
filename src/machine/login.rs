//! Logging in: name, password, and what a console answers to them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answers::{Asking, IN_PASSING};
use super::boot::login_prompt;
use super::frame::Nonce;
use super::noise::tolerant;
use super::shell::{Language, alive, probe};
use super::shell_line::{INTERRUPT_KEY, Secret, ShellLine};
use super::{Life, Line, Machine, Session};
use crate::console::Pattern;
use crate::{Error, ErrorKind, Result};

/// From the name to a shell that answers, on a fast host. agetty itself gives up after 60 s.
const LIMIT: Duration = Duration::from_secs(20);
/// A console that says nothing for so long (on a fast host) has something to be asked again.
const QUIET: Duration = Duration::from_secs(1);
/// How often a name is typed anew when the prompt comes back without a word.
const TRIES: usize = 3;

/// What logs somebody in.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: Secret,
}

impl Machine {
    /// Logs `user` in on the console. An open session is logged out first.
    ///
    /// # Errors
    /// [`ErrorKind::LoginRefused`] at once when the console refuses name and password, does not
    /// allow logins yet, or wants a new password; [`ErrorKind::Timeout`] when no shell answers.
    pub async fn login(&self, user: &str, password: &str) -> Result<Session> {
        let life = self.life();
        if user.is_empty() || user.chars().any(|c| c.is_control() || c == ' ') {
            return Err(Error::new(ErrorKind::Usage, format!("{user:?} can't be typed at a login prompt"))
                .next_step("give the name of a user of the configuration"));
        }
        let mut line = life.line.lock().await;
        if let Line::Shell(_) = *line {
            life.leave_shell(&mut line).await?;
        }
        if let Line::Lost(why) = &*line {
            return Err(life.session_ended(&format!("login as {user}"), why));
        }
        let _step = life.step(format!("login as {user}"));
        // Whatever way out is taken below, the console is not at a quiet prompt until it is seen.
        *line = Line::Lost("a login was broken off".to_owned());
        let mut shell = None;
        let question = format!("log in {user}");
        let asking = Asking { on_console: true, secret: Some(password) };
        let language = life.answer_as(&question, asking, async {
            let begun = life.log_in(user, password).await?;
            let language = begun.language();
            shell = Some(begun);
            Ok(language)
        });
        match language.await {
            Ok(language) => {
                let shell = shell.unwrap_or_else(|| ShellLine::replayed(user, language));
                let id = shell.id();
                life.control.remember(Credentials { user: user.to_owned(), password: Secret::new(password) });
                *line = Line::Shell(shell);
                drop(line);
                life.awaken().await;
                Ok(Session::new(Arc::clone(&life), id, user))
            }
            Err(error) => {
                if error.kind() == ErrorKind::LoginRefused {
                    let back = async { Ok(life.back_at_login().await) };
                    let asked = format!("{IN_PASSING}the prompt after a refusal");
                    if life.answer_on_console(&asked, back).await.unwrap_or(false) {
                        *line = Line::AtLogin;
                    }
                }
                Err(error)
            }
        }
    }
}

impl Life {
    pub(super) async fn log_in(&self, user: &str, password: &str) -> Result<ShellLine> {
        let limit = self.limit(LIMIT);
        let started = Instant::now();
        let nonce = Nonce::new();
        let answers = answers(&nonce)?;
        let mut names_typed = 1;
        // Silences since the console last asked something.
        let mut silences = 0;
        let mut password_typed = false;
        // What looks like a prompt need not be one, and the question itself looks like one when the
        // terminal echoes it: so it is asked once, and then again only after a silence.
        let mut shell_asked = false;
        self.console.send_line(user).await?;
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
            match answer {
                Some((PASSWORD, _)) => {
                    password_typed = true;
                    shell_asked = false;
                    silences = 0;
                    self.console.send_secret(password).await?;
                }
                Some((INCORRECT, _)) => {
                    return Err(self.failure(ErrorKind::LoginRefused, format!("the console refused to log in {user}"))
                        .likely_cause(format!("the configuration has no user {user}, no or another password for {user}, or the disk is an old one with an old password"))
                        .next_step(format!("look at users.users.{user} in the configuration; initialPassword holds only for a fresh disk")));
                }
                Some((NOT_YET, _)) => {
                    return Err(self
                        .failure(
                            ErrorKind::LoginRefused,
                            format!("the machine does not let {user} log in now"),
                        )
                        .likely_cause("it is still booting or already shutting down"));
                }
                Some((NEW_PASSWORD, _)) => {
                    // Its questions are ended by ^C, and then the login prompt is back.
                    self.console.send(INTERRUPT_KEY).await?;
                    return Err(self
                        .failure(
                            ErrorKind::LoginRefused,
                            format!("the console wants a new password of {user}"),
                        )
                        .likely_cause("the password has expired"));
                }
                Some((LOGIN, _)) if password_typed => {
                    return Err(self
                        .failure(
                            ErrorKind::LoginRefused,
                            format!("{user} was let in, and the session ended at once"),
                        )
                        .likely_cause(
                            "the user's shell is nologin or can't be started, or its start-up files end it",
                        ));
                }
                Some((LOGIN, _)) if names_typed < TRIES => {
                    names_typed += 1;
                    self.console.send_line(user).await?;
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
                    return ShellLine::start(self, user, password, language).await;
                }
                Some((WIZARD, _)) => {
                    shell_asked = false;
                    self.console.send(b"q").await?;
                }
                Some(_) if shell_asked => {}
                Some(_) => {
                    shell_asked = true;
                    self.console.send_line(&probe(&nonce)).await?;
                }
                // A shell without a prompt, or one that was not ready for the question.
                None if password_typed || silences > 2 => {
                    silences += 1;
                    self.console.send_line(&probe(&nonce)).await?;
                }
                None => silences += 1,
            }
        }
    }

    /// An error with the machine's name and what its console said last.
    pub(super) fn failure(&self, kind: ErrorKind, summary: String) -> Error {
        Error::new(kind, format!("{}: {summary}", self.name))
            .section("the console's last lines", self.console.tail(12))
    }

    /// After a refusal: waits for the prompt that follows it.
    async fn back_at_login(&self) -> bool {
        let Ok(prompt) = login_prompt() else { return false };
        self.console.expect(prompt, self.limit(LIMIT)).await.is_ok()
    }

    /// Logs the open session out and waits for the login prompt.
    pub(super) async fn leave_shell(&self, line: &mut Line) -> Result {
        if let Line::Shell(shell) = line {
            let user = shell.user().to_owned();
            let _step = self.step(format!("log out {user}"));
            let left = self.answer_on_console(&format!("log out {user}"), shell.leave(self)).await;
            *line = match &left {
                Ok(()) => Line::AtLogin,
                Err(error) => Line::Lost(format!("logging out {user} failed: {}", error.summary())),
            };
            left?;
        }
        Ok(())
    }

    /// The error of a call on a session that is no more.
    pub(super) fn session_ended(&self, what: &str, why: &str) -> Error {
        self.failure(ErrorKind::SessionEnded, format!("{what}: {why}"))
    }

    /// How long the console may be quiet before something is asked again.
    pub(super) fn quiet(&self) -> Duration {
        self.limit(QUIET)
    }
}

// The answers to a name or a password, by their places in `answers`.
const PASSWORD: usize = 0;
const INCORRECT: usize = 1;
const NOT_YET: usize = 2;
const NEW_PASSWORD: usize = 3;
const LOGIN: usize = 4;
const ALIVE: usize = 5;
const WIZARD: usize = 6;
/// What they are called in errors.
const ANSWER: &str = "an answer to the login";

fn answers(nonce: &Nonce) -> Result<Vec<Pattern>> {
    let mut patterns = Vec::new();
    for text in
        ["Password: ", "Login incorrect", "not permitted to log in", "required to change your password"]
    {
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
