//! What a machine's hardware offers beside its serial console, on the VM of configuration.nix: screen and
//! keyboard, network, disks, memory. Seen from the guest's side by a session on the console.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use nixvm_test::ErrorKind;
use nixvm_test::console::Pattern;
use nixvm_test::machine::{Machine, Session, check_console};
use serde_json::json;

use super::{alice, events, machine_at};

const SOON: Duration = Duration::from_secs(20);

/// Runs a command in the guest until it succeeds.
async fn until(session: &Session, command: &str) {
    let patiently = format!("for i in $(seq 300); do {command} && break; sleep 0.1; done; {command}");
    session.within(Duration::from_secs(30)).succeed(&patiently).await.unwrap();
}

#[tokio::test]
async fn a_person_at_the_screen_logs_in_on_tty1() {
    let machine = machine_at(&alice(), &events()).await;
    let alice = machine.session().await.unwrap();
    // The stand-in's kernel has no screen until the driver is asked for.
    alice.succeed("sudo modprobe bochs").await.unwrap();
    let screen = machine.wait_for_text("nixos login:", SOON).await.unwrap();
    assert!(screen.contains("Welcome to Nix"), "{screen}");
    let picture = tempfile::tempdir().unwrap();
    machine.screenshot(picture.path().join("login.png")).await.unwrap();
    assert!(std::fs::read(picture.path().join("login.png")).unwrap().starts_with(b"\x89PNG"));
    assert!(machine.screenshot_png().await.unwrap().starts_with(b"\x89PNG"));
    let readings = machine.get_screen_text_variants().await.unwrap();
    assert!(readings.len() > 1 && readings.iter().any(|text| text.contains("login")), "{readings:?}");

    machine.send_chars("alice\n").await.unwrap();
    machine.wait_for_text("Password:", SOON).await.unwrap();
    machine.send_chars("test\n").await.unwrap();
    machine.wait_for_text("alice@nixos", SOON).await.unwrap();
    // Every character of the layout, and more than any buffer on the way holds.
    let every: String = (' '..='~').collect();
    let typed = every.repeat(12);
    machine.send_chars("cat > typed\n").await.unwrap();
    for line in typed.as_bytes().chunks(190) {
        machine.send_chars(&format!("{}\n", String::from_utf8_lossy(line))).await.unwrap();
    }
    machine.send_chars("\x04").await.unwrap();
    until(&alice, &format!("[ $(wc -c < typed) -ge {} ]", typed.len() + typed.len().div_ceil(190))).await;
    assert_eq!(alice.succeed("cat typed").await.unwrap().text().replace('\n', ""), typed);
    // Looked for before it is there.
    let (text, typed) = tokio::join!(
        machine.wait_until_tty_matches(1, Pattern::regex("(?m)^/dev/tty1 *$").unwrap()),
        machine.send_chars("clear; tty\n")
    );
    typed.unwrap();
    assert!(!text.unwrap().contains("Welcome to NixOS"), "it was cleared");
    assert!(machine.get_tty_text(1).await.unwrap().lines().any(|line| line.trim_end() == "/dev/tty1"));
    assert!(machine.get_screen_text().await.unwrap().contains("/dev/tty"));
    let hurry = machine.within(Duration::from_millis(200));
    let never = hurry.wait_until_tty_matches(1, "no such words").await.unwrap_err();
    assert_eq!(never.kind(), ErrorKind::Timeout, "{never}");
    assert!(never.to_string().contains("| /dev/tty1"), "{never}");
    let missing = machine.wait_until_tty_matches(99, "login").await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::CommandFailed, "{missing}");

    // Without a driver for the virtio keyboard the keys go to the PS/2 keyboard.
    alice.succeed("sudo modprobe -r virtio_input").await.unwrap();
    machine.send_chars(&format!("echo '{}' > ps2\n", "0123456789".repeat(10))).await.unwrap();
    until(&alice, "[ -s ps2 ]").await;
    assert_eq!(alice.succeed("cat ps2").await.unwrap().text(), "0123456789".repeat(10) + "\n");

    machine.send_key("ctrl-alt-f2").await.unwrap();
    until(&alice, "[ $(cat /sys/class/tty/tty0/active) = tty2 ]").await;
    machine.send_monitor_command("sendkey ctrl-alt-f3").await.unwrap();
    until(&alice, "[ $(cat /sys/class/tty/tty0/active) = tty3 ]").await;
    let never = machine.wait_for_text("no such words", Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(never.kind(), ErrorKind::Timeout, "{never}");

    let (panic, _) = tokio::join!(
        machine.wait_for_text("no such words", Duration::from_secs(600)),
        alice.execute("sudo sh -c 'echo c > /proc/sysrq-trigger'")
    );
    assert_eq!(panic.unwrap_err().kind(), ErrorKind::KernelPanic);
}

