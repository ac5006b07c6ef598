//! What a template was made of changes after it was made.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use nixvm_fake_guest::write_executable;

use super::case::Case;
use crate::again::{Process, count};

/// The next process with this folder before all others on PATH.
fn with_path(case: &Case, folder: &Path) -> Vec<String> {
    let mut command = case.command(Command::new(std::env::current_exe().unwrap()));
    command.env("PATH", format!("{}:{}", folder.display(), std::env::var("PATH").unwrap()));
    Process::start(&mut command).end()
}

#[track_caller]
fn is_made_again(said: &[String], why: &str) {
    let notes = said.iter().filter(|line| line.starts_with("note: a template is made again: "));
    assert!(notes.clone().next().is_some_and(|note| note.contains(why)), "{why}: {said:#?}");
    assert_eq!((count(said, "login prompt"), count(said, "works")), (1, 1), "{said:#?}");
}

#[test]
fn a_template_is_made_again_when_what_its_script_uses_has_changed() {
    let case = Case::new();
    case.next_works();
    let said = case.next_works();
    assert_eq!(count(&said, "login prompt"), 0, "nothing has changed: {said:#?}");
    // The image that the script copies: another of the same content in its place.
    let image = case.path("boot.img");
    fs::copy(&image, case.path("new")).unwrap();
    fs::rename(case.path("new"), &image).unwrap();
    is_made_again(&case.next_works(), "boot.img was changed");
    assert_eq!(count(&case.next_works(), "login prompt"), 0);
    // Another QEMU before it on PATH, though it is a link to the same.
    let bin = case.path("bin");
    fs::create_dir(&bin).unwrap();
    let qemu = Command::new("sh").args(["-c", "command -v qemu-system-x86_64"]).output().unwrap().stdout;
    symlink(String::from_utf8(qemu).unwrap().trim(), bin.join("qemu-system-x86_64")).unwrap();
    is_made_again(&with_path(&case, &bin), "qemu-system-x86_64 on PATH is");
    assert_eq!(count(&with_path(&case, &bin), "login prompt"), 0);
    // Gone again.
    is_made_again(&case.next_works(), "qemu-system-x86_64 on PATH is");
}

#[test]
fn a_program_that_starts_qemu_in_its_place_is_not_seen_through() {
    let case = Case::new();
    let bin = case.path("bin");
    fs::create_dir(&bin).unwrap();
    let program = "#!/bin/sh\nPATH=${PATH#*:} exec qemu-system-x86_64 \"$@\"\n";
    write_executable(bin.join("qemu-system-x86_64"), program).unwrap();
    for _ in 0..2 {
        let said = with_path(&case, &bin);
        let cold = said.iter().find(|line| line.contains("boots cold"));
        assert!(cold.is_some_and(|note| note.contains("is not the QEMU that ran")), "{said:#?}");
        assert_eq!(count(&said, "works"), 1, "{said:#?}");
    }
}
