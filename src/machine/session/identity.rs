//! Finds out the user of a shell on the console, by the machine's own commands, and whether their password was checked.

use crate::machine::Life;
use crate::machine::command_text::quoted;
use crate::machine::language::Language;
use crate::machine::session::dialogue::Answered;
use crate::machine::session::shell_line::ShellLine;
use crate::{Error, ErrorKind, Result};

/// Checks whether an account has no password. PAM's own helper does it (unix_chkpwd(8)): it tests the empty password of
/// the calling user, if standard input is not a terminal. Its folder is not on every user's PATH.
const HAS_NO_PASSWORD: &str =
    r#"PATH=$PATH:/run/wrappers/bin:/usr/sbin:/sbin; printf "\000" | command unix_chkpwd "$0" nullok"#;

/// Checks a typed password with the same helper. `$0` is the account, `$1` the question for the password.
const TAKES_PASSWORD: &str = r#"PATH=$PATH:/run/wrappers/bin:/usr/sbin:/sbin; stty -echo; printf %s "$1"; IFS= read -r typed; printf "%s\000" "$typed" | command unix_chkpwd "$0" nullok"#;

/// Sets sudo's prompt for a session, overriding the configuration and the user's settings. Other prompts would not be
/// recognised as sudo's.
const SUDO_PROMPT: &str = "export SUDO_PROMPT='[sudo] password for %p: '; ";

/// The user of a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The user's name, or the user id if there is no name.
    pub(crate) name: String,
    /// The user id.
    uid: String,
}

impl Identity {
    /// Parses the output of `id -un` and `id -u`. A message that there is no name may come first; then the user id is
    /// printed twice.
    fn read(said: &str) -> Option<Self> {
        let mut lines = said.lines().rev();
        let (uid, name) = (lines.next()?, lines.next()?);
        let is_number = !uid.is_empty() && uid.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| Self { name: crate::text::line(name), uid: uid.to_owned() })
    }

    pub(crate) fn is_root(&self) -> bool {
        self.uid == "0"
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (uid {})", self.name, self.uid)
    }
}

impl ShellLine {
    /// Returns a prefix that bypasses functions and aliases of the same name. fish takes `\c` for a control character.
    pub(crate) fn own(&self) -> &'static str {
        if self.language() == Language::Other { "command" } else { r"\command" }
    }

    /// Asks the shell for its user.
    pub(crate) async fn identity(&mut self, life: &Life) -> Result<Identity> {
        self.identity_and(life, "").await
    }

    /// Asks for the user, and then runs commands for the following session.
    async fn identity_and(&mut self, life: &Life, then: &str) -> Result<Identity> {
        let said = self.ask(life, &format!("{then}{own} id -un; {own} id -u", own = self.own())).await?;
        said.as_deref().and_then(Identity::read).ok_or_else(|| {
            life.failure(
                ErrorKind::LoginRefused,
                "the shell does not say who it is: `id -u` fails".to_owned(),
            )
            .next_step("the machine needs `id` (coreutils) on the user's PATH")
        })
    }

    /// Returns whether the shell belongs to `user`, by that name or another name with the same user id.
    pub(crate) async fn is_of(&mut self, life: &Life, who: &Identity, user: &str) -> Result<bool> {
        if who.name == user {
            return Ok(true);
        }
        let uid = self.ask(life, &format!("{} id -u -- {} 2>/dev/null", self.own(), quoted(user))).await?;
        Ok(uid.is_some_and(|uid| uid == who.uid))
    }

    async fn has_no_password(&mut self, life: &Life, user: &str) -> Result<bool> {
        let question = format!("/bin/sh -c {} {} 2>/dev/null", quoted(HAS_NO_PASSWORD), quoted(user));
        Ok(self.ask(life, &question).await?.is_some())
    }

    /// Returns whether the password of the login is `user`'s.
    async fn takes_password(&mut self, life: &Life, user: &str) -> Result<bool> {
        let question = format!("password of {user}: ");
        let script = quoted(TAKES_PASSWORD);
        // The first line is what stands in the transcript.
        let text = format!(
            "# check the password of {user}\n/bin/sh -c {script} {} {} 2>/dev/null",
            quoted(user),
            quoted(&question)
        );
        self.agrees(life, &text, &question).await
    }
}

impl Life {
    /// Returns an error unless the new session belongs to `user` and their password was checked. `answered` tells which
    /// question the password answered; `automatic` names the user of the automatic login.
    pub(crate) async fn check_session(
        &self,
        shell: &mut ShellLine,
        user: &str,
        password: &str,
        answered: Answered,
        automatic: Option<&str>,
    ) -> Result {
        let agree = if shell.language() == Language::Other { "" } else { SUDO_PROMPT };
        let who = shell.identity_and(self, agree).await?;
        if !shell.is_of(self, &who, user).await? {
            return Err(self.unchecked(
                automatic,
                format!("the shell that answered the login of {user} belongs to {who}"),
            ));
        }
        if answered == Answered::Password || password.is_empty() || shell.has_no_password(self, user).await? {
            return Ok(());
        }
        if answered == Answered::Something {
            if shell.takes_password(self, user).await? {
                return Ok(());
            }
            return Err(self
                .unchecked(
                    automatic,
                    format!(
                        "{user} was logged in after a question for something else, and unix_chkpwd \
                        refused the password"
                    ),
                )
                .next_step(format!(
                    "check what the start-up files of {user} ask, or log in without a password: \
                     `login({user:?}, \"\")`"
                )));
        }
        Err(self
            .unchecked(automatic, format!("{user} was logged in without a question for a password"))
            .next_step(format!("log in without one: `login({user:?}, \"\")`")))
    }

    /// Returns the error for a login whose password was not checked.
    pub(crate) fn unchecked(&self, automatic: Option<&str>, what: String) -> Error {
        let error = match automatic {
            Some(name) => {
                let what = format!(
                    "{what}: the console logs {name} in automatically, and the password was not checked"
                );
                self.failure(ErrorKind::LoginRefused, what).next_step(format!(
                    "log in as {name} without a password (`login({name:?}, \"\")`), or remove \
                     services.getty.autologinUser from the configuration"
                ))
            }
            None => self.failure(ErrorKind::LoginRefused, format!("{what}: the password was not checked")),
        };
        error.likely_cause(
            "PAM accepts this user without a password, or the user's start-up files switch to another user",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_id_says_is_read() {
        let identity = |name: &str, uid: &str| Some(Identity { name: name.into(), uid: uid.into() });
        assert_eq!(Identity::read("alice\n1000"), identity("alice", "1000"));
        assert_eq!(Identity::read("id: cannot find name for user ID 7\n7\n7"), identity("7", "7"));
        for said in ["", "0", "alice", "alice\n", "alice\nid: not found", "alice\n0x0"] {
            assert_eq!(Identity::read(said), None, "{said:?}");
        }
    }
}
