//! Why /dev/kvm can't be used, and how to fix that, by the kernel's error and the host's environment.
//!
//! The same error has different causes and remedies in a container and on bare metal.

use std::fs::{self, OpenOptions};
use std::path::Path;

use rustix::io::Errno;

use crate::environment;

/// Why KVM can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The cause.
    pub(crate) why: String,
    /// How to fix it.
    pub(crate) fix: String,
}

/// What is known about the host besides the device.
#[derive(Debug, Default)]
pub(crate) struct Around {
    /// Whether this process is in a container.
    container: bool,
    /// The content of /proc/modules.
    modules: String,
    /// The flags in /proc/cpuinfo.
    flags: String,
    /// The content of /proc/misc, which has a line for a KVM that is ready.
    misc: String,
}

/// Whether KVM of this host runs guests without the processor's virtualization (kvm_pvm). It emulates the
/// firmware instruction by instruction, which takes 10 s and more, and runs only kernels that were made for
/// it.
pub(crate) fn emulates() -> bool {
    Path::new("/sys/module/kvm_pvm").exists()
}

/// Opens the device as QEMU does. Returns why that fails, or `None` if it works.
pub(crate) fn refusal(device: &Path) -> Option<Refusal> {
    let error = OpenOptions::new().read(true).write(true).open(device).err()?;
    let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
    Some(explain(errno, device, &Around::look()))
}

/// Returns the meaning of QEMU's message about KVM_CREATE_VM, or `None` if `said` is not about that.
pub(crate) fn refusal_in(said: &str, device: &Path) -> Option<Refusal> {
    let is_about = said.contains("KVM_CREATE_VM") || said.contains("failed to initialize kvm");
    let errno = [("Device or resource busy", Errno::BUSY), ("Cannot allocate memory", Errno::NOMEM)]
        .into_iter()
        .chain([("No such device", Errno::NODEV), ("Permission denied", Errno::ACCESS)])
        .chain([("Operation not permitted", Errno::PERM), ("No such file", Errno::NOENT)])
        .find(|(words, _)| said.contains(words));
    let (_, errno) = errno.filter(|_| is_about)?;
    Some(explain(errno, device, &Around::look()))
}

impl Around {
    fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let marked = ["/.dockerenv", "/run/.containerenv"].iter().any(|file| Path::new(file).exists());
        // systemd and most container managers set this variable in the first process. It may be unreadable.
        let told = || environment::is_set("container") || Path::new("/run/systemd/container").exists();
        let info = read("/proc/cpuinfo");
        let flags = info.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
        Self {
            container: marked || told() || environment::is_set("KUBERNETES_SERVICE_HOST"),
            modules: read("/proc/modules"),
            flags: flags.unwrap_or_default().to_owned(),
            misc: read("/proc/misc"),
        }
    }

    fn has_module(&self, name: &str) -> bool {
        self.modules.lines().any(|line| line.split(' ').next() == Some(name))
    }

    fn has_flag(&self, name: &str) -> bool {
        self.flags.split_whitespace().any(|flag| flag == name)
    }

    /// Returns how to get a kernel with KVM.
    fn load(&self) -> &'static str {
        if self.has_flag("vmx") {
            "sudo modprobe kvm_intel; if that fails, enable virtualization (VT-x) in the firmware"
        } else if self.has_flag("svm") {
            "sudo modprobe kvm_amd; if that fails, enable virtualization (SVM) in the firmware"
        } else if self.has_flag("hypervisor") {
            "this host is a virtual machine whose processor has no virtualization: enable nested \
             virtualization on its \
             own host, or choose a machine type that has it"
        } else {
            "enable virtualization (VT-x, SVM) in the firmware, then sudo modprobe kvm_intel (AMD: kvm_amd)"
        }
    }
}

