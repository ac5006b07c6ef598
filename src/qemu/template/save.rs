//! Saves a machine as a template.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::stopped::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::command_line::{CommandLine, Image, is_plain, unfit_device};
use super::layers::settle;
use super::outside::{Outside, Own, Unlisted};
use super::overlay::Format;
use super::processor::Processor;
use super::{MACHINE_FILE, MEMORY, RAM_FILE, STATE_FILE};
use crate::BuiltVm;
use crate::qemu::{Accelerator, QMP_LIMIT, Qemu, RunDirectory, reach};
use crate::{Error, ErrorKind, Result, environment, shared_file, sparse_copy, text};

/// The limit for writing the state of the devices, which is less than a MiB.
const WRITTEN: Duration = Duration::from_secs(60);

/// The RAM of a machine in a file. A machine that is to be saved is started with it.
#[derive(Debug)]
pub(crate) struct Memory {
    file: OwnedFd,
    size: String,
}

impl Memory {
    /// Creates the file in `folder`. Returns `None` if neither the run script nor a later option states how
    /// much RAM the machine has.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the file can't be made.
    pub(crate) fn create(folder: &Path, vm: &BuiltVm, options: &[String]) -> Result<Option<Self>> {
        let Some(size) = memory_of(&words(vm, options)) else { return Ok(None) };
        let path = folder.join(RAM_FILE);
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(|error| Error::io(format_args!("make {}", path.display()), &error))?;
        Ok(Some(Self { file: file.into(), size }))
    }

    /// Returns QEMU's options for the RAM, and the descriptor that they name. The options do not contain the
    /// file's path, because it may have a blank, and the run script splits options at blanks.
    pub(in crate::qemu) fn into_options(self) -> ([String; 6], OwnedFd) {
        let object = format!(
            "memory-backend-file,id={MEMORY},size={},mem-path=/proc/self/fd/{},share=on",
            self.size,
            self.file.as_raw_fd()
        );
        let machine = format!("memory-backend={MEMORY}");
        // The identity tells the guest's kernel that it is a copy (docs/specs/vmgenid.rst).
        let identity = "vmgenid,guid=auto".to_owned();
        let [of_object, of_machine, of_device] = ["-object", "-machine", "-device"].map(str::to_owned);
        ([of_object, object, of_machine, machine, of_device, identity], self.file)
    }
}

/// Returns how much RAM a machine has, in bytes, or `None` if that is not known.
pub(crate) fn memory_size(vm: &BuiltVm) -> Option<u64> {
    let size = memory_of(&words(vm, &[]))?;
    let shift = if size.ends_with('G') { 30 } else { 20 };
    size[..size.len() - 1].parse::<u64>().ok()?.checked_shl(shift)
}

/// Returns why machines of a VM can't be saved, as far as its run script shows. nixpkgs writes each option on
/// a line of its own. Other obstacles are found once a machine runs.
pub(crate) fn foreseen(vm: &BuiltVm) -> Option<String> {
    let words = words(vm, &[]);
    if memory_of(&words).is_none() {
        return Some("its run script does not say how much RAM it has".to_owned());
    }
    if let Some(why) = reach::in_text(&words) {
        return Some(why);
    }
    let has = |option: &str| words.lines().any(|line| line.trim_start().starts_with(option));
    let shared = [("-virtfs ", "9p"), ("-device vhost-user-fs", "virtiofs")];
    if let Some((_, how)) = shared.iter().find(|(option, _)| has(option)) {
        return Some(shares_folders(how));
    }
    has("-tpmdev ").then(|| TPM.to_owned())
}

/// Returns why a machine that shares folders can't be saved, and what to do about it.
pub(super) fn shares_folders(how: &str) -> String {
    format!(
        "it shares folders with the host by {how}; it could be cloned with \
         virtualisation.useNixStoreImage = true and virtualisation.sharedDirectories = lib.mkForce {{}}"
    )
}

pub(super) const TPM: &str = "it has a TPM, whose state is outside of QEMU";

/// Returns QEMU's reason why a machine can't be saved, in this program's words if the obstacle is known.
fn in_our_words(said: &str) -> String {
    match said {
        _ if said.contains("VirtFS") => shares_folders("9p"),
        _ if said.contains("vhost-user-fs") => shares_folders("virtiofs"),
        _ if said.contains("TPM") => TPM.to_owned(),
        _ => text::line(said),
    }
}

