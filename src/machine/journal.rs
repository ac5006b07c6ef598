//! The journal of a machine.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::invocation::Stream;
use super::service::quoted;
use super::{Machine, User};
use crate::console::Pattern;
use crate::mutex::lock;
use crate::{Error, ErrorKind, Result};

/// So much of the journal is kept to match on, and to show.
const WINDOW: usize = 1 << 20;

impl User {
    /// What a unit has logged since the machine was booted, one line a message: of the system's units for
    /// root, of the user's own else.
    ///
    /// # Errors
    /// Those of [`User::succeed`].
    pub async fn journal(&self, unit: &str) -> Result<String> {
        let output = self.succeed(self.journalctl(unit, "-n all")).await?;
        Ok(output.text().to_owned())
    }

    /// Waits until a unit logs something that matches; what it has logged since the machine was booted
    /// counts. Returns the message's line. It is seen as it is logged.
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
    pub async fn wait_for_log(&self, unit: &str, pattern: impl Into<Pattern>) -> Result<String> {
        let pattern = pattern.into();
        let life = self.life();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let found = Arc::new(Notify::new());
        let (sink, bell, wanted) = (Arc::clone(&seen), Arc::clone(&found), pattern.clone());
        let follow = self
            .command(&self.journalctl(unit, "-n all -f"))
            .within(self.limit.unwrap_or(super::WAIT))
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
        let seen = lock(&seen);
        match (&seen.found, ended) {
            (Some(line), _) => Ok(line.clone()),
            (None, Some(Err(error))) if error.kind() != ErrorKind::CommandTimeout => Err(error),
            (None, _) => {
                let what = format!("{}: {unit} did not log {pattern}", life.name);
                Err(Error::new(ErrorKind::Timeout, what)
                    .section("what it logged last", crate::console::shown(&seen.text, 20)))
            }
        }
    }

    fn journalctl(&self, unit: &str, how: &str) -> String {
        let which = if self.name == "root" { "-u" } else { "--user-unit" };
        format!("journalctl --no-pager -q -b -o cat {how} {which} {}", quoted(unit))
    }
}

/// All of a machine's journal that is kept when its scenario has failed: the end of it.
const WHOLE_JOURNAL: &str = "journalctl -b --no-pager -q -o short-iso-precise | tail -n 2000";

/// As root. See the methods of [`User`].
impl Machine {
    /// The end of the journal since the boot; `None` where the control channel is not open, or nothing comes over it
    /// soon.
    pub(crate) async fn whole_journal(&self) -> Option<String> {
        let life = self.life();
        life.ask(WHOLE_JOURNAL).await.ok().flatten().map(|journal| life.console.masked(journal))
    }

    /// What a unit has logged since the machine was booted. See [`User::journal`].
    ///
    /// # Errors
    /// Those of [`User::journal`].
    pub async fn journal(&self, unit: &str) -> Result<String> {
        self.root().journal(unit).await
    }

    /// Waits until a unit logs something that matches. See [`User::wait_for_log`].
    ///
    /// # Errors
    /// Those of [`User::wait_for_log`].
    pub async fn wait_for_log(&self, unit: &str, pattern: impl Into<Pattern>) -> Result<String> {
        self.root().wait_for_log(unit, pattern).await
    }
}

/// What has been logged so far.
#[derive(Default)]
struct Seen {
    text: Vec<u8>,
    /// Up to here there are whole lines, and none matches.
    looked_at: usize,
    found: Option<String>,
}

impl Seen {
    /// Takes in a piece; `true` when a line matches.
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
