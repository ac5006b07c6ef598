//! Makes a system that is built on the host available in a running machine, or says why the machine can't switch to it.
//!
//! A machine that mounts the host's store has the system already. A machine whose store can be written gets the missing
//! paths as a copy. A machine whose store is a read-only image gets them as a disk: QEMU plugs it in, and an overlay
//! over the live store shows both. The overlay stays until the machine is off, because running programs use it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::PROGRAM;
use crate::machine::command_text::quoted;
use crate::machine::system::System;
use crate::machine::{Life, Machine};
use crate::{BuiltVm, Error, ErrorKind, Result, nix, presence, threads};

/// The limit for a step in the machine, on a fast host.
const STEP: Duration = Duration::from_secs(5 * 60);
/// The longest program or run script that is searched, in bytes.
const LONGEST: u64 = 4 << 20;
/// The name of the boot loader's installer in a VM without a boot loader; see `src/nix/clonable.nix`.
const NO_BOOT_LOADER: &[u8] = b"nixvm-no-boot-loader";
/// Mount points that belong to the VM and not to the configuration.
const OF_THE_VM: [&str; 5] = ["/", "/nix", "/nix/store", "/nix/.ro-store", "/nix/.rw-store"];

/// The list of the store paths in the machine that are being copied. It is there until all of them are complete.
const BRINGING: &str = "/run/nixvm-bringing";

/// The systems that were registered with the machine's Nix since it booted.
const KNOWN: &str = "/run/nixvm-known-systems";

/// Prints `yes` if the store can be written, for root in a mount namespace of its own. What is written over a disk that
/// was plugged in would fill the machine's memory.
const IS_WRITABLE: &str = "[ ! -e /run/nixvm-store/disks ] && unshare -m sh -c 'mount -o remount,bind,rw /nix/store \
                           2>/dev/null; mkdir /nix/store/.nixvm-try 2>/dev/null && rmdir /nix/store/.nixvm-try && echo yes' \
                           || true";

/// Mounts the disk `$disk` over the live store. A link to the store as it was is kept as the lowest layer, since an
/// overlay on an overlay of an overlay is not possible. The link is private: what is mounted over the store would else
/// be mounted over it, too. The store keeps its owner and its mode, and stays read-only as
/// NixOS has it; Nix itself makes it writable for its own processes.
const OVERLAY: &str = r#"base=/run/nixvm-store; mkdir -p $base/store
mountpoint -q $base/store || { mount --bind /nix/store $base/store; mount --make-private $base/store; }
mkdir -p $base/$disk $base/upper-$disk $base/work-$disk
for i in 1 2 3 4 5 6 7 8 9 10; do [ ! -b /dev/disk/by-id/virtio-$disk ] || break; udevadm settle --timeout=5 || true; sleep 0.5; done
mount -t erofs -o ro /dev/disk/by-id/virtio-$disk $base/$disk
chown --reference=/nix/store $base/upper-$disk; chmod --reference=/nix/store $base/upper-$disk
echo "$disk" >>$base/disks
lower=$base/store
while read -r name; do lower=$base/$name:$lower; done <$base/disks
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$base/upper-$disk,workdir=$base/work-$disk" /nix/store
mount -o remount,bind,ro /nix/store"#;

/// Makes systems known to the machine's Nix, so that its own tools accept them. A machine without Nix needs nothing. Nix
/// has no database yet where it could not write to the store at boot.
const REGISTER: &str = "if command -v nix-store >/dev/null; then \
                        LC_ALL=C NIX_CONFIG='build-users-group =' nix-store --load-db; else cat >/dev/null; fi";
/// What Nix says of a read-only image with nothing over it, in which none of its commands works.
const NO_NIX_WORKS: &str = "Read-only file system";

