//! Templates of the real VM whose maker is killed, that are damaged, or for which there is no room: the next
//! machine is right. `template_trouble` has each case of these, at each moment, with a guest that boots fast.
//!
//! It boots twice, and begins a third boot: what is tried is how a template is made from nothing, in a store of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nixvm_test::internals::{Event, Events};

use super::{alice, machine_at};
use crate::again::{self, Process, count, say};
use crate::small_disk;

/// What runs as a process of its own: alice's machine, tried.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "is started by the test below, to be killed"]
async fn process() {
    if std::env::var_os("PLACE").is_none() {
        return;
    }
    let events = Events::new(|event| match event {
        Event::Note { text } => say(format!("note: {text}")),
        Event::Phase { phase, .. } => say(phase),
        _ => {}
    });
    let machine = machine_at(&alice(), &events).await;
    let alice = machine.session().await.unwrap();
    assert_eq!(alice.succeed("id -un; pwd").await.unwrap().text(), "alice\n/home/alice\n");
    say("works");
}

/// The process; `before` is what starts this test binary.
fn start(place: &Path, mut before: Command) -> Process {
    before.args(again::words("real_vm::trouble::process"));
    before.env("PLACE", place).env("NIXVM_CACHE_DIR", place).env_remove("NIXVM_ACCELERATOR");
    Process::start(&mut before)
}

fn this() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

/// The folders of templates, the one that was made last first.
fn templates(place: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.join("templates")).unwrap().flatten().map(|entry| entry.path());
    // What is known of shared images is in a hidden one.
    let is_hidden = |path: &Path| path.file_name().unwrap().as_encoded_bytes().starts_with(b".");
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir() && !is_hidden(path)).collect();
    folders.sort_by_key(|folder| std::cmp::Reverse(fs::metadata(folder).unwrap().modified().unwrap()));
    folders
}

#[test]
fn after_a_kill_after_damage_and_on_a_full_disk_the_next_machine_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();

    // The one who makes it dies in the middle of the boot; the one who waits makes it.
    let mut maker = start(place, this());
    // It is the first machine that this cache knows of: the trial of KVM. Here a Linux kernel does not come far with it.
    if Path::new("/sys/module/kvm_pvm").exists() {
        let note = maker.until("note: machines run under TCG");
        assert!(note.contains("-cpu max,arch-capabilities=off"), "{note}");
    }
    maker.until("services");
    let mut waiting = start(place, this());
    waiting.until("note: waiting for the template");
    maker.kill();
    let said = waiting.end();
    assert_eq!((count(&said, "login prompt"), count(&said, "works")), (1, 1), "{said:#?}");
    let made = templates(place);
    assert_eq!(made.len(), 2, "nothing half made is left: {made:?}");

    // It is damaged: it is made again of the moment before, and that is said.
    let state = made[0].join("state");
    let mut bytes = fs::read(&state).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&state, bytes).unwrap();
    let said = start(place, this()).end();
    assert_eq!((count(&said, "login prompt"), count(&said, "works")), (0, 1), "{said:#?}");
    assert_eq!(count(&said, "note: a template is made again: state was changed"), 1, "{said:#?}");

    // No room for one: booted cold, in one line, and nothing is left.
    let script =
        r#""$@" && echo "> left: $(ls -A "$0" | sed -E 's/^[0-9a-f]{32}[.]lock$/KEY.lock/' | xargs)""#;
    let mut small = small_disk::with_script(&place.join("templates"), "300m", script);
    small.arg(std::env::current_exe().unwrap());
    let said = start(place, small).end();
    assert_eq!((count(&said, "login prompt"), count(&said, "works")), (1, 1), "{said:#?}");
    assert_eq!(count(&said, "note: nixos boots cold: a template needs"), 1, "{said:#?}");
    assert_eq!(said.last().unwrap(), "left: KEY.lock", "nothing but the lock of the one that was asked for");
}
