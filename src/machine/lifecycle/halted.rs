//! Waits for a guest that may be stopped meanwhile: by its QEMU (see [`Qemu::halted`]), which keeps running and prints
//! nothing, or by a boot that never ends.

use std::time::Duration;

use crate::machine::Life;
use crate::qemu::Qemu;
use crate::{Error, ErrorKind, Result};

/// Time for reading the guest's last output.
const LAST_WORDS: Duration = Duration::from_millis(250);

impl Life {
    /// Waits for an answer of the guest. Fails as soon as the guest is known to be stopped.
    pub(crate) fn while_it_runs<T>(
        &self,
        answer: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        // Boxed: see `Life::answer_of_qemu_as`.
        let answer = Box::pin(answer);
        async move {
            while_it_runs(&self.qemu, answer).await.map_err(|error| match error {
                Unanswered::Error(error) if follows_from_a_stop(&error) => self.halted().unwrap_or(error),
                Unanswered::Error(error) => error,
                Unanswered::Halted(why) => self.halt_error(&why),
            })
        }
    }

    /// Returns the error for a caller that needs the guest to run, if it is stopped.
    pub(crate) fn halted(&self) -> Option<Error> {
        let why = self.qemu.halted().borrow().clone();
        why.map(|why| self.halt_error(&why))
    }

    fn halt_error(&self, why: &Error) -> Error {
        why.clone()
            .with_summary(format!("{}: {}", self.name, why.summary()))
            .section("the console's last lines", self.console.tail(12))
    }
}

/// Returns whether a silent guest alone can explain the error.
fn follows_from_a_stop(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Timeout
            | ErrorKind::CommandTimeout
            | ErrorKind::SessionEnded
            | ErrorKind::NoRoot
            | ErrorKind::ChannelLost
    )
}

/// The reason for a missing answer.
pub(crate) enum Unanswered {
    /// The answer is an error.
    Error(Error),
    /// The guest is stopped.
    Halted(Error),
}

/// Waits for an answer of `qemu`'s guest.
pub(crate) async fn while_it_runs<T>(
    qemu: &Qemu,
    answer: impl Future<Output = Result<T>>,
) -> Result<T, Unanswered> {
    let mut halted = qemu.halted();
    // Such waits are nested, and all of them are on the stack of one thread.
    let mut answer = Box::pin(answer);
    let why = async {
        match halted.wait_for(Option::is_some).await {
            Ok(why) => why.clone(),
            Err(_) => None,
        }
    };
    let why = tokio::select! {
        biased;
        answer = &mut answer => return answer.map_err(Unanswered::Error),
        why = why => why,
    };
    let Some(why) = why else { return answer.await.map_err(Unanswered::Error) };
    match crate::stopped::timeout(LAST_WORDS, answer).await {
        Ok(answer) => answer.map_err(Unanswered::Error),
        Err(_) => Err(Unanswered::Halted(why)),
    }
}
