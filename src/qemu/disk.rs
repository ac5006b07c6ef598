//! The disk image of a machine, and whether a kept image still belongs to its configuration.
//!
//! The run script reuses an existing image even if the configuration has changed since, so a test might see
//! an old password. So a kept image has a small hidden file beside it. It records the built VM that the image
//! was made for, and it is locked while a machine runs on the image.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, linkat};
use serde::{Deserialize, Serialize};

use super::RunDirectory;
use crate::BuiltVm;
use crate::file_lock::{self, Mode};
use crate::presence::is_there;
use crate::settings::KeepState;
use crate::{Error, ErrorKind, Events, Result, sparse_copy, threads};

/// The size in bytes from which copying an image takes noticeable time.
const LARGE: u64 = 256 << 20;
/// The limit for reading the file beside an image, in bytes.
const LARGEST: u64 = 1 << 16;

/// The disk image of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Disk {
    /// A new image in the run directory, so that every run starts from the same state.
    #[default]
    Fresh,
    /// An image that is kept from run to run, as the run script does by default.
    Kept {
        /// The image. The first run makes it. Its folder must exist.
        image: PathBuf,
        /// Whether an image of an older configuration is refused. Otherwise the machine starts on a new
        /// image, with a note, and the old one is renamed to `IMAGE.old`. An earlier file of that name is
        /// replaced.
        strict: bool,
    },
}

/// The exclusive right of one machine to write to a disk image, until this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) image: PathBuf,
    record: Option<Record>,
    /// Whether there was no image, so that the run script makes one.
    is_new: bool,
    /// What a kept image was before a boot that may not count.
    before: Option<Before>,
}

/// The state of a kept image before a boot.
#[derive(Debug)]
enum Before {
    Missing,
    /// The image's content. The file has no name, so nothing is left of it however this process ends.
    Copy(File),
}

/// The locked file beside a kept image.
#[derive(Debug)]
struct Record {
    file: File,
    path: PathBuf,
    key: String,
}

#[derive(Serialize, Deserialize)]
struct Content {
    /// The [`BuiltVm::key`] of the VM whose script made the image.
    key: String,
}

impl Disk {
    /// Returns the disk that the setting keep-state selects. A kept disk is the image that the run script
    /// itself would use in `folder`: `NAME.qcow2`.
    pub fn of(state: KeepState, folder: &Path, vm: &BuiltVm) -> Self {
        let kept = |strict| Self::Kept { image: folder.join(format!("{}.qcow2", vm.name())), strict };
        match state {
            KeepState::Fresh => Self::Fresh,
            KeepState::Keep => kept(false),
            KeepState::Strict => kept(true),
        }
    }

    /// Whether the disk outlives the machine.
    pub fn is_kept(&self) -> bool {
        *self != Self::Fresh
    }

    /// Checks that `vm` may run on this image, and that no other machine runs on it.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when a machine runs on it, or when it is `strict` and the configuration has
    /// changed; [`ErrorKind::Io`] when files beside it can't be written.
    pub(super) fn claim(&self, vm: &BuiltVm, run: &RunDirectory, events: &Events) -> Result<Claim> {
        let (image, strict) = match self {
            Self::Fresh => return Ok(Claim { image: run.disk(), record: None, is_new: true, before: None }),
            Self::Kept { image, strict } => (image, *strict),
        };
        let image = std::path::absolute(image)
            .map_err(|error| Error::io(format_args!("find {}", image.display()), &error))?;
        let mut record = Record::open(&image, vm)?;
        let is_image_there = || {
            is_there(&image).map_err(|error| Error::io(format_args!("examine {}", image.display()), &error))
        };
        if is_image_there()?
            && let Some(why) = record.stale()
        {
            if strict {
                return Err(refused(&image, why));
            }
            renew(&image, why, events)?;
        }
        let is_new = !is_image_there()?;
        Ok(Claim { image, record: Some(record), is_new, before: None })
    }
}

impl Claim {
    /// Records that the script has created or opened the image, which belongs to this VM from now on.
    pub(super) fn started(&mut self) -> Result {
        let Some(record) = &mut self.record else { return Ok(()) };
        record.write().map_err(|error| Error::io(format_args!("write {}", record.path.display()), &error))
    }