/// Returns why only one scenario at a time may run machines of this VM, as far as its run script shows.
pub(crate) fn foreseen_reach(vm: &BuiltVm, options: &[String]) -> Option<String> {
    reach::in_text(&words(vm, options))
}

/// Returns the run script and all options that come after its own. A script that can't be read counts as
/// empty.
fn words(vm: &BuiltVm, options: &[String]) -> String {
    let script = std::fs::read(vm.script()).unwrap_or_default();
    let given = environment::text("QEMU_OPTS").unwrap_or_default();
    format!("{} {given} {}", String::from_utf8_lossy(&script), options.join(" "))
}

/// Returns the value of the last `-m` in a text, with its unit.
fn memory_of(text: &str) -> Option<String> {
    let mut words = text.split_whitespace();
    let mut last = None;
    while let Some(word) = words.next() {
        if word == "-m" {
            last = words.next();
        }
    }
    let value = last?.split(',').find_map(|part| match part.split_once('=') {
        None => Some(part),
        Some(("size", size)) => Some(size),
        Some(_) => None,
    })?;
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &value[digits.len()..];
    let known = matches!(unit, "" | "M" | "m" | "G" | "g" | "MB" | "GB");
    (known && digits.parse::<u64>().is_ok_and(|count| count > 0))
        .then(|| format!("{digits}{}", unit.get(..1).unwrap_or("M").to_uppercase()))
}

/// What a template's folder states about its machine.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Description {
    pub(super) command: CommandLine,
    pub(super) accelerator: Accelerator,
    /// The first two numbers of QEMU's version.
    pub(super) version: (u64, u64),
    pub(super) images: Vec<SavedImage>,
    /// Whether the RAM is part of the state. Otherwise it is in a file of its own.
    #[serde(default)]
    pub(super) whole: bool,
    /// The files outside of the Nix store that a template was made with.
    #[serde(default)]
    pub(super) outside: Outside,
    /// The host's processor as the guest saw it, if the machine ran under KVM and QEMU described it.
    #[serde(default, rename = "seen")]
    pub(super) processor: Option<Processor>,
}

impl Description {
    /// Returns the format of an image. An image's first bytes are not used, because the guest may have
    /// written them. The default is qcow2, the format of a root disk.
    pub(super) fn format_of(&self, image: &SavedImage) -> Format {
        // If the template was made from a clone, the command states the format of the clone's layer.
        image.format.or_else(|| self.command.format_at(image.at)).unwrap_or(Format::Qcow2)
    }

    pub(super) fn write(&self, path: &Path) -> Result {
        let text = serde_json::to_vec(self)
            .map_err(|error| Error::new(ErrorKind::Other, error.to_string()).caused_by(error))?;
        std::fs::write(path, text)
            .map_err(|error| Error::io(format_args!("write {}", path.display()), &error))
    }
}

/// A disk image of a template.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedImage {
    /// The index of the option's value in the command.
    pub(super) at: usize,
    /// Its name in the template's folder.
    pub(super) saved: String,
    /// The path of a clone's own layer, relative to its run directory.
    pub(super) own: PathBuf,
    /// The format that QEMU used for it.
    #[serde(default)]
    pub(super) format: Option<Format>,
}

/// The outcome of saving a machine.
#[derive(Debug)]
pub(crate) enum Saved {
    /// The machine is saved, and its QEMU has ended.
    Done,
    /// The machine can't be saved, and continues. Holds the reason in a few words.
    Impossible(String),
}

/// A machine that can be saved, as far as that shows before it is.
#[derive(Debug)]
pub(crate) struct ToSave {
    command: CommandLine,
    disks: Vec<Image>,
    formats: Vec<Format>,
    outside: Outside,
}

