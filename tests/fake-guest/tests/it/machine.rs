//! The fake's run script and the fake QEMU: what whoever starts real ones relies on.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nixvm_fake_guest::FakeVm;
use serde_json::Value;

use crate::support::{HANG, LOGIN, Typist};

/// A run script started with console and QMP as descriptors, as a driver starts one.
struct Started {
    child: Child,
    typist: Typist,
    qmp: BufReader<UnixStream>,
    _folder: tempfile::TempDir,
}

fn start(vm: &FakeVm, options: &str) -> Started {
    let folder = tempfile::tempdir().unwrap();
    let result = vm.write_to(folder.path());
    let (console, console_fd) = pair();
    let (qmp, qmp_fd) = pair();
    let mut command = script(&result, folder.path());
    let qemu_options = format!(
        "-chardev socket,id=c,fd={} -serial chardev:c -chardev socket,id=q,fd={} -mon chardev=q,mode=control {options}",
        console_fd.as_raw_fd(),
        qmp_fd.as_raw_fd()
    );
    command.env("QEMU_OPTS", qemu_options).env("QEMU_KERNEL_PARAMS", "console=ttyS0");
    let fds = [console_fd.as_raw_fd(), qmp_fd.as_raw_fd()];
    // SAFETY: fcntl on descriptors that are open until spawn has returned.
    unsafe {
        command.pre_exec(move || {
            for fd in fds {
                let fd = rustix::fd::BorrowedFd::borrow_raw(fd);
                rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
            }
            Ok(())
        });
    }
    let child = command.spawn().unwrap();
    qmp.set_read_timeout(Some(HANG)).unwrap();
    Started { child, typist: Typist::new(console), qmp: BufReader::new(qmp), _folder: folder }
}

