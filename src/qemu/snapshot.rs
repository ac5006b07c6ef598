//! Back to an earlier moment of the same machine: QEMU keeps all of it, RAM included, inside the disk image.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{QMP_LIMIT, Qemu};
use crate::{Error, ErrorKind, Result};

/// For the RAM to be written or read.
const DONE: Duration = Duration::from_secs(300);
/// Between two looks at a job. Its events can't be told from those of another job of its name.
const LOOK: Duration = Duration::from_millis(5);

impl Qemu {
    /// Keeps this moment as `tag`. The guest stands still meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::Qmp`] with QEMU's words when the machine can't be saved (a disk image that is no qcow2, a
    /// shared folder) or the disk is full; it goes on then.
    pub(crate) async fn keep_moment(&self, tag: &str) -> Result {
        self.snapshot_job("snapshot-save", tag).await
    }

    /// Brings the machine back to the moment `tag`.
    ///
    /// # Errors
    /// [`ErrorKind::Qmp`] with QEMU's words; the machine stands still then.
    pub(crate) async fn back_to_moment(&self, tag: &str) -> Result {
        self.qmp().execute("stop", None, QMP_LIMIT).await?;
        self.snapshot_job("snapshot-load", tag).await?;
        self.qmp().execute("cont", None, QMP_LIMIT).await.map(drop)
    }

    async fn snapshot_job(&self, command: &str, tag: &str) -> Result {
        let started = Instant::now();
        let nodes = self.written_nodes().await?;
        let Some(first) = nodes.first() else {
            return Err(Error::new(ErrorKind::Usage, "the machine has no disk that could hold its state"));
        };
        let job = format!("nixvm-{command}-{tag}");
        let arguments = json!({ "job-id": job, "tag": tag, "vmstate": first, "devices": nodes });
        self.qmp().execute(command, Some(arguments), QMP_LIMIT).await?;
        loop {
            let jobs = self.qmp().execute("query-jobs", None, QMP_LIMIT).await?;
            let its = jobs.as_array().into_iter().flatten().find(|its| its["id"] == job.as_str());
            match its {
                Some(its) if its["status"] == "concluded" => {
                    let error = its["error"].as_str().map(str::to_owned);
                    self.qmp().execute("job-dismiss", Some(json!({ "id": job })), QMP_LIMIT).await?;
                    return match error {
                        None => Ok(()),
                        Some(why) => {
                            Err(Error::new(ErrorKind::Qmp, format!("QEMU's {command} failed: {why}")))
                        }
                    };
                }
                Some(_) if started.elapsed() < DONE => tokio::time::sleep(LOOK).await,
                Some(_) => {
                    return Err(Error::new(ErrorKind::Timeout, format!("QEMU's {command} did not end"))
                        .took(started.elapsed(), DONE));
                }
                None => return Ok(()),
            }
        }
    }

    /// The disks that the machine writes to.
    async fn written_nodes(&self) -> Result<Vec<Value>> {
        let blocks = self.qmp().execute("query-block", None, QMP_LIMIT).await?;
        let inserted = blocks.as_array().into_iter().flatten().map(|block| &block["inserted"]);
        let written = inserted.filter(|its| its["ro"] == false);
        Ok(written.map(|its| its["node-name"].clone()).filter(Value::is_string).collect())
    }
}
