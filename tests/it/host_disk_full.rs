//! The host's disk is full when the run script makes the image: on a small tmpfs, in a mount namespace
//! of the test's own.

use std::process::Stdio;

use nixvm_test::ErrorKind;
use nixvm_test::internals::BuiltVm;
use nixvm_test::internals::Events;
use nixvm_test::internals::qemu::{Launch, Qemu, RunDirectory};

use crate::run_script::RunScript;
use crate::{again, small_disk};

#[test]
fn an_image_that_does_not_fit_is_an_error_that_names_the_full_disk() {
    let script = RunScript::new(
        "set -e; head -c 64M /dev/zero > \"$NIX_DISK_IMAGE\"
         exec qemu-system-x86_64 -m 64 -net none -nographic -drive file=\"$NIX_DISK_IMAGE\" $QEMU_OPTS",
    );
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let output = small_disk::command(folder.path(), "1m")
        .arg(std::env::current_exe().unwrap())
        .args(again::words("host_disk_full::on_a_small_disk"))
        .env("TMPDIR", folder.path())
        .env("SCRIPT", script.path())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("the run script ended before QEMU ran: exit status 1"), "{text}\n{complaint}");
    assert!(text.contains("No space left on device"), "{text}");
    assert!(text.contains("likely cause: the host's disk is full"), "{text}");
    assert!(text.contains("next: free some space, or set TMPDIR"), "{text}");
    assert!(output.status.success(), "{text}\n{complaint}");
}

/// What runs in the namespace.
#[tokio::test]
#[ignore = "is started by the test above, where the disk is small"]
async fn on_a_small_disk() {
    let Ok(script) = std::env::var("SCRIPT") else { return };
    let run = RunDirectory::create().unwrap();
    assert!(run.path().starts_with(std::env::var("TMPDIR").unwrap()));
    let vm = BuiltVm::open(script).unwrap();
    let error = Qemu::launch(Launch::new(&vm, "server", &run, Events::none())).await.unwrap_err();
    println!("{error}");
    assert_eq!(error.kind(), ErrorKind::QemuGone);
    // There is room again for the next one.
    drop(run);
    let run = RunDirectory::create().unwrap();
    std::fs::write(run.disk(), vec![0; 512 * 1024]).unwrap();
}
