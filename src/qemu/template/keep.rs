//! Keeps a machine in its current state. Its RAM is part of the saved state, and the files depend on nothing
//! but QEMU and the Nix store, so the folder can be moved to another host.

use std::path::Path;
use std::time::Duration;

use crate::stopped::Instant;

use serde_json::json;

use super::command_line::{CommandLine, is_plain};
use super::layers::gather;
use super::outside::Outside;
use super::save::{Description, Saved, SavedImage, moved, uri};
use super::{MACHINE_FILE, STATE_FILE};
use crate::qemu::{Accelerator, Qemu, RunDirectory};
use crate::{Error, ErrorKind, Result};

/// The limit for QEMU's answer to a command that takes no time.
const ANSWER: Duration = Duration::from_secs(5);
/// The limit for writing RAM and devices, which are hundreds of MiB.
const WRITTEN: Duration = Duration::from_secs(60);
/// The interval between two queries of the progress.
const LOOK: Duration = Duration::from_millis(10);
/// A bandwidth that no disk reaches, in bytes per second. QEMU's default limit is 128 MiB per second.
const UNLIMITED: u64 = 1 << 40;

impl Qemu {
    /// Saves the machine's current state to the empty folder `folder`, and ends QEMU. Pages that are all zero
    /// take no space.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when a file can't be written, for example because the disk is full;
    /// [`ErrorKind::Qmp`] with QEMU's message when it can't save; [`ErrorKind::Timeout`] when it does not
    /// answer or write in time. After an error the machine may be stopped.
    pub(crate) async fn keep(&self, run_dir: &RunDirectory, folder: &Path) -> Result<Saved> {
        if self.exit().borrow().is_some() {
            return Ok(Saved::Impossible("its QEMU has ended".to_owned()));
        }
        let command = CommandLine::of(self.pid())?;
        if !is_plain(folder) || !is_plain(run_dir.path()) {
            return Ok(Saved::Impossible(
                "the path of its files is not UTF-8, or contains a line break".to_owned(),
            ));
        }
        if let Some(why) = self.obstacle(&command, run_dir).await? {
            return Ok(Saved::Impossible(why));
        }
        let disks = command.images(run_dir.path());
        let formats = match self.formats(&command, &disks).await? {
            Ok(formats) => formats,
            Err(why) => return Ok(Saved::Impossible(why)),
        };
        self.qmp().execute("stop", None, ANSWER).await?;
        let version = self.version().await?;
        let processor = match self.accelerator() {
            Accelerator::Kvm => self.processor(&command).await,
            Accelerator::Tcg => None,
        };
        self.set_migration(false).await?;
        let fast = json!({ "max-bandwidth": UNLIMITED });
        self.qmp().execute("migrate-set-parameters", Some(fast), ANSWER).await?;
        let target = uri(&folder.join(STATE_FILE), version);
        self.qmp().execute("migrate", Some(json!({ "uri": target })), ANSWER).await?;
        self.written().await?;
        // The state is written already, so a failure does not matter.
        let _ = self.qmp().execute("quit", None, ANSWER).await;
        let mut exit = self.exit();
        if crate::stopped::timeout(ANSWER, exit.wait_for(Option::is_some)).await.is_err() {
            self.kill().await;
        }
        self.clear_away().await?;
        let mut images = Vec::new();
        for (number, (image, format)) in disks.into_iter().zip(formats).enumerate() {
            let saved = format!("image{number}");
            let to = folder.join(&saved);
            moved(&image.path, &to)?;
            let origin = image.path.parent().unwrap_or(run_dir.path());
            gather(&to, format, origin, |below| below.starts_with("/nix/store")).await?;
            let own = image.path.strip_prefix(run_dir.path()).unwrap_or(&image.path).to_owned();
            images.push(SavedImage { at: image.at, saved, own, format: Some(format) });
        }
        let accelerator = self.accelerator();
        let outside = Outside::default();
        let description =
            Description { command, accelerator, version, images, whole: true, outside, processor };
        description.write(&folder.join(MACHINE_FILE))?;
        Ok(Saved::Done)
    }

    /// Waits until a migration to a file has ended. It polls, because an event of an earlier migration may
    /// still be queued.
    async fn written(&self) -> Result {
        let started = Instant::now();
        loop {
            let status = self.qmp().execute("query-migrate", None, ANSWER).await?;
            let what = match status["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    status["error-desc"].as_str().unwrap_or("QEMU does not say why")
                }
                _ if started.elapsed() > WRITTEN => "it took too long",
                _ => {
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
            };
            return Err(Error::new(ErrorKind::Qmp, format!("saving the machine failed: {what}"))
                .took(started.elapsed(), WRITTEN)
                .section("QEMU's messages", self.stderr_tail()));
        }
    }
}