impl Qemu {
    /// Examines a machine that is to be saved to `folder`, which is in `store`. The machine must have been started with
    /// a [`Memory`] in `folder`. Returns the reason in a few words if it can't be saved.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] when a file changed with which the machine was made; [`ErrorKind::Qmp`].
    pub(crate) async fn ready_to_save(
        &self,
        run_dir: &RunDirectory,
        folder: &Path,
        store: &Path,
    ) -> Result<Result<ToSave, String>> {
        let command = CommandLine::of(self.pid())?;
        if !is_plain(folder) || !is_plain(run_dir.path()) {
            return Ok(Err("the path of its files is not UTF-8, or contains a line break".to_owned()));
        }
        if !command.arguments.iter().any(|argument| argument.contains(&format!("id={MEMORY},"))) {
            return Ok(Err("its RAM is not in a file".to_owned()));
        }
        if let Some(why) = self.obstacle(&command, run_dir).await? {
            return Ok(Err(why));
        }
        let disks = command.images(run_dir.path());
        let formats = match self.formats(&command, &disks).await? {
            Ok(formats) => formats,
            Err(why) => return Ok(Err(why)),
        };
        let Some(made) = &self.made else { return Ok(Err("it was not started to be saved".to_owned())) };
        let own = Own::of(&[run_dir.path(), folder, store]);
        match Outside::of(self.pid(), &command, &own, made) {
            Ok(outside) => Ok(Ok(ToSave { command, disks, formats, outside })),
            Err(Unlisted::Never(why)) => Ok(Err(why)),
            Err(Unlisted::Changed(path)) => {
                let what =
                    format!("{} changed while the machine that was to be saved was running", path.display());
                Err(Error::new(ErrorKind::Host, what))
            }
        }
    }

    /// Saves the machine, which is stopped, to `folder` in `store`, and ends QEMU.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when a file can't be written, for example because the disk is full;
    /// [`ErrorKind::Qmp`] with QEMU's message when it can't save.
    pub(crate) async fn save(
        &self,
        ready: ToSave,
        run_dir: &RunDirectory,
        folder: &Path,
        store: &Path,
    ) -> Result<Saved> {
        let ToSave { command, disks, formats, outside } = ready;
        let version = self.version().await?;
        if let Err(error) = self.write_state(&uri(&folder.join(STATE_FILE), version)).await {
            // QEMU reports such a device only when it writes the state.
            if !error.summary().contains("non-migratable device") {
                return Err(error);
            }
            self.go_on().await?;
            return Ok(Saved::Impossible(error.summary().to_owned()));
        }
        let unwritten = self.unwritten().await;
        // QEMU may be slow to free its RAM, and the state is written already.
        let _ = self.qmp().execute("quit", None, QMP_LIMIT).await;
        let mut exit = self.exit();
        let _ = crate::stopped::timeout(QMP_LIMIT, exit.wait_for(Option::is_some)).await;
        self.clear_away().await?;
        let mut images = Vec::new();
        for (number, (image, format)) in disks.into_iter().zip(formats).enumerate() {
            let saved = format!("image{number}");
            let to = folder.join(&saved);
            moved(&image.path, &to)?;
            let format = settle(&to, format, store).await?;
            // The guest only read this image, such as that of the Nix store, so other templates may have the
            // same one.
            if image.path.to_str().is_some_and(|path| unwritten.contains(path)) {
                shared_file::share(&to)
                    .map_err(|error| Error::io(format_args!("protect {}", to.display()), &error))?;
            }
            let own = image.path.strip_prefix(run_dir.path()).unwrap_or(&image.path).to_owned();
            images.push(SavedImage { at: image.at, saved, own, format: Some(format) });
        }
        let description = Description {
            command,
            accelerator: self.accelerator(),
            version,
            images,
            whole: false,
            outside,
            processor: None,
        };
        description.write(&folder.join(MACHINE_FILE))?;
        Ok(Saved::Done)
    }

    /// Returns why the machine can't be saved, or `None` if it can.
    pub(super) async fn obstacle(
        &self,
        command: &CommandLine,
        run_dir: &RunDirectory,
    ) -> Result<Option<String>> {
        if let Some(why) = command.obstacle(run_dir.path()) {
            return Ok(Some(why));
        }
        if let Some(why) = self.unfit_device().await? {
            return Ok(Some(why));
        }
        self.blocked().await
    }

    /// Returns QEMU's own reason why the machine can't be saved now, if there is one.
    pub(in crate::qemu) async fn blocked(&self) -> Result<Option<String>> {
        let status = self.qmp().execute("query-migrate", None, QMP_LIMIT).await?;
        let why = status["blocked-reasons"].as_array().and_then(|all| all.first());
        Ok(why.map(|why| in_our_words(why.as_str().unwrap_or("QEMU does not say why"))))
    }

