//! Recognises the questions of `login`, `su` and `sudo` in any language.
//!
//! A question is the last text on a console: it ends in a colon, and no newline follows. The host's name before the
//! colon marks a question for a name; the word for a password marks a question for a password.

use std::sync::LazyLock;

use regex::bytes::Regex;

use crate::machine::session::noise::without_records;
use crate::text::strip_escapes;

/// The word for a password as PAM uses it (Linux-PAM 1.5.2, po/), in lower case.
const PASSWORD: &[&str] = &[
    "password",
    "passphrase",
    "passwort",
    "kennwort",
    "mot de passe",
    "contraseña",
    "contrasenya",
    "contrasigno",
    "palavra-passe",
    "senha",
    "wachtwoord",
    "adgangskode",
    "passord",
    "lösenord",
    "salasana",
    "heslo",
    "hasło",
    "jelszó",
    "parol",
    "parool",
    "парол",
    "лозинка",
    "lozinka",
    "pasvorto",
    "pasahitza",
    "focal faire",
    "sandi",
    "şifrə",
    "ססמה",
    "كلمة السر",
    "パスワード",
    "암호",
    "密码",
    "密碼",
    "口令",
    "პაროლი",
    "mật khẩu",
    "iphasiwedi",
    "শব্দ",
    "शब्द",
    "પાસવર્ડ",
    "ಗುಪ್ತಪದ",
    "ਪਾਸਵਰਡ",
    "ପ୍ରବେଶ",
    "රහස්පදය",
    "கடவுச்சொல்",
    "సంకేతపదము",
    "അടയാളവാക്ക്",
    "ពាក្យសម្ងាត់",
    "গুপ্তশব্দ",
    "পাসওয়ার্ড",
];

/// A status line of systemd about a unit. systemd prints it on the console at any time.
#[allow(clippy::expect_used)] // a constant, and a test compiles it
static STATUS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?-u)\r?(?:\[(?:  OK  |FAILED|DEPEND| WARN | TIME | SKIP | INFO |SKIP  |INFO  )\]| {9}(?:Starting|Stopping|Mounting|Unmounting)) [^\n]*\n")
        .expect("a constant pattern")
});

/// The subject of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// A name, as a login prompt asks.
    Name,
    /// A password, recognised by the word.
    Password,
    /// Something else that ends in a colon.
    Other,
}

/// Returns the console's text without escape sequences, and without lines of the kernel and of systemd.
pub(crate) fn without_notices(text: &[u8]) -> String {
    let text = STATUS.replace_all(&without_records(&strip_escapes(text)), b"".as_slice()).into_owned();
    String::from_utf8_lossy(&text).replace('\r', "")
}

/// Returns the text after the last newline.
pub(crate) fn last_line(text: &str) -> &str {
    text.rsplit('\n').next().unwrap_or_default()
}

/// Returns the host's name in the prompt of its getty.
pub(crate) fn host_of(prompt: &str) -> &str {
    let prompt = prompt.trim();
    prompt.strip_suffix("login:").map(str::trim).unwrap_or_default()
}

/// Returns whether a line ends as questions do.
pub(crate) fn ends_in_a_colon(line: &str) -> bool {
    let line = line.strip_suffix(' ').unwrap_or(line);
    line.strip_suffix([':', '：', '៖']).is_some_and(|rest| !rest.trim().is_empty())
}

/// Returns whether a line has the word for a password.
pub(crate) fn names_a_password(line: &str) -> bool {
    let line = line.to_lowercase();
    PASSWORD.iter().any(|word| line.contains(word))
}

/// Returns whether an output ends with a question for a secret. A slow program may print a status that looks similar:
/// "Checking password:".
pub(crate) fn asks_for_a_secret(words: &str) -> bool {
    let line = words.to_lowercase();
    let first = line.split_whitespace().next().unwrap_or_default();
    let is_secret = names_a_password(&line)
        || line.contains("verification code")
        || line.split(|c: char| !c.is_alphanumeric()).any(|word| matches!(word, "pin" | "passcode" | "otp"));
    ends_in_a_colon(words) && is_secret && !first.ends_with("ing")
}

/// How surely the last text of a user's start-up files is a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    Surely,
    /// It may also be a slow program's status, or an unusual prompt of a shell.
    Perhaps,
}

/// Choices, such as `[Y/n]`, `(yes/no)` and `[1-4]`.
#[allow(clippy::expect_used)] // a constant, and a test compiles it
static CHOICE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"[\[(](?:\pL{1,5}(?:/\pL{1,5})+|\d+ ?(?:-|–|\.\.) ?\d+)[\])]").expect("a constant pattern")
});

/// Returns whether the last line of a user's start-up files asks something. `user` has logged in. A prompt tells who and
/// where one is.
pub(crate) fn asks_at_start(line: &str, user: &str) -> Option<Asks> {
    let line = line.trim();
    let first = line.split_whitespace().next().unwrap_or_default().to_lowercase();
    let is_call = matches!(first.as_str(), "press" | "hit" | "choose" | "select");
    // A branch in a prompt looks like a choice: `(fix/bug)$`.
    let is_choice = CHOICE.is_match(line.as_bytes()) && !line.ends_with(['$', '#', '%']);
    if line.contains(['?', '？']) || is_choice || is_call || asks_for_a_secret(line) {
        return Some(Asks::Surely);
    }
    let is_prompt = line.contains(['~', '@', '/']) || (!user.is_empty() && line.contains(user));
    (ends_in_a_colon(line) && !first.ends_with("ing") && !is_prompt).then_some(Asks::Perhaps)
}

