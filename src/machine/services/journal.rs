//! The journal of a machine.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use nixvm_test_macros::tracked;
use tokio::sync::Notify;

use crate::console::Pattern;
use crate::machine::command_text::quoted;
use crate::machine::commands::invocation::Stream;
use crate::machine::limit::StandsStill;
use crate::machine::{Machine, User};
use crate::mutex::lock;
use crate::{Error, ErrorKind, Result};

/// Maximum number of bytes of the journal that are kept for matching and for messages.
const WINDOW: usize = 1 << 20;

/// # Journal
impl User {
    /// Returns what a unit has logged since the machine was booted, one line per message. For root it is a unit of the
    /// system, otherwise one of the user.
    ///
    ///
    /// # Errors
    /// [`ErrorKind::Incomplete`] when journald has dropped messages of the unit because of its rate limit
    /// (`RateLimitBurst=` of journald.conf(5)); those of [`User::succeed`].
    #[tracked]
    pub async fn journal(&self, unit: &str) -> Result<String> {
        let output = self.succeed(format!("{}\n{SUPPRESSED}", self.journalctl(unit, "-n all"))).await?;
        let bytes = output.bytes();
        let end = memchr::memmem::rfind(bytes, MARK).unwrap_or(bytes.len());
        let (said, suppressed) = bytes.split_at(end);
        match suppressed_of(unit, &String::from_utf8_lossy(suppressed)) {
            None => Ok(String::from_utf8_lossy(&crate::text::strip_escapes(said)).into_owned()),
            Some(line) => Err(left_out(&self.life().name, unit, line)),
        }
    }

    /// Waits until a unit logs a message that matches, and returns the message's line. Messages since the machine's
    /// boot count. A new message is seen as soon as it is logged.
    ///
    /// ```no_run
    /// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
    /// use nixvm_test::console::Pattern;
    /// machine.wait_for_log("sshd", Pattern::regex(r"Server listening on \S+ port \d+")?).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after the limit ([`User::within`]), with the end of the unit's journal, and
    /// those of [`User::execute`].
    #[tracked]
    pub async fn wait_for_log(&self, unit: &str, pattern: impl Into<Pattern>) -> Result<String> {
        let pattern = pattern.into();
        let life = self.life();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let found = Arc::new(Notify::new());
        let (sink, bell, wanted) = (Arc::clone(&seen), Arc::clone(&found), pattern.clone());
        let follow = self
            .command(self.journalctl(unit, "-n all -f"))
            .within(self.limit.unwrap_or(crate::machine::WAIT))
            .watch(move |stream, bytes| {
                let mut seen = lock(&sink);
                if stream == Stream::Stdout && seen.take_in(bytes, &wanted) {
                    bell.notify_one();
                }
            });
        let ended = tokio::select! {
            biased;
            () = found.notified() => None,
            ended = follow.output() => Some(ended),
        };
        let (line, text) = {
            let mut seen = lock(&seen);
            (seen.found.take(), std::mem::take(&mut seen.text))
        };
        match (line, ended) {
            (Some(line), _) => Ok(line),
            (None, Some(Err(error))) if error.kind() != ErrorKind::CommandTimeout => Err(error),
            (None, _) => {
                let what = format!("{}: {unit} did not log {pattern}", life.name);
                let error = Error::new(ErrorKind::Timeout, what)
                    .section("what it logged last", crate::console::shown(&text, 20));
                let error = pattern.hint(error);
                let patience = LAST_QUESTION.min(self.limit.unwrap_or(crate::machine::WAIT));
                let asked = async { self.within(patience).execute(SUPPRESSED).await };
                let Ok(asked) = life.held_to(Duration::ZERO, asked).await else {
                    return Err(error.likely_cause(StandsStill::CAUSE));
                };
                let suppressed = asked.map(|output| output.text().to_owned());
                Err(match suppressed.ok().as_deref().and_then(|said| suppressed_of(unit, said)) {
                    Some(line) => error.because_incomplete(&format!("journald says: {line}")),
                    None => error,
                })
            }
        }
    }

    fn journalctl(&self, unit: &str, how: &str) -> String {
        let which = if self.name == "root" { "-u" } else { "--user-unit" };
        format!("journalctl --no-pager -q -b -o cat {how} {which} {}", quoted(unit))
    }
}

/// The limit for journald's messages about itself, on a fast host.
const LAST_QUESTION: Duration = Duration::from_secs(10);
/// Separates a unit's journal from journald's messages about itself.
const MARK: &[u8] = b"\0nixvm-suppressed\0\n";

/// journald's message about dropped messages: `Suppressed 12 messages from nginx.service` (SD_MESSAGE_JOURNAL_DROPPED
/// of sd-messages(3)).
const SUPPRESSED: &str = "printf '\\0nixvm-suppressed\\0\\n'
journalctl --no-pager -q -b -o cat -n all MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e || :";

