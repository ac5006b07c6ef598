//! `nixvm-test repl`: typed by a person and read from a pipe, on the fake guest.

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use expectrl::Expect as _;
use expectrl::session::OsSession;
use nixvm_fake_guest::FakeVm;

use crate::folder::{Folder, Ran};
use crate::hang::HANG;

const TYPED: &str = "\
# comments and empty lines are nothing

session cd /tmp; answer=42
session echo $((answer + 1)); printf '\\033]0;a title\\007shown\\n'
session ls /nowhere
listen 80
login alice test
session pwd
save by_hand.rs
save by_hand.rs
";

#[test]
fn what_was_typed_and_worked_is_a_scenario_that_passes() {
    let folder = Folder::new();
    FakeVm::new().write_to(folder.path());
    let arguments = ["repl", "result", "--user", "alice", "--password", "test", "--no-template"];
    let mut command = folder.command(&arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(TYPED.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let ran = Ran { code: output.status.code(), out, err };
    ran.ended_with(1)
        .printed("43\nshown\n")
        .printed("by_hand.rs: 4 steps; run it: nixvm-test by_hand.rs")
        .said("`ls /nowhere` ended with status")
        .said("there is no command \"listen\"")
        .said("could not write by_hand.rs");
    assert!(!ran.out.contains('\x1b'), "{:?}", ran.out);
    let saved = std::fs::read_to_string(folder.path().join("by_hand.rs")).unwrap();
    assert!(!saved.contains("nowhere") && saved.contains("async fn by_hand_works"), "{saved}");
    let ran = folder.run(&["--vm", "result", "--no-template", "by_hand.rs"]);
    ran.ended_with(0).printed("test by_hand_works ... ok");
    assert!(!ran.err.contains("warning"), "{}", ran.err);
}

#[test]
fn commands_name_their_machine_where_there_are_several() {
    let folder = Folder::new();
    FakeVm::new().write_to(folder.path());
    let arguments =
        ["repl", "server=result", "client=result", "--user", "alice", "--password", "test", "--no-template"];
    let mut command = folder.command(&arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let typed = "server.session mine=its; echo at $mine\nclient.session echo at ${mine-none}\nsession pwd\n\
                 other.session pwd\nsave both.rs\n";
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let ran = Ran { code: output.status.code(), out, err };
    ran.ended_with(1)
        .printed("at its\nat none\n")
        .said("there are several machines: which one?")
        .said("there is no machine other")
        .printed("both.rs: 2 steps");
    let saved = std::fs::read_to_string(folder.path().join("both.rs")).unwrap();
    let head = "#[scenario(server = \"vm:result\", client = \"vm:result\", from = logged_in(\"alice\", \"test\"))]\n\
                async fn both_works(server: Machine, client: Machine)";
    assert!(saved.contains(head), "{saved}");
    folder.run(&["--no-template", "both.rs"]).ended_with(0).printed("test both_works ... ok");
}

#[test]
fn a_person_has_completion_and_a_history_without_passwords() {
    let folder = Folder::new();
    FakeVm::new().write_to(folder.path());
    let mut command = folder.command(&["repl", "result", "--user", "none", "--no-template"]);
    let state = folder.path().join("state");
    command.env("CI", "1").env("TERM", "xterm-256color").env("XDG_STATE_HOME", &state);
    let mut session = OsSession::spawn(command).unwrap();
    session.set_expect_timeout(Some(HANG));
    session.expect("no user is logged in; `help` lists the commands").unwrap();
    session.expect("> ").unwrap();
    session.send("log\talice test\r").unwrap();
    session.expect("alice test").unwrap();
    session.expect("> ").unwrap();
    session.send("sess\techo $((40 + 2))\r").unwrap();
    session.expect("\n42\r\n").unwrap();
    // The arrow key: once more.
    session.expect("> ").unwrap();
    session.send("\x1b[A\r").unwrap();
    session.expect("\n42\r\n").unwrap();
    session.expect("> ").unwrap();
    // Several lines at once, as they are pasted: none is lost.
    session.send("session sleep 0.5\rsession echo $((50 + 1))\rsession echo $((50 + 2))\r").unwrap();
    session.expect("\n51\r\n").unwrap();
    session.send("session echo $((50 + 3))\rquit\r").unwrap();
    session.expect("\n52\r\n").unwrap();
    session.expect("\n53\r\n").unwrap();
    let mut bytes = Vec::new();
    // The end of a pseudoterminal whose other side is gone is an error on Linux.
    let _ = session.read_to_end(&mut bytes);
    let history = std::fs::read_to_string(state.join("nixvm-test/history")).unwrap();
    assert!(history.contains("session echo") && !history.contains("login"), "{history}");
}

/// The boot of a machine with an encrypted disk.
#[test]
fn a_boot_that_asks_for_a_passphrase_says_how_to_give_it() {
    let folder = Folder::new();
    FakeVm::new().setting("passphrase", "open sesame").write_to(folder.path());
    let arguments = ["repl", "result", "--user", "none", "--no-template"];
    let boot = |more: &[&str]| {
        let arguments = [arguments.as_slice(), more].concat();
        let output = folder.command(&arguments).stdin(Stdio::null()).output().unwrap();
        let (out, err) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        Ran { code: output.status.code(), out, err }
    };
    let ran = boot(&[]);
    ran.said("asks for a secret").said("nixvm-test shell --passphrase");
    assert_ne!(ran.code, Some(0));
    let ran = boot(&["--passphrase", "open sesame"]);
    ran.ended_with(0);
    assert!(!ran.err.contains("sesame") && !ran.out.contains("sesame"), "{}", ran.err);
}
