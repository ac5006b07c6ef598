//! Runs that wait for a person: `machine.breakpoint()` and `--pause-on-failure`.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use expectrl::Expect as _;
use expectrl::session::OsSession;
use nixvm_fake_guest::FakeVm;

use crate::folder::{Folder, Ran, file};
use crate::hang::HANG;

const SCENARIOS: &str = r#"
#[scenario(timeout = "{limit}s")]
async fn looks(machine: Machine) -> Result {
    let alice = machine.login("alice", "test").await?;
    alice.succeed("answer=42").await?;
    machine.breakpoint().await?;
    assert_eq!(alice.succeed("echo $answer").await?.text(), "43\n");
    Ok(())
}
#[scenario(timeout = "{limit}s")]
async fn fails(machine: Machine) -> Result {
    machine.login("alice", "test").await?.succeed("echo the page is empty; false").await?;
    Ok(())
}
"#;

/// A folder with the scenarios, and their limit, which is some times what one of them takes on this host.
fn folder() -> (Folder, Duration) {
    let scenarios = |limit: u64| SCENARIOS.replace("{limit}", &limit.to_string());
    let folder = Folder::with("a.rs", &scenarios(HANG.as_secs()));
    FakeVm::new().write_to(folder.path());
    folder.run(&["a.rs", "--", "--list"]).ended_with(0);
    let begun = Instant::now();
    folder.run(&["--vm", "result", "a.rs", "--", "fails"]).ended_with(1);
    let limit = 1 + 3 * begun.elapsed().as_secs();
    folder.put("a.rs", file(&scenarios(limit)));
    folder.run(&["a.rs", "--", "--list"]).ended_with(0);
    (folder, Duration::from_secs(limit))
}

fn on_a_terminal(mut command: Command) -> OsSession {
    command.env("CI", "1").env("TERM", "xterm-256color");
    let mut session = OsSession::spawn(command).unwrap();
    session.set_expect_timeout(Some(HANG));
    session
}

fn rest(mut session: OsSession) -> String {
    let mut bytes = Vec::new();
    // The end of a pseudoterminal whose other side is gone is an error on Linux.
    let _ = session.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits until the run has paused; gives where its machine's sockets are.
fn paused(session: &mut OsSession) -> PathBuf {
    let said = session.expect("press Enter to continue").unwrap();
    let said = String::from_utf8_lossy(said.before()).into_owned();
    let (_, rest) = said.split_once("QMP            nc -U ").unwrap();
    PathBuf::from(rest.lines().next().unwrap().trim()).parent().unwrap().to_owned()
}

#[test]
fn at_a_breakpoint_a_person_has_the_console_until_a_key_and_no_limit_runs() {
    let (folder, limit) = folder();
    let mut run = on_a_terminal(folder.command(&["--vm", "result", "a.rs", "--", "looks"]));
    let sockets = paused(&mut run);
    for name in ["console.sock", "qmp.sock"] {
        assert!(sockets.join(name).exists(), "{name}");
    }
    let id = sockets.file_name().unwrap().to_str().unwrap().to_owned();
    let mut person = on_a_terminal(folder.command(&["attach", "--live", &id]));
    person.expect("ctrl-] leaves it").unwrap();
    person.expect("alice@nixos:~]$").unwrap();
    person.send(b"answer=$((answer + 1)); echo $((answer * 2))\r").unwrap();
    person.expect("86\r\n").unwrap();
    person.send([0x1d]).unwrap();
    assert!(rest(person).contains("the run is still paused"));
    // Well beyond the limit of the scenario, and what it has to give way.
    std::thread::sleep(limit + Duration::from_secs(4));
    let mut person = on_a_terminal(folder.command(&["attach", "--live", &id]));
    person.expect("ctrl-] leaves it").unwrap();
    run.send(b"\r").unwrap();
    // Who is still there is told.
    assert!(rest(person).contains("the run continues"));
    let text = rest(run);
    assert!(text.contains("1 passed; 0 failed"), "{text}");
    assert!(!sockets.exists());
}

#[test]
fn a_scenario_that_fails_pauses_if_that_was_asked_for_and_a_key_can_be_pressed() {
    let (folder, limit) = folder();
    let fails = ["--vm", "result", "--pause-on-failure", "a.rs", "--", "fails"];
    let mut run = on_a_terminal(folder.command(&fails));
    run.expect("waits where the scenario failed").unwrap();
    paused(&mut run);
    std::thread::sleep(limit + Duration::from_secs(4));
    run.send(b"\n").unwrap();
    let text = rest(run);
    assert!(text.contains("the page is empty") && text.contains("0 passed; 1 failed"), "{text}");

    let ran = Ran::of(folder.command(&fails).stdin(Stdio::null()));
    ran.ended_with(1).said("no pause: standard input is not a terminal").printed("the page is empty");
    let looks = ["--vm", "result", "a.rs", "--", "looks"];
    let ran = Ran::of(folder.command(&looks).stdin(Stdio::null()));
    ran.ended_with(1).printed("a breakpoint needs a terminal");
}
