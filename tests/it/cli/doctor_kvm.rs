//! `nixvm-test doctor --kvm VM`, with a QEMU that is a small script around the fake guest.

use std::os::unix::fs::FileExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::folder::{Folder, Ran};
use crate::hang::HANG;
use crate::run_script::lives;

/// What makes a machine with KVM without a guest, and says what processor it has.
const MAKES_A_MACHINE: &str = r#"read a; read b; echo '{"QMP":{}}'; echo '{"return":{}}'
    echo '{"id":"cpu","return":{"model":{"name":"max","props":{"avx":true}}}}'"#;
/// A KVM that runs everything.
const WORKS: &str = "case \"$*\" in *'cpu max '*|*'cpu max,'*) exit 33;; esac";

/// A user's folder with a VM, whose QEMU does this with a guest of a few bytes.
fn folder(makes_a_machine: &str, sector: &str, settings: &str) -> Folder {
    let folder = Folder::new();
    let fake = nixvm_fake_guest::binary();
    let qemu = format!(
        "#!/bin/sh\ncase \"$*\" in\n*'-machine none'*) {makes_a_machine};;\n*isa-debug-exit*) {sector};;\n\
         *'-serial stdio'*) while echo xxxxxxxxxxxxxxxx; do :; done;;\n*) exec {} \"$@\";;\nesac\n",
        fake.display()
    );
    folder.program("tools/qemu-system-x86_64", qemu);
    let vm = format!(
        "#!/bin/sh\nexec qemu-system-x86_64 -m 64 -nographic -append \"console=ttyS0 {settings} $QEMU_KERNEL_PARAMS\" $QEMU_OPTS\n"
    );
    folder.program("vm/bin/run-nixos-vm", vm);
    folder
}

fn command(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = folder.command(&[&["doctor", "--kvm", "vm"], arguments].concat());
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", folder.path().join("tools").display()));
    command.env("NIXVM_CACHE_DIR", folder.path().join("cache")).env("TMPDIR", folder.path().join("tmp"));
    std::fs::create_dir_all(folder.path().join("tmp")).unwrap();
    command
}

/// Whether there is a device at all: else that is what the doctor says first.
fn has_device() -> bool {
    std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok()
}

#[test]
fn a_vm_that_runs_under_kvm_is_taken_through_all_steps_and_a_file_is_left() {
    let folder = folder(MAKES_A_MACHINE, WORKS, "");
    let begun = Instant::now();
    let ran = Ran::of(&mut command(&folder, &[]));
    assert!(begun.elapsed() < HANG, "{ran:?}");
    let attached = std::fs::read_to_string(folder.path().join("nixvm-test-kvm.txt")).unwrap();
    if !has_device() {
        ran.ended_with(5).printed("not usable: ");
        return;
    }
    ran.ended_with(0);
    for words in [
        "created a machine with it",
        "a guest of a few bytes with -cpu max: it runs",
        "the VM to its login prompt under KVM: kernel after ",
        "4 processors: ",
        "save, clone, clone of a clone: saved in ",
        "MB/s written there",
        " kB/s",
        "a stop job of 30 s, a silent boot of 15 s: not tried",
        "the VM under TCG: kernel after ",
        "KVM for nixos: usable",
        "For a bug report: ",
    ] {
        ran.printed(words);
    }
    for words in ["KVM for nixos: usable", "== console: KVM", "Linux version", "== QEMU: TCG"] {
        assert!(attached.contains(words), "{words}: {attached}");
    }
    assert!(!ran.out.contains('\x1b'));
}