#[tokio::test]
async fn network_disks_and_memory_from_outside() {
    let machine = machine_at(&alice(), &events()).await;
    let alice = machine.session().await.unwrap();
    the_network(&machine, &alice).await;
    the_disks(&machine, &alice).await;

    let gone = |data: &serde_json::Value| data["device"] == "nixvm-disk-stick";
    let event = machine.wait_for_qmp_event_where("DEVICE_DELETED", gone, SOON).await.unwrap();
    assert_eq!(event.data["device"], "nixvm-disk-stick", "the other disk went first");
    machine.qmp("stop", None).await.unwrap();
    assert!(machine.send_monitor_command("info status").await.unwrap().contains("paused"));
    machine.wait_for_qmp_event("STOP", SOON).await.unwrap();
    limits_hold(&machine).await;
    machine.qmp("cont", None).await.unwrap();
    machine.wait_for_qmp_event("RESUME", SOON).await.unwrap();
    let missing = machine.qmp("device_del", Some(json!({ "id": "nothing" }))).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Qmp);

    // Put together in the guest: the words themselves are on no disk and were never typed.
    alice.succeed("printf 'canary-%s' in-the-memory > /dev/shm/canary").await.unwrap();
    let core = machine.run_directory().join("tmp/core");
    machine.memory_dump(&core).await.unwrap();
    assert!(holds(&core, b"canary-in-the-memory"));
    alice.succeed("true").await.unwrap();

    the_console(&machine, alice).await;
    machine.stop().await;
}

/// A machine that stands still answers nobody on its control channel, and nothing is waited for after a limit.
async fn limits_hold(machine: &Machine) {
    let machine = machine.within(Duration::from_millis(10));
    for (kind, error) in [
        (ErrorKind::CommandTimeout, machine.succeed("true").await.err()),
        (ErrorKind::Timeout, machine.wait_until_succeeds("true").await.err()),
        (ErrorKind::Timeout, machine.wait_for_unit("dbus").await.err()),
        (ErrorKind::Timeout, machine.wait_for_file("/nowhere").await.err()),
        (ErrorKind::Timeout, machine.wait_for_open_unix_socket("/nowhere").await.err()),
        (ErrorKind::Timeout, machine.wait_for_log("dbus", "never said").await.err()),
        (ErrorKind::CommandTimeout, machine.read_file("/etc/hostname").await.err()),
    ] {
        let error = error.expect("the machine is paused");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains("the machine is paused"), "{error}");
    }
}

async fn the_network(machine: &Machine, alice: &Session) {
    let carrier = |up| format!("[ $(cat /sys/class/net/eth0/carrier) = {up} ]");
    until(alice, &carrier(1)).await;
    machine.block().await.unwrap();
    until(alice, &carrier(0)).await;
    machine.unblock().await.unwrap();
    until(alice, &carrier(1)).await;
    until(alice, "ip -4 addr show dev eth0 | grep -q 10.0.2.15").await;

    alice
        .succeed("sudo nft flush ruleset; (echo from the guest | nc -lN 8080 >/dev/null 2>&1 &)")
        .await
        .unwrap();
    let address = machine.forward_port(0, 8080).await.unwrap();
    until(alice, "ss -ltn | grep -q :8080").await;
    let mut connection = std::net::TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut said = String::new();
    connection.read_to_string(&mut said).unwrap();
    assert_eq!(said, "from the guest\n");

    alice.succeed("(timeout 60 nc -lu 8081 > datagram 2>/dev/null &)").await.unwrap();
    until(alice, "ss -lun | grep -q :8081").await;
    let address = machine.forward_udp_port(0, 8081).await.unwrap();
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.send_to(b"from the host", address).unwrap();
    until(alice, "grep -q '^from the host' datagram").await;
}

