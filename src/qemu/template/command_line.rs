//! The command that a QEMU was started with, and the command that starts a clone of it.
//!
//! A clone does not run the run script again: the script has already made its images and set its variables.
//! The command comes from /proc, so a clone gets the same machine from any script.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::MEMORY;
use super::overlay::{self, Format};
use super::properties::Properties;
use super::save::{TPM, shares_folders};
use crate::qemu::cards::is_our_backend;
use crate::qemu::reach;
use crate::{Error, Result};

/// Devices that keep a machine from being cloned: how the device's name begins, and the reason. The first
/// match gives the reason.
const UNFIT_DEVICES: [(&str, &str); 16] = [
    ("vfio", "it uses a device of the host"),
    ("usb-host", "it uses a device of the host"),
    ("usb-redir", "it uses a device of another host"),
    ("usb-mtp", "it shares a folder with the host"),
    ("scsi-generic", "it uses a device of the host"),
    ("scsi-block", "it uses a device of the host"),
    ("ccid-card-", "it uses a smart card of the host"),
    ("vhost-vsock", "no two machines of a host can have the same CID"),
    ("vhost-user", "it depends on another process"),
    ("vhost-", "it depends on the host's kernel"),
    ("ivshmem", "it shares memory with other machines"),
    // QEMU punches what the guest gives back out of the file that all clones read
    // (docs/system/vm-templating.rst).
    ("virtio-balloon", MEMORY_SHRINKS),
    ("hv-balloon", MEMORY_SHRINKS),
    ("virtio-mem", MEMORY_SHRINKS),
    ("virtio-pmem", "it writes to memory that is a file"),
    ("x-pci-proxy", "a part of it is another process"),
];
const MEMORY_SHRINKS: &str = "its memory can shrink, which would change the memory of all clones";
const TEMPORARY: &str = "its writes to a disk are discarded (snapshot=on)";

/// A QEMU command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::qemu) struct CommandLine {
    pub(in crate::qemu) program: PathBuf,
    /// The arguments after the program's name.
    pub(super) arguments: Vec<String>,
}

/// Where a clone's RAM is.
#[derive(Debug)]
pub(super) enum Ram {
    /// A file that is mapped privately. If `sealed`, QEMU opens it read-only.
    Private { file: PathBuf, sealed: bool },
    /// A file that QEMU writes to, because the clone is to be saved.
    Shared(PathBuf),
    /// The RAM is part of the state of the devices.
    InState,
}

/// A disk image of a clone, which replaces an image of the original machine.
#[derive(Debug)]
pub(super) struct OwnImage {
    /// The index of the option's value among the arguments.
    pub(super) at: usize,
    pub(super) path: PathBuf,
    pub(super) format: Format,
}

/// A disk image that a machine writes to, or that lies in its run directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Image {
    /// The index of the option's value among the arguments.
    pub(super) at: usize,
    /// The image's path, as the option names it.
    pub(super) path: PathBuf,
}

impl CommandLine {
    /// Reads the command of a running process.
    pub(in crate::qemu) fn of(pid: u32) -> Result<Self> {
        let program = std::fs::read_link(format!("/proc/{pid}/exe"));
        let program = program.map_err(|error| Error::io("find the QEMU that runs", &error))?;
        let command = std::fs::read(format!("/proc/{pid}/cmdline"));
        let command = command.map_err(|error| Error::io("read the command of the QEMU that runs", &error))?;
        let command = command.strip_suffix(b"\0").unwrap_or(&command);
        let arguments = command.split(|byte| *byte == 0).skip(1);
        // A lossy conversion would name another file, so a VM with a path that is not UTF-8 is not cloned.
        let arguments: Result<Vec<_>, _> =
            arguments.map(|word| std::str::from_utf8(word).map(str::to_owned)).collect();
        match arguments {
            Ok(arguments) => Ok(Self { program, arguments }),
            Err(_) => Err(Error::new(crate::ErrorKind::Host, "QEMU's command is not UTF-8")),
        }
    }

