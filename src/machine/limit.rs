//! A limit that a scenario gives holds for a machine that stands still as well.
//!
//! What is done after a limit, to end a command and to find out what it printed last, takes the guest's answers. A guest whose
//! processors QEMU has stopped (QMP's `stop`) gives none, so nothing is waited for there.

use std::future::Future;
use std::time::Duration;

use crate::Error;
use crate::machine::Life;

/// For QEMU to answer what it answers at once.
const QMP: Duration = Duration::from_secs(5);
/// Between two questions whether the machine still runs.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The machine stands still.
#[derive(Debug)]
pub(crate) struct StandsStill;

impl StandsStill {
    /// What an error says of it.
    pub(crate) const CAUSE: &str = "the machine stands still: QEMU was told to stop it";
}

impl Life {
    /// Waits for `answer`, which has limits of its own. From `limit` on it is given up when the machine stands still.
    pub(crate) async fn held_to<T>(
        &self,
        limit: Duration,
        answer: impl Future<Output = T>,
    ) -> Result<T, StandsStill> {
        let stands_still = async {
            crate::stopped::sleep(limit).await;
            while !self.stands_still().await {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        // Boxed: such waits stand within each other, and all of them on the stack of one thread.
        let answer = Box::pin(answer);
        tokio::select! {
            biased;
            answer = answer => Ok(answer),
            () = stands_still => Err(StandsStill),
        }
    }

    /// The error of a wait that its limit ended, with the cause if the machine stands still.
    pub(crate) async fn in_vain(&self, error: Error) -> Error {
        if self.stands_still().await { error.likely_cause(StandsStill::CAUSE) } else { error }
    }

    /// Whether QEMU has stopped the guest's processors, as after QMP's `stop`.
    pub(crate) async fn stands_still(&self) -> bool {
        let status = self.qemu.qmp().execute("query-status", None, QMP).await;
        status.is_ok_and(|status| status["running"] == false)
    }
}
