//! The meaning of messages of QEMU, qemu-img, mkfs and the shell, in one table.
//!
//! The texts are those of QEMU 5.2 to 10 and of Linux. Each line of QEMU begins with the program's name,
//! which is `qemu-kvm` in some distributions. So a message about KVM counts only at the beginning of a part
//! of the line.

use crate::error::Doubt;

/// A known message.
#[derive(Debug)]
pub(super) struct Cause {
    words: &'static str,
    /// What it means.
    pub(super) means: &'static str,
    /// The next step.
    pub(super) next: &'static str,
    /// How it affects the trust in KVM, if it is about KVM.
    pub(super) kvm: Option<Doubt>,
}

const NESTED: &str =
    "KVM of this host does not run this guest, as on many hosts that are virtual machines themselves";
const NO_RIGHT: &str = "join the group kvm (usermod -aG kvm USER), start a container with --device \
    /dev/kvm, or set NIXVM_ACCELERATOR=tcg";
const LITTLE_MEMORY: &str = "the host has too little free memory for this VM";
const FEWER: &str = "lower virtualisation.memorySize, or run fewer machines at a time";
const FEW_PROCESSES: &str =
    "this user has reached the limit of processes and threads (`ulimit -u`, or the limit of a container)";
const MORE_PROCESSES: &str = "end other programs of this user, or raise the limit: `ulimit -u 4096`";
const EMULATE: &str = "set NIXVM_ACCELERATOR=tcg";

const fn about_kvm(words: &'static str, kvm: Doubt, means: &'static str, next: &'static str) -> Cause {
    Cause { words, means, next, kvm: Some(kvm) }
}

const fn cause(words: &'static str, means: &'static str, next: &'static str) -> Cause {
    Cause { words, means, next, kvm: None }
}

