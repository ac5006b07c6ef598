//! A disk for the run directories that fills up while scenarios run: what could not be written down is not judged as
//! if it were whole. (A full disk for the *record* fails no scenario: see `record.rs`.)

use nixvm_fake_guest::FakeVm;

use crate::folder::{Folder, Ran};
use crate::small_disk;

/// Scenarios whose machine says more than a full disk takes, then that a program crashed.
const SCENARIOS: &str = r#"
/// The disk is full as long as this lives.
struct Full(std::path::PathBuf);

impl Full {
    fn disk() -> Self {
        let path = std::env::temp_dir().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
        Self(path)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

async fn crashes(machine: &Machine) -> Result<Full> {
    let alice = machine.login("alice", "test").await?;
    let full = Full::disk();
    alice.succeed("seq 1 5000").await?;
    alice.succeed("fake kernel 'crash[77]: segfault at 0 ip 0000000000401136 sp 00007ffe error 4'").await?;
    machine.console().flush();
    Ok(full)
}

#[scenario]
async fn is_not_seen_to_crash(machine: Machine) -> Result {
    crashes(&machine).await.map(drop)
}

#[scenario]
async fn crashes_and_is_started_again(machine: Machine) -> Result {
    let full = crashes(&machine).await?;
    machine.crash().await;
    drop(full);
    machine.start().await
}

#[scenario(allow("incomplete transcript"))]
async fn says_that_nothing_crashed(machine: Machine) -> Result {
    let _full = crashes(&machine).await?;
    assert!(!machine.get_console_log()?.contains("segfault"));
    Ok(())
}

#[scenario(allow("incomplete transcript"))]
async fn is_allowed_to(machine: Machine) -> Result {
    crashes(&machine).await.map(drop)
}

#[scenario]
async fn has_room_again(machine: Machine) -> Result {
    machine.login("alice", "test").await?.succeed("seq 1 5000").await.map(drop)
}
"#;

#[test]
fn a_transcript_that_a_full_disk_cut_off_is_not_judged_as_if_it_were_whole() {
    let folder = Folder::with("a.rs", SCENARIOS);
    FakeVm::new().write_to(folder.path());
    folder.run(&["a.rs", "--", "--list"]).ended_with(0);
    let small = tempfile::tempdir_in("/tmp").unwrap();
    let arguments = ["--vm", "result", "a.rs", "--", "--test-threads=1"];
    let mut command = folder.command_by(small_disk::command(small.path(), "1m"), &arguments);
    command.env("TMPDIR", small.path());
    let ran = Ran::of(&mut command);
    ran.ended_with(1)
        .printed("but machine could not be checked: a part of its console's output is lost\n")
        .printed("incomplete transcript: it could not be written: No space left on device")
        .printed("`#[scenario(allow(\"incomplete transcript\"))]`")
        .printed("machine: the console's transcript is incomplete: it could not be written: No space left on device")
        .printed("test is_allowed_to                ... ok")
        .printed("test has_room_again               ... ok")
        .printed("2 passed; 3 failed;");
}