    /// Checks the devices that QEMU has from its command, from a file of options, or by hotplug.
    async fn unfit_device(&self) -> Result<Option<String>> {
        for place in ["/machine/peripheral", "/machine/peripheral-anon"] {
            let list = self.qmp().execute("qom-list", Some(json!({ "path": place })), QMP_LIMIT).await?;
            let kinds = list.as_array().into_iter().flatten().filter_map(|entry| entry["type"].as_str());
            let mut devices = kinds.filter_map(|kind| kind.strip_prefix("child<")?.strip_suffix('>'));
            if let Some(why) = devices.find_map(unfit_device) {
                return Ok(Some(why));
            }
        }
        Ok(None)
    }

    /// Returns the format that QEMU uses for each image, or why an image can't be saved. The image's own
    /// bytes don't count, because the guest may have written them.
    pub(super) async fn formats(
        &self,
        command: &CommandLine,
        images: &[Image],
    ) -> Result<Result<Vec<Format>, String>> {
        let blocks = self.qmp().execute("query-block", None, QMP_LIMIT).await?;
        let blocks = blocks.as_array().map(Vec::as_slice).unwrap_or_default();
        let format = |image: &Image| {
            let path = image.path.to_str();
            let its = blocks.iter().map(|block| &block["inserted"]).find(|its| its["file"].as_str() == path);
            match its.and_then(|its| its["drv"].as_str()) {
                Some("qcow2") => Ok(Format::Qcow2),
                Some("raw") => Ok(Format::Raw),
                Some(other) => Err(format!("the image {} has the format {other}", image.path.display())),
                None => command
                    .format_at(image.at)
                    .ok_or_else(|| format!("the format of the image {} is unknown", image.path.display())),
            }
        };
        Ok(images.iter().map(format).collect())
    }

    /// Returns the images that the guest did not write to, according to QEMU. This only decides which images
    /// are worth sharing: shared images are compared by their content.
    async fn unwritten(&self) -> BTreeSet<String> {
        let asked = async {
            let blocks = self.qmp().execute("query-block", None, QMP_LIMIT).await?;
            Ok::<_, Error>((blocks, self.qmp().execute("query-blockstats", None, QMP_LIMIT).await?))
        };
        asked.await.map_or_else(|_| BTreeSet::new(), |(blocks, counts)| unwritten(&blocks, &counts))
    }

    /// Writes everything except the RAM. The machine has to be stopped.
    async fn write_state(&self, uri: &str) -> Result {
        let started = Instant::now();
        self.set_migration(true).await?;
        self.qmp().execute("migrate", Some(json!({ "uri": uri })), QMP_LIMIT).await?;
        self.migrated("saving the machine", started).await
    }

    /// Sets whether the state leaves out RAM that is in files.
    pub(in crate::qemu) async fn set_migration(&self, without_files: bool) -> Result {
        let set = |name, state| json!({ "capability": name, "state": state });
        let capabilities =
            json!({ "capabilities": [set("x-ignore-shared", without_files), set("events", true)] });
        self.qmp().execute("migrate-set-capabilities", Some(capabilities), QMP_LIMIT).await.map(drop)
    }

    /// Waits until a migration to or from a file has ended.
    pub(super) async fn migrated(&self, what: &str, started: Instant) -> Result {
        let ended = |status: &str| matches!(status, "completed" | "failed" | "cancelled");
        let event = self
            .qmp()
            .wait_for_event(
                what,
                |event| event.name == "MIGRATION" && event.data["status"].as_str().is_some_and(ended),
                WRITTEN,
            )
            .await?;
        if event.data["status"] == "completed" {
            return Ok(());
        }
        let status = self.qmp().execute("query-migrate", None, QMP_LIMIT).await?;
        let why = status["error-desc"].as_str().unwrap_or("QEMU does not say why").to_owned();
        Err(Error::new(ErrorKind::Qmp, format!("{what} failed: {why}"))
            .took(started.elapsed(), WRITTEN)
            .section("QEMU's messages", self.stderr_tail()))
    }

    /// Returns the first two numbers of QEMU's version.
    pub(super) async fn version(&self) -> Result<(u64, u64)> {
        let version = self.qmp().execute("query-version", None, QMP_LIMIT).await?;
        let number = |name: &str| version["qemu"][name].as_u64().unwrap_or(0);
        Ok((number("major"), number("minor")))
    }
}

