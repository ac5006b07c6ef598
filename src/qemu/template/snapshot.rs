//! A moment that the same machine can be brought back to, while it goes on.

use std::path::Path;

use serde_json::json;

use super::command_line::{CommandLine, layer};
use super::save::{Description, SavedImage};
use super::{MACHINE_FILE, STATE_FILE};
use crate::qemu::{QMP_LIMIT, Qemu, RunDirectory};
use crate::{Error, Result};

impl Qemu {
    /// Saves all of the machine, RAM included, to `folder`, which has to be on the file system of its run directory.
    /// It stands still meanwhile, about a second for each 500 MiB of RAM that the guest uses. Its disks
    /// are frozen there and go on in layers over them.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] with the reason when it can't be saved, [`crate::ErrorKind::Io`] and
    /// [`crate::ErrorKind::Qmp`] when it can't be written; it goes on then.
    pub(crate) async fn snapshot(&self, run_dir: &RunDirectory, folder: &Path) -> Result {
        let command = CommandLine::of(self.pid())?;
        if let Some(why) = self.obstacle(&command, run_dir).await? {
            return Err(Error::new(crate::ErrorKind::Usage, format!("this machine can't be saved: {why}")));
        }
        self.qmp().execute("stop", None, QMP_LIMIT).await?;
        let saved = self.freeze(command, run_dir, folder).await;
        let goes_on = self.go_on().await;
        saved.and(goes_on)
    }

    async fn freeze(&self, command: CommandLine, run_dir: &RunDirectory, folder: &Path) -> Result {
        let mut images = Vec::new();
        let blocks = self.qmp().execute("query-block", None, QMP_LIMIT).await?;
        for (number, image) in command.images(run_dir.path()).into_iter().enumerate() {
            let frozen = folder.join(format!("image{number}"));
            let node = blocks.as_array().into_iter().flatten().find_map(|block| {
                let inserted = &block["inserted"];
                (inserted["file"].as_str()? == image.path.to_str()?).then(|| inserted["node-name"].clone())
            });
            let node = node.ok_or_else(|| {
                Error::new(crate::ErrorKind::Qmp, format!("QEMU does not know {}", image.path.display()))
            })?;
            let failed = |error| Error::io(format_args!("freeze {}", image.path.display()), &error);
            // QEMU has it open: the name is for those who come after it.
            std::fs::rename(&image.path, &frozen).map_err(failed)?;
            layer(&image.path, &frozen)?;
            let overlay = json!({
                "node-name": node,
                "snapshot-file": image.path,
                "snapshot-node-name": format!("nixvm-{}", unique()),
                "format": "qcow2",
                "mode": "existing",
            });
            self.qmp().execute("blockdev-snapshot-sync", Some(overlay), QMP_LIMIT).await?;
            let own = image.path.strip_prefix(run_dir.path()).unwrap_or(&image.path).to_owned();
            images.push(SavedImage { at: image.at, saved: format!("image{number}"), own });
        }
        self.write_state(&folder.join(STATE_FILE), true).await?;
        let description = Description { command, accelerator: self.accelerator(), images };
        description.write(&folder.join(MACHINE_FILE))
    }
}

/// A number that no other layer of this process has.
fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
