//! Polls the machine for a state that only the host can judge. One command runs in the guest, and each sample arrives
//! over the channel as it is taken.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::stopped::Instant;

use tokio::sync::Notify;

use crate::machine::commands::invocation::Stream;
use crate::machine::commands::user::{AGAIN, PAUSE};
use crate::machine::limit::StandsStill;
use crate::machine::{User, WAIT};
use crate::mutex::lock;
use crate::{Error, ErrorKind, Result};

/// The limit ended the polling.
pub(crate) struct InVain {
    /// The last sample.
    pub(crate) last: Vec<u8>,
    took: Duration,
    limit: Duration,
    stands_still: bool,
}

impl InVain {
    /// Returns the error of the wait.
    pub(crate) fn error(&self, what: String) -> Error {
        let error = Error::new(ErrorKind::Timeout, what).took(self.took, self.limit);
        if self.stands_still { error.likely_cause(StandsStill::CAUSE) } else { error }
    }
}

/// The samples so far.
struct Looks<T> {
    /// The received part of the current sample.
    begun: Vec<u8>,
    last: Vec<u8>,
    found: Option<T>,
}

impl<T> Looks<T> {
    /// Takes in a piece of the output. Returns `true` when a sample that it completes is accepted.
    fn take_in(&mut self, bytes: &[u8], judge: &mut impl FnMut(&[u8]) -> Option<T>) -> bool {
        let from = self.begun.len().saturating_sub(AGAIN.len() - 1);
        self.begun.extend_from_slice(bytes);
        let mut from = from;
        while self.found.is_none()
            && let Some(at) = memchr::memmem::find(&self.begun[from..], AGAIN)
        {
            let rest = self.begun.split_off(from + at + AGAIN.len());
            self.begun.truncate(from + at);
            self.last = std::mem::replace(&mut self.begun, rest);
            self.found = judge(&self.last);
            from = 0;
        }
        self.found.is_some()
    }
}

impl User {
    /// Runs a script that prints a sample until `judge` accepts one: first every 20 ms, then less and less often, down
    /// to four times a second. `name` describes the polling in messages.
    ///
    /// # Errors
    /// Those of [`User::execute`]. Reaching the limit is not an error, but [`InVain`].
    pub(crate) async fn look_until<T: Send + 'static>(
        &self,
        look: &str,
        name: &str,
        mut judge: impl FnMut(&[u8]) -> Option<T> + Send + 'static,
    ) -> Result<Result<T, InVain>> {
        let life = self.life();
        let patience = self.limit.unwrap_or(WAIT);
        let (started, limit) = (Instant::now(), life.limit(patience));
        let in_vain = async |last| {
            let took = started.elapsed();
            InVain { last, took, limit, stands_still: life.stands_still().await }
        };
        let question = format!("{}: looks come as they are taken", self.name);
        let whole = life.answer(&question, async { Ok(life.channel(&self.name).await?.is_whole()) });
        let Ok(whole) = life.held_to(limit, whole).await else { return Ok(Err(in_vain(Vec::new()).await)) };
        if !whole? {
            // Without streamed output and concurrent commands, each sample takes its own command.
            let mut last = Vec::new();
            loop {
                let once = format!("exec {{z}}<> <(:); read -rt .1 -u $z || :; {look}");
                let left = limit.saturating_sub(started.elapsed()).div_f64(life.speed.factor());
                let output = match self.within(left).execute(&once).await {
                    Err(error) if error.kind() == ErrorKind::CommandTimeout => {
                        return Ok(Err(in_vain(last).await));
                    }
                    output => output?,
                };
                last = output.bytes().to_vec();
                match judge(&last) {
                    Some(found) => return Ok(Ok(found)),
                    None if started.elapsed() < limit => {}
                    None => return Ok(Err(in_vain(last).await)),
                }
            }
        }
        let looks = Arc::new(Mutex::new(Looks { begun: Vec::new(), last: Vec::new(), found: None }));
        let found = Arc::new(Notify::new());
        let (sink, bell) = (Arc::clone(&looks), Arc::clone(&found));
        let looking = self.within(patience).command(looking(look)).repeating(name);
        let looking =
            looking.asked_as(format!("look again and again: {look}")).watch(move |stream, bytes| {
                let mut looks = lock(&sink);
                if stream == Stream::Stdout && looks.take_in(bytes, &mut judge) {
                    bell.notify_one();
                }
            });
        tokio::select! {
            biased;
            // Dropping the command kills it.
            () = found.notified() => {}
            ended = looking.run() => {
                let ended = ended?;
                if ended.status.is_some() {
                    let output = ended.into_output(name);
                    return Err(life.unexpected(ErrorKind::CommandFailed, &self.name, &output, "no end"));
                }
            }
        }
        let (found, last) = {
            let mut looks = lock(&looks);
            (looks.found.take(), std::mem::take(&mut looks.last))
        };
        match found {
            Some(found) => Ok(Ok(found)),
            None => Ok(Err(in_vain(last).await)),
        }
    }
}

/// Returns the command that takes samples repeatedly.
fn looking(look: &str) -> String {
    format!(
        r"set +e; d=20000; exec {{z}}<> <(:)
while :; do {{ {look}
}} {{z}}>&-; printf '\0nixvm-again\0'; {PAUSE}; done"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_told_apart_wherever_the_pieces_end_and_the_first_that_has_it_counts() {
        let stream = b"one\n\0nixvm-again\0\0nixvm-again\0two\n\0nixvm-again\0two, again\0nixvm-again\0";
        for size in 1..=stream.len() {
            let mut seen = Vec::new();
            let mut judge = |look: &[u8]| {
                seen.push(String::from_utf8_lossy(look).into_owned());
                look.starts_with(b"two").then(|| look.to_vec())
            };
            let mut looks = Looks { begun: Vec::new(), last: Vec::new(), found: None };
            for piece in stream.chunks(size) {
                looks.take_in(piece, &mut judge);
            }
            assert_eq!(looks.found.as_deref(), Some(&b"two\n"[..]), "{size}");
            assert_eq!(seen, ["one\n", "", "two\n"], "{size}");
        }
    }

    #[test]
    fn what_was_seen_last_is_kept_for_the_error() {
        let mut looks = Looks::<()> { begun: Vec::new(), last: Vec::new(), found: None };
        assert!(!looks.take_in(b"one\0nixvm-again\0two\0nixvm-again\0half", &mut |_| None));
        assert_eq!(looks.last, b"two");
    }
}