    /// Returns the image format that a drive's option states.
    pub(super) fn format_at(&self, at: usize) -> Option<Format> {
        match Properties::parse(self.arguments.get(at)?).get("format")? {
            "raw" => Some(Format::Raw),
            "qcow2" => Some(Format::Qcow2),
            _ => None,
        }
    }

    /// Returns each option with the index of its value and the value.
    pub(super) fn options(&self) -> impl Iterator<Item = (&str, usize, &str)> {
        self.arguments.windows(2).enumerate().filter_map(|(at, pair)| {
            let [option, value] = pair else { return None };
            Some((option.strip_prefix("--").or(option.strip_prefix('-'))?, at + 1, value.as_str()))
        })
    }

    /// Returns why this machine can't be cloned, or `None` if it can. The reasons are what a clone would
    /// share with other machines, and state that lives outside of QEMU.
    pub(super) fn obstacle(&self, run_dir: &Path) -> Option<String> {
        if let Some(why) = reach::in_command(&self.arguments) {
            return Some(why);
        }
        let run_dir = run_dir.to_string_lossy();
        for (option, at, value) in self.options() {
            let properties = Properties::parse(value);
            let named = |key| properties.get(key).unwrap_or(value).to_owned();
            match option {
                "virtfs" | "fsdev" => return Some(shares_folders("9p")),
                "tpmdev" => return Some(TPM.to_owned()),
                "device" if value.starts_with("vhost-user-fs") => return Some(shares_folders("virtiofs")),
                "device" => {
                    let device = reach::kind_of(value, "driver");
                    if let Some(why) = unfit_device(device.as_deref().unwrap_or(value)) {
                        return Some(why);
                    }
                }
                "chardev" if properties.get("path").is_some() && !properties.is_on("server") => {
                    return Some(format!("it depends on another process ({})", named("path")));
                }
                "drive" => {
                    if let Err(why) = self.image(at, value, &run_dir) {
                        return Some(why);
                    }
                }
                "snapshot" => return Some(TEMPORARY.to_owned()),
                // The value of the memory option is set by this program, and names a descriptor.
                _ if value.contains(&*run_dir) => {
                    return Some(format!("-{option} names a file of its run: {value}"));
                }
                _ => {}
            }
        }
        None
    }

    /// Returns the ids of this machine's backends on networks of its scenario.
    pub(super) fn backends(&self) -> Vec<String> {
        let ours = self.options().filter(|(option, _, value)| *option == "netdev" && is_our_backend(value));
        ours.filter_map(|(_, _, value)| Properties::parse(value).get("id").map(str::to_owned)).collect()
    }

    /// Returns the images for which a clone needs a layer of its own.
    pub(super) fn images(&self, run_dir: &Path) -> Vec<Image> {
        let run_dir = run_dir.to_string_lossy();
        let drives = self.options().filter(|(option, ..)| *option == "drive");
        drives.filter_map(|(_, at, value)| self.image(at, value, &run_dir).ok().flatten()).collect()
    }

    /// Returns the image of a drive, or `None` if the image is read-only and lies outside of the run
    /// directory.
    fn image(&self, at: usize, value: &str, run_dir: &str) -> Result<Option<Image>, String> {
        let properties = Properties::parse(value);
        let Some(path) = properties.get("file") else { return Ok(None) };
        if properties.is_on("snapshot") {
            return Err(format!("{TEMPORARY}: {path}"));
        }
        // QEMU treats a path with a scheme, such as `nbd:`, `ssh:`, `fat:` or `json:`, as something other
        // than a file.
        if path.split_once(':').is_some_and(|(before, _)| before != "file" && !before.contains('/')) {
            return Err(format!("it uses a disk that is not a file of this host: {path}"));
        }
        if Path::new(path).starts_with(run_dir) {
            return Ok(Some(Image { at, path: path.into() }));
        }
        if properties.is_on("readonly") || path.starts_with("/nix/store/") {
            return Ok(None);
        }
        Err(format!("it writes to an image outside of its run: {path}"))
    }

