//! Records a machine's answers as they come, so that a scenario can be replayed against the record of a run. In a
//! replay there is no machine: every question is answered from the record.
//!
//! A *question* is what a method of [`Machine`](crate::machine::Machine), [`User`](crate::machine::User) or
//! [`Session`](crate::machine::Session) asks of the guest and QEMU. The same question always has the same words:
//! `alice$ cowsay hello`, `root: wait for unit nginx.service`. A replay takes the next unused answer to the question.
//! So the scenario may handle the answers differently than before, but a question that was never asked has no answer.
//! The record can't tell that an answer would differ after other commands.
//!
//! Which answer is next: a scenario that polls may ask less often than it did when recorded, and the left-over answers
//! are no answers to its later questions. So each answer has the number of answers that came before its question. For
//! example, `sync` was asked after three answers. A scenario that has asked `sync` is past those three, and a question
//! from before `sync` takes a later answer when it is asked again. What one task has asked says nothing about the
//! position of another task.
//!
//! The console is replayed as it was: each answer has the places in the transcript where it was asked and answered. The
//! output up to the next question is fed in before the scenario continues.
//!
//! The file is `answers` in the run directory and `MACHINE.answers` in the record, with one line of JSON per answer.
//! Secrets that the console knows are written as tokens; the replayed scenario knows the secrets itself.

mod bytes;
mod entry;
mod file;
mod replay;
mod stored_error;
mod writer;

use std::future::Future;
use std::sync::Arc;

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::machine::Life;
use crate::{Error, ErrorKind, Result};

pub(in crate::machine) use bytes::Bytes;
pub(in crate::machine) use entry::{Standing, Start};
pub(crate) use replay::Replay;
pub(in crate::machine) use writer::{Asking, OpenQuestion, Writer};

/// The console's whole output is there before a wait for it begins. Other tasks of a scenario may have to ask something
/// first.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// The prefix of questions that the library itself asks, when the scenario is over or the machine shuts down.
pub(crate) const IN_PASSING: &str = "in passing: ";

/// Maximum number of bytes that are written and read for one machine. Later answers are not kept.
const MOST: u64 = 256 << 20;

/// The source or destination of a machine's answers.
#[derive(Debug, Clone)]
pub(crate) enum Answers {
    /// They come from the machine, and are recorded.
    Written(Writer),
    /// They come from a record.
    Read(Arc<Replay>),
}

impl Life {
    /// Returns the answer to `question`: from the machine, which `ask` asks, or from the record. If the guest is
    /// stopped meanwhile, this is an error at once.
    pub(crate) fn answer<T: Serialize + DeserializeOwned>(
        &self,
        question: &str,
        ask: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        self.answer_as(question, Asking::default(), ask)
    }

    /// Like [`Life::answer`], for an answer that is read from the console: the output up to there is skipped.
    pub(crate) fn answer_on_console<T: Serialize + DeserializeOwned>(
        &self,
        question: &str,
        ask: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        self.answer_as(question, Asking { on_console: true, secret: None }, ask)
    }

    /// Like [`Life::answer`], for a question with these options.
    pub(crate) fn answer_as<T: Serialize + DeserializeOwned>(
        &self,
        question: &str,
        asking: Asking<'_>,
        ask: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        self.answer_of_qemu_as(question, asking, self.while_it_runs(ask))
    }

    /// Like [`Life::answer`], for a question that QEMU answers, whether the guest runs or not.
    pub(crate) fn answer_of_qemu<T: Serialize + DeserializeOwned>(
        &self,
        question: &str,
        ask: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        self.answer_of_qemu_as(question, Asking::default(), ask)
    }

    /// Like [`Life::answer_of_qemu`], for a question with these options.
    pub(crate) fn answer_of_qemu_as<T: Serialize + DeserializeOwned>(
        &self,
        question: &str,
        asking: Asking<'_>,
        ask: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        // Boxed: each function that takes a future by value doubles it, and a stack holds 2 MiB.
        let ask = Box::pin(ask);
        async move {
            match &self.answers {
                Answers::Read(replay) => {
                    if let Some(secret) = asking.secret {
                        replay.know(question, secret, &self.console);
                    }
                    replay.answer(question, self)
                }
                Answers::Written(writer) => {
                    if let Some(secret) = asking.secret {
                        self.console.mask(secret);
                    }
                    let open = writer.open_question(self, question, asking);
                    let answer = ask.await;
                    open.answered(&answer);
                    answer
                }
            }
        }
    }

    /// Returns the replay, if this is a record and not a machine.
    pub(crate) fn replay(&self) -> Option<&Replay> {
        match &self.answers {
            Answers::Read(replay) => Some(replay),
            Answers::Written(_) => None,
        }
    }

    /// Returns an error if there is no machine: a record can't answer `what`.
    pub(crate) fn require_machine(&self, what: &str) -> Result {
        match self.replay() {
            None => Ok(()),
            Some(_) => Err(Error::new(
                ErrorKind::NotRecorded,
                format!("{}: {what} needs a machine: a record can't answer it", self.name),
            )
            .next_step("run the scenario on a machine, without --against")),
        }
    }
}
