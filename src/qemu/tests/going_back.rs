//! Tests of snapshots: another QEMU continues from an earlier moment.

use std::path::Path;

use super::*;
use crate::qemu::GoBack;

/// A guest that counts received bytes in RAM, and answers each byte with the count. To `t` it answers how
/// many times 2²⁸ the processor's clock has ticked.
const COUNTER: [u8; 46] = [
    0xc6, 0x06, 0x00, 0x70, 0x00, // mov byte [0x7000],0
    0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf8, // until a byte came
    0xba, 0xf8, 0x03, 0xec, 0x3c, b't', 0x74, 0x0c, // take it; is it t?
    0xfe, 0x06, 0x00, 0x70, 0xa0, 0x00, 0x70, // inc byte [0x7000]; mov al,[0x7000]
    0x04, b'0', 0xee, 0xeb, 0xe4, // say it; again
    0x0f, 0x31, 0x66, 0x0f, 0xac, 0xd0, 0x1c, // rdtsc; shrd eax,edx,28
    0xba, 0xf8, 0x03, 0xee, 0xeb, 0xd7, // say it; again
];

async fn counter(options: &str) -> Firmware {
    counter_in(options, None).await
}

/// Starts the counter on a qcow2 disk, with its RAM in a file of `template` if that is given.
async fn counter_in(options: &str, template: Option<&Path>) -> Firmware {
    let folder = tempfile::tempdir().unwrap();
    let (raw, disk) = (boot_image(folder.path(), &COUNTER), folder.path().join("boot.qcow2"));
    qemu_img(&["convert", "-O", "qcow2", &raw, disk.to_str().unwrap()]);
    let options = format!("{options} -drive format=qcow2,file={}", disk.display());
    let mut firmware = Firmware::in_template(&options, template).await;
    firmware.says("G!").await;
    firmware.files.push(folder);
    firmware
}

fn qemu_img(arguments: &[&str]) {
    assert!(
        std::process::Command::new("qemu-img").args(arguments).status().unwrap().success(),
        "{arguments:?}"
    );
}

async fn says(console: &mut UnixStream, byte: u8) -> u8 {
    console.write_all(&[byte]).await.unwrap();
    let mut said = [0];
    tokio::time::timeout(LIMIT, console.read_exact(&mut said)).await.expect("an answer in time").unwrap();
    said[0]
}

async fn count(firmware: &mut Firmware) -> char {
    char::from(says(&mut firmware.console, b'x').await)
}

/// Replaces the firmware's QEMU by another.
async fn back(firmware: &mut Firmware, moment: &Moment) -> crate::Result {
    let left = firmware.qemu.leave().await?;
    from(firmware, moment, left).await
}

