//! What a machine answered, written down as it comes, so that a scenario can be replayed against the record of a run:
//! no machine is there then, and whatever the scenario asks is answered by what was written.
//!
//! A *question* is what a method of [`Machine`](crate::machine::Machine), [`User`](crate::machine::User) or
//! [`Session`](crate::machine::Session) asks of guest and QEMU, in words that are the same whenever it asks the same: `alice$
//! cowsay hello`, `root: wait for unit nginx.service`. A replay takes the next answer to it that is not used yet. So
//! what the scenario makes of the answers may change, and a question that was never asked has no answer; that it would
//! be another one after other commands, no record knows.
//!
//! Which is the next: a scenario that asks over and over may ask less often than it did, and what it left over is no answer
//! to what it asks later. So each answer says how many there were when its question was asked. Whoever has asked `sync`,
//! which was asked after three answers, is past those three when the same is asked again that was asked before `sync`. What
//! one task has asked says nothing of where another one stands.
//!
//! The console is replayed as it was: each answer has the places in the transcript where it was asked and answered,
//! and what was said up to the next question is handed in before the scenario goes on.
//!
//! The file is `answers` in the run directory and `MACHINE.answers` in the record: one line of JSON an answer. Secrets
//! that the console knows stand in it as tokens; the scenario that is replayed knows them itself.

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

/// All that the console has to say is there before anybody waits for it. Other tasks of a scenario may have to ask
/// something first.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// So begins what no scenario asks: the library does, when the scenario is over or the machine goes down.
pub(crate) const IN_PASSING: &str = "in passing: ";

/// So much is written for one machine, in bytes, and read: what comes then is not kept.
const MOST: u64 = 256 << 20;

/// Where a machine's answers come from, or go to.
#[derive(Debug, Clone)]
pub(crate) enum Answers {
    /// They are the machine's, and are written down.
    Written(Writer),
    /// They are those of a record.
    Read(Arc<Replay>),
}

impl Life {
    /// What is answered to `question`: by the machine, which is asked by `ask`, or by the record. A guest that is stopped
    /// meanwhile is an error at once.
    pub(crate) fn answer<T: Serialize + DeserializeOwned>(
        &self,
        question: &str,
        ask: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        self.answer_as(question, Asking::default(), ask)
    }

    /// [`Life::answer`] for what reads its answer on the console: what was said there is passed over.
    pub(crate) fn answer_on_console<T: Serialize + DeserializeOwned>(
        &self,
        question: &str,
        ask: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        self.answer_as(question, Asking { on_console: true, secret: None }, ask)
    }

    /// [`Life::answer`] to a question that is asked so.
    pub(crate) fn answer_as<T: Serialize + DeserializeOwned>(
        &self,
        question: &str,
        asking: Asking<'_>,
        ask: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        self.answer_of_qemu_as(question, asking, self.while_it_runs(ask))
    }

    /// [`Life::answer`] to a question that QEMU answers, whether the guest runs or not.
    pub(crate) fn answer_of_qemu<T: Serialize + DeserializeOwned>(
        &self,
        question: &str,
        ask: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        self.answer_of_qemu_as(question, Asking::default(), ask)
    }

    /// [`Life::answer_of_qemu`] to a question that is asked so.
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

    /// What is read, if this is no machine but a record.
    pub(crate) fn replay(&self) -> Option<&Replay> {
        match &self.answers {
            Answers::Read(replay) => Some(replay),
            Answers::Written(_) => None,
        }
    }

    /// Gives an error where there is no machine: `what` can't be answered by a record.
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
