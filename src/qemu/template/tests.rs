//! Tests with a real QEMU and a boot sector as its guest.

mod shared;

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::qemu::tests::{Firmware, boot_image};
use crate::qemu::{Qemu, RunDirectory};
use crate::{ErrorKind, Events, Result};

/// Saves a machine to a folder of a store.
pub(super) async fn saved(qemu: &Qemu, run: &RunDirectory, folder: &Path) -> Result<Saved> {
    let store = folder.parent().unwrap();
    match qemu.ready_to_save(run, folder, store).await? {
        Ok(ready) => {
            qemu.stop().await?;
            qemu.save(ready, run, folder, store).await
        }
        Err(why) => Ok(Saved::Impossible(why)),
    }
}

/// A guest that counts received bytes in RAM, and answers each byte with the count.
const COUNTER: [u8; 29] = [
    0xc6, 0x06, 0x00, 0x70, 0x00, // mov byte [0x7000],0
    0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf8, // until a byte came
    0xba, 0xf8, 0x03, 0xec, // take it
    0xfe, 0x06, 0x00, 0x70, 0xa0, 0x00, 0x70, // inc byte [0x7000]; mov al,[0x7000]
    0x04, b'0', 0xee, 0xeb, 0xe8, // say it; again
];

async fn answer(console: &mut UnixStream) -> char {
    console.write_all(b"x").await.unwrap();
    let mut byte = [0];
    tokio::time::timeout(crate::hang::HANG, console.read_exact(&mut byte))
        .await
        .expect("an answer in time")
        .unwrap();
    char::from(byte[0])
}

async fn counter(images: &Path, template: &Path) -> Firmware {
    let image = boot_image(images, &COUNTER);
    let options = format!("-net none -drive format=raw,if=virtio,readonly=on,file={image}");
    let mut firmware = Firmware::in_template(&options, Some(template)).await;
    firmware.says("G!").await;
    firmware
}

/// Starts a clone. A kept machine is started as if it came from another host.
async fn clone(template: &Path) -> crate::Result<(Qemu, UnixStream, RunDirectory)> {
    clone_to_save(template, None).await
}

/// Starts a clone that is to be saved to `to_save`, if given.
async fn clone_to_save(
    template: &Path,
    to_save: Option<&Path>,
) -> crate::Result<(Qemu, UnixStream, RunDirectory)> {
    let run_dir = RunDirectory::create().unwrap();
    let (_, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let (channel, events) = (theirs.into(), Events::none());
    let resume = Resume {
        folder: template,
        to_save,
        foreign: super::resume::read(&template.join(MACHINE_FILE)).is_ok_and(|its| its.whole),
        machine: "clone",
        scenario: None,
        run_dir: &run_dir,
        channel,
        cards: Vec::new(),
        events,
    };
    let (qemu, console) = Qemu::resume(resume).await?;
    qemu.go_on().await?;
    Ok((qemu, console, run_dir))
}

#[tokio::test]
async fn clones_go_on_from_the_moment_of_saving_and_know_nothing_of_each_other() {
    let images = tempfile::tempdir().unwrap();
    let folder = tempfile::Builder::new().prefix("it's, a").tempdir().unwrap();
    let mut first = counter(images.path(), folder.path()).await;
    assert_eq!(answer(&mut first.console).await, '1');
    assert_eq!(answer(&mut first.console).await, '2');
    assert!(matches!(saved(&first.qemu, &first.run, folder.path()).await.unwrap(), Saved::Done));
    drop(first);
    let (_one, mut console, _run) = clone(folder.path()).await.unwrap();
    assert_eq!(answer(&mut console).await, '3');
    assert_eq!(answer(&mut console).await, '4');
    let (_other, mut console, _run) = clone(folder.path()).await.unwrap();
    assert_eq!(answer(&mut console).await, '3');
}

#[tokio::test]
async fn a_machine_that_can_not_be_saved_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let image = boot_image(folder.path(), &COUNTER);
    let mut firmware =
        Firmware::in_template(&format!("-net none -drive format=raw,file={image}"), Some(folder.path()))
            .await;
    firmware.says("G!").await;
    let saved = saved(&firmware.qemu, &firmware.run, folder.path()).await.unwrap();
    let Saved::Impossible(why) = saved else { panic!("{saved:?}") };
    assert!(why.contains("boot.img"), "{why}");
    assert_eq!(answer(&mut firmware.console).await, '1');
}

