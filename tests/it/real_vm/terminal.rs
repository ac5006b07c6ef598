//! `nixvm-test attach` and `nixvm-test shell` on a terminal, with the real VM: one scenario fails, and a person goes back
//! to where it did.

use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use expectrl::Expect as _;
use expectrl::session::OsSession;

use super::root;

const FAILS: &str = r#"use nixvm_test::prelude::*;
/// It fails in the middle.
#[scenario(from = logged_in("alice", "test"))]
async fn fails(machine: Machine) -> Result {
    let alice = machine.session().await.ok_or("alice is not logged in")?;
    alice.succeed("cd /tmp; answer=42; echo precious > note; printf '\\033]0;hostile\\007 \\033[2J'").await?;
    alice.succeed("ls /nowhere").await.map(drop)
}
nixvm_test::main!();
"#;

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nixvm-test"));
    command
        .current_dir(folder)
        .args(["--nixpkgs", root("standin/nixpkgs").to_str().unwrap()])
        .args(arguments);
    command.env("NIXVM_RUN", folder.join("run")).env("CI", "1").env("TERM", "xterm-256color");
    command.env_remove("CARGO_MANIFEST_DIR");
    command
}

fn on_a_terminal(folder: &Path, arguments: &[&str]) -> OsSession {
    let mut session = OsSession::spawn(command(folder, arguments)).unwrap();
    session.set_expect_timeout(Some(Duration::from_secs(120)));
    session
}

fn leave(mut session: OsSession) -> String {
    session.send([0x1d]).unwrap();
    let mut bytes = Vec::new();
    // The end of a pseudoterminal whose other side is gone is an error on Linux.
    let _ = session.read_to_end(&mut bytes);
    let status = session.get_process().wait().unwrap();
    assert!(format!("{status:?}").contains("Exited") && format!("{status:?}").contains(", 0"), "{status:?}");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_person_goes_back_to_where_a_scenario_failed_also_from_one_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("fails.rs"), FAILS).unwrap();
    let configuration = root("configuration.nix");
    let configuration = configuration.to_str().unwrap();
    let ran = command(folder.path(), &["--configuration", configuration, "fails.rs"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(1), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(
        folder.path().join("run/fails/machine.moment/state").exists(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    // What nixvm-test asked for itself stands apart from what the scenario did, and is at no line of it.
    let history = nixvm_test::internals::record::History::read(&folder.path().join("run")).unwrap();
    let steps = &history.scenarios[0].attempts[0].machines[0].steps;
    let (after, own): (Vec<_>, Vec<_>) = steps.iter().partition(|step| step.afterwards);
    // The scenario may be the first that needs the template: making it is at no line of the scenario either.
    let own = own.iter().filter(|step| step.line.is_some());
    let texts: Vec<_> = own.map(|step| (step.text.get(..8).unwrap(), step.line)).collect();
    assert_eq!(texts, [("alice: c", Some(6)), ("alice: l", Some(7))]);
    assert!(after.iter().any(|step| step.text.contains("journalctl")), "{after:?}");
    assert!(after.iter().all(|step| step.line.is_none()), "{after:?}");

    let packed = command(folder.path(), &["attach", "run", "fails", "--pack=one.file"]).output().unwrap();
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    std::fs::rename(folder.path().join("run"), folder.path().join("copied elsewhere")).unwrap();
    for moment in ["copied elsewhere", "one.file"] {
        let mut session = on_a_terminal(folder.path(), &["attach", moment]);
        session.expect("on the console of machine; ctrl-] leaves it").unwrap();
        // The last screen, with nothing in it that a terminal acts on; then the prompt, where it was.
        let seen = session.expect("alice@nixos:/tmp]$").unwrap();
        let seen = String::from_utf8_lossy(seen.before()).into_owned();
        assert!(seen.contains("ls: cannot access '/nowhere'"), "{seen:?}");
        assert!(!seen.contains("\x1b]0;hostile") && !seen.contains("\x1b[2J"), "{seen:?}");
        session.send(b"echo $((answer - 1)); cat note; rm note; sync\r").unwrap();
        session.expect("41\r\nprecious\r\n").unwrap();
        session.expect("]$").unwrap();
        let text = leave(session);
        assert!(text.contains("left the console; machine was ended"), "{text:?}");
    }

    // A session by hand, beside it a forwarded port.
    let arguments = ["shell", configuration, "--forward", "0:7", "--user", "alice"];
    let mut session = on_a_terminal(folder.path(), &arguments);
    session.expect("is port 7 of nixos").unwrap();
    session.expect("alice@nixos:~]$").unwrap();
    session.send(b"whoami | tr a-z A-Z\r").unwrap();
    session.expect("ALICE\r\n").unwrap();
    leave(session);
    assert!(!folder.path().join("nixos.qcow2").exists());
}
