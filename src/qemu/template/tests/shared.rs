//! Tests with a disk that the guest only reads, such as that of the Nix store. The run script makes it, and
//! QEMU opens it for writing.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::qemu::QMP_LIMIT;
use crate::shared_file;

const SIZE: usize = 8 << 20;

/// A store of templates, and the image that the run script copies.
struct Case(tempfile::TempDir);

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // No part of it repeats.
        let content: Vec<u8> = (0..SIZE as u32 / 4).flat_map(u32::to_le_bytes).collect();
        fs::write(folder.path().join("store.img"), content).unwrap();
        fs::create_dir(folder.path().join("templates")).unwrap();
        Self(folder)
    }

    fn template(&self, name: &str) -> PathBuf {
        let path = self.0.path().join("templates").join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn content(&self) -> Vec<u8> {
        fs::read(self.0.path().join("store.img")).unwrap()
    }

    /// Starts a machine with a copy of the image, which is to become this template.
    async fn runs(&self, template: &Path) -> Firmware {
        let image = boot_image(self.0.path(), &COUNTER);
        let copy = format!("cp {} \"$TMPDIR/store.img\"", self.0.path().join("store.img").display());
        let options = format!(
            "-net none -drive format=raw,if=virtio,readonly=on,file={image} \
             -drive format=raw,if=virtio,file=\"$TMPDIR/store.img\""
        );
        let mut firmware = Firmware::after(&copy, &options, Some(template)).await;
        firmware.says("G!").await;
        firmware
    }

    async fn booted(&self, name: &str) -> PathBuf {
        let template = self.template(name);
        let firmware = self.runs(&template).await;
        is_done(saved(&firmware.qemu, &firmware.run, &template).await);
        template
    }

    /// Makes a template from a clone of another, after its guest has written to the disk if `write` is given.
    async fn goes_on(&self, from: &Path, name: &str, write: Option<&str>) -> PathBuf {
        let template = self.template(name);
        let (qemu, mut console, run) = clone_to_save(from, Some(&template)).await.unwrap();
        qemu.go_on().await.unwrap();
        answer(&mut console).await;
        if let Some(write) = write {
            io(&qemu, write).await;
        }
        is_done(saved(&qemu, &run, &template).await);
        template
    }
}

fn is_done(saved: crate::Result<Saved>) {
    let saved = saved.unwrap();
    assert!(matches!(saved, Saved::Done), "{saved:?}");
}

/// Does to the disk what a guest would do.
async fn io(qemu: &Qemu, command: &str) -> String {
    let line = json!({ "command-line": format!("qemu-io virtio1 \"{command}\"") });
    let said = qemu.qmp().execute("human-monitor-command", Some(line), QMP_LIMIT).await.unwrap();
    let said = said.as_str().unwrap_or_default().to_owned();
    assert!(!said.contains("failed") && !said.contains("rror"), "{command}: {said}");
    said
}

fn inode(template: &Path, name: &str) -> u64 {
    fs::metadata(template.join(name)).unwrap().ino()
}

fn is_shared(template: &Path, name: &str) -> bool {
    shared_file::is_shared(&fs::metadata(template.join(name)).unwrap())
}

fn names(template: &Path) -> Vec<String> {
    let entries = fs::read_dir(template).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("image"));
    names.sort();
    names
}

#[tokio::test]
async fn a_disk_that_is_only_read_is_one_file_for_all_templates_made_of_each_other() {
    let case = Case::new();
    let booted = case.booted("booted").await;
    assert!(is_shared(&booted, "image0"));
    let second = case.goes_on(&booted, "second", None).await;
    let third = case.goes_on(&second, "third", None).await;
    for template in [&second, &third] {
        assert_eq!(names(template), ["image0"]);
        assert_eq!(inode(template, "image0"), inode(&booted, "image0"));
    }
    fs::remove_dir_all(&booted).unwrap();
    fs::remove_dir_all(&second).unwrap();
    // Machines write to a layer of their own, so no guest can write to the image.
    for _ in 0..2 {
        let (qemu, mut console, _run) = clone(&third).await.unwrap();
        assert_eq!(answer(&mut console).await, '3');
        io(&qemu, "write -P 0x41 0 65536").await;
    }
    assert!(fs::read(third.join("image0")).unwrap() == case.content());
}

