//! A console whose machine is a record. There is no other end; the recorded output is passed in again.

use super::engine::Pushed;
use super::line::Console;

impl Console {
    /// Returns the length of the transcript in bytes, including what is not flushed yet.
    pub(crate) fn written(&self) -> u64 {
        self.0.line.engine().written()
    }

    /// Processes recorded bytes as if they came from the line. The guest's questions to the terminal were
    /// answered at the time of the recording.
    pub(crate) fn hand_in(&self, bytes: &[u8]) {
        let line = &self.0.line;
        let pushed = {
            let mut engine = line.engine();
            let pushed = engine.push(bytes);
            engine.take_answers();
            pushed
        };
        line.news.notify_waiters();
        if pushed == Pushed::Wake {
            line.bell.notify_one();
        }
    }

    /// Notes that a part of the output is missing from the record.
    pub(crate) fn note_gap(&self, why: String) {
        self.0.line.engine().note_gap(why);
    }

    /// Limits all waits from now on to `longest`. Recorded output is passed in before it is waited for.
    pub(crate) fn limit_waits(&self, longest: std::time::Duration) {
        self.0.line.engine().longest_wait = Some(longest);
    }

    /// Returns `text` with a token in place of each known secret. [`Console::revealed`] reverses this.
    pub(crate) fn hidden(&self, text: &str) -> String {
        self.0.line.engine().secrets.hide(text)
    }

    /// Returns `text` with the known secrets in place of their tokens. The first secret that was typed
    /// belongs to the first token, and so on.
    pub(crate) fn revealed(&self, text: &str) -> String {
        self.0.line.engine().secrets.reveal(text)
    }

    /// Returns how many secrets are known here.
    pub(crate) fn secrets(&self) -> usize {
        self.0.line.engine().secrets.count()
    }

    /// Returns the number of a known secret, which its token contains.
    pub(crate) fn number_of(&self, secret: &str) -> Option<usize> {
        self.0.line.engine().secrets.number(secret)
    }

    /// Returns the numbers of secrets that are not known here.
    pub(crate) fn unknown_secrets(&self) -> Vec<usize> {
        self.0.line.engine().secrets.unknown()
    }

    /// Reserves the numbers of the secrets that were known when the recording began.
    pub(crate) fn reserve_secrets(&self, count: usize) {
        self.0.line.engine().secrets.reserve(count);
    }

    /// Masks a secret that had this number in the recording.
    pub(crate) fn mask_as(&self, number: usize, secret: &str) {
        self.0.line.engine().secrets.add_as(number, secret.as_bytes());
    }
}