/// Returns the path of a specialisation.
pub(super) fn specialisation(system: &System, path: &Path, name: &str) -> Result<PathBuf> {
    let folder = path.join("specialisation");
    let names = || -> Vec<String> {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let is_name = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
    if is_name && folder.join(name).is_dir() {
        // It is a link, and the machine's own link leads to where it leads.
        let path = folder.join(name);
        return path
            .canonicalize()
            .map_err(|error| Error::io(format_args!("find {}", path.display()), &error));
    }
    let summary = format!("{system} has no specialisation `{name}`");
    let error = Error::new(ErrorKind::Usage, summary);
    Err(match names().as_slice() {
        [] => error.next_step(format!("define specialisation.{name}.configuration")),
        names => error.section("it has", names.join("\n")),
    })
}

/// Returns the path of the system that runs: `system` itself, or its specialisation that the machine names. What a machine
/// says is not opened.
pub(super) fn running(system: PathBuf, current: &str) -> PathBuf {
    let entries = fs::read_dir(system.join("specialisation")).into_iter().flatten().flatten();
    let mut paths = entries.filter_map(|entry| entry.path().canonicalize().ok());
    paths.find(|path| path == Path::new(current)).unwrap_or(system)
}

/// Checks that a system can switch a machine to itself.
pub(super) fn has_program(system: &System, path: &Path) -> Result {
    if presence::is_known_absent(&path.join(PROGRAM)) {
        let summary = format!("{system} has no {PROGRAM}: a machine can't switch to it");
        return Err(Error::new(ErrorKind::Usage, summary)
            .section("looked at", path.display().to_string())
            .likely_cause("system.switch.enable or system.activatable is off")
            .next_step("turn it on, or rehearse the change by a reboot: `reboot_into(&next)`"));
    }
    Ok(())
}

/// Checks that two systems mount the parts of the VM alike. A switch would otherwise unmount the root or the store.
pub(super) fn same_mounts(current: &Path, next: &Path) -> Result {
    let (current, next) = (mounts_of(current)?, mounts_of(next)?);
    let differing: Vec<String> = OF_THE_VM
        .iter()
        .filter(|mount| line_of(&current, mount) != line_of(&next, mount))
        .flat_map(|mount| {
            let line =
                |fstab: &str| line_of(fstab, mount).unwrap_or_else(|| format!("(no line for {mount})"));
            [format!("now:  {}", line(&current)), format!("next: {}", line(&next))]
        })
        .collect();
    if differing.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Usage,
        "the two systems mount parts of the VM differently: no switch is possible",
    )
    .section("lines of etc/fstab", differing.join("\n"))
    .likely_cause("the two VMs are built in different ways, for example one of them with a store image")
    .next_step("build both from the same kind of source, with the same virtualisation options"))
}

fn mounts_of(system: &Path) -> Result<String> {
    let path = system.join("etc/fstab");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text),
        Err(error) if presence::is_absent(&error) => Ok(String::new()),
        Err(error) => Err(Error::io(format_args!("read {}", path.display()), &error)),
    }
}

/// Returns the fields of the line for a mount point, with single blanks.
fn line_of(fstab: &str, mount: &str) -> Option<String> {
    let fields = |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    let lines = fstab.lines().map(str::trim).filter(|line| !line.starts_with('#')).map(fields);
    let mut lines = lines.filter(|fields| fields.get(1).is_some_and(|path| path == mount));
    lines.next().map(|fields| fields.join(" "))
}

/// Whether the kernel of a VM comes from its run script, and not from a boot loader on its disk.
pub(crate) fn is_direct(vm: &BuiltVm) -> Result<bool> {
    Ok(memchr::memmem::find(&head_of(vm.script())?, b"-kernel ").is_some())
}

/// Whether a VM has a disk image that stays when the machine is off.
pub(super) fn has_disk(vm: &BuiltVm) -> Result<bool> {
    Ok(memchr::memmem::find(&head_of(vm.script())?, b"NIX_DISK_IMAGE").is_some())
}

/// Whether the program at this path of a system installs no boot loader.
pub(super) fn installs_nothing(path: &Path) -> bool {
    // If it can't be read, the program's own error tells more.
    head_of(&path.join(PROGRAM)).is_ok_and(|text| memchr::memmem::find(&text, NO_BOOT_LOADER).is_some())
}

/// Returns the program in a run script that makes the image of the store, if the machine's store is one.
fn image_maker(vm: &BuiltVm) -> Result<Option<PathBuf>> {
    let script = head_of(vm.script())?;
    let script = String::from_utf8_lossy(&script);
    let mut words = script.split(|c: char| c.is_whitespace() || "\"'()$`;|&".contains(c));
    let maker = words.rfind(|word| word.starts_with('/') && word.ends_with("/mkfs.erofs"));
    Ok(maker.map(PathBuf::from))
}

async fn closure_of(system: PathBuf) -> Result<Vec<PathBuf>> {
    let closure = threads::aside(move || nix::closure(&system)).await;
    closure.map_err(|error| Error::io("ask Nix for the closure of a system", &error))?
}