#[tokio::test]
async fn a_template_that_is_damaged_gives_an_error_and_no_machine() {
    let folder = tempfile::tempdir().unwrap();
    let first = counter(folder.path(), folder.path()).await;
    saved(&first.qemu, &first.run, folder.path()).await.unwrap();
    let state = folder.path().join(STATE_FILE);
    let whole = std::fs::read(&state).unwrap();
    std::fs::write(&state, &whole[..whole.len() / 2]).unwrap();
    let error = clone(folder.path()).await.err().unwrap();
    assert!(matches!(error.kind(), ErrorKind::Qmp | ErrorKind::QemuGone), "{error}");
    std::fs::write(folder.path().join(MACHINE_FILE), "{").unwrap();
    assert_eq!(clone(folder.path()).await.err().unwrap().kind(), ErrorKind::Io);
}

#[tokio::test]
async fn a_machine_is_kept_as_it_stands_and_its_folder_may_be_moved() {
    let (images, parent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (template, kept) = (parent.path().join("template"), parent.path().join("it's, kept"));
    std::fs::create_dir(&template).unwrap();
    std::fs::create_dir(&kept).unwrap();
    let mut first = counter(images.path(), &template).await;
    assert_eq!(answer(&mut first.console).await, '1');
    saved(&first.qemu, &first.run, &template).await.unwrap();
    drop(first);
    // This is a clone, whose RAM is a file of the template. The kept machine must not need that file.
    let (qemu, mut console, run) = clone(&template).await.unwrap();
    assert_eq!(answer(&mut console).await, '2');
    assert!(matches!(qemu.keep(&run, &kept).await.unwrap(), Saved::Done));
    drop((qemu, run));
    let size = std::fs::metadata(kept.join(STATE_FILE)).unwrap().len();
    assert!(size < 8 << 20, "empty pages take no room: {size}");
    std::fs::remove_dir_all(&template).unwrap();
    let moved = parent.path().join("moved");
    std::fs::rename(&kept, &moved).unwrap();
    assert_eq!(unfit(&moved).unwrap(), None);
    for _ in 0..2 {
        let (_qemu, mut console, _run) = clone(&moved).await.unwrap();
        assert_eq!(answer(&mut console).await, '3');
    }
    // This machine was booted, and has its own RAM.
    let booted = parent.path().join("booted");
    std::fs::create_dir(&booted).unwrap();
    let image = boot_image(images.path(), &COUNTER);
    let mut firmware = Firmware::in_template(
        &format!("-net none -drive format=raw,if=virtio,readonly=on,file={image}"),
        None,
    )
    .await;
    firmware.says("G!").await;
    assert_eq!(answer(&mut firmware.console).await, '1');
    firmware.qemu.keep(&firmware.run, &booted).await.unwrap();
    let (_qemu, mut console, _run) = clone(&booted).await.unwrap();
    assert_eq!(answer(&mut console).await, '2');
    // Pretends that another version or another host saved it.
    let file = booted.join(MACHINE_FILE);
    let text = std::fs::read_to_string(&file).unwrap();
    let (_, rest) = text.split_once(r#""version":["#).unwrap();
    let version = rest.split(']').next().unwrap();
    std::fs::write(&file, text.replace(&format!("[{version}]"), "[1,2]")).unwrap();
    let why = unfit(&booted).unwrap().unwrap();
    assert!(why.contains("saved by QEMU 1.2"), "{why}");
    std::fs::write(
        &file,
        text.replace(r#""arguments":["#, r#""arguments":["/nix/store/gone-kernel/bzImage","#),
    )
    .unwrap();
    let why = unfit(&booted).unwrap().unwrap();
    assert!(why.contains("/nix/store/gone-kernel is not in this host's Nix store"), "{why}");
}