async fn the_disks(machine: &Machine, alice: &Session) {
    let disk = machine.hot_plug_disk("extra", 8 << 20).await.unwrap();
    let stick = machine.plug_usb_storage("stick", 8 << 20).await.unwrap();
    for (disk, word) in [(&disk, "on the disk"), (&stick, "on the stick")] {
        let path = disk.guest_path();
        until(alice, &format!("[ -b {path} ]")).await;
        assert_eq!(
            alice.succeed(&format!("sudo blockdev --getsize64 {path}")).await.unwrap().text(),
            "8388608\n"
        );
        alice.succeed(&format!("echo {word} | sudo dd of={path} conv=fsync status=none")).await.unwrap();
        let image = std::fs::read(disk.image()).unwrap();
        assert!(image.starts_with(word.as_bytes()));
        // udev looks at a disk that was written to; pulled out meanwhile it would be an I/O error.
        alice.succeed("sudo udevadm settle").await.unwrap();
        machine.unplug(disk).await.unwrap();
        until(alice, &format!("[ ! -e {path} ]")).await;
        assert_eq!(machine.unplug(disk).await.unwrap_err().kind(), ErrorKind::Qmp, "it is gone");
    }
    // With what was written before.
    let again = machine.hot_plug_disk("again", disk.image()).await.unwrap();
    until(alice, &format!("[ -b {} ]", again.guest_path())).await;
    let read = alice.succeed(&format!("sudo head -c 11 {}", again.guest_path())).await.unwrap();
    assert_eq!(read.text(), "on the disk");
}

async fn the_console(machine: &Machine, alice: Session) {
    // Long passed over by the boot and by the session.
    machine.wait_for_console_text("Welcome to NixOS", SOON).await.unwrap();
    assert!(machine.get_console_log().unwrap().contains("Welcome to NixOS"));
    let before = check_console(&machine.get_console_log().unwrap(), &[]);
    assert_eq!(before, [], "a machine that is well");
    let crash = "sudo dmesg -n 7; perl -e 'print unpack(\"p\", pack(\"Q\", 1))'";
    assert_ne!(alice.execute(crash).await.unwrap().status(), 0);
    machine.wait_for_console_text(": segfault at 1 ", SOON).await.unwrap();
    let found = check_console(&machine.get_console_log().unwrap(), &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].check, "segfault");
    assert!(found[0].line.contains("perl["), "{found:?}");

    alice.log_out().await.unwrap();
    let mark = machine.console().mark();
    machine.send_console("alice\n").await.unwrap();
    machine.wait_for_console_text_since(mark, "Password: ", SOON).await.unwrap();
    let since = machine.wait_for_console_text_since(mark, "Welcome", Duration::from_millis(50)).await;
    assert_eq!(since.unwrap_err().kind(), ErrorKind::Timeout, "that was before the mark");
}

/// Whether a file holds these bytes.
fn holds(path: &Path, words: &[u8]) -> bool {
    let mut file = std::fs::File::open(path).unwrap();
    let mut piece = vec![0; 8 << 20];
    loop {
        let read = file.read(&mut piece).unwrap();
        if memchr::memmem::find(&piece[..read], words).is_some() {
            return true;
        }
        if read <= words.len() {
            return false;
        }
        file.seek(SeekFrom::Current(-(words.len() as i64))).unwrap();
    }
}
