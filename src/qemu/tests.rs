//! Tests that need a real QEMU but no guest: firmware is enough.

mod going_back;
mod kvm;
pub(crate) mod under;
mod virtio_keyboard;

use std::io::Write;
use std::path::PathBuf;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixStream};

use super::*;
use crate::BuiltVm;
use crate::hang::HANG as LIMIT;
use crate::{ErrorKind, Events};

/// A machine with a run script of the test's own. Its fields are dropped in this order.
pub(crate) struct Firmware {
    pub(crate) qemu: Qemu,
    pub(crate) console: UnixStream,
    pub(crate) run: RunDirectory,
    /// The script, and the files that it was started with.
    pub(super) files: Vec<tempfile::TempDir>,
}

impl Firmware {
    /// Starts QEMU with these options.
    pub(crate) async fn with(options: &str) -> Self {
        Self::in_template(options, None).await
    }

    /// Does the same, with its RAM in a file of that folder.
    pub(crate) async fn in_template(options: &str, template: Option<&std::path::Path>) -> Self {
        Self::after(":", options, template).await
    }

    /// Does the same, after the run script has run this command.
    pub(crate) async fn after(command: &str, options: &str, template: Option<&std::path::Path>) -> Self {
        Self::under(under::chosen(), command, options, template).await
    }

    /// Does the same under an accelerator, with the given processor if there is one.
    pub(crate) async fn under(
        (accelerator, cpu): (Accelerator, Option<&'static str>),
        command: &str,
        options: &str,
        template: Option<&std::path::Path>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        let script = folder.path().join("bin/run-nixos-vm");
        let text =
            format!("#!/bin/sh\n{command}\nexec qemu-system-x86_64 -m 64 {options} -nographic $QEMU_OPTS\n");
        nixvm_fake_guest::write_executable(&script, text).unwrap();
        let vm = BuiltVm::open(folder.path()).unwrap();
        let run = RunDirectory::create().unwrap();
        let mut launch = Launch::new(&vm, "test", &run, Events::none());
        (launch.accelerator, launch.cpu) = (accelerator, cpu);
        launch.memory = template.map(|template| Memory::create(template, &vm, &[]).unwrap().unwrap());
        let (_, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        launch.channel = template.is_some().then_some(theirs.into());
        let (qemu, console) = Qemu::launch(launch).await.unwrap();
        Self { qemu, console, run, files: vec![folder] }
    }

    /// Waits until the firmware has printed something on the serial port.
    pub(crate) async fn says(&mut self, wanted: &str) {
        let mut seen = Vec::new();
        let reading = async {
            while !String::from_utf8_lossy(&seen).contains(wanted) {
                assert!(self.console.read_buf(&mut seen).await.unwrap() > 0, "QEMU ended");
            }
        };
        let in_time = tokio::time::timeout(LIMIT, reading).await.is_ok();
        assert!(in_time, "{wanted}: {}", String::from_utf8_lossy(&seen));
    }
}

fn chords(names: &[&str]) -> Vec<Chord> {
    names.iter().map(|name| Chord::parse(name).unwrap()).collect()
}

#[tokio::test]
async fn keys_reach_the_firmwares_menu() {
    let mut firmware = Firmware::with("-net none -boot menu=on,splash-time=60000").await;
    firmware.says("Press ESC for boot menu").await;
    firmware.qemu.press(&chords(&["esc"]), LIMIT).await.unwrap();
    firmware.says("Select boot device").await;
    // More than a PS/2 keyboard can hold, and then a choice.
    let many = chords(&["shift-x"; 40]);
    firmware.qemu.press(&many, LIMIT).await.unwrap();
    firmware.qemu.press(&chords(&["1"]), LIMIT).await.unwrap();
    firmware.says("Booting from").await;
}

#[tokio::test]
async fn a_key_that_is_none_and_a_machine_that_stands_still_are_named() {
    let firmware = Firmware::with("-net none").await;
    let unknown = firmware.qemu.press(&chords(&["ctrl-nokey"]), LIMIT).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Qmp);
    assert!(unknown.summary().contains("nokey"), "{unknown}");
    firmware.qemu.qmp().execute("stop", None, LIMIT).await.unwrap();
    let paused = firmware.qemu.press(&chords(&["a"]), LIMIT).await.unwrap_err();
    assert_eq!(paused.kind(), ErrorKind::Usage);
    assert!(paused.summary().contains("paused"), "{paused}");
}

/// Starts a machine that boots this code, which first prints `G!` on the serial port.
async fn booting(code: &[u8]) -> (Firmware, tempfile::TempDir) {
    booting_with("", code, "G!").await
}

/// Does the same as [`booting`], with more options, and waits until all of `says` was printed.
async fn booting_with(options: &str, code: &[u8], says: &str) -> (Firmware, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let image = boot_image(folder.path(), code);
    let drive = format!("-net none {options} -drive format=raw,file={image}");
    let mut firmware = Firmware::with(&drive).await;
    firmware.says(says).await;
    (firmware, folder)
}

/// Makes the disk of such a machine.
pub(crate) fn boot_image(folder: &std::path::Path, code: &[u8]) -> String {
    let image = folder.join("boot.img");
    let mut sector = vec![0xfa, 0xba, 0xf8, 0x03, 0xb0, b'G', 0xee, 0xb0, b'!', 0xee];
    sector.extend(code);
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    // The firmware does not read a virtio disk of one sector.
    sector.resize(1 << 20, 0);
    std::fs::write(&image, sector).unwrap();
    image.display().to_string()
}

#[tokio::test]
async fn a_guest_that_does_not_read_its_keyboard_is_named() {
    // hlt; jmp, with interrupts off.
    let (firmware, _folder) = booting(&[0xf4, 0xeb, 0xfd]).await;
    let error = firmware.qemu.press(&chords(&["a"]), Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("the guest does not read its keyboard"), "{error}");
}

#[tokio::test]
async fn a_guest_that_reads_its_keyboard_slowly_gets_every_key() {
    // in al,0x64; test al,1; jz; in al,0x60; out dx,al; mov ecx,0x800000; loop; jmp: reads a byte every few
    // milliseconds.
    let slow = [
        0xe4, 0x64, 0xa8, 0x01, 0x74, 0xfa, 0xe4, 0x60, 0xee, 0x66, 0xb9, 0x00, 0x00, 0x80, 0x00, 0x67, 0xe2,
        0xfd, 0xeb, 0xec,
    ];
    let (mut firmware, _folder) = booting(&slow).await;
    firmware.qemu.press(&chords(&["a"; 40]), LIMIT).await.unwrap();
    firmware.qemu.press(&chords(&["b"]), LIMIT).await.unwrap();
    let mut codes = vec![0; 82];
    let read = tokio::time::timeout(LIMIT, firmware.console.read_exact(&mut codes)).await;
    read.expect("every scan code in time").unwrap();
    assert_eq!(codes, [[0x1e, 0x9e].repeat(40), vec![0x30, 0xb0]].concat());
}

#[tokio::test]
async fn the_monitor_answers_and_its_refusals_are_errors() {
    let firmware = Firmware::with("-net none").await;
    let said = firmware.qemu.monitor("info status").await.unwrap();
    assert!(said.starts_with("VM status: running\n"), "{said:?}");
    for refused in ["nosuch", "device_add nosuch", "x /4i"] {
        let error = firmware.qemu.monitor(refused).await;
        if refused.starts_with('x') {
            // Complaints in other words come back as text.
            assert!(error.is_ok());
        } else {
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Qmp, "{refused}");
        }
    }
}

