//! Many machines in one process, at a time and in turn, leave nothing behind in it.

use std::time::{Duration, Instant};

use nixvm_test::internals::BuiltVm;
use nixvm_test::internals::Events;
use nixvm_test::internals::qemu::{Launch, Qemu, RunDirectory};
use tokio::net::UnixStream;

use crate::again;
use crate::hang::HANG;
use crate::run_script::{RunScript, lives};

#[test]
fn no_descriptor_thread_or_child_is_left_of_many_machines() {
    again::passes(&mut again::command("many_machines::many"));
}

/// The test, in a process of its own, since it counts what the process has.
#[test]
#[ignore = "is started by the test above"]
fn many() {
    let script = RunScript::new("exec qemu-system-x86_64 -m 16 -net none -nographic -S $QEMU_OPTS");
    let vm = script.vm();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let round = || {
        runtime.block_on(async {
            let machines = tokio::join!(machine(&vm), machine(&vm), machine(&vm), machine(&vm));
            let pids = [machines.0.0.pid(), machines.1.0.pid(), machines.2.0.pid(), machines.3.0.pid()];
            assert!(pids.iter().all(|pid| lives(*pid)), "{pids:?}");
        });
    };
    round();
    let before = settled();
    for _ in 0..again::rounds(5) {
        round();
    }
    // A machine's thread may be on its last instructions.
    let begun = Instant::now();
    while counts().into_iter().zip(before).any(|(now, before)| now > before) {
        assert!(begun.elapsed() < HANG, "{:?} of {before:?} descriptors, threads, children", counts());
        std::thread::sleep(Duration::from_millis(20));
    }
}

async fn machine(vm: &BuiltVm) -> (Qemu, RunDirectory, UnixStream) {
    let run = RunDirectory::create().unwrap();
    let (qemu, console) = Qemu::launch(Launch::new(vm, "one", &run, Events::none())).await.unwrap();
    let status = qemu.qmp().execute("query-status", None, HANG).await.unwrap();
    assert_eq!(status["running"], false);
    (qemu, run, console)
}

/// Counts, once they stand still. Where one is too high, since it did not, what [`ROUNDS`] leave is still more.
fn settled() -> [usize; 3] {
    let mut last = counts();
    let mut same_since = Instant::now();
    while same_since.elapsed() < Duration::from_millis(300) {
        std::thread::sleep(Duration::from_millis(20));
        let now = counts();
        if now != last {
            (last, same_since) = (now, Instant::now());
        }
    }
    last
}

/// Of descriptors, threads and children.
fn counts() -> [usize; 3] {
    let entries = |path: &str| std::fs::read_dir(path).unwrap().count();
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let children: usize = threads
        .map(|thread| std::fs::read_to_string(thread.path().join("children")).unwrap_or_default())
        .map(|children| children.split_whitespace().count())
        .sum();
    [entries("/proc/self/fd"), entries("/proc/self/task"), children]
}
