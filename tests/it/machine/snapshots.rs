//! Snapshots of a machine, with a real QEMU and a boot sector for a guest.

use std::sync::{Arc, Mutex};

use nixvm_test::internals::{Event, Events};
use nixvm_test::machine::{Machine, MachineOptions};

use crate::hang::HANG;
use crate::run_script::RunScript;
use crate::template_trouble::{GUEST, answers};

/// QEMU writes snapshots to an image of the format qcow2.
const SCRIPT: &str = r#"
[ -e "$NIX_DISK_IMAGE" ] || qemu-img convert -O qcow2 "${0%/*}"/boot.img "$NIX_DISK_IMAGE"
exec qemu-system-x86_64 -m 16 -net none -drive format=qcow2,file="$NIX_DISK_IMAGE" -nographic $QEMU_OPTS
"#;

struct Booted {
    machine: Machine,
    started: Arc<Mutex<usize>>,
    _script: RunScript,
}

async fn booted() -> Booted {
    let script = RunScript::new(SCRIPT);
    let mut image = GUEST.to_vec();
    image.resize(510, 0);
    image.extend([0x55, 0xaa]);
    std::fs::write(script.path().with_file_name("boot.img"), image).unwrap();
    let started = Arc::new(Mutex::new(0));
    let sink = Arc::clone(&started);
    let events = Events::new(move |event| {
        if let Event::MachineStarted { .. } = event {
            *sink.lock().unwrap() += 1;
        }
    });
    let machine = Machine::boot(&script.vm(), MachineOptions::new("guest").events(events)).await.unwrap();
    Booted { machine, started, _script: script }
}

async fn is_running(machine: &Machine) -> bool {
    machine.qmp("query-status", None).await.unwrap()["running"] == true
}

#[tokio::test]
async fn a_machine_that_goes_back_twice_at_once_goes_back_one_after_the_other() {
    let Booted { machine, started, _script } = booted().await;
    let before = machine.snapshot().await.unwrap();
    let (first, second) = tokio::join!(machine.restore(&before), machine.restore(&before));
    first.unwrap();
    second.unwrap();
    answers(&machine, "x").await.unwrap();
    // One that goes back while it is off starts on a new console.
    assert_eq!(*started.lock().unwrap(), 1);
    let (snapshot, restored) = tokio::join!(machine.snapshot(), machine.restore(&before));
    restored.unwrap();
    machine.restore(&snapshot.unwrap()).await.unwrap();
    let (restored, snapshot) = tokio::join!(machine.restore(&before), machine.snapshot());
    restored.unwrap();
    machine.restore(&snapshot.unwrap()).await.unwrap();
    answers(&machine, "y").await.unwrap();
    assert_eq!(*started.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_machine_whose_snapshot_is_given_up_continues() {
    let Booted { machine, _script, .. } = booted().await;
    let is_paused = async { while is_running(&machine).await {} };
    tokio::select! {
        biased;
        _ = machine.snapshot() => panic!("the machine was never seen paused"),
        () = is_paused => {}
    }
    let goes_on = async {
        while !is_running(&machine).await {
            tokio::task::yield_now().await;
        }
        answers(&machine, "x").await.unwrap();
    };
    tokio::time::timeout(HANG, goes_on).await.expect("the machine continues");
    machine.restore(&machine.snapshot().await.unwrap()).await.unwrap();
    answers(&machine, "y").await.unwrap();
}