async fn from(firmware: &mut Firmware, moment: &Moment, left: Left) -> crate::Result {
    let (_, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let (channel, events, run_dir) = (theirs.into(), Events::none(), &firmware.run);
    let go_back = GoBack { moment, machine: "test", run_dir, left, channel, cards: Vec::new(), events };
    firmware.qemu = Qemu::at_moment(go_back).await?;
    firmware.qemu.go_on().await
}

#[tokio::test]
async fn ram_and_time_go_back_again_and_again_on_the_same_line() {
    let mut firmware = counter("-net none").await;
    assert_eq!(count(&mut firmware).await, '1');
    let first = firmware.qemu.keep_moment(1, &firmware.run).await.unwrap();
    assert_eq!(count(&mut firmware).await, '2');
    let mut closed = firmware.qemu.closed();
    // How much of the guest's time is to be taken back.
    let mut time = Duration::from_secs(3);
    loop {
        tokio::time::sleep(time).await;
        let later = says(&mut firmware.console, b't').await;
        let begun = std::time::Instant::now();
        back(&mut firmware, &first).await.unwrap();
        let now = says(&mut firmware.console, b't').await;
        if now < later {
            break;
        }
        // Unless going back took longer than that.
        assert!(begun.elapsed() >= time, "the clock says {now} after {later}");
        time *= 2;
    }
    assert_eq!(count(&mut firmware).await, '2');
    let second = firmware.qemu.keep_moment(2, &firmware.run).await.unwrap();
    assert_eq!(count(&mut firmware).await, '3');
    for (moment, expected) in [(&second, '3'), (&first, '2'), (&second, '3')] {
        back(&mut firmware, moment).await.unwrap();
        assert_eq!(count(&mut firmware).await, expected);
    }
    // What one QEMU did not read is not read by the next.
    firmware.qemu.qmp().execute("stop", None, LIMIT).await.unwrap();
    firmware.console.write_all(b"xxx").await.unwrap();
    back(&mut firmware, &first).await.unwrap();
    assert_eq!(count(&mut firmware).await, '2');
    assert!(closed.borrow().is_none(), "the line goes on");
    firmware.qemu.kill().await;
    assert!(closed.wait_for(Option::is_some).await.is_ok());
    assert_eq!(firmware.console.read(&mut [0; 8]).await.unwrap(), 0, "the line has ended");
}

#[tokio::test]
async fn a_machine_that_is_off_goes_back() {
    let mut firmware = counter("-net none").await;
    assert_eq!(count(&mut firmware).await, '1');
    let moment = firmware.qemu.keep_moment(1, &firmware.run).await.unwrap();
    for _ in 0..2 {
        firmware.qemu.kill().await;
        let (console, left) = firmware.qemu.left().await.unwrap();
        firmware.console = console;
        from(&mut firmware, &moment, left).await.unwrap();
        assert_eq!(count(&mut firmware).await, '2');
    }
}

/// A machine that is to be saved has its RAM in a file that a template's clones map.
#[tokio::test]
async fn a_machine_that_is_to_be_saved_goes_back_and_can_be_saved() {
    let template = tempfile::Builder::new().prefix("it's, a").tempdir().unwrap();
    let mut firmware = counter_in("-net none", Some(template.path())).await;
    assert_eq!(count(&mut firmware).await, '1');
    // As in a clone that is to be saved.
    firmware.qemu.set_migration(true).await.unwrap();
    let moment = firmware.qemu.keep_moment(1, &firmware.run).await.unwrap();
    assert_eq!(count(&mut firmware).await, '2');
    back(&mut firmware, &moment).await.unwrap();
    assert_eq!(count(&mut firmware).await, '2');
    let memory = template.path().join("memory");
    assert_eq!(std::fs::read(&memory).unwrap()[0x7000], 2, "its RAM is in the file");
}

#[tokio::test]
async fn disks_are_those_of_the_moment() {
    for (machine, bus) in
        [("-net none -usb -device usb-tablet", Connector::Usb), ("-net none", Connector::Virtio)]
    {
        let mut firmware = counter(machine).await;
        let disk = |name: &str| image(&firmware, name);
        let (kept, gone) = (disk("kept"), disk("gone"));
        let layered = firmware.run.tmp().join("layered");
        qemu_img(&["create", "-q", "-f", "qcow2", layered.to_str().unwrap(), "1M"]);
        let qemu = &firmware.qemu;
        qemu.plug("kept", &kept, bus).await.unwrap();
        qemu.plug("layered", &layered, bus).await.unwrap();
        std::fs::write(&kept, [1; 1 << 16]).unwrap();
        let moment = qemu.keep_moment(1, &firmware.run).await.unwrap();
        qemu.plug("gone", &gone, bus).await.unwrap();
        std::fs::write(&kept, [2; 1 << 16]).unwrap();
        for _ in 0..2 {
            back(&mut firmware, &moment).await.unwrap();
            let nodes = nodes(&firmware.qemu).await;
            assert!(nodes.contains("nixvm-image-kept") && nodes.contains("nixvm-image-layered"), "{nodes}");
            assert!(!nodes.contains("nixvm-image-gone"), "{nodes}");
            assert_eq!(std::fs::read(&kept).unwrap(), [1; 1 << 16]);
            assert_eq!(count(&mut firmware).await, '1');
        }
        std::fs::remove_file(&layered).unwrap();
        let error = back(&mut firmware, &moment).await.unwrap_err();
        assert!(error.to_string().contains("layered"), "{error}");
        assert!(firmware.qemu.exit().borrow().is_some(), "it is off");
    }
}

/// The place that QEMU chose at the time need not be the first free one now.
#[tokio::test]
async fn a_disk_comes_back_to_the_place_that_it_had() {
    let usb = "-net none -usb -device usb-tablet";
    for (machine, bus) in [("-net none -device qemu-xhci", Connector::Usb), (usb, Connector::Usb)] {
        let mut firmware = counter(machine).await;
        let (first, second) = (image(&firmware, "first"), image(&firmware, "second"));
        firmware.qemu.plug("first", &first, bus).await.unwrap();
        firmware.qemu.plug("second", &second, bus).await.unwrap();
        firmware.qemu.unplug("first", LIMIT).await.unwrap();
        let moment = firmware.qemu.keep_moment(1, &firmware.run).await.unwrap();
        for _ in 0..2 {
            back(&mut firmware, &moment).await.unwrap();
            assert!(nodes(&firmware.qemu).await.contains("nixvm-image-second"));
        }
        firmware.qemu.unplug("second", LIMIT).await.unwrap();
        let moment = firmware.qemu.keep_moment(2, &firmware.run).await.unwrap();
        back(&mut firmware, &moment).await.unwrap();
        assert!(!nodes(&firmware.qemu).await.contains("nixvm-image-second"));
        assert_eq!(count(&mut firmware).await, '1');
    }
}

async fn place(qemu: &Qemu) -> serde_json::Value {
    let arguments = json!({ "path": "/machine/peripheral/nixvm-disk-near", "property": "addr" });
    qemu.qmp().execute("qom-get", Some(arguments), LIMIT).await.unwrap()
}

/// Firmware does not release a card, but a command can plug one in at another place than the first free one.
#[tokio::test]
async fn a_card_comes_back_to_the_place_that_it_had() {
    let mut firmware = counter("-net none").await;
    let card = json!({ "driver": "virtio-rng-pci", "id": "far", "addr": "1b.0" });
    firmware.qemu.qmp().execute("device_add", Some(card), LIMIT).await.unwrap();
    firmware.qemu.plug("near", &image(&firmware, "near"), Connector::Virtio).await.unwrap();
    let plugged = firmware.qemu.plugged().await.unwrap();
    let addresses: Vec<_> =
        plugged.iter().filter_map(|plug| plug.arguments["addr"].as_str().map(str::to_owned)).collect();
    assert_eq!(addresses.len(), 2);
    assert_eq!(addresses[0], "1b.0");
    let before = place(&firmware.qemu).await;
    let moment = firmware.qemu.keep_moment(1, &firmware.run).await.unwrap();
    for _ in 0..2 {
        back(&mut firmware, &moment).await.unwrap();
        assert_eq!(place(&firmware.qemu).await, before);
        assert_eq!(count(&mut firmware).await, '1');
    }
}

#[tokio::test]
async fn forwarded_ports_are_those_of_then_and_of_now() {
    let mut firmware = counter(NETWORK).await;
    let then = firmware.qemu.forward(Protocol::Tcp, 0, 80).await.unwrap();
    let moment = firmware.qemu.keep_moment(1, &firmware.run).await.unwrap();
    let since = firmware.qemu.forward(Protocol::Tcp, 0, 81).await.unwrap();
    let datagrams = firmware.qemu.forward(Protocol::Udp, 0, 53).await.unwrap();
    for _ in 0..2 {
        back(&mut firmware, &moment).await.unwrap();
        for address in [then, since] {
            TcpStream::connect(address).await.unwrap();
        }
        assert!(UdpSocket::bind(datagrams).await.is_err(), "QEMU has it");
    }
    firmware.qemu.kill().await;
    let taken = tokio::net::TcpListener::bind(then).await.unwrap();
    let (console, left) = firmware.qemu.left().await.unwrap();
    firmware.console = console;
    let error = from(&mut firmware, &moment, left).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Host, "{error}");
    drop(taken);
    let (console, left) = firmware.qemu.left().await.unwrap();
    firmware.console = console;
    from(&mut firmware, &moment, left).await.unwrap();
    TcpStream::connect(then).await.unwrap();
}

