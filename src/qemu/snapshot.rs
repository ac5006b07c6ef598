//! A moment of a machine that is kept in its disk images. QEMU writes all of it there, including the RAM.
//!
//! An image that can't hold a snapshot (a raw one) is copied. Everything outside of the images is recorded:
//! QEMU's command, what was plugged in, and which ports are forwarded. With these another QEMU can continue
//! from the moment (see [`super::successor`]).

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::stopped::Instant;

use serde_json::{Value, json};

use super::network::Forward;
use super::plugged::Plugged;
use super::successor::Start;
use super::{Accelerator, QMP_LIMIT, Qemu, RunDirectory};
use crate::presence::is_known_absent;
use crate::{Error, ErrorKind, Result, sparse_copy, threads};

/// The limit for writing or reading the RAM.
const DONE: Duration = Duration::from_secs(300);
/// The interval between two queries of a job. Its events can't be distinguished from those of another job of
/// the same name.
const LOOK: Duration = Duration::from_millis(5);

/// A moment of a machine, from which another QEMU can continue.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(super) tag: String,
    pub(super) start: Start,
    pub(super) accelerator: Accelerator,
    /// The images that hold a part of it. The first one has the RAM.
    pub(super) images: Vec<Image>,
    pub(super) copies: Vec<ImageCopy>,
    pub(super) plugged: Plugged,
    pub(super) forwards: Vec<Forward>,
}

/// An image that holds a part of the moment.
#[derive(Debug)]
pub(super) struct Image {
    /// QEMU's name for it.
    name: String,
    pub(super) path: Option<PathBuf>,
}

/// The copy of an image that can't hold a snapshot. It is removed together with the moment.
#[derive(Debug)]
pub(super) struct ImageCopy {
    pub(super) image: PathBuf,
    pub(super) copy: tempfile::TempPath,
}

/// A disk that the machine writes to.
struct WritableDisk {
    node: Value,
    /// QEMU's name for it.
    name: String,
    raw: bool,
}

impl WritableDisk {
    /// Returns the image's path, if it is a file of this host. `folder` is QEMU's working directory.
    fn path(&self, folder: &Path) -> Option<PathBuf> {
        let described =
            self.name.strip_prefix("json:").and_then(|text| serde_json::from_str::<Value>(text).ok());
        let name = match &described {
            Some(its) => its["file"]["filename"].as_str()?,
            // A protocol, such as nbd://…
            None if self.name.contains("://") => return None,
            None => &self.name,
        };
        Some(folder.join(name))
    }
}

impl Qemu {
    /// Keeps the present moment, the machine's `number`th. The guest is stopped meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] when no other QEMU could continue the machine (it has a TPM, or a disk without a
    /// file), [`ErrorKind::Qmp`] with QEMU's message when it can't be saved (it has a shared folder) or the
    /// disk is full, [`ErrorKind::Io`] when a raw image can't be copied. The machine continues in these
    /// cases.
    pub(crate) async fn keep_moment(&self, number: usize, run_dir: &RunDirectory) -> Result<Moment> {
        // A kept disk image may hold the moments of other runs, so the tag is unique.
        let tag = format!("nixvm-{}-{number}", run_dir.mark());
        let ran = self.stop().await?;
        let kept = self.kept(&tag, run_dir).await;
        if ran {
            self.go_on().await?;
        }
        kept
    }

    /// Stops the guest. Returns whether it ran until now.
    ///
    /// # Errors
    /// [`ErrorKind::Qmp`] when QEMU refuses, [`ErrorKind::QemuGone`].
    pub(crate) async fn stop(&self) -> Result<bool> {
        let status = self.qmp().execute("query-status", None, QMP_LIMIT).await?;
        self.qmp().execute("stop", None, QMP_LIMIT).await?;
        Ok(status["running"] == true)
    }