    /// Removes an image that the script made but no machine ever ran on. Nothing records which VM it belongs
    /// to, so the next start would refuse it, or set it aside in place of an image that matters.
    pub(super) fn not_started(&self) {
        if self.record.is_some()
            && self.is_new
            && let Err(error) = fs::remove_file(&self.image)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, "could not remove an unused image");
        }
    }

    /// Copies a kept image, so that it can be restored. A note announces a slow copy, and reports if there is
    /// no space for one.
    pub(super) async fn set_aside(&mut self, events: &Events) {
        if self.record.is_none() {
            return;
        }
        let image = self.image.clone();
        let to_tell = events.clone();
        let copied = threads::aside(move || Before::of(&image, LARGE, &to_tell)).await;
        match copied.flatten() {
            Ok(before) => self.before = Some(before),
            Err(error) => events.note(format!(
                "if KVM does not run this machine, it can't boot again under TCG: {} can't be copied ({error})",
                self.image.display()
            )),
        }
    }

    /// Restores the image. No QEMU may write to it any more. Returns whether the machine can boot from it.
    pub(super) async fn put_back(&mut self) -> bool {
        let (image, before) = (self.image.clone(), self.before.take());
        if self.record.is_none() {
            return true;
        }
        let Some(before) = before else { return false };
        let done = threads::aside(move || before.put_back(&image)).await;
        match done.flatten() {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "could not restore a kept image");
                false
            }
        }
    }

    /// Records that the boot counts, so that the earlier state is no longer needed.
    pub(super) fn confirm_boot(&mut self) {
        self.before = None;
    }
}

impl Before {
    /// Copies an image. A note comes first if the image takes at least `large` bytes of the disk.
    fn of(image: &Path, large: u64, events: &Events) -> io::Result<Self> {
        let from = match File::open(image) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Missing),
            from => from?,
        };
        let copy = tempfile::tempfile_in(image.parent().unwrap_or(Path::new(".")))?;
        if !sparse_copy::share(&from, &copy) {
            let takes = from.metadata()?.blocks() * 512;
            if takes >= large {
                events.note(format!(
                    "copying {} ({} MiB), to restore it if KVM does not run the machine; after KVM has \
                     run one machine, there is no copy",
                    image.display(),
                    takes >> 20
                ));
            }
            sparse_copy::contents(&from, &copy)?;
        }
        copy.set_permissions(from.metadata()?.permissions())?;
        Ok(Self::Copy(copy))
    }

    fn put_back(self, image: &Path) -> io::Result<()> {
        match self {
            Self::Missing => match fs::remove_file(image) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
            Self::Copy(copy) => replace(image, &copy),
        }
    }
}

/// Replaces the content of an image by that of a file without a name. The change is atomic: even if this
/// process is killed, the image has either the old or the new content.
fn replace(image: &Path, content: &File) -> io::Result<()> {
    // A symbolic link stays a link.
    let image = image.canonicalize()?;
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    // No other process uses this name, because the image is claimed.
    let beside = image.with_file_name(format!(".{name}.nixvm-before"));
    let named = || {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let nameless = format!("/proc/self/fd/{}", content.as_raw_fd());
        if linkat(CWD, nameless, CWD, &beside, AtFlags::SYMLINK_FOLLOW).is_err() {
            sparse_copy::copy_of(content, &beside)?;
            fs::set_permissions(&beside, content.metadata()?.permissions())?;
        }
        fs::rename(&beside, &image)
    };
    named().inspect_err(|_| drop(fs::remove_file(&beside)))
}

impl Record {
    fn open(image: &Path, vm: &BuiltVm) -> Result<Self> {
        let name = image.file_name().unwrap_or_default().to_string_lossy();
        let path = image.with_file_name(format!(".{name}.nixvm"));
        let file = file_lock::open(&path).map_err(|error| {
            Error::io(format_args!("open {}", path.display()), &error)
                .next_step("keep the disk image in a folder that you can write to")
        })?;
        // It does not wait for the lock, because a machine may run for any length of time.
        let locked = file_lock::try_lock(&file, Mode::Exclusive)
            .map_err(|error| Error::io(format_args!("lock {}", path.display()), &error))?;
        if !locked {
            let by = file_lock::holders(&file);
            let error = Error::new(ErrorKind::Usage, format!("a machine is running on {}", image.display()))
                .likely_cause(format!("{by} runs a machine on it"))
                .next_step("wait until it ends, or run without --keep-state");
            return Err(error);
        }
        Ok(Self { file, path, key: vm.key() })
    }