/// Messages about KVM are in lower case, because their case differs between distributions and versions.
const CAUSES: &[Cause] = &[
    // accel/kvm/kvm-all.c and target/i386/kvm/kvm.c, during creation of the virtual processor.
    about_kvm("failed to set msr", Doubt::Processor, NESTED, EMULATE),
    about_kvm("failed to get msr", Doubt::Processor, NESTED, EMULATE),
    about_kvm("kvm_buf_set_msrs: assertion", Doubt::Processor, NESTED, EMULATE),
    about_kvm("kvm_get_msrs: assertion", Doubt::Processor, NESTED, EMULATE),
    about_kvm("kvm_init_vcpu: kvm_arch_init_vcpu failed", Doubt::Processor, NESTED, EMULATE),
    // While the guest runs. The first two are not about KVM itself.
    about_kvm(
        "kvm run failed cannot allocate memory",
        Doubt::Passing,
        "the host's kernel could not enter the guest: some kernels (Ubuntu's 6.8 and 6.11) fail \
         occasionally, or memory is short",
        "run it again; update the host's kernel",
    ),
    about_kvm(
        "kvm run failed bad address",
        Doubt::Passing,
        "the guest's memory could not be allocated: the disk with its file is full",
        "free some space where NIXVM_CACHE_DIR is",
    ),
    about_kvm("kvm run failed", Doubt::Lasting, NESTED, EMULATE),
    about_kvm("kvm internal error", Doubt::Lasting, NESTED, EMULATE),
    about_kvm("kvm: entry failed", Doubt::Lasting, NESTED, EMULATE),
    about_kvm("kvm: unknown exit", Doubt::Lasting, NESTED, EMULATE),
    about_kvm("kvm: exception", Doubt::Lasting, NESTED, EMULATE),
    about_kvm("unknown exit, hardware reason", Doubt::Lasting, NESTED, EMULATE),
    // Before there is a guest.
    about_kvm("invalid accelerator kvm", Doubt::Lasting, "this QEMU was built without KVM", EMULATE),
    about_kvm("kvm version", Doubt::Lasting, "the host's kernel is too old for this QEMU", EMULATE),
    about_kvm(
        "kvm does not support",
        Doubt::Lasting,
        "the KVM of the host's kernel lacks a feature that this QEMU needs",
        EMULATE,
    ),
    about_kvm(
        "could not access kvm kernel module: permission denied",
        Doubt::Passing,
        "no permission to open /dev/kvm",
        NO_RIGHT,
    ),
    about_kvm(
        "could not access kvm kernel module: operation not permitted",
        Doubt::Passing,
        "the container or the service may not open /dev/kvm (its device cgroup)",
        NO_RIGHT,
    ),
    about_kvm(
        "could not access kvm kernel module",
        Doubt::Passing,
        "KVM is not available: its kernel module is not loaded, or this is a container without /dev/kvm",
        "load kvm_intel or kvm_amd, start the container with --device /dev/kvm, or set NIXVM_ACCELERATOR=tcg",
    ),
    about_kvm(
        "failed to initialize kvm: device or resource busy",
        Doubt::Passing,
        "another hypervisor of this host (VirtualBox, VMware) uses the processor's virtualization",
        "end its machines, or set NIXVM_ACCELERATOR=tcg",
    ),
    about_kvm("failed to initialize kvm: cannot allocate memory", Doubt::Passing, LITTLE_MEMORY, FEWER),
    about_kvm(
        "failed to initialize kvm: permission denied",
        Doubt::Passing,
        "no permission to open /dev/kvm",
        NO_RIGHT,
    ),
    about_kvm(
        "failed to initialize kvm",
        Doubt::Passing,
        "KVM of this host can't create a virtual machine",
        "search dmesg for kvm, or set NIXVM_ACCELERATOR=tcg",
    ),
    about_kvm(
        "kvm_init_vcpu: kvm_get_vcpu failed",
        Doubt::Passing,
        "KVM of this host can't create a virtual processor",
        "search dmesg for kvm, or set NIXVM_ACCELERATOR=tcg",
    ),
    cause(
        "No space left on device",
        "the host's disk is full: the disk image could not be made or could not grow",
        "free some space, or set TMPDIR to a folder on a disk that has it",
    ),
    cause(
        "requires KVM",
        "the VM's own options ask for a CPU model that only KVM supports",
        "remove `-cpu host` from virtualisation.qemu.options",
    ),
    cause(
        "\"-machine accel=\" options are incompatible",
        "the VM's own options choose the accelerator by `-accel`, which can't be overridden",
        "write `-machine accel=kvm:tcg` in virtualisation.qemu.options instead",
    ),
    cause(
        "Could not set up host forwarding rule",
        "a forwarded port is in use on the host",
        "end the program that listens there, or forward another port",
    ),
    cause(
        "Failed to get \"write\" lock",
        "another QEMU uses the same disk image",
        "end it, or run without --keep-state",
    ),
    // pthread_create(3) and fork(2): QEMU's "qemu_thread_create: …", the shells' "Cannot fork" and "fork: retry: …".
    cause("Resource temporarily unavailable", FEW_PROCESSES, MORE_PROCESSES),
    cause("Cannot fork", FEW_PROCESSES, MORE_PROCESSES),
    cause(
        "Too many open files",
        "this process may have few files open at once (`ulimit -n`)",
        "raise the limit: `ulimit -n 4096`",
    ),
    cause("Cannot allocate memory", LITTLE_MEMORY, FEWER),
    cause("cannot set up guest memory", LITTLE_MEMORY, FEWER),
    cause(
        "invalid option",
        "QEMU does not know an option",
        "check virtualisation.qemu.options, QEMU_OPTS and the version of QEMU",
    ),
    cause(
        ": not found",
        "a program that the run script needs is missing",
        "build the VM again; its parts may have been removed from the Nix store",
    ),
];

const NO_QEMU: Cause = cause(
    "",
    "QEMU is not installed here, or is not on PATH",
    "install it (Debian: apt-get install qemu-system-x86 qemu-utils)",
);

/// Whether a shell reported that QEMU or its tools are missing: dash prints "qemu-img: not found", bash
/// "qemu-img: command not found".
pub(super) fn missing_program(stderr: &str) -> bool {
    stderr.lines().any(|line| line.contains("qemu-") && line.ends_with("not found"))
}