fn head_of(file: &Path) -> Result<Vec<u8>> {
    let failed = |error| Error::io(format_args!("read {}", file.display()), &error);
    let mut text = Vec::new();
    fs::File::open(file).map_err(failed)?.take(LONGEST).read_to_end(&mut text).map_err(failed)?;
    Ok(text)
}

impl Machine {
    /// Makes every path of a system available in the machine's store.
    pub(super) async fn bring(&self, life: &Life, system: &System) -> Result {
        let path = system.path()?;
        let program = quoted(&path.join(PROGRAM).display().to_string());
        let known = quoted(&path.display().to_string());
        let here = format!(
            "if [ -e {program} ] && [ ! -e {BRINGING} ]; then \
             if grep -qsxF {known} {KNOWN}; then echo known; else echo there; fi; fi"
        );
        let here = self.root().command(&here).within(STEP).named("whether the machine has the system");
        let here = here.output().await?.text().trim().to_owned();
        if here == "known" {
            return Ok(());
        }
        let _step = life.step(format!("bring {system} into the machine's store"));
        if here != "there" {
            self.bring_missing(life, system, &closure_of(path.to_owned()).await?).await?;
        }
        // A machine whose store is there needs no Nix on this host for the switch itself.
        if let Err(error) = self.register(life, path, &known).await {
            let why = error.summary();
            life.events.note(format!("{}: the machine's own Nix does not know {system}: {why}", life.name));
        }
        Ok(())
    }

    /// Makes a system known to the machine's Nix, and the one that runs: a store whose database could not be written at
    /// boot knows not even that one.
    async fn register(&self, life: &Life, path: &Path, known: &str) -> Result {
        let mut paths: BTreeSet<PathBuf> = closure_of(path.to_owned()).await?.into_iter().collect();
        if let Some(current) = self.current_path().filter(|current| current != path) {
            paths.extend(closure_of(current).await?);
        }
        let registration = nix::registration(&paths.into_iter().collect::<Vec<_>>(), &life.events).await?;
        let register = self.root().command(REGISTER).stdin(registration).within(STEP);
        let registered = register.named("register the system with Nix").output().await?;
        let said = crate::text::line(String::from_utf8_lossy(registered.stderr()).trim());
        if registered.success() || said.contains(NO_NIX_WORKS) {
            self.root().command(format!("echo {known} >>{KNOWN}")).within(STEP).output().await?;
            return Ok(());
        }
        Err(Error::new(ErrorKind::CommandFailed, said))
    }

    /// Brings the paths of a system that the machine's store lacks.
    async fn bring_missing(&self, life: &Life, system: &System, closure: &[PathBuf]) -> Result {
        // What a copy that was broken off has begun is copied again.
        let list = format!(
            "ls -1U /nix/store | if [ -s {BRINGING} ]; then grep -vxFf {BRINGING}; else cat; fi || true"
        );
        let listed =
            self.root().command(&list).within(STEP).named("list the machine's store").output().await?;
        let there: BTreeSet<&str> = listed.lines().collect();
        let is_missing = |path: &&PathBuf| {
            path.file_name().is_some_and(|name| !there.contains(name.to_string_lossy().as_ref()))
        };
        let missing: Vec<&PathBuf> = closure.iter().filter(is_missing).collect();
        let staged = nix::stage(&missing, &self.run_directory().join("tmp")).await?;
        let brought = async {
            if self.answers_yes(IS_WRITABLE, "whether the store can be written").await? {
                let names: Vec<_> = missing.iter().filter_map(|path| path.file_name()?.to_str()).collect();
                return self.copy_into_store(staged.path(), &names.join("\n")).await;
            }
            let vm = self.history(|history| history.starts().cloned());
            let maker = match &vm {
                Some(vm) => image_maker(vm)?,
                None => None,
            };
            match maker {
                Some(maker) => self.plug_into_store(&maker, staged.path()).await,
                None => {
                    let summary =
                        format!("{}: {system} can't be brought into the machine's store", life.name);
                    Err(Error::new(ErrorKind::Usage, summary)
                        .likely_cause("the store is read-only, and the VM's run script makes no image of it")
                        .next_step("set virtualisation.useNixStoreImage or virtualisation.mountHostNixStore"))
                }
            }
        };
        brought.await
    }

    async fn answers_yes(&self, question: &str, name: &str) -> Result<bool> {
        let output = self.root().command(question).within(STEP).named(name).output().await?;
        Ok(output.text().trim() == "yes")
    }