    /// Keeps the moment of a stopped machine.
    async fn kept(&self, tag: &str, run_dir: &RunDirectory) -> Result<Moment> {
        let start = Start::of(self).await?;
        if let Some(why) = start.obstacle() {
            return Err(Error::new(ErrorKind::Host, format!("the machine can't be kept: {why}")));
        }
        if let Some(why) = self.blocked().await? {
            return Err(Error::new(ErrorKind::Qmp, format!("the machine can't be kept: {why}")));
        }
        let (mut nodes, mut images, mut raw) = (Vec::new(), Vec::new(), Vec::new());
        for disk in self.written_disks().await? {
            match disk.path(start.folder()) {
                Some(path) if is_known_absent(&path) => {
                    let path = path.display();
                    let summary = format!(
                        "the machine can't be kept: its disk {path} is no longer a file (snapshot=on)"
                    );
                    return Err(Error::new(ErrorKind::Host, summary));
                }
                Some(path) if disk.raw && path.is_file() => raw.push(path),
                path => {
                    nodes.push(disk.node);
                    images.push(Image { name: disk.name, path });
                }
            }
        }
        // The capability would leave out RAM that is in files.
        self.set_migration(false).await?;
        self.snapshot_job("snapshot-save", tag, nodes).await?;
        let mut copies = Vec::new();
        for image in raw {
            copies.push(copied_beside(image, &run_dir.tmp()).await?);
        }
        Ok(Moment {
            tag: tag.to_owned(),
            start,
            accelerator: self.accelerator(),
            images,
            copies,
            plugged: self.plugged().await?,
            forwards: self.forwards().await?,
        })
    }

    /// Loads a moment into a stopped QEMU that has the devices of that moment.
    ///
    /// # Errors
    /// [`ErrorKind::Qmp`] with QEMU's message.
    pub(super) async fn take_up(&self, moment: &Moment) -> Result {
        let written = self.written_disks().await?;
        let node = |image: &Image| {
            let disk = written.iter().find(|disk| disk.name == image.name).map(|disk| disk.node.clone());
            disk.ok_or_else(|| {
                Error::new(ErrorKind::Qmp, format!("QEMU no longer has the disk {}", image.name))
            })
        };
        let nodes = moment.images.iter().map(node).collect::<Result<_>>()?;
        self.snapshot_job("snapshot-load", &moment.tag, nodes).await
    }

    async fn snapshot_job(&self, command: &str, tag: &str, nodes: Vec<Value>) -> Result {
        let started = Instant::now();
        let Some(first) = nodes.first() else {
            let summary =
                "the machine has no disk that could hold its state: that needs one of the format qcow2";
            return Err(Error::new(ErrorKind::Usage, summary));
        };
        let job = format!("{tag}-{command}");
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
                            Err(Error::new(ErrorKind::Qmp, format!("QEMU's {command} failed: {why}"))
                                .section("QEMU's messages", self.stderr_tail()))
                        }
                    };
                }
                Some(_) if started.elapsed() < DONE => tokio::time::sleep(LOOK).await,
                Some(_) => {
                    return Err(Error::new(ErrorKind::Timeout, format!("QEMU's {command} did not finish"))
                        .took(started.elapsed(), DONE));
                }
                None => return Ok(()),
            }
        }
    }

    /// Returns the disks that the machine writes to.
    async fn written_disks(&self) -> Result<Vec<WritableDisk>> {
        let blocks = self.qmp().execute("query-block", None, QMP_LIMIT).await?;
        let inserted = blocks.as_array().into_iter().flatten().map(|block| &block["inserted"]);
        let written = inserted.filter(|its| its["ro"] == false && its["node-name"].is_string());
        let disk = |its: &Value| WritableDisk {
            node: its["node-name"].clone(),
            name: its["file"].as_str().unwrap_or_default().to_owned(),
            raw: its["drv"] == "raw",
        };
        Ok(written.map(disk).collect())
    }
}

/// Copies an image to a file in `folder`.
async fn copied_beside(image: PathBuf, folder: &Path) -> Result<ImageCopy> {
    let failed = format!("copy {}", image.display());
    let made = tempfile::Builder::new().prefix("snapshot.").suffix(".img").tempfile_in(folder);
    let copied = async {
        let file = made?;
        let from = image.clone();
        let copied = threads::aside(move || sparse_copy::over(&from, file.path()).map(|()| file)).await??;
        Ok(ImageCopy { image, copy: copied.into_temp_path() })
    };
    copied.await.map_err(|error| Error::io(failed, &error))
}