    /// Returns the arguments of a clone that waits to be given its state. `images` are the clone's own
    /// images. `sockets` maps the ids of character devices and network backends to descriptors.
    pub(super) fn of_clone(&self, ram: &Ram, images: &[OwnImage], sockets: &[(String, i32)]) -> Vec<String> {
        let mut arguments = self.arguments.clone();
        for (option, at, value) in self.options() {
            let mut properties = Properties::parse(value);
            match option {
                "object" if properties.get("id") == Some(MEMORY) => {
                    // A template that was made from a clone may have these already.
                    ["readonly", "rom"].iter().for_each(|key| properties.remove(key));
                    let (file, share) = match ram {
                        Ram::Private { file, sealed } => {
                            if *sealed {
                                properties.set("readonly", "on");
                                properties.set("rom", "off");
                            }
                            (file, "off")
                        }
                        Ram::Shared(file) => (file, "on"),
                        Ram::InState => {
                            let size = properties.get("size").unwrap_or_default();
                            arguments[at] = format!("memory-backend-ram,id={MEMORY},size={size}");
                            continue;
                        }
                    };
                    properties.set("mem-path", file.to_string_lossy());
                    properties.set("share", share);
                }
                "chardev" | "netdev" => {
                    if !take_socket(option, &mut properties, sockets) {
                        continue;
                    }
                }
                "drive" => {
                    let Some(image) = images.iter().find(|image| image.at == at) else { continue };
                    properties.set("file", image.path.to_string_lossy());
                    properties.set("format", image.format.name());
                }
                // A new identity tells the guest's kernel that it is a copy, and the kernel reseeds its
                // random number generator.
                "device" if properties.head() == "vmgenid" => properties.set("guid", "auto"),
                _ => continue,
            }
            arguments[at] = properties.to_string();
        }
        arguments.extend(["-S", "-incoming", "defer"].map(str::to_owned));
        arguments
    }
}

/// Returns why a machine with this device can't be cloned, or `None` if it can.
pub(super) fn unfit_device(device: &str) -> Option<String> {
    let (_, why) = UNFIT_DEVICES.iter().find(|(name, _)| device.starts_with(name))?;
    Some(format!("{why} ({device})"))
}

/// Options that disable what QEMU opens by default, and leave the guest's devices as they are. The first
/// `-audiodev` serves every device that names none.
pub(super) const CLOSED: [&str; 7] =
    ["-display", "none", "-monitor", "none", "-audiodev", "none,id=nixvm-silence", "-no-user-config"];

/// Commands that start the same machine again in another process.
impl CommandLine {
    /// Returns the command with the values that only process `pid` has replaced by lasting ones: the path of
    /// the RAM's file instead of a descriptor, and the machine's identity. With another identity the guest's
    /// kernel would believe that it is a copy.
    pub(in crate::qemu) fn repeatable(mut self, pid: u32, identity: Option<&str>) -> Self {
        let mut changed = Vec::new();
        for (option, at, value) in self.options() {
            let mut properties = Properties::parse(value);
            match (option, identity) {
                ("object", _) if properties.get("id") == Some(MEMORY) => {
                    let descriptor =
                        properties.get("mem-path").and_then(|path| path.strip_prefix("/proc/self/fd/"));
                    let Some(descriptor) = descriptor else { continue };
                    let Ok(file) = std::fs::read_link(format!("/proc/{pid}/fd/{descriptor}")) else {
                        continue;
                    };
                    properties.set("mem-path", file.to_string_lossy());
                }
                ("device", Some(identity)) if properties.head() == "vmgenid" => {
                    properties.set("guid", identity)
                }
                _ => continue,
            }
            changed.push((at, properties.to_string()));
        }
        for (at, value) in changed {
            self.arguments[at] = value;
        }
        self
    }

