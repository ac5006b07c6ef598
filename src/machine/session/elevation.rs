//! Programs by which a user becomes root, and how they ask for the user's own password.
//!
//! A password is typed only at a known question, because a program that a command runs can ask anything.

use std::sync::LazyLock;

use regex::bytes::Regex;

use crate::machine::command_text::quoted;
use crate::machine::language::Language;
use crate::machine::session::question::{ends_in_a_colon, last_line, names_a_password};

/// The first words of polkit's agent for terminals (pkttyagent, as used by run0 and systemctl).
const POLKIT: &str = "==== AUTHENTICATING FOR ";
/// Its question when several users may authenticate.
const WHICH: &str = "Choose identity to authenticate as";
/// The messages of sudo, sudo-rs and doas about a wrong password before they ask again.
const TRY_AGAIN: &[&str] = &["try again", "bitte nochmal", "Réessayez", "intente de nuevo"];

/// A program that makes a user root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Elevation {
    /// sudo, or a version of sudo-rs that takes `-p`.
    Sudo,
    /// An older sudo-rs.
    SudoWithoutPrompt,
    /// doas of OpenBSD, or opendoas.
    Doas,
    /// systemd's run0, which asks through polkit.
    Run0,
}

impl Elevation {
    /// Returns the program's command name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sudo | Self::SudoWithoutPrompt => "sudo",
            Self::Doas => "doas",
            Self::Run0 => "run0",
        }
    }

    /// Returns the beginning of a command that is run as root, in English. Its question is `agreed` if the program
    /// supports that.
    pub(crate) fn before(self, language: Language, agreed: &str) -> String {
        // fish and similar shells do not all support an assignment before a command.
        let env = if language == Language::Other { "env " } else { "" };
        match self {
            Self::Sudo => format!("{env}LC_ALL=C sudo -p {} ", quoted(agreed)),
            Self::SudoWithoutPrompt => format!("{env}LC_ALL=C sudo "),
            Self::Doas => format!("{env}LC_ALL=C doas "),
            Self::Run0 => format!("{env}LC_ALL=C run0 --background= "),
        }
    }
}

/// Returns the question that a program of our own uses to ask `user`: in sudo's own words.
pub(crate) fn agreed_question(user: &str) -> String {
    format!("[sudo] password for {user}: ")
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The user's password.
    Password,
    /// The user's number in a list.
    Number(String),
}

/// A question that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) reply: Reply,
    /// It is the agreed question, so no silence has to follow it.
    pub(crate) is_sure: bool,
    /// The line.
    line: String,
}

/// Returns the question at the end of `text`, if it asks for the password of `user`, who may already be `chosen` from a
/// list.
pub(crate) fn asked(text: &str, user: &str, agreed: Option<&str>, chosen: bool) -> Option<Asked> {
    let line = last_line(text);
    let found = |reply, is_sure| Some(Asked { reply, is_sure, line: line.to_owned() });
    if let Some(agreed) = agreed {
        // sudo-rs puts PAM's question after brackets of its own.
        let is_wrapped = line.contains("[sudo: ");
        if line.ends_with(agreed) && !is_wrapped {
            return found(Reply::Password, true);
        }
        if is_wrapped
            && line.contains(agreed)
            && line.contains("] ")
            && names_a_password(line)
            && ends_in_a_colon(line)
        {
            return found(Reply::Password, false);
        }
    }
    if !ends_in_a_colon(line) {
        return None;
    }
    // `[sudo] password for alice: `, in any language.
    if let Some(at) = line.rfind("[sudo] ")
        && has_word(&line[at..], user)
    {
        return found(Reply::Password, false);
    }
    // `[sudo: authenticate] Password: `: sudo-rs, which does not name the user.
    if let Some(at) = line.rfind("[sudo: ")
        && line[at..].split_once("] ").is_some_and(|(_, asked)| names_a_password(asked))
    {
        return found(Reply::Password, false);
    }
    if let Some(at) = line.rfind("doas (")
        && line[at + 6..].starts_with(&format!("{user}@"))
        && line.trim_end().ends_with(") password:")
    {
        return found(Reply::Password, false);
    }
    if chosen && names_a_password(line) {
        return found(Reply::Password, false);
    }
    let dialogue = &text[text.rfind(POLKIT)?..];
    if line.starts_with(WHICH) {
        let number = dialogue.lines().find_map(|line| {
            let (number, name) = line.trim().split_once(".  ")?;
            is_called(name, user).then(|| number.to_owned())
        })?;
        return found(Reply::Number(number), false);
    }
    // The last one, which may have been chosen.
    let who =
        dialogue.lines().filter_map(|line| line.trim().strip_prefix("Authenticating as: ")).next_back()?;
    if is_called(who, user) && names_a_password(line) { found(Reply::Password, false) } else { None }
}

/// Returns whether the text between an answer and the repeated question reports a wrong answer.
pub(crate) fn says_try_again(text: &str) -> bool {
    TRY_AGAIN.iter().any(|words| text.contains(words))
}

/// Returns whether polkit means this user: it writes `Alice Doe (alice)`, or `alice` without another name. The other
/// name may contain `,,,`.
fn is_called(who: &str, user: &str) -> bool {
    let who = who.trim();
    who == user || who.ends_with(&format!("({user})"))
}

