//! A console whose machine is a record: nobody is at the other end, and what came once is handed in again.

use super::engine::Pushed;
use super::line::Console;

impl Console {
    /// How much of the transcript there is, in bytes, as [`Console::flush`] would bring it to its file.
    pub(crate) fn written(&self) -> u64 {
        self.0.line.engine().written()
    }

    /// Takes in what a record has, as if it had come from the line. What the guest asked of the terminal was answered
    /// then.
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

    /// Notes that the record lacks something of what came.
    pub(crate) fn note_gap(&self, why: String) {
        self.0.line.engine().note_gap(why);
    }

    /// From now on no wait takes longer than this: what a record has is handed in before it is waited for.
    pub(crate) fn limit_waits(&self, longest: std::time::Duration) {
        self.0.line.engine().longest_wait = Some(longest);
    }

    /// `text` with a token for each secret that is known here: what [`Console::revealed`] undoes.
    pub(crate) fn hidden(&self, text: &str) -> String {
        self.0.line.engine().secrets.hide(text)
    }

    /// `text` with the secrets for their tokens, as far as they are known here: the first that was typed for the first,
    /// and so on.
    pub(crate) fn revealed(&self, text: &str) -> String {
        self.0.line.engine().secrets.reveal(text)
    }

    /// How many secrets are known here.
    pub(crate) fn secrets(&self) -> usize {
        self.0.line.engine().secrets.count()
    }

    /// The number of a secret that is known here: what its token has.
    pub(crate) fn number_of(&self, secret: &str) -> Option<usize> {
        self.0.line.engine().secrets.number(secret)
    }

    /// The numbers that secrets may have which are not known here.
    pub(crate) fn unknown_secrets(&self) -> Vec<usize> {
        self.0.line.engine().secrets.unknown()
    }

    /// Reserves the numbers of the secrets that were known when what is replayed began.
    pub(crate) fn reserve_secrets(&self, count: usize) {
        self.0.line.engine().secrets.reserve(count);
    }

    /// Masks a secret that had this number then.
    pub(crate) fn mask_as(&self, number: usize, secret: &str) {
        self.0.line.engine().secrets.add_as(number, secret.as_bytes());
    }
}
