//! The conversation of a login: from a name, or a command that logs in, to a shell that answers.
//!
//! Output is judged when the console has come to rest ([`Said`]): only the last output is a question, and output from
//! before the name was typed is not an answer to it.

use std::time::Duration;

use crate::stopped::Instant;

use crate::console::Pattern;
use crate::machine::Life;
use crate::machine::session::ending::Ending;
use crate::machine::session::frame::Nonce;
use crate::machine::session::probe::{self, alive, probe};
use crate::machine::session::question::{Asks, Question, asks_at_start, asks_for_a_secret, question};
use crate::machine::session::rest::{News, Said};
use crate::machine::session::shell_line::{INTERRUPT_KEY, ShellLine};
use crate::machine::session::waiting::{is_logged_in_by_itself, is_shells_prompt};
use crate::mutex::lock;
use crate::{ErrorKind, Result};

/// Number of times a name is typed when the prompt comes back without a message, or the name is lost.
const TRIES: usize = 3;
/// Number of silences after which input is considered lost.
const LOST: usize = 3;
/// Number of silences after which a question of start-up files is one, by how sure it is.
pub(crate) const ASKED: (u32, u32) = (2, 5);
/// ^U, which clears the current input line.
const EMPTY_LINE_KEY: &[u8] = b"\x15";
/// The time by which PAM may delay an answer on any host: 3 s after a wrong password (pam_faildelay), and more if other
/// modules wait.
const DELAYED: Duration = Duration::from_secs(6);

/// How the conversation begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Opening<'a> {
    /// The user's name, at a login prompt on the console of `host`, if that name is known.
    Name { prompt: &'a str, host: &'a str },
    /// A command at a shell's prompt.
    Command(&'a str),
}

/// The progress of the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The name or the command was typed. A prompt at this stage answers an earlier Enter.
    Typed,
    /// The console has echoed it.
    Seen,
    /// The name was typed again, without Enter, which follows once the name is echoed. If the console had taken the
    /// first name and now asks for the password, the second name must not be sent as a password.
    Half,
    /// The password was given.
    Answered,
}

/// A shell that answers.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) shell: ShellLine,
    /// The kind of question that the password answered.
    pub(crate) answered: Answered,
}

/// The kind of question that a password answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    /// Nothing asked.
    Nothing,
    /// A question without a known word for a password: PAM's in an unknown language, or one of the user's start-up files.
    Something,
    /// A question for a password.
    Password,
}

/// A login in progress.
struct Conversation<'a> {
    life: &'a Life,
    opening: Opening<'a>,
    user: &'a str,
    password: &'a str,
    nonce: Nonce,
    /// The first input.
    typed: String,
    stage: Stage,
    answered: Answered,
    names_typed: usize,
    /// Output that looks like a prompt may not be one, and an echoed question looks like one itself. So the shell is
    /// asked once, and again only after a silence.
    shell_asked: bool,
    /// The output since the name was typed, and later since the password was.
    said: Said,
}

impl Life {
    /// Answers questions until a shell answers. On an error, `prompt_came` tells whether the login prompt is back.
    pub(crate) async fn converse(
        &self,
        opening: Opening<'_>,
        user: &str,
        password: &str,
        prompt_came: &mut bool,
    ) -> Result<Begun> {
        let typed = match opening {
            Opening::Name { .. } => user.to_owned(),
            Opening::Command(command) => format!(" {command}"),
        };
        let _answering = self.console.while_a_shell_starts();
        let said = Said::from_now(self);
        self.console.send_line(&typed).await?;
        let mut conversation = Conversation {
            life: self,
            opening,
            user,
            password,
            nonce: Nonce::new(),
            typed,
            stage: Stage::Typed,
            answered: Answered::Nothing,
            names_typed: 1,
            shell_asked: false,
            said,
        };
        conversation.run(prompt_came).await
    }
}

