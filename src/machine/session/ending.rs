//! How a login ended without a shell: the console's output and its meaning.

use crate::machine::Life;
use crate::machine::session::question::last_line;
use crate::{Error, ErrorKind, secrets, text};

/// The messages of `login` and `su` about a wrong password (shadow, util-linux, PAM).
const REFUSED: &[&str] = &["Login incorrect", "Authentication failure", "Maximum number of tries exceeded"];
/// The message of pam_nologin, with systemd's text.
const NOT_YET: &str = "not permitted to log in";
/// The default beginning of the greeting of NixOS's gettys (services.getty.greetingLine).
const WELCOME: &str = "<<< Welcome to ";
/// Number of last lines that are quoted in the summary.
const QUOTED: usize = 3;
/// Other meanings of the console's messages, and the words that show them.
const MEANINGS: &[(&[&str], &str)] = &[
    (&["Module is unknown"], "PAM can't load a module that security.pam.services.login names"),
    (&["account has expired", "Account expired"], "the account has expired (users.users.NAME.expires)"),
    (&["currently not available", "nologin"], "the user's shell is nologin; PAM accepted the user"),
    (
        &["Cannot execute", "cannot execute"],
        "the user's shell does not exist or can't be run (users.users.NAME.shell)",
    ),
    // util-linux's login, whose limit starts before PAM. A guest on a busy host may need longer.
    (
        &["login: timed out after"],
        "the program `login` has a limit of its own (LOGIN_TIMEOUT in /etc/login.defs, else 60 s), and the machine was too slow for it",
    ),
];
const UNKNOWN: &str = "PAM ended it (an account or session module), or the user's shell is nologin, can't \
    be started, or exits in its start-up files";

/// The output after the password, without the greeting of the next getty.
#[derive(Debug)]
pub(crate) struct Ending<'a> {
    user: &'a str,
    /// The lines with a message.
    said: Vec<&'a str>,
    /// Whether the getty greets again; `None` if its greeting is not known.
    greeted: Option<bool>,
}

impl<'a> Ending<'a> {
    /// Parses the output after the password of `user`, up to the last line. `greeting` is the text before an earlier
    /// prompt of the console's getty, if known: the common part of both is the getty's.
    pub(crate) fn read(user: &'a str, text: &'a str, greeting: &str) -> Self {
        let said = &text[..text.len() - last_line(text).len()];
        let mut said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let before = greeting.lines().rev().map(str::trim).filter(|line| !line.is_empty());
        // A password in the greeting is masked in only one of them if it became known between them.
        let is_same = |line: &str, before: &str| secrets::words(line) == secrets::words(before);
        let same = said.iter().rev().zip(before).take_while(|(line, before)| is_same(line, before)).count();
        let at = if same > 0 {
            Some(said.len() - same)
        } else {
            said.iter().rposition(|line| line.starts_with(WELCOME))
        };
        said.truncate(at.unwrap_or(said.len()));
        let greeted = if at.is_some() { Some(true) } else { (!greeting.trim().is_empty()).then_some(false) };
        Self { user, said, greeted }
    }

    fn has(&self, words: &str) -> bool {
        self.said.iter().any(|line| line.contains(words))
    }

