//! Examines a console's output when the console has come to rest.
//!
//! The words alone prove nothing while more may follow: a greeting can contain `login: ` and `Password: `, and so can
//! the message of a failed login. A question is the last output before a silence. Lines of the kernel and of systemd do
//! not count.

use std::time::Duration;

use crate::stopped::Instant;

use crate::console::{Mark, Match, Pattern};
use crate::machine::Life;
use crate::machine::session::question::{last_line, without_notices};
use crate::{ErrorKind, Result};

/// The silence that follows a question, on a fast host.
pub(crate) const REST: Duration = Duration::from_millis(100);
/// How many times the console is examined during that silence.
const LOOKS: u32 = 4;
/// The minimum time between two examinations.
const LOOK: Duration = Duration::from_millis(20);

/// The output of a console since a mark.
#[derive(Debug)]
pub(crate) struct Said {
    mark: Mark,
    text: String,
    /// The time of the last change.
    since: Instant,
    told: Told,
    silences: usize,
}

/// How much of the current silence was reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Nothing,
    Pause,
    Rest,
}

/// An event on the console.
#[derive(Debug)]
pub(crate) enum News {
    /// The pattern at this index has matched.
    Came(usize, Match),
    /// A part of the silence that follows a question has passed.
    Pause,
    /// The whole of that silence has passed.
    Rest,
    /// The console was silent for this many periods of [`Life::quiet`].
    Silence(usize),
    /// The deadline has passed.
    Over,
}

impl Said {
    /// Starts from now on.
    pub(crate) fn from_now(life: &Life) -> Self {
        let (mark, since) = (life.console.mark(), Instant::now());
        Self { mark, text: String::new(), since, told: Told::Nothing, silences: 0 }
    }

    /// Returns the text, without lines of the kernel and of systemd.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the text after the last newline.
    pub(crate) fn last_line(&self) -> &str {
        last_line(&self.text)
    }

    /// Returns whether a line editor waits for input.
    pub(crate) fn is_at_an_editor(&self, life: &Life) -> bool {
        life.console.is_at_an_editor(self.mark)
    }

    /// Returns how long nothing was added.
    pub(crate) fn rest(&self) -> Duration {
        self.since.elapsed()
    }

    /// Resets the count of silences, because something was typed.
    pub(crate) fn count_anew(&mut self) {
        (self.since, self.silences) = (Instant::now(), 0);
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// Those of [`crate::console::Console::expect_any`] except its timeout.
    pub(crate) async fn next(
        &mut self,
        life: &Life,
        patterns: &[Pattern],
        deadline: Instant,
    ) -> Result<News> {
        let rest = life.limit(REST);
        let look = (rest / LOOKS).max(LOOK);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(News::Over);
            }
            match life.console.expect_any(patterns, look.min(left)).await {
                Ok((pattern, found)) => return Ok(News::Came(pattern, found)),
                Err(error) if error.kind() != ErrorKind::Timeout => return Err(error),
                Err(_) => {}
            }
            let text = without_notices(life.console.text_since(self.mark).text.as_bytes());
            if text != self.text {
                (self.text, self.since, self.told, self.silences) = (text, Instant::now(), Told::Nothing, 0);
                continue;
            }
            let still = self.since.elapsed();
            if self.told < Told::Pause && still >= look {
                self.told = Told::Pause;
                return Ok(News::Pause);
            }
            if self.told < Told::Rest && still >= rest {
                self.told = Told::Rest;
                return Ok(News::Rest);
            }
            if still >= life.quiet() * (u32::try_from(self.silences).unwrap_or(u32::MAX).saturating_add(1)) {
                self.silences += 1;
                return Ok(News::Silence(self.silences));
            }
        }
    }
}