impl Conversation<'_> {
    async fn run(&mut self, prompt_came: &mut bool) -> Result<Begun> {
        let (life, user) = (self.life, self.user);
        let limit = life.login_limit();
        let started = Instant::now();
        let answers = answers(&self.nonce)?;
        loop {
            let news = self.said.next(life, &answers, started + limit).await?;
            if self.stage == Stage::Typed && self.is_seen() {
                self.stage = Stage::Seen;
            }
            let asked = self.asked();
            match news {
                News::Over => {
                    return Err(life
                        .failure(ErrorKind::Timeout, format!("no shell answered after the login of {user}"))
                        .took(started.elapsed(), limit)
                        .likely_cause(
                            "the user's shell hangs in its start-up files, asks a question, or \
                            is neither a POSIX shell nor fish",
                        ));
                }
                News::Came(ALIVE, found) => {
                    let language =
                        life.language_of(&probe::Answered::read(&found.text()), Some(user)).await?;
                    let shell = ShellLine::start(life, user, self.password, language).await?;
                    return Ok(Begun { shell, answered: self.answered });
                }
                News::Came(..) => {
                    self.shell_asked = false;
                    life.console.send(b"q").await?;
                }
                News::Pause => match asked {
                    // Root can find out whether it is a question.
                    Some(Question::Password)
                        if self.is_unanswered() && life.console_echoes().await == Some(false) =>
                    {
                        self.give().await?;
                    }
                    None if is_shells_prompt(self.said.last_line()) && self.start_up_asks().is_none() => {
                        self.ask_the_shell(prompt_came).await?
                    }
                    _ => {}
                },
                News::Rest => match asked {
                    Some(Question::Name) => self.prompt_is_back(prompt_came).await?,
                    Some(Question::Password) if self.is_unanswered() => {
                        self.give_where_nothing_echoes().await?
                    }
                    Some(Question::Password | Question::Other)
                        if self.stage == Stage::Answered
                            && asks_for_a_secret(self.said.last_line().trim()) =>
                    {
                        return Err(self.refuse_the_question().await?);
                    }
                    _ if self.start_up_asks().is_some() => {}
                    _ if is_shells_prompt(self.said.text().trim_end()) => {
                        self.ask_the_shell(prompt_came).await?
                    }
                    _ => {}
                },
                News::Silence(silences) => self.silent(asked, silences, prompt_came).await?,
            }
        }
    }

    /// Returns whether the last line is a question of the user's start-up files, or of something else that a password does
    /// not answer. A shell with a line editor shows its prompt.
    fn start_up_asks(&self) -> Option<Asks> {
        let is_known = matches!(self.asked(), Some(Question::Name | Question::Password));
        let may_be = matches!(self.stage, Stage::Seen | Stage::Answered) && !is_known;
        asks_at_start(self.said.last_line(), self.user)
            .filter(|_| may_be && !self.said.is_at_an_editor(self.life))
    }

    /// Ends a question without an answer, and returns its error. The login prompt comes back, or the shell, which is ended.
    async fn refuse_the_question(&mut self) -> Result<crate::Error> {
        let life = self.life;
        let error = self.ending().asks_more(life, self.said.last_line().trim());
        let said = Said::from_now(life);
        life.console.send(INTERRUPT_KEY).await?;
        let ended = std::mem::replace(&mut self.said, said);
        let until = Instant::now() + life.quiet() * 3;
        loop {
            match self.said.next(life, &answers(&self.nonce)?, until).await? {
                News::Over => break,
                News::Rest if is_shells_prompt(self.said.last_line()) => {
                    life.console.send_line(" exit").await?;
                    break;
                }
                _ => {}
            }
        }
        self.said = ended;
        Ok(error)
    }

    /// Acts after this number of silences.
    async fn silent(&mut self, asked: Option<Question>, silences: usize, prompt_came: &mut bool) -> Result {
        let life = self.life;
        let is_passwords = self.stage == Stage::Seen && asked == Some(Question::Other) && silences == 1;
        if !is_passwords && let Some(asks) = self.start_up_asks() {
            let enough = if asks == Asks::Surely { ASKED.0 } else { ASKED.1 };
            return match silences >= enough as usize {
                true => Err(self.refuse_the_question().await?),
                // Nothing is typed into a question.
                false => Ok(()),
            };
        }
        match self.stage {
            // The question is in no known language, and no more output comes.
            Stage::Seen if asked == Some(Question::Other) && silences == 1 => {
                return self.give_where_nothing_echoes().await;
            }
            // The first name may be echoed only now, and its question would follow.
            Stage::Half if silences > 1 && life.ends_with(self.user) => {
                self.stage = Stage::Seen;
                self.said.count_anew();
                return life.console.send(b"\r").await;
            }
            // The prompt still waits for a name: agetty discards what was typed before it opened the line.
            Stage::Typed | Stage::Half
                if silences > LOST && self.names_typed < TRIES && life.waits_for_a_name() =>
            {
                return self.type_the_name_again().await;
            }
            // PAM may need time to check the password. Input in the meantime would be taken for a name if PAM refuses.
            Stage::Answered if self.said.text().trim().is_empty() && self.said.rest() < DELAYED => {
                return Ok(());
            }
            _ => {}
        }
        // A shell without a prompt, or one that was not ready for the question.
        let may_be_one = self.stage == Stage::Answered || (self.stage != Stage::Half && silences > LOST);
        if may_be_one && asked != Some(Question::Name) {
            self.shell_asked = false;
            self.ask_the_shell(prompt_came).await?;
        }
        Ok(())
    }

    /// Handles a question for a name at the end of the console's output.
    async fn prompt_is_back(&mut self, prompt_came: &mut bool) -> Result {
        let life = self.life;
        match (self.opening, self.stage) {
            (_, Stage::Typed) | (Opening::Name { .. }, Stage::Half) => Ok(()),
            // The started program asks for another name.
            (Opening::Command(_), _) => Err(self.ending().refused(life)),
            (Opening::Name { .. }, Stage::Answered) => {
                *prompt_came = true;
                Err(self.ending().error(life))
            }
            (Opening::Name { .. }, Stage::Seen) if self.names_typed < TRIES => {
                self.type_the_name_again().await
            }
            (Opening::Name { .. }, Stage::Seen) => {
                *prompt_came = true;
                Err(life.failure(
                    ErrorKind::LoginRefused,
                    format!(
                        "the login prompt came back {TRIES} times without asking for {}'s password",
                        self.user
                    ),
                ))
            }
        }
    }

    async fn type_the_name_again(&mut self) -> Result {
        self.stage = Stage::Half;
        self.names_typed += 1;
        self.said.count_anew();
        self.life.console.send(self.user.as_bytes()).await
    }

    /// Asks a possible shell whether it is one.
    async fn ask_the_shell(&mut self, prompt_came: &mut bool) -> Result {
        // The prompt comes before the echo of the command.
        let is_shells = matches!(self.stage, Stage::Seen | Stage::Answered)
            || matches!(self.opening, Opening::Name { .. });
        if self.shell_asked || !is_shells {
            return Ok(());
        }
        // The program has ended, and the shell of the automatic login is back.
        if matches!(self.opening, Opening::Command(_)) && is_logged_in_by_itself(self.said.text()) {
            *prompt_came = true;
            return Err(self.ending().error(self.life));
        }
        self.shell_asked = true;
        self.life.console.send_line(&probe(&self.nonce)).await
    }

    async fn give_where_nothing_echoes(&mut self) -> Result {
        // A terminal with echo on is not asking for a password.
        if self.life.console_echoes().await == Some(true) { Ok(()) } else { self.give().await }
    }

    /// Answers the question for the password, after clearing partial input.
    async fn give(&mut self) -> Result {
        if self.stage == Stage::Half {
            self.life.console.send(EMPTY_LINE_KEY).await?;
        }
        let is_for_it = self.asked() == Some(Question::Password);
        self.answered = if is_for_it { Answered::Password } else { Answered::Something };
        self.stage = Stage::Answered;
        self.shell_asked = false;
        self.said = Said::from_now(self.life);
        self.life.console.send_secret(self.password).await
    }

    fn is_unanswered(&self) -> bool {
        self.stage != Stage::Answered
    }

    /// Returns what the last line asks.
    fn asked(&self) -> Option<Question> {
        let line = self.said.last_line();
        match self.opening {
            Opening::Name { prompt, .. } if line.trim() == prompt.trim() => Some(Question::Name),
            Opening::Name { host, .. } => question(line, host),
            Opening::Command(_) => question(line, ""),
        }
    }

    /// Returns whether the console has echoed the input. Later output is a program's answer and not part of a greeting.
    fn is_seen(&self) -> bool {
        match self.opening {
            Opening::Name { prompt, .. } => self.said.text().lines().any(|line| {
                line.trim_end() == self.typed
                    || line.strip_prefix(prompt).is_some_and(|rest| rest.trim() == self.typed)
            }),
            // A line editor wraps long input.
            Opening::Command(_) => {
                let solid = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
                solid(self.said.text()).contains(&solid(&self.typed))
            }
        }
    }

    fn ending(&self) -> Ending<'_> {
        Ending::read(self.user, self.said.text(), &lock(&self.life.channels.getty).greeting)
    }
}

/// The index in [`answers`] of a shell that answers.
pub(crate) const ALIVE: usize = 0;

/// Returns the patterns that are awaited besides questions: a shell that answers, and a greeting that needs a key.
pub(crate) fn answers(nonce: &Nonce) -> Result<Vec<Pattern>> {
    const ANSWER: &str = "an answer to the login";
    Ok(vec![
        Pattern::regex(&alive(nonce))?.called(ANSWER),
        // zsh greets a user without start-up files like this (zsh-newuser-install); `q` changes nothing.
        Pattern::from("--- Type one of the keys in parentheses ---").called(ANSWER),
    ])
}