#[tokio::test]
async fn a_machine_that_no_other_qemu_could_take_up_is_named_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let image = boot_image(folder.path(), &COUNTER);
    for (options, kind, why) in [
        (format!("-drive format=raw,snapshot=on,file={image}"), ErrorKind::Host, "snapshot=on"),
        (format!("-drive format=raw,file={image}"), ErrorKind::Usage, "qcow2"),
    ] {
        let mut firmware = Firmware::with(&format!("-net none {options}")).await;
        firmware.says("G!").await;
        let error = firmware.qemu.keep_moment(1, &firmware.run).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(count(&mut firmware).await, '1');
    }
}

/// Until a QEMU is completely gone, its supervisor thread kills every process with its mark, including the
/// next QEMU.
#[tokio::test]
async fn no_other_qemu_takes_the_place_of_one_that_is_not_gone() {
    let firmware = counter("-net none").await;
    let error = firmware.qemu.cleared_within(Duration::from_millis(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Host);
    let text = error.to_string();
    assert!(text.contains("has not ended") && text.contains(&firmware.qemu.pid().to_string()), "{text}");
    firmware.qemu.kill().await;
    firmware.qemu.clear_away().await.unwrap();
}

/// The copy of a raw disk can't be restored, so no QEMU was started, and the machine is off at the next try.
#[tokio::test]
async fn a_machine_that_could_not_go_back_is_off_and_can_be_tried_again() {
    let mut firmware = counter("-net none").await;
    let disk = image(&firmware, "raw");
    firmware.qemu.plug("raw", &disk, Connector::Virtio).await.unwrap();
    let moment = firmware.qemu.keep_moment(1, &firmware.run).await.unwrap();
    std::fs::remove_file(&disk).unwrap();
    std::fs::create_dir(&disk).unwrap();
    assert!(firmware.qemu.off().is_none());
    let error = back(&mut firmware, &moment).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(firmware.qemu.closed().borrow().is_none(), "the end of the line was not reported");
    assert!(firmware.qemu.off().is_some_and(|exit| !exit.status.success()));
    std::fs::remove_dir(&disk).unwrap();
    let (console, left) = firmware.qemu.left().await.unwrap();
    firmware.console = console;
    from(&mut firmware, &moment, left).await.unwrap();
    assert!(firmware.qemu.off().is_none());
    assert_eq!(count(&mut firmware).await, '1');
}

#[tokio::test]
async fn a_qemu_that_has_ended_leaves_no_line() {
    let firmware = counter("-net none").await;
    firmware.qemu.kill().await;
    assert_eq!(firmware.qemu.leave().await.unwrap_err().kind(), ErrorKind::QemuGone);
}