/// Returns whether the words at the end of an output are a question. `reads` tells whether a program reads the terminal, if that
/// is known. If not, the words must ask for a secret and have stood for a long time.
pub(crate) fn is_question(words: &str, reads: Option<bool>, stand_long: bool) -> bool {
    words.ends_with([':', '：', '៖', '?', ']', ')'])
        && reads.unwrap_or_else(|| stand_long && asks_for_a_secret(words))
}

/// Returns what the last line asks on the console of `host`. The host's name may be unknown (empty) or be any word.
pub(crate) fn question(line: &str, host: &str) -> Option<Question> {
    if !ends_in_a_colon(line) {
        return None;
    }
    // `HOST login: `, and `Имя пользователя HOST: ` of shadow's login. The host may be called "password".
    let rest = without_word(line, host);
    if names_a_password(rest.as_deref().unwrap_or(line)) {
        return Some(Question::Password);
    }
    let words = rest.as_deref().unwrap_or(line).trim_end_matches([' ', ':', '：', '៖']).to_lowercase();
    let is_login = words == "login" || words.ends_with(" login");
    Some(if is_login || rest.is_some() { Question::Name } else { Question::Other })
}

/// Returns the line without the first separate occurrence of `word`.
fn without_word(line: &str, word: &str) -> Option<String> {
    if word.is_empty() {
        return None;
    }
    let belongs = |c: char| c.is_alphanumeric() || c == '-' || c == '_' || c == '.';
    line.match_indices(word).find_map(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let alone =
            !before.ends_with(belongs) && (!after.starts_with(belongs) || after.starts_with("-tunnus"));
        alone.then(|| format!("{before}{after}"))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// shadow's login and PAM, in some of their languages, on the host `nixos`.
    #[test]
    fn questions_are_known_in_whatever_language() {
        for line in [
            "nixos login: ",
            "nixos Login: ",
            "nixos connexion :",
            "Login nixos: ",
            "nixos 用户名：",
            "Имя пользователя nixos: ",
            "Přihlašovací jméno na nixos: ",
            "nixos-tunnus: ",
            "Запис nixos: ",
            "login: ",
            "nixos.example.org login: ",
            "nixos Anmeldename: ",
        ] {
            assert_eq!(question(line, "nixos"), Some(Question::Name), "{line:?}");
        }
        for line in [
            "Password: ",
            "Passwort: ",
            "Mot de passe : ",
            "パスワード:",
            "密码： ",
            "Sandi:",
            "Parool: ",
            "(alice) Password:",
        ] {
            assert_eq!(question(line, "nixos"), Some(Question::Password), "{line:?}");
        }
        for line in ["Verification code: ", "Last login:", "PIN: "] {
            assert_eq!(
                question(line, "host"),
                Some(if line == "Last login:" { Question::Name } else { Question::Other })
            );
        }
        for line in
            ["nixos login: alice", "Password: test", "", ": ", "[alice@nixos:~]$ ", "Last login: today"]
        {
            assert_eq!(question(line, "nixos"), None, "{line:?}");
        }
    }

    #[test]
    fn what_start_up_files_ask_is_told_from_a_prompt_and_from_a_status() {
        for (line, asks) in [
            ("Continue? ", Some(Asks::Surely)),
            ("[oh-my-zsh] Would you like to update? [Y/n] ", Some(Asks::Surely)),
            ("Fortfahren (j/n) ", Some(Asks::Surely)),
            ("Enter passphrase for /home/alice/.ssh/id_ed25519: ", Some(Asks::Surely)),
            ("Press any key to continue... ", Some(Asks::Surely)),
            ("Which one [1-4] ", Some(Asks::Surely)),
            ("#? ", Some(Asks::Surely)),
            ("Project: ", Some(Asks::Perhaps)),
            ("Loading modules: ", None),
            ("alice@nixos: ", None),
            ("alice: ", None),
            ("[alice@nixos:~]$ ", None),
            ("(base) ", None),
            ("Loading: 47%", None),
            ("", None),
        ] {
            assert_eq!(asks_at_start(line, "alice"), asks, "{line:?}");
        }
    }

    #[test]
    fn words_are_a_question_where_something_reads_and_only_elsewhere_by_what_they_say() {
        let (secret, other) = ("New root password:", "Project:");
        for (words, reads, stand_long, asks) in [
            (secret, Some(false), true, false),
            (secret, Some(true), false, true),
            (other, Some(true), false, true),
            ("working on it", Some(true), true, false),
            (secret, None, false, false),
            (secret, None, true, true),
            (other, None, true, false),
            ("Checking password:", None, true, false),
        ] {
            assert_eq!(is_question(words, reads, stand_long), asks, "{words:?}, {reads:?}, {stand_long}");
        }
    }

    #[test]
    fn lines_of_the_kernel_and_of_systemd_are_no_part_of_a_question() {
        let said = "Password: [  OK  ] Started \x1b[0;1;39mNginx\x1b[0m.\r\n[   12.345678] usb\r\n         Starting Foo...\r\n";
        assert_eq!(without_notices(said.as_bytes()), "Password: ");
        assert_eq!(without_notices(b"Pass[   12.345678] usb\r\nword: "), "Password: ");
    }

    proptest! {
        /// For any host name, the login prompt is a question for a name and not for a password.
        #[test]
        fn the_prompt_of_any_host_asks_for_a_name(
            host in "([a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?|client|host|test|password|login|passwort-server|last|heslo-t)"
        ) {
            let prompt = format!("{host} login: ");
            prop_assert_eq!(host_of(&prompt), host.as_str());
            prop_assert_eq!(question(&prompt, &host), Some(Question::Name));
            prop_assert_eq!(question(&format!("{host} Anmeldename: "), &host), Some(Question::Name));
            prop_assert_eq!(question("Password: ", &host), Some(Question::Password));
            prop_assert_eq!(question("Passwort: ", &host), Some(Question::Password));
        }
    }
}
