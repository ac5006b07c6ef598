//! A console in the user's own terminal: `attach` and `shell`, whatever ends them. The moments here can't be gone back to
//! (the fake guest is no QEMU), so a machine is booted instead; tests/it/real_vm/terminal.rs has real ones.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use expectrl::Expect as _;
use expectrl::session::OsSession;
use nixvm_fake_guest::FakeVm;

use crate::cli::machines::lives;
use crate::folder::{Folder, Ran};
use crate::hang::HANG;

/// A run in which `login` failed, and its machine was kept by a QEMU that is nowhere.
fn run_with_a_moment() -> Folder {
    run_with_moments(&["web"])
}

/// The same with these machines.
fn run_with_moments(machines: &[&str]) -> Folder {
    let folder = Folder::new();
    FakeVm::new().write_to(folder.path());
    let script = std::fs::read_dir(folder.path().join("result/bin")).unwrap().next().unwrap().unwrap().path();
    folder.put("run/events.jsonl", "");
    for machine in machines {
        let about =
            format!(r#"{{"format":1,"machine":"{machine}","vm":{script:?},"speed":1.0,"console":"asitis"}}"#);
        let moment = format!("run/login/{machine}.moment");
        folder.put(&format!("{moment}/moment.json"), about);
        folder.put(
            &format!("{moment}/machine.json"),
            r#"{"command":{"program":"/nowhere/qemu-of-no-host","arguments":[]},"accelerator":"tcg","version":[7,2],"images":[],"whole":true}"#,
        );
        folder.put(&format!("{moment}/transcript"), "login: \x1b]0;a title\x07alice\r\n$ ");
    }
    folder
}

/// `nixvm-test` on a terminal, in a shell that writes down how it leaves the terminal.
pub fn on_a_terminal(folder: &Folder, arguments: &str) -> OsSession {
    let program = env!("CARGO_BIN_EXE_nixvm-test");
    let mut command = folder.command(&[]);
    let environment: Vec<(String, String)> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value?.to_str()?.to_owned())))
        .collect();
    let script = format!(
        "stty -a >before; echo begins; {program} {arguments}; echo ended with $?; stty -a >after; echo over"
    );
    command = std::process::Command::new("sh");
    command.current_dir(folder.path()).args(["-c", &script]).envs(environment);
    for plain in ["NO_COLOR", "NIXVM_LOG", "NIXVM_RUN", "NIXVM_RUNS"] {
        command.env_remove(plain);
    }
    command.env("CI", "1").env("TERM", "xterm-256color");
    command.env("NIXVM_ADMISSION_DIR", folder.path().join("admission"));
    let mut session = OsSession::spawn(command).unwrap();
    session.set_expect_timeout(Some(HANG));
    session.expect("begins\r\n").unwrap();
    session
}

/// Reads on to the end; the terminal is as it was.
pub fn left_as_it_was(folder: &Folder, mut session: OsSession) -> String {
    let mut bytes = Vec::new();
    // The end of a pseudoterminal whose other side is gone is an error on Linux.
    let _ = session.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let state = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    assert!(!state("before").is_empty());
    assert_eq!(state("before"), state("after"), "{text}");
    text
}

fn processes_of(folder: &Path) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let ours = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(folder.to_str().unwrap()) && lives(*pid)
    };
    pids.filter(ours).collect()
}