fn script(result: &Path, state: &Path) -> Command {
    let mut command = Command::new(result.join("bin/run-nixos-vm"));
    command
        .current_dir(state)
        .env("NIX_DISK_IMAGE", state.join("disk.qcow2"))
        .env("TMPDIR", state)
        .env("USE_TMPDIR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn pair() -> (UnixStream, OwnedFd) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (ours, rustix::io::fcntl_dupfd_cloexec(&theirs, 20).unwrap())
}

impl Started {
    fn say(&mut self, text: &str) {
        self.qmp.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.qmp.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn negotiate(&mut self) {
        assert!(self.hear()["QMP"]["version"]["qemu"]["major"].is_u64());
        self.say("{\"execute\": \"qmp_capabilities\"}\n");
        assert!(self.hear()["return"].is_object());
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn output(vm: &FakeVm, qemu_options: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let result = vm.write_to(folder.path());
    script(&result, folder.path()).env("QEMU_OPTS", qemu_options).output().unwrap()
}

#[test]
fn the_scripts_pid_becomes_qemus_and_the_guest_boots_to_its_prompt() {
    let mut started = start(&FakeVm::new(), "");
    started.typist.until(LOGIN);
    let name = std::fs::read_to_string(format!("/proc/{}/comm", started.child.id())).unwrap();
    assert_eq!(name, "fake-guest\n");
    assert!(started._folder.path().join("disk.qcow2").exists());
}

#[test]
fn without_console_ttys0_the_line_carries_only_the_firmware() {
    let folder = tempfile::tempdir().unwrap();
    let result = FakeVm::new().write_to(folder.path());
    // `console=tty0` comes last in the script: the kernel speaks here, systemd does not, getty does.
    let mut child = script(&result, folder.path()).spawn().unwrap();
    let mut text = Vec::new();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    while !String::from_utf8_lossy(&text).contains("nixos login:") {
        assert!(reader.read_until(b':', &mut text).unwrap() > 0);
    }
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("Linux version") && !text.contains("Stage 1"), "{text}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn qmp_greets_negotiates_and_refuses_what_it_does_not_know() {
    let mut started = start(&FakeVm::new(), "");
    assert_eq!(started.hear()["QMP"]["capabilities"][0], "oob");
    started.say("{\"execute\": \"query-status\"}\n");
    assert_eq!(started.hear()["error"]["class"], "CommandNotFound");
    started.say("{\"execute\": \"qmp_capabilities\", \"id\": 7}\n");
    assert_eq!(started.hear()["id"], 7);
    started.say("{\"execute\": \"query-status\"}\n");
    assert_eq!(started.hear()["return"]["status"], "running");
    started.say("{\"execute\": \"make-coffee\"}\n");
    assert_eq!(started.hear()["error"]["desc"], "The command make-coffee has not been found");
}

#[test]
fn the_power_button_powers_off() {
    let mut started = start(&FakeVm::new(), "");
    started.negotiate();
    started.typist.until(LOGIN);
    started.say("{\"execute\": \"system_powerdown\"}\n");
    assert!(started.hear()["return"].is_object());
    assert_eq!(started.hear()["event"], "POWERDOWN");
    let shutdown = started.hear();
    assert_eq!(
        (&shutdown["event"], &shutdown["data"]["reason"]),
        (&"SHUTDOWN".into(), &"guest-shutdown".into())
    );
    started.typist.until("reboot: Power down\r\n");
    assert_eq!(started.child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_power_button_can_be_ignored_and_quit_cannot() {
    let mut started = start(&FakeVm::new().setting("ignore-acpi", "yes"), "");
    started.negotiate();
    started.typist.until(LOGIN);
    started.say("{\"execute\": \"system_powerdown\"}\n");
    assert!(!started.typist.within(Duration::from_millis(100)).contains("Stopping"));
    started.say("{\"execute\": \"quit\"}\n");
    assert_eq!(started.child.wait().unwrap().code(), Some(0));
}

#[test]
fn stop_holds_the_guest_and_cont_lets_it_go_on() {
    let mut started = start(&FakeVm::new(), "-S");
    started.negotiate();
    assert_eq!(started.typist.within(Duration::from_millis(100)), "");
    started.say("{\"execute\": \"query-status\"}\n");
    assert_eq!(started.hear()["return"]["running"], false);
    started.say("{\"execute\": \"cont\"}\n");
    assert!(started.hear()["return"].is_object());
    assert_eq!(started.hear()["event"], "RESUME");
    started.typist.until(LOGIN);
}

#[test]
fn a_reset_is_an_event_and_another_boot() {
    let mut started = start(&FakeVm::new(), "");
    started.negotiate();
    started.typist.until(LOGIN);
    started.say("{\"execute\": \"system_reset\"}\n");
    assert!(started.hear()["return"].is_object());
    assert_eq!(started.hear()["event"], "RESET");
    started.typist.until("SeaBIOS");
    started.typist.until(LOGIN);
}

#[test]
fn a_signal_ends_qemu_in_order() {
    let mut started = start(&FakeVm::new(), "");
    started.negotiate();
    started.typist.until(LOGIN);
    let pid = rustix::process::Pid::from_child(&started.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(started.hear()["data"]["reason"], "host-signal");
    assert_eq!(started.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_bad_option_is_refused_in_qemus_words() {
    let output = output(&FakeVm::new(), "-frobnicate");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "qemu-system-x86_64: -frobnicate: invalid option\n");
}

#[test]
fn a_kvm_that_cannot_run_a_guest_aborts() {
    let output = output(&FakeVm::new().setting("kvm", "abort"), "-nographic");
    assert_eq!(output.status.signal(), Some(6));
    assert!(String::from_utf8_lossy(&output.stderr).contains("failed to set MSR 0x10a"));
}

#[test]
fn a_kvm_that_hangs_lets_the_firmware_speak() {
    let mut started = start(&FakeVm::new().setting("kvm", "hang"), "");
    started.typist.until("Booting from ROM...\r\n");
    assert_eq!(started.typist.within(Duration::from_millis(150)), "");
    drop(started);
    let mut emulated = start(&FakeVm::new().setting("kvm", "hang"), "-machine accel=tcg");
    emulated.typist.until(LOGIN);
}

#[test]
fn a_missing_kvm_falls_back_only_where_the_script_allows_it() {
    let vm = FakeVm::new().setting("kvm", "absent");
    start(&vm, "").typist.until(LOGIN);
    let refused = output(&vm, "-machine accel=kvm");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Could not access KVM kernel module"));
}

#[test]
fn a_setting_on_the_kernel_line_wins() {
    let folder = tempfile::tempdir().unwrap();
    let result = FakeVm::new().write_to(folder.path());
    let output = script(&result, folder.path())
        .env("QEMU_KERNEL_PARAMS", "fake.die=kernel fake.die-status=5")
        .output();
    assert_eq!(output.unwrap().status.code(), Some(5));
}