#[tokio::test]
async fn what_a_moment_writes_to_a_shared_disk_is_its_own() {
    let case = Case::new();
    let booted = case.booted("booted").await;
    let written = case.goes_on(&booted, "written", Some("write -P 0x41 4096 4096")).await;
    let after = case.goes_on(&written, "after", None).await;
    let more = case.goes_on(&after, "more", Some("write -P 0x42 1048576 4096")).await;
    assert_eq!(names(&written), ["image0", "image0-01"]);
    assert_eq!(names(&after), ["image0", "image0-01"]);
    assert_eq!(names(&more), ["image0", "image0-01", "image0-02"]);
    for (template, lowest) in [(&written, "image0-01"), (&after, "image0-01"), (&more, "image0-02")] {
        assert_eq!(inode(template, lowest), inode(&booted, "image0"));
    }
    assert_ne!(inode(&after, "image0"), inode(&written, "image0"));
    for gone in [&booted, &written, &after] {
        fs::remove_dir_all(gone).unwrap();
    }
    // The same holds for a machine that is kept, and for one that is kept from that one. Both can be resumed
    // after everything else is gone.
    let kept = case.0.path().join("kept");
    let again = case.0.path().join("again");
    for (from, to) in [(&more, &kept), (&kept, &again)] {
        fs::create_dir(to).unwrap();
        let (qemu, _console, run) = clone(from).await.unwrap();
        is_done(qemu.keep(&run, to).await);
        fs::remove_dir_all(from).unwrap();
    }
    let (qemu, mut console, _run) = clone(&again).await.unwrap();
    assert_eq!(answer(&mut console).await, '4');
    io(&qemu, "read -P 0x41 4096 4096").await;
    io(&qemu, "read -P 0x42 1048576 4096").await;
    let lowest = fs::read_dir(&again)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| shared_file::is_shared(&fs::metadata(path).unwrap()));
    let lowest: Vec<PathBuf> = lowest.collect();
    assert!(lowest.len() == 1 && fs::read(&lowest[0]).unwrap() == case.content(), "{lowest:?}");
}

#[tokio::test]
async fn a_kept_machine_has_another_name_of_the_image_and_one_elsewhere_a_copy() {
    let case = Case::new();
    let booted = case.booted("booted").await;
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    for (folder, linked) in [(case.0.path().join("kept"), true), (elsewhere.path().join("kept"), false)] {
        fs::create_dir(&folder).unwrap();
        let (qemu, _console, run) = clone(&booted).await.unwrap();
        is_done(qemu.keep(&run, &folder).await);
        assert_eq!(inode(&folder, "image0-01") == inode(&booted, "image0"), linked);
        assert!(fs::read(folder.join("image0-01")).unwrap() == case.content());
        let (_qemu, mut console, _run) = clone(&folder).await.unwrap();
        assert_eq!(answer(&mut console).await, '1');
    }
}

#[tokio::test]
async fn a_disk_that_is_written_to_before_the_first_moment_is_shared_as_it_is_then_or_not_at_all() {
    let case = Case::new();
    let template = case.template("booted");
    let firmware = case.runs(&template).await;
    io(&firmware.qemu, "write -P 0x41 0 4096").await;
    is_done(saved(&firmware.qemu, &firmware.run, &template).await);
    assert_eq!(fs::read(template.join("image0")).unwrap()[..4096], [0x41; 4096]);
    let second = case.goes_on(&template, "second", Some("write -P 0x42 0 4096")).await;
    assert_eq!(fs::read(template.join("image0")).unwrap()[..4096], [0x41; 4096], "the first is as it was");
    let (qemu, _console, _run) = clone(&second).await.unwrap();
    io(&qemu, "read -P 0x42 0 4096").await;
}
