//! `--keep-state`: a disk image that stays, and does not outlive its configuration unnoticed.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use nixvm_test::internals::BuiltVm;
use nixvm_test::internals::qemu::{Disk, Launch, Qemu, RunDirectory};
use nixvm_test::internals::settings::KeepState;
use nixvm_test::internals::{Event, Events};
use nixvm_test::{Error, ErrorKind};

use crate::run_script::RunScript;

/// Makes the image if it is missing, as every run script does; writes down where it was run.
fn script(version: &str) -> RunScript {
    RunScript::new(&format!(
        "[ -e \"$NIX_DISK_IMAGE\" ] || echo 'made by {version}' > \"$NIX_DISK_IMAGE\"
         touch nixos-efi-vars.fd
         cd \"$TMPDIR\"; exec qemu-system-x86_64 -m 64 -net none -nographic $QEMU_OPTS"
    ))
}

/// Runs `vm` once on the image in `folder`; what the image holds then, and what was noted.
async fn run(vm: &BuiltVm, folder: &Path, state: KeepState) -> Result<(String, Vec<String>), Error> {
    let notes = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&notes);
    let events = Events::new(move |event| {
        if let Event::Note { text } = event {
            sink.lock().unwrap().push(text.clone());
        }
    });
    let run = RunDirectory::create()?;
    let mut launch = Launch::new(vm, "server", &run, events);
    launch.disk = Disk::of(state, folder, vm);
    let _qemu = Qemu::launch(launch).await?;
    let image = fs::read_to_string(folder.join("nixos.qcow2")).unwrap();
    let notes = notes.lock().unwrap().clone();
    Ok((image.trim().to_owned(), notes))
}

#[tokio::test]
async fn an_image_is_kept_while_the_configuration_stays_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let first = script("one");
    let vm = first.vm();
    let (image, notes) = run(&vm, folder.path(), KeepState::Strict).await.unwrap();
    assert_eq!((image.as_str(), notes.len()), ("made by one", 0));
    fs::write(folder.path().join("nixos.qcow2"), "with a password").unwrap();
    let (image, notes) = run(&vm, folder.path(), KeepState::Strict).await.unwrap();
    assert_eq!((image.as_str(), notes.len()), ("with a password", 0));
    assert!(folder.path().join("nixos-efi-vars.fd").exists(), "kept beside the image");
}

#[tokio::test]
async fn a_changed_configuration_starts_fresh_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (script("one"), script("two"));
    run(&first.vm(), folder.path(), KeepState::Keep).await.unwrap();
    fs::write(folder.path().join("nixos.qcow2.old"), "older still").unwrap();
    let (image, notes) = run(&second.vm(), folder.path(), KeepState::Keep).await.unwrap();
    assert_eq!(image, "made by two");
    assert!(notes[0].contains("fresh") && notes[0].contains("has changed"), "{notes:?}");
    let old = fs::read_to_string(folder.path().join("nixos.qcow2.old")).unwrap();
    assert_eq!(old.trim(), "made by one");
    assert!(run(&second.vm(), folder.path(), KeepState::Strict).await.unwrap().1.is_empty());
}

#[tokio::test]
async fn strict_refuses_a_changed_configuration_and_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (script("one"), script("two"));
    run(&first.vm(), folder.path(), KeepState::Keep).await.unwrap();
    let error = run(&second.vm(), folder.path(), KeepState::Strict).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let text = error.to_string();
    assert!(text.contains("the configuration has changed") && text.contains("next:"), "{text}");
    let (image, notes) = run(&first.vm(), folder.path(), KeepState::Strict).await.unwrap();
    assert_eq!((image.as_str(), notes.len()), ("made by one", 0));
}

#[tokio::test]
async fn an_image_of_unknown_origin_or_with_a_damaged_record_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let first = script("one");
    fs::write(folder.path().join("nixos.qcow2"), "made by hand").unwrap();
    let error = run(&first.vm(), folder.path(), KeepState::Strict).await.unwrap_err();
    assert!(error.to_string().contains("nothing records"), "{error}");
    let (image, notes) = run(&first.vm(), folder.path(), KeepState::Keep).await.unwrap();
    assert_eq!((image.as_str(), notes.len()), ("made by one", 1));
    fs::write(folder.path().join(".nixos.qcow2.nixvm"), "{\"key\": \"half").unwrap();
    assert_eq!(run(&first.vm(), folder.path(), KeepState::Keep).await.unwrap().1.len(), 1);
}

#[tokio::test]
async fn two_machines_on_one_image_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = script("one");
    let vm = first.vm();
    let directory = RunDirectory::create().unwrap();
    let mut launch = Launch::new(&vm, "server", &directory, Events::none());
    launch.disk = Disk::of(KeepState::Keep, folder.path(), &vm);
    let running = Qemu::launch(launch).await.unwrap();
    let error = run(&vm, folder.path(), KeepState::Keep).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("a machine is running on"), "{error}");
    drop(running);
    run(&vm, folder.path(), KeepState::Keep).await.unwrap();
}