    /// Returns the cause that the console's last words name, if they are known. The message of the day comes before them
    /// and can have any words.
    fn meaning(&self) -> Option<&'static str> {
        self.said.iter().rev().take(QUOTED).find_map(|line| {
            let known = MEANINGS.iter().find(|(words, _)| words.iter().any(|words| line.contains(words)));
            known.map(|(_, meaning)| *meaning)
        })
    }

    /// Returns whether the login was refused: login itself asks for another name after a line of its own, which it does
    /// only after a wrong password, or its last message says so. A message with a known meaning is no refusal.
    fn is_refusal(&self) -> bool {
        if self.meaning().is_some() {
            return false;
        }
        (self.greeted == Some(false) && self.said.len() == 1)
            || self.said.last().is_some_and(|line| REFUSED.iter().any(|words| is_or_ends(line, words)))
    }

    /// Returns the error for a login after which a name is asked for again.
    pub(crate) fn error(&self, life: &Life) -> Error {
        let user = self.user;
        if self.has(NOT_YET) {
            return life
                .failure(ErrorKind::LoginRefused, format!("the machine does not allow {user} to log in now"))
                .likely_cause("it is still booting or already shutting down");
        }
        if self.is_refusal() {
            return self.refused(life);
        }
        let quoted = &self.said[self.said.len().saturating_sub(QUOTED)..];
        let summary = match quoted {
            [] => format!("the login of {user} ended at once, and the console gave no reason"),
            words => format!(
                "the login of {user} ended at once; the console said: {}",
                text::line(&words.join(" "))
            ),
        };
        life.failure(ErrorKind::LoginRefused, summary)
            .section("what the console said after the password", text::lines(&self.said.join("\n")))
            .likely_cause(self.meaning().unwrap_or(UNKNOWN))
    }

    /// Returns the error for a login whose name or password was refused.
    pub(crate) fn refused(&self, life: &Life) -> Error {
        let user = self.user;
        life.failure(ErrorKind::LoginRefused, format!("the console refused to log in {user}"))
            .likely_cause(format!(
                "the configuration has no user {user}, or gives {user} another password or none, or an old disk \
                 has an old password"
            ))
            .next_step(format!(
                "check users.users.{user} in the configuration; initialPassword has an effect only on a fresh disk"
            ))
    }

    /// Returns the error for a login that needs more than the password: `question` came after it.
    pub(crate) fn asks_more(&self, life: &Life, question: &str) -> Error {
        let (user, question) = (self.user, text::line(question));
        life.failure(
            ErrorKind::LoginRefused,
            format!("after the password of {user} the console asks {question:?}"),
        )
        .section("what the console said after the password", text::lines(&self.said.join("\n")))
        .likely_cause(
            "the password has expired and must be changed, PAM asks for something else too, or the user's \
             start-up files ask a question",
        )
        .next_step(
            "let the start-up files ask only where the terminal is not the serial console: `[ \"$(tty)\" = /dev/ttyS0 ] || …`",
        )
    }
}

/// Returns whether a line ends in these words and an optional full stop. The program's name may come first.
fn is_or_ends(line: &str, words: &str) -> bool {
    let line = line.trim_end_matches('.');
    line == words || line.strip_suffix(words).is_some_and(|before| before.ends_with(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING: &str = "\n\n<<< Welcome to NixOS >>>\n\nRun 'nixos-help'.\n\n";

    #[test]
    fn what_is_said_after_the_password_is_told_from_the_greeting() {
        let prompt = "nixos login: ";
        for (said, greeted, refused) in [
            ("\nLogin incorrect\n\n", false, true),
            ("\nLogin fehlerhaft\n\n", false, true),
            ("\nLogin incorrect\n", true, true),
            ("\nsu: Authentication failure\n", true, true),
            ("Last failed login: today\nThis account is currently not available.\n", true, false),
            ("A notice: Login incorrect means a wrong password\n", true, false),
            ("\nModule is unknown\n", true, false),
            // login stays, and a line of its own is no refusal.
            ("\nThis account is currently not available.\n", false, false),
            ("", true, false),
        ] {
            let text = format!("{said}{}{prompt}", if greeted { GREETING } else { "" });
            let ending = Ending::read("alice", &text, &format!("[  OK  ] Started it.\n{GREETING}"));
            assert_eq!((ending.greeted, ending.is_refusal()), (Some(greeted), refused), "{said:?}");
            assert!(!ending.has("Welcome") && !ending.has("nixos login"), "{said:?}");
        }
        // The message of the day comes before the reason.
        let motd = "Your account has expired? Call us.\na\nb\n";
        for (reason, meaning) in [
            ("This account is currently not available.", Some(MEANINGS[2].1)),
            ("Cannot execute /no/such/shell: No such file or directory", Some(MEANINGS[3].1)),
            (
                "login: timed out after 60 seconds[ *** ] (1 of 2) Job user@1000.service/start running",
                Some(MEANINGS[4].1),
            ),
            ("quota exceeded: 7", None),
        ] {
            let text = format!("{motd}{reason}\n{GREETING}nixos login: ");
            assert_eq!(Ending::read("alice", &text, GREETING).meaning(), meaning, "{reason}");
        }
        // The greeting was read before its password was known.
        let secret = "ending-of-a-greeting-7";
        let greeting = format!("\nDemo. password: {secret}\n\n");
        secrets::know(secret);
        let text = format!("bye\n{}nixos login: ", secrets::words(&greeting));
        assert!(!Ending::read("alice", &text, &greeting).is_refusal());
        // A getty without a greeting.
        assert!(Ending::read("alice", "\nLogin incorrect\n\nnixos login: ", "").is_refusal());
        assert!(!Ending::read("alice", "Goodbye\nnixos login: ", "").is_refusal());
    }
}
