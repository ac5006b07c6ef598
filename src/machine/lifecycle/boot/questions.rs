//! The questions of a booting console before a login is possible: secrets that open disks, and unknown questions.
//!
//! A question is the last text on its line, and no newline follows. The kernel's lines do not count. Secrets are asked
//! for by NixOS's stage 1 (`Passphrase for /dev/vda2: `), by systemd (`Please enter passphrase for disk root: (press
//! TAB for no echo) `), by cryptsetup, ZFS and bcachefs (`Enter passphrase for …: `), and in similar words for PINs and
//! keys.

use std::sync::LazyLock;

use regex::Regex;

use crate::console::{Console, Mark};
use crate::machine::session::noise::without_records;
use crate::machine::session::phases::has_a_beginning;
use crate::machine::session::shell_line::Secret;
use crate::{Error, ErrorKind, Result, secrets};

#[allow(clippy::expect_used)] // constants, and a test compiles them
static SECRET: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)(?:pass ?phrase|password|\bPIN\b|recovery key|\bkey (?:for|of)\b|\bsalt for\b).*[:?]\s*(?:\(press TAB for no echo\)\s*)?\z",
    )
    .expect("a constant pattern")
});
/// What asks for a secret that opens a disk, and is nothing else. Other lines with such words may be what a service prints
/// before a secret that it has made: `Generated admin password: `.
#[allow(clippy::expect_used)]
static DISK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)(?:\A(?:enter )?passphrase for /dev/\S+\s*\z|please enter passphrase for disk .*:\s*(?:\(press TAB for no echo\)\s*)?\z)",
    )
    .expect("a constant pattern")
});
#[allow(clippy::expect_used)]
static QUESTION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)(?:[:?>\]]\s*\z|\b(?:press|hit|type)\b.*\b(?:key|enter|return)\b|\((?:y/n|yes/no)\)\s*\z)",
    )
    .expect("a constant pattern")
});
/// A complete line that waits for a key. Other complete lines are not questions.
#[allow(clippy::expect_used)]
static KEY: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\b(?:press|hit)\b.*\b(?:key|enter|return)\b").expect("a constant pattern")
});

/// The questions of a boot. Each is answered once.
pub(super) struct Questions<'a> {
    console: &'a Console,
    passphrase: Option<&'a Secret>,
    /// Only text after this mark counts.
    since: Mark,
    /// The end of the text that was examined.
    looked: Option<Mark>,
    /// The last line may ask for a secret, or is about one.
    in_doubt: bool,
    answered: Vec<String>,
}

impl<'a> Questions<'a> {
    pub(super) fn of(console: &'a Console, passphrase: Option<&'a Secret>, since: Option<Mark>) -> Self {
        let since = since.unwrap_or(Mark::BEGINNING);
        Self { console, passphrase, since, looked: None, in_doubt: false, answered: Vec::new() }
    }

    /// Returns the console's output since the last answer.
    pub(super) fn said(&self) -> String {
        self.console.text_since(self.since).text
    }

    /// Whether the last line may ask for a secret, which only a guest at rest does.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Answers a question for a secret, if there is one, and returns whether there was. The caller makes sure that the
    /// console is quiet, and with `is_sure` that the guest waits.
    pub(super) async fn look(&mut self, is_sure: bool) -> Result<bool> {
        let end = self.console.mark();
        if self.looked == Some(end) {
            return Ok(false);
        }
        let said = self.said();
        if has_a_beginning(&said) {
            // What was answered before is asked again at each boot.
            self.answered.clear();
        }
        let question = secret(&said);
        self.in_doubt = !is_sure && question.as_ref().is_some_and(|question| !DISK.is_match(question));
        if self.in_doubt {
            return Ok(false);
        }
        self.looked = Some(end);
        let Some(question) = question else { return Ok(false) };
        let Some(passphrase) = self.passphrase else { return Err(not_given(&question)) };
        if self.answered.contains(&question) {
            return Err(refused(&question));
        }
        self.since = end;
        self.answered.push(question);
        self.console.send_secret(passphrase.reveal()).await?;
        Ok(true)
    }
}

/// Returns the last line of a text without the kernel's lines, if no newline follows it.
fn unfinished(text: &str) -> Option<String> {
    let text = without_records(text.as_bytes());
    let line = text.rsplit(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line).trim_start().to_owned();
    (!line.trim().is_empty()).then_some(line)
}

/// Returns the question for a secret at the end of a booting console's output.
fn secret(text: &str) -> Option<String> {
    unfinished(text).filter(|line| SECRET.is_match(line))
}