#[tokio::test]
async fn the_screen_is_dumped_and_a_machine_without_one_is_named() {
    let firmware = Firmware::with("-net none").await;
    let path = firmware.run.path().join("screen with a blank");
    firmware.qemu.screendump(&path, Format::Png).await.unwrap();
    assert!(std::fs::read(&path).unwrap().starts_with(b"\x89PNG"));
    firmware.qemu.screendump(&path, Format::Ppm).await.unwrap();
    assert!(std::fs::read(&path).unwrap().starts_with(b"P6"));
    let nowhere = firmware.qemu.screendump("/no/such/folder/x".as_ref(), Format::Ppm).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::Qmp);

    let blind = Firmware::with("-net none -vga none").await;
    let error = blind.qemu.screendump(&path, Format::Ppm).await.unwrap_err();
    assert_eq!(error.summary(), "the machine has no screen", "{error}");
}

const NETWORK: &str = "-netdev user,id=user.0 -device virtio-net-pci,netdev=user.0";

#[tokio::test]
async fn a_forwarded_port_is_chosen_and_taken_at_once() {
    let firmware = Firmware::with(NETWORK).await;
    let qemu = &firmware.qemu;
    let (one, two) = tokio::join!(qemu.forward(Protocol::Tcp, 0, 80), qemu.forward(Protocol::Tcp, 0, 80));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one, two, "two at once do not get the same");
    for address in [one, two] {
        assert!(address.ip().is_loopback() && address.port() != 0);
        TcpStream::connect(address).await.unwrap().shutdown().await.unwrap();
    }
    let taken = qemu.forward(Protocol::Tcp, one.port(), 81).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Host, "{taken}");
    let udp = qemu.forward(Protocol::Udp, 0, 53).await.unwrap();
    assert!(UdpSocket::bind(udp).await.is_err(), "QEMU has it");
    assert_eq!(qemu.forward(Protocol::Tcp, 0, 0).await.unwrap_err().kind(), ErrorKind::Host);
}

