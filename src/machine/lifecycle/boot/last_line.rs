//! Tells a login prompt from words like it: a prompt is the last text on its line, and a silence follows it.

use std::time::Duration;

use crate::console::{Console, Mark};
use crate::machine::session::question::last_line;
use crate::machine::session::waiting::{Shown, has_words_behind_a_prompt, host_in, last_lines_since, shown};
use crate::stopped::Instant;

/// How often the console is examined meanwhile.
pub(super) const LOOK: Duration = Duration::from_millis(20);
/// A console that prints without a pause for this long, on a fast host, after the prompt of a getty is not waited for.
const NEVER_AT_REST: Duration = Duration::from_secs(10);

/// The silence, on a fast host, behind a line that has more words than a getty's prompt: a greeting without an end of line
/// may come before the prompt.
const MORE_WORDS: Duration = Duration::from_secs(5);

/// What the console shows after the words of a login prompt have come. Lines of the kernel and of systemd do not count.
#[derive(Debug)]
pub(super) struct LastLine {
    text: String,
    since: Instant,
    begun: Instant,
}

/// What the words of a login prompt were.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// More may follow them.
    Unknown,
    /// A login prompt, or the message of an automatic login, since this time.
    Prompt(Instant),
    /// A part of a greeting, or of something else. They may be a prompt that another message has torn.
    Other { torn: bool },
}

impl LastLine {
    pub(super) fn new() -> Self {
        Self { text: String::new(), since: Instant::now(), begun: Instant::now() }
    }

    /// Examines the console's output since `mark`. `rest` is the silence that follows a prompt, and `factor` how much slower than a fast host
    /// this one is.
    pub(super) fn look(&mut self, console: &Console, mark: Mark, rest: Duration, factor: f64) -> Words {
        let text = last_lines_since(console, mark);
        if text != self.text {
            (self.text, self.since) = (text, Instant::now());
        }
        let never = self.begun.elapsed() >= NEVER_AT_REST.mul_f64(factor) && !host_in(&self.text).is_empty();
        if self.since.elapsed() < rest && !never {
            return Words::Unknown;
        }
        let line = last_line(&self.text);
        let has_more_words = line.trim().trim_end_matches("login:").trim().contains(' ');
        match shown(&self.text) {
            Shown::Prompt if has_more_words && self.since.elapsed() < MORE_WORDS.mul_f64(factor) => {
                Words::Unknown
            }
            Shown::Prompt | Shown::AskedAgain | Shown::Automatic => Words::Prompt(self.since),
            _ if never => Words::Prompt(self.since),
            _ => Words::Other { torn: has_words_behind_a_prompt(&self.text) },
        }
    }
}