/// Explains an error of the device on this host.
fn explain(errno: Errno, device: &Path, around: &Around) -> Refusal {
    const GIVE: &str =
        "start the container with --device /dev/kvm (Docker, Podman), or give its pod the device";
    let name = device.display();
    let has_kvm = around.misc.lines().any(|line| line.trim().ends_with(" kvm"));
    let (why, fix) = match errno {
        Errno::NOENT if around.container && !has_kvm => (
            format!("there is no {name} in this container, and the kernel has no KVM ready"),
            format!("on the container's host: {}; then {GIVE}", around.load()),
        ),
        Errno::NOENT if around.container => {
            (format!("there is no {name} in this container, although the kernel has KVM"), GIVE.to_owned())
        }
        Errno::NOENT if has_kvm => (
            format!("there is no {name}, although the kernel has KVM"),
            "sudo udevadm trigger /sys/class/misc/kvm, which makes it".to_owned(),
        ),
        Errno::NOENT => (format!("there is no {name}, and the kernel has no KVM ready"), around.load().to_owned()),
        Errno::ACCESS if around.container => (
            format!("no permission to open {name} in this container"),
            "give the container the group of the device: --group-add with its number (stat -c %g /dev/kvm on the host; \
             Podman: --group-add keep-groups)"
                .to_owned(),
        ),
        Errno::ACCESS => (
            format!("no permission to open {name}"),
            "sudo usermod -aG kvm \"$USER\", then log in again; on a CI runner a udev rule: echo 'KERNEL==\"kvm\", \
             MODE=\"0666\"' | sudo tee /etc/udev/rules.d/99-kvm.rules, then sudo udevadm trigger --name-match=kvm"
                .to_owned(),
        ),
        // The file's mode allows it, but the cgroup forbids it, and joining a group would not help.
        Errno::PERM => (
            format!("the device cgroup of this container or service does not allow {name}"),
            format!("{GIVE}; of a systemd service: DeviceAllow=/dev/kvm rw"),
        ),
        Errno::NODEV | Errno::NXIO if around.container => (
            format!("{name} is here, but the kernel of the container's host has no KVM ready"),
            format!("on the container's host: {}", around.load()),
        ),
        Errno::NODEV | Errno::NXIO => {
            (format!("{name} is here, but the kernel has no KVM behind it"), around.load().to_owned())
        }
        Errno::BUSY => {
            let others = [("vboxdrv", "VirtualBox"), ("vmmon", "VMware"), ("xen_privcmd", "Xen")];
            let other = others.iter().find(|(module, _)| around.has_module(module)).map(|(_, name)| *name);
            let who = other.map_or(String::new(), |name| format!(" ({name}'s module is loaded)"));
            let end = other.unwrap_or("the other hypervisor");
            (
                format!("another hypervisor uses the processor's virtualization{who}"),
                format!("end the machines of {end}, and unload its module if that is not enough"),
            )
        }
        Errno::NOMEM => (
            "the kernel has too little memory for one more machine".to_owned(),
            "end other programs, or give the host more memory".to_owned(),
        ),
        Errno::MFILE | Errno::NFILE => (
            format!("{name} does not open: too many files are open"),
            "raise the limit (ulimit -n), or run fewer machines at a time".to_owned(),
        ),
        other => (
            format!("{name} does not open: {}", std::io::Error::from(other)),
            "search dmesg for kvm".to_owned(),
        ),
    };
    Refusal { why, fix }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(container: bool, modules: &str, flags: &str, misc: &str) -> Around {
        Around { container, modules: modules.into(), flags: format!("flags : {flags}"), misc: misc.into() }
    }

    #[track_caller]
    fn case(errno: Errno, around: &Around, why: &str, fix: &str) -> Refusal {
        let refusal = explain(errno, Path::new("/dev/kvm"), around);
        assert!(refusal.why.contains(why), "{why}: {refusal:?}");
        assert!(refusal.fix.contains(fix), "{fix}: {refusal:?}");
        refusal
    }

    #[test]
    fn each_error_of_the_device_has_its_own_remedy() {
        let plain = around(false, "", "fpu vmx", "");
        let boxed = around(true, "", "fpu svm", "232 kvm\n");
        case(Errno::NOENT, &plain, "no KVM ready", "modprobe kvm_intel");
        case(Errno::NOENT, &around(false, "", "svm", ""), "no KVM ready", "modprobe kvm_amd");
        case(Errno::NOENT, &around(false, "", "hypervisor", ""), "no KVM ready", "nested virtualization");
        case(Errno::NOENT, &around(false, "", "vmx", "232 kvm\n"), "although", "udevadm trigger");
        let container = case(Errno::NOENT, &boxed, "in this container", "--device /dev/kvm");
        assert!(!container.fix.contains("modprobe"), "{container:?}");
        case(
            Errno::NOENT,
            &around(true, "", "svm", ""),
            "in this container",
            "on the container's host: sudo modprobe kvm_amd",
        );
        case(Errno::ACCESS, &plain, "no permission", "usermod -aG kvm");
        case(Errno::ACCESS, &boxed, "no permission", "--group-add");
        for around in [&plain, &boxed] {
            let cgroup = case(Errno::PERM, around, "device cgroup", "--device /dev/kvm");
            assert!(!cgroup.fix.contains("usermod"), "{cgroup:?}");
        }
        case(Errno::NODEV, &plain, "no KVM behind it", "modprobe kvm_intel");
        case(Errno::NXIO, &boxed, "container's host", "on the container's host");
        let vbox = around(false, "vboxdrv 1 2 -\nkvm 1 0 -\n", "vmx", "232 kvm\n");
        case(Errno::BUSY, &vbox, "VirtualBox", "end the machines of VirtualBox");
        case(Errno::BUSY, &around(false, "vmmon 1 0", "vmx", ""), "VMware", "VMware");
        case(Errno::BUSY, &plain, "another hypervisor", "the other hypervisor");
        case(Errno::NOMEM, &plain, "too little memory", "more memory");
        case(Errno::MFILE, &plain, "too many files", "ulimit -n");
        case(Errno::IO, &plain, "Input/output error", "dmesg");
    }

    #[test]
    fn qemus_own_words_are_read_where_they_are_about_the_device() {
        let device = Path::new("/dev/kvm");
        let busy = "ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy\nqemu-kvm: failed to initialize kvm: Device or \
                    resource busy";
        assert!(refusal_in(busy, device).unwrap().why.contains("another hypervisor"));
        let memory = "qemu-system-x86_64: failed to initialize kvm: Cannot allocate memory";
        assert!(refusal_in(memory, device).unwrap().why.contains("too little memory"));
        assert_eq!(refusal_in("qemu-kvm: cannot set up guest memory: Cannot allocate memory", device), None);
        assert_eq!(refusal_in("error: failed to set MSR 0x10a to 0x0", device), None);
    }

    #[test]
    fn a_device_that_is_not_there_is_refused_and_one_that_opens_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("kvm");
        assert!(refusal(&device).unwrap().why.contains("there is no"));
        fs::write(&device, "").unwrap();
        assert_eq!(refusal(&device), None);
    }
}