/// Returns the error for an unknown question at the end of a booting console's output. The caller makes sure that the
/// guest prints nothing more.
pub(super) fn unknown(text: &str) -> Option<Error> {
    let line = unfinished(text).filter(|line| QUESTION.is_match(line));
    let wants_a_key = || {
        let text = String::from_utf8_lossy(&without_records(text.as_bytes())).into_owned();
        text.lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .filter(|line| KEY.is_match(line))
            .map(str::to_owned)
    };
    let question = line.or_else(wants_a_key)?;
    let what = format!("the boot asks a question that nixvm-test does not know: {}", shown(&question));
    Some(
        Error::new(ErrorKind::BootQuestion, what)
            .likely_cause(
                "a program of the boot asks a person; nothing was typed, because any key may be an answer",
            )
            .next_step("change the configuration so that the machine boots without a person"),
    )
}

fn not_given(question: &str) -> Error {
    let what = format!("the boot asks for a secret, and the scenario has none: {}", shown(question));
    Error::new(ErrorKind::BootQuestion, what).likely_cause("a disk of this machine is encrypted").next_step(
        "give the passphrase: `#[scenario(passphrase = \"…\")]`; by hand: `nixvm-test shell --passphrase …`",
    )
}

fn refused(question: &str) -> Error {
    let what = format!("the boot refused the passphrase and asks again: {}", shown(question));
    Error::new(ErrorKind::BootQuestion, what)
        .likely_cause(
            "the disk was encrypted with another passphrase, or this is a question for another secret",
        )
        .next_step(
            "compare `#[scenario(passphrase = \"…\")]`, or `--passphrase` of `shell` and `repl`, with the passphrase of the disk",
        )
}

/// Returns the question masked, on one line without control characters.
fn shown(question: &str) -> String {
    secrets::line(question.trim()).chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_asked_for_in_the_words_of_their_programs() {
        for question in [
            "Passphrase for /dev/vda2: ",
            "Passphrase for /dev/disk/by-uuid/0b1a: ",
            "\u{1f510} Please enter passphrase for disk cryptroot (root): (press TAB for no echo) ",
            "Please enter passphrase for disk data:",
            "Please enter LUKS2 token PIN: (press TAB for no echo) ",
            "Please enter TPM2 PIN: ",
            "Enter passphrase for /dev/vdb: ",
            "Enter passphrase for 'tank/home': ",
            "enter passphrase for root: ",
            "Enter key for tank: ",
            "Enter two-factor passphrase: ",
            "PIN for GPG Card associated with device /dev/vda2: ",
            "FIDO2 salt for /dev/vda2: ",
        ] {
            assert_eq!(
                secret(&format!("running udev...\n{question}")).as_deref(),
                Some(question),
                "{question}"
            );
            let torn = format!("running udev...\n{question}[    3.123456] random: crng init done\n");
            assert_eq!(secret(&torn).as_deref(), Some(question), "{torn}");
        }
        for no_question in [
            "Passphrase for /dev/vda2: \n",
            "Verifying passphrase for /dev/vda2...",
            "Passphrase for /dev/vda2: ****",
            "Password Entry required for 'Please enter passphrase for disk root:' (PID 71).\n",
            "[***   ] A start job is running for Cryptography Setup for root (12s / no limit)",
            "waiting for device /dev/disk/by-label/key to appear...",
            "nixos login: ",
            "",
        ] {
            assert_eq!(secret(no_question), None, "{no_question}");
        }
    }

    #[test]
    fn only_the_forms_of_disks_are_questions_at_once() {
        for (line, is_disk) in [
            ("Passphrase for /dev/disk/by-uuid/0b1a: ", true),
            ("Enter passphrase for /dev/vdb: ", true),
            ("\u{1f510} Please enter passphrase for disk cryptroot (root): (press TAB for no echo) ", true),
            ("Generated admin password: ", false),
            ("Generating key for vault: ", false),
            ("Generated passphrase for /dev/vdb: ", false),
            ("Please enter TPM2 PIN: ", false),
        ] {
            assert_eq!(secret(line).as_deref(), Some(line));
            assert_eq!(DISK.is_match(line), is_disk, "{line}");
        }
    }

    #[test]
    fn a_question_that_is_not_known_is_quoted_and_a_line_that_is_ended_is_none() {
        for question in [
            "Continue? [y/N] ",
            "Proceed (yes/no)",
            "Choice: ",
            "\nPress any key to continue...\n",
            "Abort? ",
        ] {
            let error = unknown(&format!("booting\n{question}")).unwrap();
            assert_eq!(error.kind(), ErrorKind::BootQuestion);
            assert!(error.summary().ends_with(question.trim()), "{error}");
        }
        for no_question in [
            "[    1.000000] clocksource: x\n",
            "udev: done:\n",
            "waiting for device /dev/vdb to appear......",
            "[ ***  ] A start job is running for /data (3s / 1min 30s)",
            "[  OK  ] Reached target Multi-User System.\n",
        ] {
            assert!(unknown(no_question).is_none(), "{no_question}");
        }
    }
}
