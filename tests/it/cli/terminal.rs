//! `nixvm-test` on a terminal: something moves, nothing is torn, and the terminal is left as it was.

use std::io::Read as _;

use expectrl::Expect as _;
use expectrl::session::OsSession;
use nixvm_fake_guest::FakeVm;

use crate::folder::Folder;
use crate::hang::HANG;

const SCENARIOS: &str = "
#[scenario]
async fn quick(machine: Machine) -> Result {
    machine.login(\"alice\", \"test\").await?.succeed(\"sleep 1\").await?;
    Ok(())
}
#[scenario]
async fn slow(machine: Machine) -> Result {
    machine.login(\"alice\", \"test\").await?.succeed(\"sleep 3\").await?;
    Ok(())
}
#[scenario]
async fn fails() { panic!(\"the page is empty\") }
";

/// On a pseudoterminal, without what would make the output plain.
fn on_a_terminal(folder: &Folder, arguments: &[&str]) -> OsSession {
    let mut command = folder.command(arguments);
    std::fs::create_dir_all(folder.runs().join("tmp")).unwrap();
    command.env("TMPDIR", folder.runs().join("tmp"));
    for plain in ["CI", "NO_COLOR", "NIXVM_LOG"] {
        command.env_remove(plain);
    }
    command.env("TERM", "xterm-256color");
    let mut session = OsSession::spawn(command).unwrap();
    session.set_expect_timeout(Some(HANG));
    session
}

fn folder() -> Folder {
    let folder = Folder::with("a.rs", SCENARIOS);
    FakeVm::new().write_to(folder.path());
    // Compiled before, so that only the run is looked at.
    folder.run(&["a.rs", "--", "--list"]).ended_with(0);
    folder
}

#[test]
fn progress_moves_and_the_results_stand_in_whole_lines() {
    let folder = folder();
    let mut session = on_a_terminal(&folder, &["--vm", "result", "a.rs"]);
    let mut bytes = Vec::new();
    // The end of a pseudoterminal whose other side is gone is an error on Linux.
    let _ = session.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("alice: sleep 1"), "the step under way is not shown\n{text}");
    for name in ["quick", "slow ", "fails"] {
        let at = text.find(&format!("test {name} ... "));
        let (before, line) = text.split_at(at.unwrap_or_else(|| panic!("no result of {name}\n{text}")));
        // The picture is cleared away first, and the whole line comes at once.
        let cleared = ["\n", "\r", "\x1b[2K", "\x1b[1A"].iter().any(|end| before.ends_with(end));
        assert!(
            cleared,
            "the result of {name} stands in the picture: {:?}",
            before.chars().rev().take(60).collect::<String>()
        );
        let result = line.lines().next().unwrap();
        assert!(result.contains("ok") || result.contains("FAILED"), "{result:?}");
    }
    assert!(text.contains("2 passed; 1 failed"), "{text}");
    let hidden = text.rfind("\x1b[?25l");
    let shown = text.rfind("\x1b[?25h");
    assert!(hidden.is_none() || shown > hidden, "the cursor is left hidden");
}

#[test]
fn ctrl_c_in_the_middle_of_a_boot_leaves_nothing_behind() {
    let folder = Folder::with("a.rs", SCENARIOS);
    FakeVm::new().setting("stall", "services").write_to(folder.path());
    folder.run(&["a.rs", "--", "--list"]).ended_with(0);
    let mut session = on_a_terminal(&folder, &["--vm", "result", "a.rs", "--", "quick"]);
    session.expect("services after").unwrap();
    let guests = children_with(&folder.path().display().to_string());
    assert!(!guests.is_empty());
    session.send([3]).unwrap();
    let mut bytes = Vec::new();
    let _ = session.read_to_end(&mut bytes);
    let status = session.get_process().wait().unwrap();
    assert!(format!("{status:?}").contains("130"), "{status:?}");
    assert_eq!(children_with(&folder.path().display().to_string()), Vec::<u32>::new());
    // Nor a transcript of the boot, which did not fail.
    let left = std::fs::read_dir(folder.runs().join("tmp")).unwrap().flatten();
    let left: Vec<_> =
        left.flat_map(|base| std::fs::read_dir(base.path()).into_iter().flatten().flatten()).collect();
    assert!(left.is_empty(), "{left:?}");
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains("\x1b[?25l") || text.contains("\x1b[?25h"), "the cursor is left hidden");
}

/// The living processes whose command line or environment names `what`.
fn children_with(what: &str) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(what)
    })
    .collect()
}

#[test]
fn what_a_scenario_prints_stands_above_the_picture_and_the_console_is_shown_when_asked_for() {
    let code = "#[scenario] async fn talks(machine: Machine) -> Result {
        println!(\"half of it\");
        let alice = machine.login(\"alice\", \"test\").await?;
        alice.succeed(\"printf 'on the console \\\\033[2J\\\\033]0;title\\\\007 it stands\\\\n'\").await?;
        println!(\"the rest\");
        Ok(())
    }";
    let folder = Folder::with("a.rs", code);
    FakeVm::new().write_to(folder.path());
    folder.run(&["a.rs", "--", "--list"]).ended_with(0);
    let mut session = on_a_terminal(&folder, &["--vm", "result", "-v", "a.rs"]);
    let mut bytes = Vec::new();
    let _ = session.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    for line in ["half of it\r\n", "the rest\r\n", "machine | on the console  it stands"] {
        assert!(text.contains(line), "{line:?} is missing\n{text}");
    }
    assert!(!text.contains("\x1b[2J") && !text.contains("\x1b]0;"), "the guest drives the terminal\n{text}");
    // With plain lines, and quietly.
    let ran = folder.run(&["--vm", "result", "-v", "a.rs"]);
    ran.ended_with(0).said("nixvm-test: talks: machine | on the console  it stands\n");
    let quiet = folder.run(&["--vm", "result", "--quiet", "a.rs"]);
    quiet.ended_with(0).printed("half of it\n").printed("test talks ... ok\n");
    assert_eq!(quiet.err, "");
}