    /// Returns the arguments of a QEMU that is stopped and does not wait for a state. `sockets` maps the ids
    /// of character devices and network backends to descriptors.
    pub(in crate::qemu) fn again(&self, sockets: &[(String, i32)]) -> Vec<String> {
        let mut arguments = self.arguments.clone();
        for (option, at, value) in self.options() {
            let mut properties = Properties::parse(value);
            if take_socket(option, &mut properties, sockets) {
                arguments[at] = properties.to_string();
            }
            // All RAM comes with the moment's state. Comparing it with each page of the template would take
            // longer.
            let is_memory = option == "object" && properties.get("id") == Some(MEMORY);
            if is_memory && properties.get("share") == Some("off") {
                let size = properties.get("size").unwrap_or_default();
                arguments[at] = format!("memory-backend-ram,id={MEMORY},size={size}");
            }
        }
        // A clone's command has `-incoming defer` once for each generation of templates behind it.
        while let Some(at) = arguments.windows(2).position(|pair| pair == ["-incoming", "defer"]) {
            arguments.drain(at..at + 2);
        }
        if !arguments.iter().any(|argument| argument == "-S") {
            arguments.push("-S".to_owned());
        }
        arguments
    }

    /// Returns which helper process of this machine ends together with its QEMU, or `None` if it has none.
    pub(in crate::qemu) fn helper(&self) -> Option<String> {
        self.options().find_map(|(option, _, value)| match option {
            "tpmdev" => Some("it has a TPM, whose process ends with QEMU".to_owned()),
            "device" if value.starts_with("vhost-user-") => {
                let device = Properties::parse(value).head().to_owned();
                Some(format!("a process that ends with QEMU serves its device {device}"))
            }
            _ => None,
        })
    }
}

/// Gives an option the descriptor of the socket with its id. Returns whether there is one.
fn take_socket(option: &str, properties: &mut Properties, sockets: &[(String, i32)]) -> bool {
    let key = match option {
        "chardev" => "fd",
        "netdev" => "local.str",
        _ => return false,
    };
    let id = properties.get("id");
    let Some((_, fd)) = sockets.iter().find(|(its, _)| Some(its.as_str()) == id) else { return false };
    properties.set(key, fd.to_string());
    true
}

/// Whether QEMU takes this path literally inside an option's value.
pub(super) fn is_plain(path: &Path) -> bool {
    path.to_str().is_some() && !path.as_os_str().as_bytes().contains(&b'\n')
}

