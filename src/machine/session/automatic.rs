//! Switches from the session of an automatic login to the requested user's session.
//!
//! The first shell is replaced (`exec`) by `login` or `su`. When that user logs out, the console logs in automatically
//! again. `su` does not ask root for a password, so root runs `login`. Where `login` is not on the path, `su` runs as
//! the user `nobody`.

use crate::console::Pattern;
use crate::machine::Life;
use crate::machine::command_text::quoted;
use crate::machine::session::dialogue::{self, Begun, Opening};
use crate::machine::session::identity::Identity;
use crate::machine::session::noise::tolerant;
use crate::machine::session::probe::Answered;
use crate::machine::session::shell_line::{INTERRUPT_KEY, ShellLine};
use crate::{ErrorKind, Result};

/// ^D, at the beginning of a line.
const END_OF_INPUT: &[u8] = b"\x04";
/// Number of attempts to end `login`, for each key.
const TRIES: usize = 4;

/// The programs that check passwords and change the user, as far as they are on a shell's path.
#[derive(Debug, Clone, Copy)]
struct Programs {
    login: bool,
    su: bool,
    setpriv: bool,
}

impl Programs {
    /// Returns the command that asks for the password of `user` and becomes their shell, or `None` where there is none.
    /// Its messages are in English in every locale.
    fn command(self, is_root: bool, user: &str) -> Option<String> {
        let user = quoted(user);
        let rest = match self {
            Self { login: true, .. } if is_root => format!("login -- {user}"),
            Self { su: true, setpriv: true, .. } if is_root => {
                format!("setpriv --reuid=nobody --clear-groups su - {user}")
            }
            Self { su: true, .. } if !is_root => format!("su - {user}"),
            _ => return None,
        };
        Some(format!("exec env LC_ALL=C {rest}"))
    }
}

impl Life {
    /// Switches from the shell on the console, of any user, to the session of `user`. Returns the first user's name.
    pub(crate) async fn go_over(
        &self,
        answered: &Answered,
        user: &str,
        password: &str,
        prompt_came: &mut bool,
    ) -> Result<(Begun, Option<String>)> {
        let language = self.language_of(answered, None).await?;
        let mut shell = ShellLine::start(self, user, password, language).await?;
        let who = shell.identity(self).await?;
        if password.is_empty() && shell.is_of(self, &who, user).await? {
            return Ok((Begun { shell, answered: dialogue::Answered::Nothing }, Some(who.name)));
        }
        let Some(command) = shell.programs(self).await?.command(who.is_root(), user) else {
            let error = self.no_way(&who, user);
            shell.exit(self).await?;
            return Err(error);
        };
        shell.end_loop(self).await?;
        match self.converse(Opening::Command(&command), user, password, prompt_came).await {
            Ok(begun) => Ok((begun, Some(who.name))),
            Err(error) => {
                if error.kind() == ErrorKind::LoginRefused && !*prompt_came {
                    *prompt_came = self.end_program().await?;
                }
                Err(error)
            }
        }
    }

    /// Ends a `login` that refused a user and asks for another name. The console then logs in automatically again.
    /// Returns whether it printed that.
    async fn end_program(&self) -> Result<bool> {
        let said = Pattern::regex(&tolerant(" (automatic login)"))?;
        for _ in 0..TRIES {
            // util-linux's login ignores ^C, and shadow's asks again after ^D.
            for key in [INTERRUPT_KEY, END_OF_INPUT] {
                match self.console.expect(said.clone(), self.quiet()).await {
                    Ok(_) => return Ok(true),
                    Err(error) if error.kind() != ErrorKind::Timeout => return Err(error),
                    Err(_) => self.console.send(key).await?,
                }
            }
        }
        Ok(false)
    }

    fn no_way(&self, who: &Identity, user: &str) -> crate::Error {
        let what =
            format!("{user} can't log in from the session of {who}, which has neither `login` nor `su`");
        self.unchecked(Some(&who.name), what)
    }
}

impl ShellLine {
    async fn programs(&mut self, life: &Life) -> Result<Programs> {
        let found = self
            .ask(life, &format!("{own} -v login; {own} -v su; {own} -v setpriv; true", own = self.own()))
            .await?;
        let has = |name: &str| found.iter().flat_map(|found| found.lines()).any(|path| path.ends_with(name));
        Ok(Programs { login: has("/login"), su: has("/su"), setpriv: has("/setpriv") })
    }
}

#[cfg(test)]
mod tests {
    use super::Programs;

    #[test]
    fn the_password_is_asked_for_whoever_is_there_and_whatever_they_have() {
        let command =
            |is_root, login, su, setpriv| Programs { login, su, setpriv }.command(is_root, "al'ice");
        let exec = |rest: &str| Some(format!(r"exec env LC_ALL=C {rest} 'al'\''ice'"));
        assert_eq!(command(true, true, true, true), exec("login --"));
        assert_eq!(command(true, false, true, true), exec("setpriv --reuid=nobody --clear-groups su -"));
        // su does not ask root for a password.
        assert_eq!(command(true, false, true, false), None);
        // Only root can run login.
        assert_eq!(command(false, true, true, true), exec("su -"));
        assert_eq!(command(false, true, false, true), None);
    }
}