#[tokio::test]
async fn without_a_network_there_is_nothing_to_cut_or_to_forward() {
    let firmware = Firmware::with("-net none").await;
    let cut = firmware.qemu.set_links(false).await.unwrap_err();
    assert_eq!(cut.summary(), "the machine has no network card");
    let forward = firmware.qemu.forward(Protocol::Tcp, 0, 80).await.unwrap_err();
    assert_eq!(forward.kind(), ErrorKind::Usage);
    Firmware::with(NETWORK).await.qemu.set_links(false).await.unwrap();
}

fn image(firmware: &Firmware, name: &str) -> PathBuf {
    let path = firmware.run.tmp().join(name);
    std::fs::File::create(&path).unwrap().write_all(&[0; 1 << 16]).unwrap();
    path
}

async fn nodes(qemu: &Qemu) -> String {
    let flat = json!({ "flat": true });
    qemu.qmp().execute("query-named-block-nodes", Some(flat), LIMIT).await.unwrap().to_string()
}

#[tokio::test]
async fn a_usb_stick_comes_and_goes_on_a_machine_with_and_without_usb() {
    for options in ["-net none -usb", "-net none"] {
        let firmware = Firmware::with(options).await;
        let (qemu, stick) = (&firmware.qemu, image(&firmware, "stick"));
        qemu.plug("stick", &stick, Connector::Usb).await.unwrap();
        let blocks = qemu.qmp().execute("query-block", None, LIMIT).await.unwrap().to_string();
        assert!(blocks.contains("nixvm-disk-stick"), "{blocks}");
        let twice = qemu.plug("stick", &stick, Connector::Usb).await.unwrap_err();
        assert_eq!(twice.kind(), ErrorKind::Qmp);
        qemu.unplug("stick", LIMIT).await.unwrap();
        assert!(!nodes(qemu).await.contains("nixvm-image"));
        qemu.plug("stick", &stick, Connector::Usb).await.unwrap();
    }
}

#[tokio::test]
async fn a_disk_is_plugged_in_and_one_that_the_guest_holds_on_to_is_named() {
    let firmware = Firmware::with("-net none").await;
    let qemu = &firmware.qemu;
    qemu.plug("data", &image(&firmware, "data"), Connector::Virtio).await.unwrap();
    assert!(nodes(qemu).await.contains("nixvm-image-data"));
    // The firmware does not answer.
    let held = qemu.unplug("data", Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(held.kind(), ErrorKind::Timeout, "{held}");
    assert_eq!(qemu.unplug("other", LIMIT).await.unwrap_err().kind(), ErrorKind::Qmp);
    let missing = qemu.plug("none", "/no/such/image".as_ref(), Connector::Virtio).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Io);
}

#[tokio::test]
async fn a_machine_that_takes_no_card_says_what_to_do_and_forgets_the_image() {
    let firmware = Firmware::with("-net none -machine q35").await;
    let path = image(&firmware, "data");
    let error = firmware.qemu.plug("data", &path, Connector::Virtio).await.unwrap_err();
    assert!(error.to_string().contains("pcie-root-port"), "{error}");
    assert!(!nodes(&firmware.qemu).await.contains("nixvm-image"));
}

#[tokio::test]
async fn the_memory_is_dumped_as_a_core_file() {
    let firmware = Firmware::with("-net none").await;
    let path = firmware.run.tmp().join("core");
    firmware.qemu.dump_memory(&path, LIMIT).await.unwrap();
    let core = std::fs::read(&path).unwrap();
    assert!(core.starts_with(b"\x7fELF") && core.len() >= 64 << 20, "{} bytes", core.len());
    let running = firmware.qemu.qmp().execute("query-status", None, LIMIT).await.unwrap();
    assert_eq!(running["running"], true);
    let error = firmware.qemu.dump_memory("/no/such/folder/core".as_ref(), LIMIT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Qmp);
}

#[tokio::test]
async fn a_fixed_port_that_another_machine_has_is_named_with_its_holder() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let options = format!("-nic user,hostfwd=tcp:127.0.0.1:{port}-:22");
    let first = Firmware::with(&options).await;
    let script = tempfile::tempdir().unwrap();
    let path = script.path().join("run-nixos-vm");
    let text = format!("#!/bin/sh\nexec qemu-system-x86_64 -m 64 {options} -nographic $QEMU_OPTS\n");
    nixvm_fake_guest::write_executable(&path, text).unwrap();
    let (vm, run) = (BuiltVm::open(&path).unwrap(), RunDirectory::create().unwrap());
    let error = Qemu::launch(Launch::new(&vm, "second", &run, Events::none())).await.unwrap_err();
    assert!(is_of_a_port(&error), "{error}");
    let text = error.to_string();
    let holder = format!("tcp port {port}: process {} (", first.qemu.pid());
    for part in
        [holder.as_str(), "the machine test", &format!("hostfwd=tcp:127.0.0.1:{port}-:22"), "forward_port(0"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    drop(first);
    Qemu::launch(Launch::new(&vm, "second", &run, Events::none())).await.unwrap();
}
