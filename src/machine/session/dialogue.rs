//! The conversation of a login: from a name, or a command that logs in, to a shell that answers.
//!
//! What is printed is judged where the console has come to rest ([`Said`]): only the last thing that was said is a question, and
//! nothing that was printed before the name was typed is an answer to it.

use std::time::Duration;

use crate::stopped::Instant;

use crate::console::Pattern;
use crate::machine::Life;
use crate::machine::session::ending::Ending;
use crate::machine::session::frame::Nonce;
use crate::machine::session::probe::{Answered, alive, probe};
use crate::machine::session::question::{Question, asks_for_a_secret, question};
use crate::machine::session::rest::{News, Said};
use crate::machine::session::shell_line::{INTERRUPT_KEY, ShellLine};
use crate::machine::session::waiting::{is_logged_in_by_itself, is_shells_prompt};
use crate::mutex::lock;
use crate::{ErrorKind, Result};

/// How often a name is typed when the prompt comes back without a word, or the name is lost.
const TRIES: usize = 3;
/// Silences after which something is taken for lost.
const LOST: usize = 3;
/// ^U, which empties a line that is being typed.
const EMPTY_LINE_KEY: &[u8] = b"\x15";
/// PAM delays an answer so long on any host: 3 s after a wrong password (pam_faildelay), and more where other modules wait.
const DELAYED: Duration = Duration::from_secs(6);

/// What begins the conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Opening<'a> {
    /// The user's name, at a login prompt on the console of `host`, if that name is known.
    Name { prompt: &'a str, host: &'a str },
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

/// A login under way.
struct Conversation<'a> {
    life: &'a Life,
    opening: Opening<'a>,
    user: &'a str,
    password: &'a str,
    nonce: Nonce,
    /// What was typed first.
    typed: String,
    stage: Stage,
    names_typed: usize,
    /// What looks like a prompt need not be one, and the question itself looks like one when the terminal echoes it: so it is
    /// asked once, and then again only after a silence.
    shell_asked: bool,
    /// Since the name was typed, and then since the password was.
    said: Said,
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
                        .likely_cause("the user's shell hangs in its start-up files, asks something, or speaks neither POSIX sh nor fish"));
                }
                News::Came(ALIVE, found) => {
                    let language = life.language_of(&Answered::read(&found.text()), Some(user)).await?;
                    let shell = ShellLine::start(life, user, self.password, language).await?;
                    return Ok(Begun { shell, asked: self.stage == Stage::Answered });
                }
                News::Came(..) => {
                    self.shell_asked = false;
                    life.console.send(b"q").await?;
                }
                News::Pause => match asked {
                    // Root knows whether it is a question.
                    Some(Question::Password)
                        if self.is_unanswered() && life.console_echoes().await == Some(false) =>
                    {
                        self.give().await?;
                    }
                    None if is_shells_prompt(self.said.last_line()) => {
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
                        let error = self.ending().asks_more(life, self.said.last_line().trim());
                        // Its questions are ended by ^C, and then the login prompt is back.
                        life.console.send(INTERRUPT_KEY).await?;
                        return Err(error);
                    }
                    _ if is_shells_prompt(self.said.text().trim_end()) => {
                        self.ask_the_shell(prompt_came).await?
                    }
                    _ => {}
                },
                News::Silence(silences) => self.silent(asked, silences, prompt_came).await?,
            }
        }
    }

    /// Acts after this number of silences.
    async fn silent(&mut self, asked: Option<Question>, silences: usize, prompt_came: &mut bool) -> Result {
        let life = self.life;
        match self.stage {
            // In no language that is known, and nothing else comes.
            Stage::Seen if asked == Some(Question::Other) && silences == 1 => {
                return self.give_where_nothing_echoes().await;
            }
            // The first name may be seen only now: its question would follow.
            Stage::Half if silences > 1 && life.ends_with(self.user) => {
                self.stage = Stage::Seen;
                self.said.count_anew();
                return life.console.send(b"\r").await;
            }
            // The prompt still waits for a name: agetty throws away what was typed before it opened the line.
            Stage::Typed | Stage::Half
                if silences > LOST && self.names_typed < TRIES && life.waits_for_a_name() =>
            {
                return self.type_the_name_again().await;
            }
            // PAM takes its time over the password. What is typed meanwhile would be taken for a name, if it refuses.
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

    /// A question for a name is the last thing on the console.
    async fn prompt_is_back(&mut self, prompt_came: &mut bool) -> Result {
        let life = self.life;
        match (self.opening, self.stage) {
            (_, Stage::Typed) | (Opening::Name { .. }, Stage::Half) => Ok(()),
            // The program that was started asks for another name.
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

    /// Asks what looks like a shell whether it is one.
    async fn ask_the_shell(&mut self, prompt_came: &mut bool) -> Result {
        // Before the echo of a command comes the prompt at which it is typed.
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
        // A terminal that shows what is typed asks for no password.
        if self.life.console_echoes().await == Some(true) { Ok(()) } else { self.give().await }
    }

    /// Answers the question for the password, without what may have been typed half before it.
    async fn give(&mut self) -> Result {
        if self.stage == Stage::Half {
            self.life.console.send(EMPTY_LINE_KEY).await?;
        }
        self.stage = Stage::Answered;
        self.shell_asked = false;
        self.said = Said::from_now(self.life);
        self.life.console.send_secret(self.password).await
    }

    fn is_unanswered(&self) -> bool {
        self.stage != Stage::Answered
    }

    /// What the last line asks.
    fn asked(&self) -> Option<Question> {
        let line = self.said.last_line();
        match self.opening {
            Opening::Name { prompt, .. } if line.trim() == prompt.trim() => Some(Question::Name),
            Opening::Name { host, .. } => question(line, host),
            Opening::Command(_) => question(line, ""),
        }
    }

    /// Whether the console has shown what was typed. What follows is a program's answer, and no text of a greeting.
    fn is_seen(&self) -> bool {
        match self.opening {
            Opening::Name { prompt, .. } => self.said.text().lines().any(|line| {
                line.trim_end() == self.typed
                    || line.strip_prefix(prompt).is_some_and(|rest| rest.trim() == self.typed)
            }),
            // A line editor wraps what is typed.
            Opening::Command(_) => {
                let solid = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
                solid(self.said.text()).contains(&solid(&self.typed))
            }
        }
    }

    fn ending(&self) -> Ending<'_> {
        Ending::read(self.user, self.said.text(), &lock(&self.life.channels.greeting))
    }
}

/// A shell answers, by its place in [`answers`].
pub(crate) const ALIVE: usize = 0;

/// What is waited for beside questions: a shell that answers, and a greeting that wants a key.
pub(crate) fn answers(nonce: &Nonce) -> Result<Vec<Pattern>> {
    const ANSWER: &str = "an answer to the login";
    Ok(vec![
        Pattern::regex(&alive(nonce))?.called(ANSWER),
        // zsh greets a user without start-up files so (zsh-newuser-install); `q` leaves everything as it is.
        Pattern::from("--- Type one of the keys in parentheses ---").called(ANSWER),
    ])
}
