//! Plugs disks in while the machine runs, and dumps its memory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nixvm_test_macros::tracked;

use crate::machine::Machine;
use crate::qemu::Connector;
use crate::{Error, ErrorKind, Result};

/// The limit for a guest to release a disk, on a fast host.
const LET_GO: Duration = Duration::from_secs(10);
/// The limit for QEMU to write the memory: up to a minute for each GiB on a slow disk.
const DUMP: Duration = Duration::from_secs(10 * 60);
/// Maximum number of characters of a serial number that reach the guest (virtio).
const LONGEST_NAME: usize = 20;

/// The content of a disk that is plugged in: a number such as `64 << 20` is an empty disk of that many bytes; a path is
/// an image (raw or qcow2) on this host, which the guest writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskSource {
    /// Empty, with this size in bytes. It is deleted with the machine's run directory.
    Empty(u64),
    /// This image.
    Image(PathBuf),
}

impl From<u64> for DiskSource {
    fn from(bytes: u64) -> Self {
        Self::Empty(bytes)
    }
}

impl From<PathBuf> for DiskSource {
    fn from(image: PathBuf) -> Self {
        Self::Image(image)
    }
}

impl From<&Path> for DiskSource {
    fn from(image: &Path) -> Self {
        Self::Image(image.to_owned())
    }
}

impl From<&str> for DiskSource {
    fn from(image: &str) -> Self {
        Self::Image(image.into())
    }
}

/// A plugged disk, from [`Machine::hot_plug_disk`] or [`Machine::plug_usb_storage`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluggedDisk {
    name: String,
    guest_path: String,
    image: PathBuf,
}

impl PluggedDisk {
    /// Returns the disk's path in the guest: `/dev/disk/by-id/…`. udev takes a moment to create it.
    pub fn guest_path(&self) -> &str {
        &self.guest_path
    }

    /// Returns the image on this host.
    pub fn image(&self) -> &Path {
        &self.image
    }
}

/// # Disks and memory
impl Machine {
    /// Plugs a disk in (virtio-blk): the guest sees `/dev/disk/by-id/virtio-NAME`. `source` is a size in bytes, for an
    /// empty disk, or the path of an image.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a name that is not a valid serial number (at most 20 letters, digits, `-` and `_`),
    /// [`ErrorKind::Io`] when the image can't be created or read, [`ErrorKind::Qmp`] when the machine accepts no
    /// further disk, or has one of that name.
    ///
    /// ```no_run
    /// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
    /// let disk = machine.hot_plug_disk("backup", 64 << 20).await?;
    /// assert_eq!(disk.guest_path(), "/dev/disk/by-id/virtio-backup");
    /// machine.unplug(&disk).await
    /// # }
    /// ```
    #[tracked]
    pub async fn hot_plug_disk(&self, name: &str, source: impl Into<DiskSource>) -> Result<PluggedDisk> {
        self.plug(name, source.into(), Connector::Virtio, format!("/dev/disk/by-id/virtio-{name}")).await
    }

    /// Plugs a USB stick in: the guest sees `/dev/disk/by-id/usb-QEMU_QEMU_HARDDISK_NAME-0:0`. A machine without USB
    /// gets a controller first. `source` has the same meaning as in [`Machine::hot_plug_disk`].
    ///
    /// # Errors
    /// Those of [`Machine::hot_plug_disk`].
    #[tracked]
    pub async fn plug_usb_storage(&self, name: &str, source: impl Into<DiskSource>) -> Result<PluggedDisk> {
        let guest_path = format!("/dev/disk/by-id/usb-QEMU_QEMU_HARDDISK_{name}-0:0");
        self.plug(name, source.into(), Connector::Usb, guest_path).await
    }

    /// Unplugs a disk and waits until the guest has released it. Unwritten data is lost: unmount the disk first, unless
    /// the loss is the test.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] when the guest does not release it within 10 s (scaled), [`ErrorKind::Qmp`] when it is
    /// not plugged in any more.
    #[tracked]
    pub async fn unplug(&self, disk: &PluggedDisk) -> Result {
        let life = self.life();
        let what = format!("unplug the disk {}", disk.name);
        let _step = life.step(what.clone());
        life.answer(&what, life.qemu.unplug(&disk.name, life.limit(LET_GO))).await
    }

    async fn plug(
        &self,
        name: &str,
        source: DiskSource,
        connector: Connector,
        guest_path: String,
    ) -> Result<PluggedDisk> {
        let fits = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(fits) {
            let summary = format!("{name:?} can't name a disk: at most 20 letters, digits, - and _");
            return Err(Error::new(ErrorKind::Usage, summary));
        }
        let life = self.life();
        let what = format!("plug in the disk {name}");
        let _step = life.step(what.clone());
        let image = match source {
            DiskSource::Image(image) => std::path::absolute(&image)
                .map_err(|error| Error::io(format_args!("find {}", image.display()), &error))?,
            DiskSource::Empty(bytes) => {
                // The file has a unique name, because the content of an earlier disk of this name may still be needed.
                let made = tempfile::Builder::new()
                    .prefix(&format!("{name}."))
                    .suffix(".img")
                    .tempfile_in(self.run_directory().join("tmp"))
                    .and_then(|file| {
                        file.as_file().set_len(bytes)?;
                        Ok(file.into_temp_path().keep()?)
                    });
                made.map_err(|error| Error::io(format_args!("make an image of {bytes} bytes"), &error))?
            }
        };
        life.answer_of_qemu(&what, life.qemu.plug(name, &image, connector)).await?;
        Ok(PluggedDisk { name: name.to_owned(), guest_path, image })
    }

    /// Writes the machine's memory to `path` on this host, as an ELF core that `crash`, `gdb` and volatility read. The
    /// file is as large as the memory. The guest is paused meanwhile and does not notice.
    ///
    /// # Errors
    /// [`ErrorKind::Qmp`] when the file can't be written, [`ErrorKind::Timeout`] after 10 minutes.
    #[tracked]
    pub async fn memory_dump(&self, path: impl AsRef<Path>) -> Result {
        let path = path.as_ref();
        let _step = self.life().step(format!("dump the memory to {}", path.display()));
        self.life().require_machine("a dump of the memory")?;
        let absolute = std::path::absolute(path)
            .map_err(|error| Error::io(format_args!("find {}", path.display()), &error))?;
        self.qemu().dump_memory(&absolute, DUMP).await
    }
}