/// Creates the image `path` as a layer over `below`, which has the format `format`.
pub(super) fn layer(path: &Path, below: &Path, format: Format) -> Result {
    let made = overlay::create(path, below, format);
    made.map_err(|error| Error::io(format_args!("make a disk over {}", below.display()), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> CommandLine {
        CommandLine {
            program: "/bin/qemu".into(),
            arguments: text.split_whitespace().map(str::to_owned).collect(),
        }
    }

    const RUN: &str = "/var/tmp/nixvm-0/ab.1";
    const NIXOS: &str = "-machine accel=tcg -m 1024 -drive cache=writeback,file=/var/tmp/nixvm-0/ab.1/disk.qcow2,id=drive1,if=none \
        -drive file=/var/tmp/nixvm-0/ab.1/tmp/store.img,format=raw,id=drive2,if=none \
        -drive if=pflash,format=raw,unit=0,readonly=on,file=/nix/store/x/OVMF_CODE.fd -nographic \
        -object memory-backend-file,id=nixvm-memory,size=1024M,mem-path=/proc/self/fd/9,share=on \
        -chardev socket,id=nixvm-console,fd=7 -netdev dgram,id=nixvm-vlan1,local.type=fd,local.str=8 -device vmgenid,guid=12345678-1234-1234-1234-123456789abc";

    fn private(sealed: bool) -> Ram {
        Ram::Private { file: "/t/memory".into(), sealed }
    }

    #[test]
    fn a_clone_has_disks_memory_and_sockets_of_its_own_and_else_the_same_command() {
        let command = command(NIXOS);
        let run = Path::new(RUN);
        assert_eq!(command.obstacle(run), None);
        let images = command.images(run);
        assert_eq!(images.len(), 2);
        let own = |formats: [Format; 2]| -> Vec<OwnImage> {
            let own = |(image, format): (&Image, Format)| OwnImage {
                at: image.at,
                path: format!("/c/{}", image.at).into(),
                format,
            };
            images.iter().zip(formats).map(own).collect()
        };
        let layers = own([Format::Qcow2, Format::Qcow2]);
        let clone = command
            .of_clone(
                &private(false),
                &layers,
                &[("nixvm-console".to_owned(), 21), ("nixvm-vlan1".to_owned(), 23)],
            )
            .join(" ");
        for part in [
            "cache=writeback,file=/c/5,id=drive1,if=none,format=qcow2",
            "file=/c/7,format=qcow2,id=drive2,if=none",
            "readonly=on,file=/nix/store/x/OVMF_CODE.fd",
            "mem-path=/t/memory,share=off",
            "socket,id=nixvm-console,fd=21",
            "dgram,id=nixvm-vlan1,local.type=fd,local.str=23 ",
            "vmgenid,guid=auto",
            "-S -incoming defer",
        ] {
            assert!(clone.contains(part), "{part}: {clone}");
        }
        assert!(clone.starts_with("-machine accel=tcg -m 1024 "), "{clone}");
        assert!(!clone.contains("rom="), "an older QEMU does not know it: {clone}");
        // Clones open the shared memory read-only. A clone that is to be saved writes to its own memory.
        let sealed = command.of_clone(&private(true), &layers, &[]);
        assert!(sealed.join(" ").contains("mem-path=/t/memory,share=off,readonly=on,rom=off "), "{sealed:?}");
        let again = CommandLine { program: "/bin/qemu".into(), arguments: sealed };
        let again = again.of_clone(&Ram::Shared("/u/memory".into()), &layers, &[]).join(" ");
        assert!(
            again.contains("mem-path=/u/memory,share=on ") && !again.contains("readonly=on,rom"),
            "{again}"
        );
        let copies = own([Format::Qcow2, Format::Raw]);
        let to_save = command.of_clone(&Ram::Shared("/t/memory".into()), &copies, &[]).join(" ");
        assert!(to_save.contains("file=/c/7,format=raw,id=drive2"), "its images are copies: {to_save}");
        assert!(to_save.contains("file=/c/5,id=drive1,if=none,format=qcow2"), "{to_save}");
        let kept = command.of_clone(&Ram::InState, &layers, &[]).join(" ");
        assert!(kept.contains("-object memory-backend-ram,id=nixvm-memory,size=1024M "), "{kept}");
        assert!(kept.contains("file=/c/7,format=qcow2"), "its disks are layers: {kept}");
    }

    #[test]
    fn the_same_machine_once_more_waits_for_no_state_and_has_sockets_of_its_own() {
        let clone =
            command(&format!("{NIXOS} -S -incoming defer -S -incoming defer")).repeatable(0, Some("0-1"));
        let again =
            clone.again(&[("nixvm-console".to_owned(), 21), ("nixvm-vlan1".to_owned(), 23)]).join(" ");
        for part in ["socket,id=nixvm-console,fd=21", "vmgenid,guid=0-1", "mem-path=/proc/self/fd/9,share=on"]
        {
            assert!(again.contains(part), "{part}: {again}");
        }
        assert!(again.ends_with(" -S") && !again.contains("-incoming"), "{again}");
        let private = command(&NIXOS.replace("share=on", "share=off")).again(&[]).join(" ");
        assert!(private.contains("memory-backend-ram,id=nixvm-memory,size=1024M "), "{private}");
        assert!(
            command(NIXOS).again(&[]).join(" ").ends_with("guid=12345678-1234-1234-1234-123456789abc -S")
        );
        for (options, helper) in [
            ("-chardev socket,id=c,path=/swtpm -tpmdev emulator,id=tpm0,chardev=c", Some("TPM")),
            ("-device vhost-user-fs-pci,chardev=c,tag=shared", Some("vhost-user-fs-pci")),
            (NIXOS, None),
        ] {
            let found = command(options).helper();
            assert_eq!(found.is_some(), helper.is_some(), "{options}: {found:?}");
            assert!(found.unwrap_or_default().contains(helper.unwrap_or_default()), "{options}");
        }
    }

    #[test]
    fn ram_in_an_inherited_file_is_named_by_its_path() {
        use std::os::fd::AsRawFd;
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "-object memory-backend-file,id=nixvm-memory,mem-path=/proc/self/fd/{},share=on",
            file.as_raw_fd()
        );
        let path = file.path().display();
        assert_eq!(
            command(&text).repeatable(std::process::id(), None).arguments[1],
            format!("memory-backend-file,id=nixvm-memory,mem-path={path},share=on")
        );
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        for (options, why) in [
            (
                "-virtfs local,path=/nix/store,security_model=none,mount_tag=nix-store",
                "by 9p; it could be cloned with virtualisation.useNixStoreImage = true",
            ),
            (
                "-fsdev local,id=store,path=/nix/store",
                "by 9p; it could be cloned with virtualisation.useNixStoreImage = true",
            ),
            (
                "-device vhost-user-fs-pci,chardev=c,tag=shared",
                "by virtiofs; it could be cloned with virtualisation.useNixStoreImage = true",
            ),
            ("-chardev socket,id=c,path=/run/virtiofsd.sock", "another process (/run/virtiofsd.sock)"),
            ("-tpmdev emulator,id=tpm0,chardev=c", "TPM"),
            ("-drive file=/home/me/data.img,format=raw", "outside of its run: /home/me/data.img"),
            ("-device vhost-user-blk-pci,chardev=c", "another process"),
            ("-device driver=vhost-user-gpu-pci,chardev=c", "another process"),
            ("-device virtio-balloon-pci", "its memory can shrink"),
            ("-device virtio-mem-pci,memdev=m", "its memory can shrink"),
            ("-device virtio-balloon-device,free-page-reporting=on", "of all clones (virtio-balloon-device)"),
            ("-device hv-balloon,id=b", "(hv-balloon)"),
            (r#"-device {"driver":"virtio-balloon-pci","id":"b"}"#, "(virtio-balloon-pci)"),
            ("-device vhost-user-vsock-pci,chardev=c", "another process"),
            ("-device vhost-scsi-pci,wwpn=naa.5", "the host's kernel (vhost-scsi-pci)"),
            ("-device vhost-vsock-pci,guest-cid=3", "shares a device with other machines"),
            ("-device scsi-block,drive=d", "a device of the host (scsi-block)"),
            ("-netdev socket,id=n,mcast=230.0.0.1:1234", "leads to other machines"),
            ("-drive file=/x,snapshot=on", "are discarded (snapshot=on): /x"),
            ("-drive file=/var/tmp/nixvm-0/ab.1/disk.qcow2,snapshot", "are discarded"),
            ("-snapshot -nographic", "are discarded"),
            ("-drive file=nbd:unix:/run/x,readonly=on", "not a file of this host"),
            ("-drive file=/var/tmp/nixvm-0/ab.10/disk.qcow2", "outside of its run"),
            ("-pidfile /var/tmp/nixvm-0/ab.1/tmp/pid", "-pidfile names a file of its run"),
        ] {
            let obstacle = command(options).obstacle(Path::new(RUN)).unwrap();
            assert!(obstacle.contains(why), "{options}: {obstacle}");
        }
        for options in ["-drive file=/x,readonly", "-chardev socket,id=c,path=/x,server=on", "-nographic"] {
            assert_eq!(command(options).obstacle(Path::new(RUN)), None, "{options}");
        }
    }
}