/// Returns the likely cause of an end after this output.
pub(super) fn likely_cause(stderr: &str) -> Option<&'static Cause> {
    if missing_program(stderr) {
        return Some(&NO_QEMU);
    }
    CAUSES.iter().find(|cause| match cause.kvm {
        Some(_) => stderr.lines().any(|line| says(line, cause.words)),
        None => stderr.contains(cause.words),
    })
}

/// Returns the line about KVM on this host, and its meaning.
pub(super) fn about_kvm_in(stderr: &str) -> Option<(&str, &'static Cause)> {
    let about_kvm = CAUSES.iter().filter(|cause| cause.kvm.is_some());
    about_kvm.filter_map(|cause| Some((stderr.lines().find(|line| says(line, cause.words))?, cause))).next()
}

/// Returns the line about KVM on this host, if there is one.
pub(crate) fn line_about_kvm(stderr: &str) -> Option<&str> {
    about_kvm_in(stderr).map(|(line, _)| line)
}

/// Whether one of the parts between `: ` begins with these words. The first part is the program's name. The
/// value of an option, such as a path, begins with the option.
fn says(line: &str, words: &str) -> bool {
    let line = line.to_ascii_lowercase();
    let parts = std::iter::once(0).chain(line.match_indices(": ").map(|(at, _)| at + 2));
    parts.map(|at| line[at..].trim_start()).any(|part| part.starts_with(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubt(stderr: &str) -> Option<Doubt> {
        about_kvm_in(stderr).and_then(|(_, cause)| cause.kvm)
    }

    #[test]
    fn a_failure_that_has_nothing_to_do_with_kvm_is_none_of_it_whatever_the_program_is_called() {
        for text in [
            "-netdev user,id=user.0,hostfwd=tcp::8080-:80: Could not set up host forwarding rule 'tcp::8080-:80'",
            "-frobnicate: invalid option",
            "cannot set up guest memory 'pc.ram': Cannot allocate memory",
            "-drive file=/srv/kvm internal error/disk: Could not open '/srv/kvm internal error/disk'",
            "CPU model 'host' requires KVM or HVF",
        ] {
            for program in
                ["qemu-kvm", "/nix/store/x-qemu-host-cpu-only/bin/qemu-kvm", "qemu-system-x86_64", "kvm"]
            {
                assert_eq!(doubt(&format!("{program}: {text}")), None, "{program}: {text}");
            }
        }
        assert_eq!(doubt("creating the image in /var/lib/kvm\nqemu-img: No space left on device"), None);
    }

    #[test]
    fn what_is_known_of_kvm_is_found_behind_any_programs_name() {
        let known = [
            ("qemu-kvm: error: failed to set MSR 0x10a to 0x0", Doubt::Processor),
            (
                "qemu-system-x86_64: ../target/i386/kvm/kvm.c:2894: kvm_buf_set_msrs: Assertion `ret' failed.",
                Doubt::Processor,
            ),
            ("KVM internal error. Suberror: 1", Doubt::Lasting),
            ("KVM internal error: Unexpected exit", Doubt::Lasting),
            ("error: kvm run failed Function not implemented", Doubt::Lasting),
            ("error: kvm run failed Cannot allocate memory", Doubt::Passing),
            ("error: kvm run failed Bad address", Doubt::Passing),
            ("KVM: entry failed, hardware error 0x7", Doubt::Lasting),
            ("KVM: unknown exit, hardware reason 31", Doubt::Lasting),
            ("qemu-system-x86_64: -machine accel=kvm: invalid accelerator kvm", Doubt::Lasting),
            (
                "ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy\nqemu-kvm: failed to initialize kvm: Device or resource busy",
                Doubt::Passing,
            ),
            ("qemu-kvm: failed to initialize KVM: Cannot allocate memory", Doubt::Passing),
            (
                "Could not access KVM kernel module: Permission denied\nqemu-kvm: failed to initialize kvm: Permission denied",
                Doubt::Passing,
            ),
            ("qemu-kvm: -accel kvm: failed to initialize kvm: No such device", Doubt::Passing),
        ];
        for (text, expected) in known {
            assert_eq!(doubt(text), Some(expected), "{text}");
        }
        let busy = "qemu-kvm: failed to initialize kvm: Device or resource busy";
        assert!(likely_cause(busy).unwrap().means.contains("VirtualBox"));
    }
}
