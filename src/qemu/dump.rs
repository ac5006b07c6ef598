//! Writes the machine's memory to a file.

use std::path::Path;
use std::time::Duration;

use crate::stopped::Instant;

use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::{QMP_LIMIT, Qemu};
use crate::{Error, ErrorKind, Result};

impl Qemu {
    /// Writes the guest's memory to `path` as an ELF core. The guest is stopped meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::Qmp`] when QEMU can't write it, [`ErrorKind::Timeout`] when it takes longer than `limit`,
    /// [`ErrorKind::QemuGone`].
    pub(crate) async fn dump_memory(&self, path: &Path, limit: Duration) -> Result {
        let Some(file) = path.to_str() else {
            let summary = format!("{} is not UTF-8: QEMU accepts no such path", path.display());
            return Err(Error::new(ErrorKind::Usage, summary));
        };
        let started = Instant::now();
        let mut events = self.qmp().events();
        let mut exit = self.exit();
        let arguments = json!({ "paging": false, "protocol": format!("file:{file}"), "detach": true });
        self.qmp().execute("dump-guest-memory", Some(arguments), QMP_LIMIT).await?;
        let dumped = async {
            loop {
                match events.recv().await {
                    Ok(event) if event.name == "DUMP_COMPLETED" => {
                        return match event.data["error"].as_str() {
                            None => Ok(()),
                            Some(error) => Err(failed(error)),
                        };
                    }
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            dumped = crate::stopped::timeout(limit, dumped) => dumped.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Timeout, "QEMU did not dump the memory in time")
                    .took(started.elapsed(), limit))
            }),
            _ = exit.wait_for(Option::is_some) => {
                Err(Error::new(ErrorKind::QemuGone, "QEMU ended while it dumped the memory"))
            }
        }
    }
}

fn failed(said: &str) -> Error {
    let said = super::output::neutralise(said.as_bytes());
    Error::new(ErrorKind::Qmp, format!("QEMU could not dump the memory: {said}"))
        .likely_cause("the host's disk is full: a dump is as large as the machine's memory")
}
