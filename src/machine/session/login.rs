//! Logs a user in. Afterwards the requested user is on the console, and their password was checked.

use std::sync::Arc;
use std::time::Duration;

use crate::stopped::Instant;

use nixvm_test_macros::tracked;

use crate::machine::replay::answers::{Asking, IN_PASSING};
use crate::machine::session::dialogue::{Begun, Opening};
use crate::machine::session::phases::login_prompt;
use crate::machine::session::shell_line::{Secret, ShellLine};
use crate::machine::session::waiting::Waiting;
use crate::machine::{Life, Line, Machine, Session};
use crate::{Error, ErrorKind, Result};

/// The reason why sessions end when a machine is restored to an earlier moment.
pub(crate) const BROUGHT_BACK: &str = "the machine was restored to an earlier moment";

/// The limit from the name to a shell that answers, on a fast host. agetty itself gives up after 60 s.
const LIMIT: Duration = Duration::from_secs(20);
/// The minimum on any host: PAM waits in real time (25 s for a logind session that does not come).
const AT_LEAST: Duration = Duration::from_secs(40);
/// After this silence (on a fast host), the console is asked again.
const QUIET: Duration = Duration::from_secs(1);

/// Name and password of a login.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: Secret,
}

/// # Login
impl Machine {
    /// Logs `user` in on the console. An open session is logged out first.
    ///
    /// The shell is asked for its user, and the machine checks the password. On a console with an automatic login
    /// (`services.getty.autologinUser`), an empty `password` takes the existing session if it belongs to `user`.
    /// Otherwise `login` or `su` is run in that session and asks for the password.
    ///
    /// # Errors
    /// [`ErrorKind::LoginRefused`] at once when the console refuses name and password, does not allow logins yet, or
    /// wants a new password; when the shell belongs to another user; and when a password was given but not asked for,
    /// although the account has one. [`ErrorKind::Timeout`] when no shell answers.
    #[tracked]
    pub async fn login(&self, user: &str, password: &str) -> Result<Session> {
        let life = self.life();
        if user.is_empty() || user.starts_with('-') || user.chars().any(|c| c.is_control() || c == ' ') {
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
        let _step = life.step_with(&format!("login as {user}"), "");
        // On every early return below, the console's state stays unknown until a quiet prompt is seen.
        *line = Line::Lost("a login was interrupted".to_owned());
        let (mut shell, mut prompt_came) = (None, false);
        let question = format!("log in {user}");
        let asking = Asking { on_console: true, secret: Some(password) };
        let language = life.answer_as(&question, asking, async {
            let begun = Box::pin(life.log_in(user, password, &mut prompt_came)).await?;
            let language = begun.language();
            shell = Some(begun);
            Ok(language)
        });
        match language.await {
            Ok(language) => {
                let shell = shell.unwrap_or_else(|| ShellLine::replayed(user, language));
                let id = shell.id();
                life.qemu.came_up();
                life.channels
                    .remember(Credentials { user: user.to_owned(), password: Secret::new(password) });
                *line = Line::Shell(shell);
                drop(line);
                life.awaken().await;
                // That may have typed something into the session.
                match &*life.line.lock().await {
                    Line::AtLogin => {
                        Err(life.session_ended(&format!("login as {user}"), "the session ended at once"))
                    }
                    Line::Lost(why) => Err(life.session_ended(&format!("login as {user}"), why)),
                    Line::Shell(_) => Ok(Session::new(Arc::clone(&life), id, user)),
                }
            }
            Err(error) => {
                if error.kind() == ErrorKind::LoginRefused {
                    let back = async { Ok(prompt_came || life.back_at_login().await) };
                    let asked = format!("{IN_PASSING}the prompt after a refusal");
                    if life.answer_on_console(&asked, back).await.unwrap_or(false) {
                        *line = Line::AtLogin;
                    }
                }
                Err(error)
            }
        }
    }

    /// Returns the session of the user who is logged in on the console.
    pub async fn session(&self) -> Option<Session> {
        let life = self.life();
        let line = life.line.lock().await;
        let Line::Shell(shell) = &*line else { return None };
        Some(Session::new(Arc::clone(&life), shell.id(), shell.user()))
    }
}

impl Life {
    /// Logs `user` in. After [`ErrorKind::LoginRefused`], the login prompt is still to come, unless `prompt_came`.
    pub(crate) async fn log_in(
        &self,
        user: &str,
        password: &str,
        prompt_came: &mut bool,
    ) -> Result<ShellLine> {
        let (begun, automatic) = match self.who_waits().await? {
            Waiting::Prompt { prompt, host } => {
                let opening = Opening::Name { prompt: &prompt, host: &host };
                (self.converse(opening, user, password, prompt_came).await?, None)
            }
            Waiting::Shell(answered) => self.go_over(&answered, user, password, prompt_came).await?,
        };
        let Begun { mut shell, answered } = begun;
        let checked = self.check_session(&mut shell, user, password, answered, automatic.as_deref()).await;
        if let Err(error) = checked {
            if error.kind() == ErrorKind::LoginRefused {
                shell.exit(self).await?;
            }
            return Err(error);
        }
        Ok(shell)
    }

    /// Returns an error with the machine's name and the console's last output.
    pub(crate) fn failure(&self, kind: ErrorKind, summary: String) -> Error {
        Error::new(kind, format!("{}: {summary}", self.name))
            .section("the console's last lines", self.console.tail(12))
    }

    /// Waits after a refusal for the next prompt, or for the shell of an automatic login that prints nothing.
    pub(crate) async fn back_at_login(&self) -> bool {
        let Ok(prompt) = login_prompt() else { return false };
        let deadline = Instant::now() + self.login_limit();
        while Instant::now() < deadline {
            match self.console.expect(prompt.clone(), self.quiet()).await {
                Ok(_) => return true,
                Err(error) if error.kind() != ErrorKind::Timeout => return false,
                Err(_) if self.is_waiting() => return true,
                Err(_) => {}
            }
        }
        false
    }

    /// Ends the open session and waits for the login prompt.
    pub(crate) async fn leave_shell(&self, line: &mut Line) -> Result {
        if let Line::Shell(shell) = line {
            let user = shell.user().to_owned();
            let _step = self.step_with(&format!("log out {user}"), "");
            let left = self.answer_on_console(&format!("log out {user}"), shell.leave(self)).await;
            *line = match &left {
                Ok(()) => Line::AtLogin,
                Err(error) => Line::Lost(format!("logging out {user} failed: {}", error.summary())),
            };
            left?;
        }
        Ok(())
    }

    /// Returns the error for a call on a session that has ended.
    pub(crate) fn session_ended(&self, what: &str, why: &str) -> Error {
        if let Some(halted) = self.halted() {
            return halted;
        }
        let error = self.failure(ErrorKind::SessionEnded, format!("{what}: {why}"));
        if why == BROUGHT_BACK {
            return error.next_step("`machine.session()` returns the session of that moment");
        }
        error
    }

    /// Returns the limit of a login.
    pub(crate) fn login_limit(&self) -> Duration {
        self.speed.scale_to_at_least(LIMIT, AT_LEAST)
    }

    /// Returns how long the console may be silent before it is asked again.
    pub(crate) fn quiet(&self) -> Duration {
        self.limit(QUIET)
    }
}