fn has_word(text: &str, word: &str) -> bool {
    let belongs = |c: char| c.is_alphanumeric() || c == '_' || c == '-' || c == '.';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        // "alice's password", and languages without blanks between words.
        !before.ends_with(|c: char| belongs(c) && c.is_ascii())
            && !after.starts_with(|c: char| belongs(c) && c.is_ascii())
    })
}

/// The end of a conversation with one of these programs: lecture, polkit's words, the question, and the end of its
/// line.
#[allow(clippy::expect_used)] // a constant, and a test compiles it
static CONVERSATION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?s-u)(?:",
        // The lecture is recognised by its three rules, because sudo translates it.
        r"(?:(?:\A|\r?\n)(?:[^\r\n][^\n]*\n){1,3}\r?\n {4}#1\)[^\n]*\n {4}#2\)[^\n]*\n {4}#3\)[^\n]*\n(?:\r?\n[^\r\n\[][^\n]*\n)?\r?\n)?",
        r"(?:\[sudo\] |\[sudo: |\r?doas \()[^\n]{1,200}",
        r"|(?:\x1b\[[0-9;]*m)*==== AUTHENTICATING FOR .{1,3000}",
        r")[:\x9a\x96] ?(?:\r?\n)?\z"
    ))
    .expect("a constant pattern")
});

/// Returns where the conversation that ends in a question begins in the output.
pub(crate) fn conversation(printed: &[u8]) -> Option<usize> {
    CONVERSATION.find(printed).map(|found| found.start())
}

/// Returns where polkit's agent reports its end.
pub(crate) fn is_complete_at(printed: &[u8]) -> Option<usize> {
    #[allow(clippy::expect_used)] // a constant, and a test compiles it
    static COMPLETE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\A(?-u)(?:\x1b\[[0-9;]*m)*==== AUTHENTICATION COMPLETE ====\r?\n(?:\x1b\[[0-9;]*m)*")
            .expect("a constant pattern")
    });
    COMPLETE.find(printed).map(|found| found.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> Option<Reply> {
        asked(text, "alice", None, false).map(|asked| asked.reply)
    }

    /// sudo 1.9 in some of its languages, sudo-rs, opendoas 6.8 and polkit 122.
    #[test]
    fn questions_for_the_own_password_are_known_and_no_others() {
        for text in [
            "[sudo] password for alice: ",
            "before[sudo] password for alice: ",
            "[sudo] Passwort für alice: ",
            "[sudo] Mot de passe de alice : ",
            "[sudo] alice のパスワード: ",
            "[sudo] alice 的密码：",
            "[sudo: authenticate] Password: ",
            "[sudo: authenticate] Contraseña: ",
            "[sudo: authenticate] 密码： ",
            "doas (alice@nixos) password: ",
            "==== AUTHENTICATING FOR a.b ====\nWhy.\nAuthenticating as: Alice Doe (alice)\nPassword: ",
            "==== AUTHENTICATING FOR a.b ====\nWhy.\nAuthenticating as: alice\nPasswort: ",
        ] {
            assert_eq!(reply(text), Some(Reply::Password), "{text:?}");
        }
        for text in [
            "Password: ",
            "[sudo] password for bob: ",
            "[sudo] password for alice2: ",
            "[sudo] password for root: ",
            "[sudo: authenticate] Verification code: ",
            "[sudo] password for alice: x",
            "[sudo] password for alice: \n",
            "doas (bob@alice) password: ",
            "==== AUTHENTICATING FOR a.b ====\nWhy.\nAuthenticating as: root\nPassword: ",
            "Authenticating as: alice\nPassword: ",
        ] {
            assert_eq!(reply(text), None, "{text:?}");
        }
        let list = "==== AUTHENTICATING FOR a.b ====\nWhy.\nMultiple identities can be used for authentication:\n 1.  bob\n 2.  Alice,,, (alice)\nChoose identity to authenticate as (1-2): ";
        assert_eq!(reply(list), Some(Reply::Number("2".to_owned())));
        assert_eq!(reply(&list.replace("(alice)", "(carol)")), None);
        assert!(asked("Password: ", "alice", None, true).is_some());
    }

    #[test]
    fn an_agreed_question_is_known_in_whatever_it_is_wrapped() {
        let agreed = agreed_question("alice");
        let asked = |text: &str| asked(text, "alice", Some(&agreed), false).map(|asked| asked.is_sure);
        assert_eq!(asked(&agreed), Some(true));
        assert_eq!(asked("[sudo: [sudo] password for alice: ] Password: "), Some(false));
        assert_eq!(asked("Password: "), None);
    }

    #[test]
    fn the_conversation_is_found_with_the_lecture_in_any_language() {
        let lecture = "\r\nWir gehen davon aus, dass der Administrator Ihnen\r\ndie Regeln erklärt hat.\r\n\r\n    #1) A\r\n    #2) B\r\n    #3) C\r\n\r\n";
        let text = format!("before\r\n{lecture}[sudo] Passwort für alice: ");
        assert_eq!(conversation(text.as_bytes()), Some("before\r\n".len()));
        assert_eq!(conversation(b"before\r\n[sudo: authenticate] Password: "), Some(8));
        assert_eq!(conversation(b"before\r\nPassword: "), None);
    }
}