    /// Returns why the image does not belong to this VM, or `None` if it does.
    fn stale(&mut self) -> Option<&'static str> {
        let mut text = String::new();
        // An unreadable file counts as missing. It holds only the key.
        let _ = Read::take(&mut self.file, LARGEST).read_to_string(&mut text);
        match serde_json::from_str::<Content>(&text) {
            Ok(content) if content.key == self.key => None,
            Ok(_) => Some("the configuration has changed since it was made"),
            Err(_) => Some("nothing records which configuration it was made from"),
        }
    }

    /// Writes in place, because a new file of this name would not be the locked one.
    fn write(&mut self) -> io::Result<()> {
        self.file.rewind()?;
        self.file.set_len(0)?;
        self.file.write_all(serde_json::to_string(&Content { key: self.key.clone() })?.as_bytes())
    }
}

fn renew(image: &Path, why: &str, events: &Events) -> Result {
    let mut old = image.as_os_str().to_owned();
    old.push(".old");
    let old = PathBuf::from(old);
    fs::rename(image, &old).map_err(|error| Error::io(format_args!("rename {}", image.display()), &error))?;
    events.note(format!("starting on a fresh disk image: {why} (the old one is now {})", old.display()));
    Ok(())
}

fn refused(image: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("the kept disk image {} does not fit: {why}", image.display()))
        .next_step(
            "run with --keep-state (without =strict) to set it aside and start fresh, or remove it yourself",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kept_image_is_what_it_was_before_a_boot_that_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("nixos.qcow2");
        let claim = |record| Claim { image: image.clone(), record, is_new: !image.exists(), before: None };
        let record = || {
            let path = folder.path().join("record");
            Some(Record { file: File::create(&path).unwrap(), path, key: String::new() })
        };
        let mut first = claim(record());
        first.set_aside(&Events::none()).await;
        fs::write(&image, "made by the boot").unwrap();
        assert!(first.put_back().await);
        assert!(!image.exists());

        fs::write(&image, "the state of a year").unwrap();
        let mut second = claim(record());
        second.set_aside(&Events::none()).await;
        fs::write(&image, "half a boot").unwrap();
        let mode = fs::metadata(&image).unwrap().permissions();
        assert!(second.put_back().await);
        assert_eq!(fs::read_to_string(&image).unwrap(), "the state of a year");
        assert_eq!(fs::metadata(&image).unwrap().permissions(), mode);
        second.not_started();
        assert!(image.exists(), "it was there before");
        assert!(!claim(record()).put_back().await, "nothing was set aside");

        let notes = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let told = std::sync::Arc::clone(&notes);
        let events = Events::new(move |event| told.lock().unwrap().push(format!("{event:?}")));
        // This holds only if the file system can't share the content of images.
        let probe = tempfile::tempfile_in(folder.path()).unwrap();
        let is_copied = !sparse_copy::share(&File::open(&image).unwrap(), &probe);
        for (large, told) in [(1, usize::from(is_copied)), (LARGE, 0)] {
            Before::of(&image, large, &events).unwrap();
            let notes = std::mem::take(&mut *notes.lock().unwrap());
            assert_eq!(notes.len(), told, "{notes:?}");
            assert!(notes.iter().all(|note| note.contains("nixos.qcow2 (0 MiB)")), "{notes:?}");
        }

        let other =
            Claim { image: folder.path().join("new.qcow2"), record: record(), is_new: true, before: None };
        fs::write(&other.image, "made by a script whose QEMU never ran").unwrap();
        other.not_started();
        assert!(!other.image.exists());

        let mut fresh = claim(None);
        fresh.set_aside(&Events::none()).await;
        assert!(fresh.put_back().await, "a fresh disk is another one at the next boot");
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 2, "the image and the record");
    }
}