/// Returns the line about dropped messages of `unit`, if there is one.
fn suppressed_of<'a>(unit: &str, said: &'a str) -> Option<&'a str> {
    let names_it = |name: &str| name == unit || name.strip_prefix(unit) == Some(".service");
    said.lines()
        .filter(|line| line.starts_with("Suppressed "))
        .find(|line| line.rsplit_once(" messages from ").is_some_and(|(_, name)| names_it(name.trim())))
}

fn left_out(machine: &str, unit: &str, line: &str) -> Error {
    let line = crate::console::shown(line.as_bytes(), 1);
    let what = format!("{machine}: the journal of {unit} is incomplete: journald says: {}", line.trim());
    Error::new(ErrorKind::Incomplete, what).next_step(
        "raise the limit of journald: `services.journald.rateLimitBurst`, or `LogRateLimitBurst=` of the unit",
    )
}

/// Prints the part of a machine's journal that is kept when its scenario has failed. It prints one more line than is
/// kept, which shows whether there is more.
const WHOLE_JOURNAL: &str = "journalctl -b --no-pager -q -o short-iso-precise | tail -n 2001";

/// Maximum number of journal lines that are kept.
const WHOLE: usize = 2000;

/// # Journal
///
/// As root. See the methods of [`User`].
impl Machine {
    /// Returns the end of the journal since the boot; `None` if the control channel is not open or does not answer
    /// soon.
    pub(crate) async fn whole_journal(&self) -> Option<String> {
        let life = self.life();
        life.ask(WHOLE_JOURNAL).await.ok().flatten().map(|journal| life.console.masked(the_end_of(journal)))
    }

    /// Returns what a unit has logged since the machine was booted. See [`User::journal`].
    ///
    /// # Errors
    /// Those of [`User::journal`].
    #[tracked]
    pub async fn journal(&self, unit: &str) -> Result<String> {
        self.root().journal(unit).await
    }

    /// Waits until a unit logs something that matches. See [`User::wait_for_log`].
    ///
    /// # Errors
    /// Those of [`User::wait_for_log`].
    #[tracked]
    pub async fn wait_for_log(&self, unit: &str, pattern: impl Into<Pattern>) -> Result<String> {
        self.root().wait_for_log(unit, pattern).await
    }
}

/// Returns at most [`WHOLE`] lines, and a line that says so if there are more.
fn the_end_of(journal: String) -> String {
    match journal.split_once('\n') {
        Some((_, rest)) if journal.lines().count() > WHOLE => {
            format!("(the last {WHOLE} lines; earlier ones are left out)\n{rest}")
        }
        _ => journal,
    }
}

/// The log so far.
#[derive(Default)]
struct Seen {
    text: Vec<u8>,
    /// The complete lines up to here are checked, and none matches.
    looked_at: usize,
    found: Option<String>,
}

impl Seen {
    /// Takes in a piece. Returns `true` when a line matches.
    fn take_in(&mut self, bytes: &[u8], pattern: &Pattern) -> bool {
        if self.found.is_some() {
            return true;
        }
        self.text.extend_from_slice(bytes);
        while let Some(end) = memchr::memchr(b'\n', &self.text[self.looked_at..]) {
            let line = &self.text[self.looked_at..self.looked_at + end];
            self.looked_at += end + 1;
            if pattern.matches(&String::from_utf8_lossy(line)) {
                self.found = Some(String::from_utf8_lossy(line).into_owned());
                return true;
            }
        }
        let excess = self.looked_at.saturating_sub(WINDOW);
        self.text.drain(..excess);
        self.looked_at -= excess;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_journald_left_out_of_a_unit_is_known_by_its_own_words() {
        let said =
            "Suppressed 12 messages from nginx.service\nSuppressed 3 messages from user@1000.service\n";
        for (unit, found) in [
            ("nginx", true),
            ("nginx.service", true),
            ("user@1000", true),
            ("ngin", false),
            ("nginx.socket", false),
            ("x", false),
        ] {
            assert_eq!(suppressed_of(unit, said).is_some(), found, "{unit}");
        }
        assert!(
            suppressed_of("nginx", "a line that tells of messages from nginx.service that came").is_none()
        );
    }

    #[test]
    fn a_journal_that_is_cut_says_so() {
        let whole: String = (0..WHOLE).map(|number| format!("{number}\n")).collect();
        assert_eq!(the_end_of(whole.clone()), whole);
        let cut = the_end_of(format!("before\n{whole}"));
        assert_eq!(cut, format!("(the last 2000 lines; earlier ones are left out)\n{whole}"));
        assert_eq!(the_end_of(String::new()), "");
    }
}
