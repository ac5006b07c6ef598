//! A machine that is kept as it stood, and goes on from there: the real VM.

use std::path::Path;
use std::time::{Duration, Instant};

use nixvm_test::ErrorKind;
use nixvm_test::machine::{Kept, MachineOptions, RawConsole};

use super::{alice, events, machine_at};
use crate::hang::HANG;

/// Reads until `wanted` has come; gives all that came.
async fn until(console: &mut RawConsole, wanted: &str) -> String {
    let mut came = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&came).contains(wanted) {
            came.extend(console.next().await.expect("the machine runs"));
        }
    };
    let in_time = tokio::time::timeout(HANG, reading).await.is_ok();
    let came = String::from_utf8_lossy(&came).into_owned();
    assert!(in_time, "{wanted:?} did not come: {came:?}");
    came
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_in_the_middle_of_a_command_is_kept_and_handed_to_a_person() {
    let machine = machine_at(&alice(), &events()).await;
    let session = machine.session().await.unwrap();
    session.succeed("cd /tmp; answer=42; echo on the disk > note; sync").await.unwrap();
    // A person at the console of a machine that lives, and the session after them.
    let mut console = machine.raw_console().await;
    until(&mut console, "alice@nixos:/tmp]$").await;
    console.send(b"echo $((answer + 1))\r").await.unwrap();
    until(&mut console, "\r43\r\n").await;
    drop(console);
    assert_eq!(session.succeed("pwd").await.unwrap().text(), "/tmp\n");
    // As a scenario's limit leaves it.
    let hung = tokio::time::timeout(Duration::from_secs(2), session.execute("echo begun; sleep 1000")).await;
    assert!(hung.is_err());

    let folder = tempfile::tempdir().unwrap();
    let moment = folder.path().join("machine.moment");
    let begun = Instant::now();
    machine.keep(&moment).await.unwrap();
    eprintln!("kept in {:?}", begun.elapsed());
    let again = machine.keep(&folder.path().join("again")).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Host);
    assert!(again.summary().contains("its QEMU has ended"), "{again}");
    drop((machine, session));
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().flatten().map(|its| its.file_name()).collect();
    assert_eq!(left, ["machine.moment"]);
    let before = listing(&moment);

    // Elsewhere, twice: each goes on from the same moment.
    let elsewhere = folder.path().join("elsewhere");
    std::fs::rename(&moment, &elsewhere).unwrap();
    let kept = Kept::open(&elsewhere).unwrap();
    // What a disk lies over is beside it, and named so.
    let disk = std::fs::read(elsewhere.join("image0")).unwrap();
    assert!(elsewhere.join("image0-01").exists());
    let header = String::from_utf8_lossy(&disk[..4096]).into_owned();
    assert!(
        header.contains("image0-01") && !header.contains("/templates/"),
        "{}",
        header.trim_end_matches('\0')
    );
    assert_eq!((kept.machine(), kept.obstacle().unwrap()), ("nixos", None));
    for _ in 0..2 {
        let begun = Instant::now();
        let (machine, mut console) =
            kept.resume(MachineOptions::new("nixos").events(events())).await.unwrap();
        eprintln!("resumed in {:?}", begun.elapsed());
        assert!(machine.console().tail(5).contains("begun"));
        console.send(b"\x03").await.unwrap();
        until(&mut console, "alice@nixos:/tmp]$").await;
        // Once more, with its echo on.
        until(&mut console, "alice@nixos:/tmp]$").await;
        console.send(b"echo $((answer + 2)); cat note; rm note; sync\r").await.unwrap();
        let came = until(&mut console, "on the disk\r\n").await;
        assert!(came.contains("echo $((answer"), "what is typed is echoed: {came:?}");
        assert!(came.contains("\r44\r\n"), "{came:?}");
        machine.stop().await;
        assert!(tokio::time::timeout(HANG, async { while console.next().await.is_some() {} }).await.is_ok());
    }
    assert_eq!(listing(&elsewhere), before, "the moment stays as it is");
}

/// Names, sizes and times of what is in a folder.
fn listing(folder: &Path) -> Vec<(std::ffi::OsString, u64, std::time::SystemTime)> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let mut all: Vec<_> = entries
        .map(|entry| {
            let found = entry.metadata().unwrap();
            eprintln!("{:>12} {}", found.len(), entry.file_name().to_string_lossy());
            (entry.file_name(), found.len(), found.modified().unwrap())
        })
        .collect();
    all.sort();
    all
}