/// Returns the files of the disks that have no writes, according to QEMU's answers.
fn unwritten(blocks: &Value, counts: &Value) -> BTreeSet<String> {
    let is_unwritten = |device: &Value| {
        let its = counts.as_array()?.iter().find(|its| its["device"] == *device)?;
        let count = |name: &str| its["stats"][name].as_u64();
        Some(count("wr_operations")? == 0 && count("unmap_operations")? == 0)
    };
    let disks = blocks.as_array().into_iter().flatten();
    let disks = disks.filter(|disk| is_unwritten(&disk["device"]).unwrap_or(false));
    disks.filter_map(|disk| disk["inserted"]["file"].as_str().map(str::to_owned)).collect()
}

/// Returns a file as the target of a migration. QEMU has a scheme for files since 8.2.
pub(super) fn uri(path: &Path, version: (u64, u64)) -> String {
    let path = path.to_string_lossy();
    if version >= (8, 2) {
        return format!("file:{path}");
    }
    format!("exec:cat >'{}'", path.replace('\'', r"'\''"))
}

/// Moves an image, by copying if the target is on another file system.
pub(super) fn moved(from: &Path, to: &Path) -> Result {
    let outcome = std::fs::rename(from, to).or_else(|error| match error.kind() {
        std::io::ErrorKind::CrossesDevices => sparse_copy::copy(from, to),
        _ => Err(error),
    });
    outcome.map_err(|error| Error::io(format_args!("move {} to {}", from.display(), to.display()), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_obstacle_has_one_sentence_whatever_led_to_it() {
        let of_9p = "Migration is disabled when VirtFS export path '/nix/store' is mounted in the guest using mount_tag \
                     'nix-store'";
        for (said, ours) in [
            (of_9p, shares_folders("9p")),
            ("vhost-user-fs: state can't be saved", shares_folders("virtiofs")),
            ("TPM emulator does not support migration", TPM.to_owned()),
            ("another reason\x1b[2J", "another reason".to_owned()),
        ] {
            assert_eq!(in_our_words(said), ours);
        }
        assert!(shares_folders("9p").contains("virtualisation.useNixStoreImage = true"));
    }

    #[test]
    fn how_much_memory_a_machine_has_is_read_from_its_options() {
        for (text, size) in [
            ("exec qemu -m 1024 -smp 1", Some("1024M")),
            ("exec qemu -m 1024 \\\n -smp 1 $QEMU_OPTS \n -m 2G", Some("2G")),
            ("-m size=512,slots=2", Some("512M")),
            ("-m 1g", Some("1G")),
            ("-m $MEMORY", None),
            ("qemu -nographic", None),
        ] {
            assert_eq!(memory_of(text).as_deref(), size, "{text}");
        }
    }

    #[test]
    fn a_disk_is_unwritten_where_qemu_counted_no_write_and_nothing_that_was_given_up() {
        let disk =
            |device: &str| json!({ "device": device, "inserted": { "file": format!("/run/{device}") } });
        let counts = |device: &str, stats: Value| json!({ "device": device, "stats": stats });
        let none =
            json!({ "wr_operations": 0, "unmap_operations": 0, "flush_operations": 3, "rd_operations": 9 });
        let blocks = json!([disk("read"), disk("written"), disk("unmapped"), disk("old"), disk("unknown"), { "device": "cd" }]);
        let counts = json!([
            counts("written", json!({ "wr_operations": 1, "unmap_operations": 0 })),
            counts("read", none.clone()),
            counts("unmapped", json!({ "wr_operations": 0, "unmap_operations": 1 })),
            counts("old", json!({ "wr_operations": 0 })),
            counts("cd", none),
        ]);
        assert_eq!(unwritten(&blocks, &counts), BTreeSet::from(["/run/read".to_owned()]));
        assert!(unwritten(&json!(null), &json!({})).is_empty());
    }

    #[test]
    fn a_file_is_named_as_the_version_takes_it() {
        let path = Path::new("/a b/it's");
        assert_eq!(uri(path, (10, 0)), "file:/a b/it's");
        assert_eq!(uri(path, (7, 2)), r"exec:cat >'/a b/it'\''s'");
    }
}
