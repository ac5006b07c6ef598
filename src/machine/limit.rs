//! Makes a scenario's time limits hold for a paused machine as well.
//!
//! After a limit, the guest is asked to end the command and to return its last output. A guest whose processors QEMU
//! has stopped (QMP's `stop`) does not answer, so nothing waits for it.

use std::future::Future;
use std::time::Duration;

use crate::Error;
use crate::machine::Life;

/// The limit for an answer that QEMU gives at once.
const QMP: Duration = Duration::from_secs(5);
/// The interval for checking whether the machine still runs.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The machine is paused.
#[derive(Debug)]
pub(crate) struct StandsStill;

impl StandsStill {
    /// The cause that an error names.
    pub(crate) const CAUSE: &str = "the machine is paused: QEMU got a command to stop it";
}

impl Life {
    /// Waits for `answer`, which has its own limits. After `limit`, the wait ends early if the machine is paused.
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
        // Boxed: such waits are nested, and all of them are on the stack of one thread.
        let answer = Box::pin(answer);
        tokio::select! {
            biased;
            answer = answer => Ok(answer),
            () = stands_still => Err(StandsStill),
        }
    }

    /// Returns the error of a wait that reached its limit, with the cause if the machine is paused.
    pub(crate) async fn in_vain(&self, error: Error) -> Error {
        if self.stands_still().await { error.likely_cause(StandsStill::CAUSE) } else { error }
    }

    /// Returns whether QEMU has stopped the guest's processors, as after QMP's `stop`.
    pub(crate) async fn stands_still(&self) -> bool {
        let status = self.qemu.qmp().execute("query-status", None, QMP).await;
        status.is_ok_and(|status| status["running"] == false)
    }
}