#[test]
fn what_kvm_does_not_run_is_said_last_with_why_and_the_rest_is_not_tried() {
    if !has_device() {
        return;
    }
    let msr = "echo 'qemu-system-x86_64: error: failed to set MSR 0x10a to 0x0' >&2; kill -ABRT $$";
    let less = format!("case \"$*\" in *arch-capabilities=off*) exit 33;; esac; {msr}");
    let stops = "fake.die=kernel fake.die-text=KVM\\sinternal\\serror.\\sSuberror:\\s1";
    for (makes, sector, settings, last) in [
        (
            "echo 'ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy' >&2; exit 1",
            WORKS,
            "",
            "not usable: another hypervisor uses the processor's virtualization",
        ),
        (MAKES_A_MACHINE, msr, "", "not usable: not even a guest of a few bytes runs: QEMU aborted: "),
        (
            MAKES_A_MACHINE,
            &*less,
            stops,
            "not usable: a guest of a few bytes runs with -cpu max,arch-capabilities=off, but not this VM: \
             KVM internal error. Suberror: 1",
        ),
        (MAKES_A_MACHINE, &*less, "", "usable with -cpu max,arch-capabilities=off"),
    ] {
        let folder = folder(makes, sector, settings);
        let ran = Ran::of(&mut command(&folder, &["--json"]));
        let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        let steps = json["steps"].as_array().unwrap();
        // It may end before it has greeted, and then nothing says how.
        let verdict = steps.last().unwrap()["found"].as_str().unwrap();
        let verdict = verdict.replace("QEMU ended (exit status: 1): ", "");
        assert!(verdict.starts_with(last), "{last}: {json:#}");
        assert_eq!(json["usable"], last.starts_with("usable"), "{json:#}");
        ran.ended_with(if last.starts_with("usable") { 0 } else { 5 });
        if last.contains("few bytes") {
            let not_tried = |name: &str| {
                let step = steps.iter().find(|step| step["name"] == name).unwrap();
                step["found"].as_str().unwrap().starts_with("not tried: ")
            };
            assert!(not_tried("processors") && not_tried("clones"), "{json:#}");
        }
    }
}

#[test]
fn a_guest_that_stands_still_under_kvm_leaves_the_time_to_tcg() {
    if !has_device() {
        return;
    }
    let folder = folder(MAKES_A_MACHINE, WORKS, "fake.kvm=stuck");
    let ran = Ran::of(&mut command(&folder, &[]));
    ran.ended_with(5)
        .printed("its processor makes no progress: ")
        .printed("the VM under TCG: kernel after ")
        .printed("login prompt after ");
    let last = "not usable: a guest of a few bytes runs, but not this VM: its processor makes no progress";
    assert!(ran.out.contains(last), "{}", ran.out);
}

#[test]
fn a_signal_ends_all_that_was_started() {
    if !has_device() {
        return;
    }
    for (sector, settings) in [("echo $$ >pid; exec sleep 1000", ""), (WORKS, "fake.stall=kernel")] {
        let folder = folder(MAKES_A_MACHINE, sector, settings);
        let mut child = command(&folder, &[]).stdout(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + HANG;
        let qemu = loop {
            assert!(Instant::now() < deadline, "no QEMU was started");
            if let Some(pid) = started(&folder, child.id()) {
                break pid;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::INT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        while lives(qemu) {
            assert!(Instant::now() < deadline, "QEMU is left over");
            std::thread::sleep(Duration::from_millis(20));
        }
        // The run directories' own folder stays, as after any run.
        let left = std::fs::read_dir(folder.path().join("tmp")).unwrap().flatten();
        let left: Vec<_> = left.filter(|entry| entry.path().is_file()).collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(!folder.path().join("nixvm-test-kvm.txt").exists());
    }
}

/// The QEMU that is to be ended: the one of a few bytes, or the one that boots the VM.
fn started(folder: &Folder, doctor: u32) -> Option<u32> {
    let mut text = [0; 16];
    let noted = std::fs::File::open(folder.path().join("pid")).and_then(|file| file.read_at(&mut text, 0));
    if let Ok(read @ 1..) = noted {
        return std::str::from_utf8(&text[..read]).unwrap().trim().parse().ok();
    }
    let tasks = std::fs::read_dir(format!("/proc/{doctor}/task")).ok()?.flatten();
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> = children
        .flat_map(|pids| pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    children.into_iter().find(|pid| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains("earlyprintk")
    })
}
