//! Output that can't be written: a full disk, for which /dev/full stands. A command whose output is lost fails, in one
//! line and without a panic.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use crate::folder::{Folder, Ran};

fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

/// What is said of it.
const SAID: &str = "error: could not write to standard output: No space left on device (os error 28)";

fn ran(command: &mut Command, stdout: Stdio, stderr: Stdio) -> (Option<i32>, String) {
    let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_command_whose_output_is_lost_fails_in_one_line() {
    let folder = Folder::with("a.rs", "#[scenario] async fn takes_none() {}");
    folder.run(&["a.rs"]).ended_with(0);
    let commands: [&[&str]; 12] = [
        &["config", "--reference"],
        &["config", "--json"],
        &["config"],
        &["doctor", "--json"],
        &["list", "a.rs"],
        &["list", "--json", "a.rs"],
        &["completions", "bash"],
        &["man"],
        &["cache", "path"],
        &["--help"],
        &["--version"],
        &["a.rs", "--", "--list"],
    ];
    for arguments in commands {
        let (code, said) = ran(&mut folder.command(arguments), full(), Stdio::piped());
        assert_eq!(code, Some(5), "{arguments:?}: {said}");
        assert_eq!(said.matches(SAID).count(), 1, "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_run_whose_results_can_not_be_shown_fails() {
    let folder = Folder::with("a.rs", "#[scenario] async fn one() {}");
    for arguments in [&["a.rs"][..], &["a.rs", "--", "--test-threads", "1"]] {
        let (code, said) = ran(&mut folder.command(arguments), full(), Stdio::piped());
        assert_eq!(code, Some(5), "{said}");
        assert!(said.contains(SAID) && !said.contains("panicked"), "{said}");
    }
    let (code, _) = ran(&mut folder.command(&["a.rs"]), full(), full());
    assert_eq!(code, Some(5));
    // What is said beside the results is no product.
    let (code, _) = ran(&mut folder.command(&["a.rs"]), Stdio::null(), full());
    assert_eq!(code, Some(0));
    Ran::of(&mut folder.command(&["a.rs"])).ended_with(0);
}
