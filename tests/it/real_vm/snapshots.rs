//! Snapshots of the real VM: what an earlier moment is, after whatever came in between.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nixvm_test::ErrorKind;
use nixvm_test::machine::{Machine, PluggedDisk, Snapshot, check_console};

use super::{alice, events, machine_at, said_by};
use crate::again::rounds;

async fn uptime(machine: &Machine) -> f64 {
    said_by(machine, "cut -d' ' -f1 /proc/uptime").await.trim().parse().unwrap()
}

/// A machine of which much is known at the moment of a snapshot.
struct Known {
    machine: Machine,
    before: Snapshot,
    uptime: f64,
    disk: PluggedDisk,
    web: SocketAddr,
    /// How many stalls the kernel has told of: its boot may have been on a loaded host.
    stalls: String,
}

/// How many lines of the kernel tell of a stall.
async fn stalls(machine: &Machine) -> String {
    said_by(machine, "dmesg | grep -ciE 'stall|soft lockup|hung|clocksource.*unstable' || true").await
}

impl Known {
    async fn new() -> Self {
        let machine = machine_at(&alice(), &events()).await;
        let alice = machine.session().await.expect("alice is logged in");
        alice.succeed("cd /tmp; echo before > note; sync").await.unwrap();
        // The first of two is gone, so the other one is not where the next one would be.
        let first = machine.hot_plug_disk("first", 8 << 20).await.unwrap();
        let disk = machine.hot_plug_disk("disk", 8 << 20).await.unwrap();
        for disk in [&first, &disk] {
            machine.wait_for_file(disk.guest_path()).await.unwrap();
        }
        machine.succeed("udevadm settle").await.unwrap();
        machine.unplug(&first).await.unwrap();
        machine.succeed(format!("echo before > {0}; sync {0}", disk.guest_path())).await.unwrap();
        let serve = "use IO::Socket::INET; $l = IO::Socket::INET->new(LocalPort => 8080, Listen => 9, ReuseAddr => 1); \
                     while ($c = $l->accept) { print $c \"served\\n\"; close $c }";
        machine.succeed(format!("nft flush ruleset; systemd-run -q perl -e '{serve}'")).await.unwrap();
        machine.wait_for_open_port(8080).await.unwrap();
        let web = machine.forward_port(0, 8080).await.unwrap();
        let stalls = stalls(&machine).await;
        let before = machine.snapshot().await.unwrap();
        let uptime = uptime(&machine).await;
        Self { machine, before, uptime, disk, web, stalls }
    }

    /// Much is changed in the guest and outside of it.
    async fn changes(&self) {
        let path = self.disk.guest_path();
        self.machine.succeed(format!("echo after > {path}; sync {path}; rm /tmp/note")).await.unwrap();
        self.machine
            .succeed(
                "for i in 1 2 3; do head -c 16M /dev/urandom > /var/large$i; sync; rm /var/large$i; done",
            )
            .await
            .unwrap();
        // Some of it is not written to the image when the QEMU ends.
        self.machine.succeed("head -c 32M /dev/urandom > /var/large").await.unwrap();
    }

    /// The machine goes back, and all is as it was.
    async fn goes_back(&self) {
        let Self { machine, before, uptime: then, disk, web, stalls: known } = self;
        machine.restore(before).await.unwrap();
        let now = uptime(machine).await;
        assert!((then - 2.0..then + 20.0).contains(&now), "up for {now} s, at the snapshot for {then} s");
        let alice = machine.session().await.expect("alice is logged in then");
        assert_eq!(alice.succeed("pwd; cat note").await.unwrap().text(), "/tmp\nbefore\n");
        machine.succeed("test ! -e /var/large && test ! -e /dev/disk/by-id/virtio-first").await.unwrap();
        let read = format!("dd if={} iflag=direct bs=4k count=1 status=none | head -c 6", disk.guest_path());
        assert_eq!(said_by(machine, &read).await, "before");
        let mut connection = TcpStream::connect(web).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut said = String::new();
        connection.read_to_string(&mut said).unwrap();
        assert_eq!(said, "served\n");
        assert_eq!(stalls(machine).await, *known, "{}", said_by(machine, "dmesg | tail -30").await);
    }
}

/// In one QEMU its time would have gone on: the guest would see a jump of 30 s, and a stall.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_goes_back_after_half_a_minute_and_knows_nothing_of_it() {
    let known = Known::new().await;
    let machine = &known.machine;
    let console = machine.console();
    known.changes().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let late = uptime(machine).await;
    assert!(late > known.uptime + 30.0, "{late}");
    let pid = machine.qemu().pid();
    known.goes_back().await;
    assert_ne!(machine.qemu().pid(), pid, "another QEMU runs");
    assert!(console.is_open(), "the console goes on");
    assert!(machine.get_console_log().unwrap().contains("login: "), "nothing of it is lost");
    assert_eq!(check_console(&machine.get_console_log().unwrap(), &[]), []);

    // A disk that was plugged in since is gone; one that was unplugged is back.
    machine.hot_plug_disk("since", 8 << 20).await.unwrap();
    machine.unplug(&known.disk).await.unwrap();
    known.goes_back().await;
    machine.succeed("test ! -e /dev/disk/by-id/virtio-since").await.unwrap();
    machine.unplug(&known.disk).await.unwrap();

    // A later moment of a machine that has gone back.
    machine.succeed("echo later > /tmp/note").await.unwrap();
    let later = machine.snapshot().await.unwrap();
    known.goes_back().await;
    machine.restore(&later).await.unwrap();
    assert_eq!(said_by(machine, "cat /tmp/note").await, "later\n");

    // Again and again, with writes under way.
    for _ in 0..rounds(2) {
        machine
            .execute("(while :; do head -c 4M /dev/urandom > /var/busy; sync; done) >/dev/null 2>&1 &")
            .await
            .unwrap();
        machine.succeed("until test -s /var/busy; do :; done").await.unwrap();
        known.goes_back().await;
    }
    machine.stop().await;
    sound(&machine.run_directory().join("disk.qcow2"), true);
}

/// It outlives a boot, too: `scenarios/power.rs`.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_outlives_the_qemu_that_took_it() {
    let known = Known::new().await;
    let machine = &known.machine;
    for _ in 0..2 {
        known.changes().await;
        machine.crash().await;
        known.goes_back().await;
    }
    let session = machine.session().await.unwrap();
    machine.power_off().await.unwrap();
    known.goes_back().await;
    assert_eq!(session.succeed("true").await.unwrap_err().kind(), ErrorKind::SessionEnded);
    // An image that is gone: the machine is off, and says why.
    std::fs::remove_file(known.disk.image()).unwrap();
    machine.crash().await;
    sound(&machine.run_directory().join("disk.qcow2"), false);
    std::fs::rename(machine.run_directory().join("disk.qcow2"), machine.run_directory().join("moved"))
        .unwrap();
    let error = machine.restore(&known.before).await.unwrap_err();
    assert!(error.to_string().contains("disk.qcow2"), "{error}");
    assert!(machine.qemu().exit().borrow().is_some());
    assert_eq!(machine.succeed("true").await.unwrap_err().kind(), ErrorKind::NoRoot);
}

/// qemu-img finds no fault in an image; of one whose QEMU was killed, nothing but room that is lost.
#[track_caller]
fn sound(image: &Path, nothing_lost: bool) {
    let output = Command::new("qemu-img").args(["check", "--output=json"]).arg(image).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(found["corruptions"].is_null() && found["check-errors"] == 0, "{text}");
    assert!(!nothing_lost || found["leaks"].is_null(), "{text}");
}
