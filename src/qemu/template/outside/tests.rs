//! Tests with a real QEMU and files that change.

use crate::qemu::template::tests::saved;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::*;
use crate::ErrorKind;
use crate::qemu::template::save::Saved;
use crate::qemu::tests::{Firmware, boot_image};

/// Makes a folder with an image, and with a file that QEMU reads and closes.
fn files() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    // The guest halts at once.
    boot_image(folder.path(), &[0xf4]);
    fs::write(folder.path().join("table"), "a table").unwrap();
    symlink(folder.path().join("boot.img"), folder.path().join("link.img")).unwrap();
    fs::create_dir(folder.path().join("roms")).unwrap();
    fs::write(folder.path().join("roms/extra.rom"), "a rom").unwrap();
    folder
}

async fn booted(options: &str, template: &Path) -> Firmware {
    let mut firmware = Firmware::in_template(&format!("-net none {options}"), Some(template)).await;
    firmware.says("G!").await;
    firmware
}

fn options(files: &Path) -> String {
    let files = files.display();
    format!(
        "-L {files}/roms -L /usr/share/seabios -L /usr/share/qemu -fw_cfg name=opt/a/b,file={files}/table \
         -drive format=raw,if=virtio,readonly=on,file={files}/link.img"
    )
}

type Change = fn(&Path);
const CHANGES: [(&str, Change); 8] = [
    ("boot.img", |at| fs::write(at.join("boot.img"), [1; 512]).unwrap()),
    ("boot.img", |at| {
        // The same size, with its modification time turned back.
        let image = fs::File::options().write(true).open(at.join("boot.img")).unwrap();
        let before = image.metadata().unwrap().modified().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&image, b"x", 100).unwrap();
        image.set_modified(before).unwrap();
    }),
    ("boot.img", |at| {
        fs::copy(at.join("boot.img"), at.join("new")).unwrap();
        fs::rename(at.join("new"), at.join("boot.img")).unwrap();
    }),
    ("link.img", |at| {
        fs::write(at.join("other.img"), [1; 512]).unwrap();
        fs::remove_file(at.join("link.img")).unwrap();
        symlink(at.join("other.img"), at.join("link.img")).unwrap();
    }),
    ("boot.img", |at| fs::remove_file(at.join("boot.img")).unwrap()),
    ("table", |at| fs::write(at.join("table"), "another").unwrap()),
    ("roms", |at| fs::write(at.join("roms/extra.rom"), "another").unwrap()),
    ("roms", |at| fs::write(at.join("roms/bios-256k.bin"), "another").unwrap()),
];

#[tokio::test]
async fn every_change_of_what_a_template_was_made_with_is_noticed() {
    for (name, change) in CHANGES {
        let (files, template) = (files(), tempfile::tempdir().unwrap());
        let folder = template.path().join("key");
        fs::create_dir(&folder).unwrap();
        let machine = booted(&options(files.path()), &folder).await;
        let saved = saved(&machine.qemu, &machine.run, &folder).await.unwrap();
        assert!(matches!(saved, Saved::Done), "{saved:?}");
        assert_eq!(changed_outside(&folder), None);
        change(files.path());
        let why = changed_outside(&folder).unwrap();
        assert!(why.contains(name), "{name}: {why}");
    }
}

#[tokio::test]
async fn what_changes_while_the_machine_runs_is_not_sealed() {
    for (name, change) in [CHANGES[0], CHANGES[1], CHANGES[2], CHANGES[3], CHANGES[4], CHANGES[5], CHANGES[7]]
    {
        let (files, template) = (files(), tempfile::tempdir().unwrap());
        let folder = template.path().join("key");
        fs::create_dir(&folder).unwrap();
        let machine = booted(&options(files.path()), &folder).await;
        change(files.path());
        let error = saved(&machine.qemu, &machine.run, &folder).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Host, "{name}: {error}");
        assert!(error.summary().contains("changed while the machine"), "{name}: {error}");
        assert!(!folder.join(MACHINE_FILE).exists());
    }
}

#[tokio::test]
async fn what_can_not_be_listed_is_not_cloned() {
    let there = files();
    let at = there.path().display();
    let drive = format!("-drive format=raw,if=virtio,readonly=on,file={at}/boot.img");
    for (options, why) in [
        (format!("{drive} -debugcon file:{at}/log"), "it writes to a file outside of its run"),
        (format!("-drive format=raw,if=virtio,snapshot=on,file={at}/boot.img"), "are discarded"),
        (
            format!("{drive} -blockdev driver=file,node-name=n,filename={at}/table"),
            "it writes to a file outside of its run",
        ),
    ] {
        let template = tempfile::tempdir().unwrap();
        let folder = template.path().join("key");
        fs::create_dir(&folder).unwrap();
        let machine = booted(&options, &folder).await;
        let saved = saved(&machine.qemu, &machine.run, &folder).await.unwrap();
        let Saved::Impossible(said) = saved else { panic!("{options}: {saved:?}") };
        assert!(said.contains(why), "{options}: {said}");
    }
}

#[test]
fn paths_are_found_wherever_they_stand_and_special_files_are_known() {
    let there = files();
    let at = there.path();
    let own = Own::of(&[Path::new("/var/tmp/nixvm-0/ab.1")]);
    let command = |arguments: &[String]| CommandLine {
        program: PathBuf::from("/nix/store/x-qemu/bin/qemu-system-x86_64"),
        arguments: arguments.to_vec(),
    };
    let listed = |arguments: &[String]| {
        let mut list = List { own: &own, paths: BTreeSet::new() };
        named::in_command(std::process::id(), &command(arguments), &mut list).map(|()| list.paths)
    };
    let table = at.join("table");
    let shown = table.display().to_string();
    for value in [
        shown.clone(),
        format!("file={shown}"),
        format!("x,file={shown},y=1"),
        format!("file=file:{shown}"),
        format!("sig=FOO,data=/no/such:{shown}"),
        format!(r#"{{"driver":"file","node":{{"filename":"{shown}"}}}}"#),
    ] {
        let found = listed(&["-any".to_owned(), value.clone()]).unwrap();
        assert_eq!(found, BTreeSet::from([table.clone()]), "{value}");
    }
    for text in ["-append", "-name"] {
        assert_eq!(listed(&[text.to_owned(), shown.clone()]).unwrap(), BTreeSet::new());
    }
    let fifo = at.join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for (value, why) in [
        (format!("path={}", fifo.display()), "a FIFO"),
        (format!("path={}", at.display()), "a folder"),
        ("path=/dev/fd/5".to_owned(), "a descriptor"),
        ("file=/proc/self/fd/5".to_owned(), "a descriptor"),
        ("/tmp/x.cfg".to_owned(), "options in a file"),
    ] {
        let option = if value.ends_with(".cfg") { "-readconfig" } else { "-any" };
        let Err(Unlisted::Never(said)) = listed(&[option.to_owned(), value.clone()]) else {
            panic!("{value}")
        };
        assert!(said.contains(why), "{value}: {said}");
    }
    let harmless = ["filename=/dev/urandom", "/dev/null", "x=/var/tmp/nixvm-0/ab.1/disk.qcow2", ".", "/"];
    for value in harmless {
        assert_eq!(listed(&["-any".to_owned(), value.to_owned()]).unwrap(), BTreeSet::new(), "{value}");
    }
}