    /// Copies paths into a store that can be written.
    async fn copy_into_store(&self, staged: &Path, names: &str) -> Result {
        self.write_file(BRINGING, names).await?;
        self.step_in_store("mount -o remount,bind,rw /nix/store 2>/dev/null || true").await?;
        let copied = self.root().within(STEP).copy_to(staged, "/nix/store").await;
        self.step_in_store("mount -o remount,bind,ro /nix/store 2>/dev/null || true").await?;
        copied?;
        self.step_in_store(&format!("rm -f {BRINGING}")).await
    }

    /// Plugs in a disk with paths, and mounts it over the store.
    async fn plug_into_store(&self, maker: &Path, staged: &Path) -> Result {
        let number = self.history(|history| history.next_disk());
        let name = format!("nixvm-store-{number}");
        let image = self.run_directory().join("tmp").join(format!("{name}.img"));
        nix::store_image(maker, staged, &image).await?;
        self.hot_plug_disk(&name, image.clone()).await?;
        self.history(|history| history.plugged(image));
        self.step_in_store(&format!("disk={name}\n{OVERLAY}")).await
    }

    async fn step_in_store(&self, text: &str) -> Result {
        let output =
            self.root().command(text).within(STEP).named("mount the machine's store").output().await?;
        if output.success() {
            return Ok(());
        }
        let summary = format!("{}: the system could not be brought into the machine's store", self.name());
        Err(self.life().with_outputs(Error::new(ErrorKind::CommandFailed, summary), &output))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(fstab: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("etc")).unwrap();
        fs::write(folder.path().join("etc/fstab"), fstab).unwrap();
        folder
    }

    #[test]
    fn systems_that_mount_the_vm_differently_are_refused_with_the_lines() {
        let today = system("/dev/disk/by-label/nixos / ext4 x 0 1\nnix-store /nix/.ro-store 9p a 0 0\n");
        let same = system(
            "# a comment\n/dev/disk/by-label/nixos  /  ext4 x 0 1\nnix-store /nix/.ro-store 9p a 0 0\ntmp /data tmpfs x 0 0\n",
        );
        let image = system(
            "/dev/disk/by-label/nixos / ext4 x 0 1\n/dev/disk/by-label/nix-store /nix/.ro-store erofs a 0 0\n",
        );
        same_mounts(today.path(), same.path()).unwrap();
        let error = same_mounts(today.path(), image.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        let text = error.to_string();
        assert!(text.contains("9p") && text.contains("erofs") && !text.contains("ext4"), "{text}");
        // A toplevel that is no VM has no line for the root.
        let plain = system("");
        assert!(same_mounts(today.path(), plain.path()).unwrap_err().to_string().contains("(no line for /)"));
    }

    #[test]
    fn a_specialisation_is_found_by_its_name_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("specialisation/fast")).unwrap();
        let next = System::recorded("next", "next.nix".to_owned());
        let fast = folder.path().join("specialisation/fast").canonicalize().unwrap();
        assert_eq!(specialisation(&next, folder.path(), "fast").unwrap(), fast);
        for name in ["slow", "", "..", "../specialisation/fast"] {
            let error = specialisation(&next, folder.path(), name).unwrap_err().to_string();
            assert!(error.contains("fast"), "{name}: {error}");
        }
        let base = folder.path().to_owned();
        assert_eq!(running(base.clone(), &fast.display().to_string()), fast);
        for other in ["/etc", "", &base.display().to_string()] {
            assert_eq!(running(base.clone(), other), base, "{other}");
        }
    }

    #[test]
    fn a_store_with_a_disk_over_it_gets_another_disk_and_no_copy_in_memory() {
        let disks = tempfile::NamedTempFile::new().unwrap();
        let asked = |text: &str| {
            let text = text.replace("/run/nixvm-store/disks", &disks.path().display().to_string());
            let text = text.replace("unshare -m sh -c ", "echo would try: ");
            let output = std::process::Command::new("bash").args(["-euo", "pipefail", "-c", &text]).output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        };
        assert_eq!(asked(IS_WRITABLE), "");
        assert!(asked(&IS_WRITABLE.replace("/run/nixvm-store/disks", "/nowhere")).contains("would try"));
    }

    #[test]
    fn a_system_without_the_program_is_refused_with_the_option() {
        let folder = tempfile::tempdir().unwrap();
        let next = System::recorded("next", "next.nix".to_owned());
        let error = has_program(&next, folder.path()).unwrap_err().to_string();
        assert!(error.contains("system.switch.enable"), "{error}");
    }
}