#[test]
fn a_moment_that_cant_be_gone_back_to_is_a_machine_that_boots_and_the_key_leaves_it() {
    let folder = run_with_a_moment();
    let mut session = on_a_terminal(&folder, "attach run --trust");
    session.expect("qemu-of-no-host, which it ran on, is not installed on this host").unwrap();
    session.expect("on the console of web; ctrl-] leaves it").unwrap();
    session.expect("nixos login: ").unwrap();
    session.send(b"alice\r").unwrap();
    session.expect("Password: ").unwrap();
    session.send(b"test\r").unwrap();
    session.expect("alice@nixos:~]$").unwrap();
    // ctrl-C is a key like any other.
    session.send(b"sleep 1000\r").unwrap();
    session.expect("sleep 1000").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    session.send(b"\x03").unwrap();
    session.expect("alice@nixos:~]$").unwrap();
    assert!(!processes_of(&folder.path()).is_empty());
    let counted = || std::fs::read_to_string(folder.path().join("admission/list.json")).unwrap_or_default();
    assert!(counted().contains(r#""runs":true"#), "others don't see it: {}", counted());
    session.send([0x1d]).unwrap();
    let text = left_as_it_was(&folder, session);
    assert_eq!(counted(), "[]");
    assert!(text.contains("ended with 0"), "{text}");
    assert!(text.contains("\x1b[?2004l"), "what the guest set is undone: {text:?}");
    assert_eq!(processes_of(&folder.path()), Vec::<u32>::new());
}

/// Goes to the console of another machine, by the key of its place.
fn go_to(session: &mut OsSession, key: &str, name: &str) {
    session.send([0x1d]).unwrap();
    session.expect("ctrl-] again ends all, Enter goes back").unwrap();
    session.send(key).unwrap();
    session.expect(format!("on the console of {name}; ctrl-] leaves it")).unwrap();
}

#[test]
fn all_machines_of_a_scenario_are_gone_back_to_and_each_has_its_console() {
    let folder = run_with_moments(&["db", "web"]);
    let mut session = on_a_terminal(&folder, "attach run --trust");
    session.expect("on the console of db; ctrl-] leaves it").unwrap();
    session.expect("nixos login: ").unwrap();
    go_to(&mut session, "2", "web");
    session.expect("nixos login: ").unwrap();
    session.send(b"alice\r").unwrap();
    session.expect("Password: ").unwrap();
    session.send(b"test\r").unwrap();
    session.expect("alice@nixos:~]$").unwrap();
    // What a console says meanwhile is shown later.
    session.send(b"sleep 0.2; echo $((40 + 2))\r").unwrap();
    session.expect("40 + 2").unwrap();
    go_to(&mut session, "1", "db");
    go_to(&mut session, "2", "web");
    session.expect("42\r\n").unwrap();
    // Another key goes back, and what follows it is typed there.
    go_to(&mut session, "\recho $((50 + 3))\r", "web");
    session.expect("53\r\n").unwrap();
    // Both keys at once end all.
    session.send([0x1d, 0x1d]).unwrap();
    let text = left_as_it_was(&folder, session);
    assert!(text.contains("1 db, 2 web (shown)"), "{text}");
    assert!(text.contains("left the console; db, web were ended") && text.contains("ended with 0"), "{text}");
    assert_eq!(processes_of(&folder.path()), Vec::<u32>::new());

    let one = on_a_terminal(&folder, "attach run --machine web --trust");
    let mut one = one;
    one.expect("on the console of web; ctrl-] leaves it").unwrap();
    one.send([0x1d]).unwrap();
    let text = left_as_it_was(&folder, one);
    assert!(text.contains("left the console; web was ended"), "{text}");
    let packed = Ran::of(&mut folder.command(&["attach", "run", "--pack"]));
    packed.ended_with(2).said("a file holds one machine").said("name one with --machine");
}

#[test]
fn a_shell_has_several_machines_and_goes_on_when_one_is_off() {
    let folder = Folder::new();
    FakeVm::new().write_to(folder.path());
    let arguments = "shell one=result two=result --user alice --password test --no-template";
    let mut session = on_a_terminal(&folder, arguments);
    session.expect("on the console of one; ctrl-] leaves it").unwrap();
    session.expect("$").unwrap();
    session.send(b"sudo poweroff\r").unwrap();
    session.expect("password for alice").unwrap();
    session.send(b"test\r").unwrap();
    session.expect("one is off").unwrap();
    session.expect("on the console of two; ctrl-] leaves it").unwrap();
    session.expect("$").unwrap();
    session.send([0x1d]).unwrap();
    session.expect("1 one (off), 2 two (shown)").unwrap();
    session.send([0x1d]).unwrap();
    let text = left_as_it_was(&folder, session);
    assert!(text.contains("two was ended") && text.contains("ended with 0"), "{text}");
    assert_eq!(processes_of(&folder.path()), Vec::<u32>::new());

    let said = |arguments: &[&str], text: &str| {
        let mut command = folder.command(arguments);
        Ran::of(command.stdin(std::process::Stdio::null())).ended_with(2).said(text);
    };
    said(&["repl", "result", "other=result"], "\"result\" has no name");
    said(&["repl", "a-b=result", "b=result"], "a name has letters, digits and _");
    said(&["repl", "a=result", "a=result"], "two machines have one name");
}

#[test]
fn the_terminal_is_left_as_it_was_by_a_signal_and_by_the_machines_end() {
    let folder = run_with_a_moment();
    let mut session = on_a_terminal(&folder, "shell result --user alice --password test --no-template");
    session.expect("on the console of nixos").unwrap();
    session.expect("$").unwrap();
    session.send(b"echo $((40 + 2))\r").unwrap();
    session.expect("42\r\n").unwrap();
    let us = processes_of(&folder.path());
    let guest = us.iter().find(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().contains("chardev")
    });
    assert!(
        std::process::Command::new("kill")
            .args(["-9", &guest.unwrap().to_string()])
            .status()
            .unwrap()
            .success()
    );
    let text = left_as_it_was(&folder, session);
    assert!(text.contains("nixos is off"), "{text}");

    let mut session = on_a_terminal(&folder, "shell result --user none --no-template");
    session.expect("nixos login: ").unwrap();
    let nixvm_test = std::fs::read_dir("/proc").unwrap().flatten().find(|entry| {
        let is = |name: &str, wanted: &str| {
            std::fs::read_to_string(entry.path().join(name)).unwrap_or_default().contains(wanted)
        };
        is("cmdline", "--user\0none")
            && is("comm", "nixvm-test")
            && std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == folder.path())
    });
    let pid = nixvm_test.unwrap().file_name().into_string().unwrap();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let text = left_as_it_was(&folder, session);
    assert!(text.contains("ended with 143"), "{text}");
    assert_eq!(processes_of(&folder.path()), Vec::<u32>::new());
}

#[test]
fn what_is_missing_is_named() {
    let folder = run_with_a_moment();
    let said = |arguments: &[&str], code: i32, text: &str| {
        Ran::of(
            folder
                .command(arguments)
                .env("NIXVM_RUNS", folder.path().join("runs"))
                .stdin(std::process::Stdio::null()),
        )
        .ended_with(code)
        .said(text);
    };
    said(&["attach", "run", "--trust"], 2, "a console needs a terminal");
    said(&["attach", "run", "logout"], 2, "login --machine web");
    said(&["attach"], 2, "there is no record of a run in");
    said(&["attach", "--live", "1a2b3c4d.1"], 2, "no run is paused as");
    said(&["shell", "result"], 2, "a console needs a terminal");
    // The run was taken to a host that has not built the VM.
    std::fs::remove_dir_all(folder.path().join("result")).unwrap();
    let packed = Ran::of(&mut folder.command(&["attach", "run", "--pack"]));
    packed.ended_with(0).printed("login-web.moment.tar.gz");
    let session = on_a_terminal(&folder, "attach login-web.moment.tar.gz --trust");
    let text = left_as_it_was(&folder, session);
    assert!(text.contains("which is not here") && text.contains("nix copy --from ssh://"), "{text}");
}
