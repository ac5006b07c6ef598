//! Scenarios with machines, on the fake guest: whatever becomes of the scenario, its machines are gone.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nixvm_fake_guest::FakeVm;
use rustix::process::{Pid, Signal};

use crate::folder::{Folder, Ran};
use crate::hang::HANG;

/// One scenario of each fate, each with a machine.
const FATES: &str = r#"
#[scenario]
async fn passes(machine: Machine) -> Result {
    let alice = machine.login("alice", "test").await?;
    assert_eq!(alice.succeed("echo hello").await?.text(), "hello\n");
    machine.power_off().await
}

#[scenario]
async fn fails(machine: Machine) -> Result {
    machine.login("alice", "test").await?.succeed("echo the page is empty; false").await?;
    Ok(())
}

#[scenario]
async fn panics(machine: Machine) { panic!("{} is up, and that is all", machine.name()) }

#[scenario(timeout = "1s")]
async fn waits_for_ever(machine: Machine) { std::future::pending::<()>().await; drop(machine) }

#[scenario(timeout = "200ms")]
async fn blocks(machine: Machine) { std::thread::sleep(Duration::from_secs(600)); drop(machine) }

#[scenario]
async fn forgets_its_machine(machine: Machine) { std::mem::forget(machine) }
"#;

/// The processes of QEMU that were started, by what was said about them.
pub fn started(ran: &Ran) -> Vec<u32> {
    let lines = ran.err.lines().filter_map(|line| line.split_once("(QEMU is process "));
    lines.map(|(_, pid)| pid.trim_end_matches(')').parse().unwrap()).collect()
}

pub fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A dead process that nobody has asked about yet does not live.
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

#[test]
fn whatever_becomes_of_a_scenario_its_machine_is_gone_and_the_others_run() {
    let folder = Folder::with("fates.rs", FATES);
    FakeVm::new().write_to(folder.path());
    let ran = folder.run(&["--vm", "result", "fates.rs"]);
    ran.ended_with(1)
        .printed("test forgets_its_machine ... ok")
        .printed("the page is empty")
        .printed("fates.rs:17:37: machine is up, and that is all\n  last lines of machine's console:\n")
        .printed("nixos login:")
        .printed("and holds its thread")
        .printed("2 passed; 4 failed;");
    // When its scenario ended, not only when the whole run did.
    for name in ["passes", "fails", "panics", "waits_for_ever", "blocks", "forgets_its_machine"] {
        let its = |text: &str| ran.err.find(&format!("nixvm-test: {name}: {text}"));
        let gone = its("machine: stopped").or(its("machine: powered off"));
        let over = its("FAILED after").or(its("passed in"));
        assert!(gone.is_some() && gone < over, "the machine of {name} was not ended with it\n{}", ran.err);
    }
    let pids = started(&ran);
    assert_eq!(pids.len(), 6, "{}", ran.err);
    for pid in pids {
        assert!(!lives(pid), "QEMU {pid} is left over\n{}", ran.err);
    }
    assert!(!folder.path().join("nixos.qcow2").exists());
}

#[test]
fn a_vm_that_does_not_boot_gives_its_own_code() {
    let folder = Folder::with("a.rs", "#[scenario] async fn a(machine: Machine) { drop(machine) }");
    FakeVm::new().setting("panic", "services").write_to(folder.path());
    folder.run(&["--vm", "result", "a.rs"]).ended_with(4).printed("scenario: a, a.rs:2");
}

#[test]
fn several_machines_are_bound_to_parameters_by_name() {
    let code = "#[scenario]\nasync fn pair(client: Machine, server: Machine) -> Result {
        assert_eq!((client.name(), server.name()), (\"client\", \"server\"));
        let on_server = server.login(\"alice\", \"test\").await?;
        let on_client = client.login(\"alice\", \"test\").await?;
        on_client.succeed(\"true\").await?;
        on_server.succeed(\"true\").await?;
        Ok(())\n}";
    let folder = Folder::with("pair.rs", code);
    FakeVm::new().write_to(folder.path());
    let ran = folder.run(&["--vm", "result", "pair.rs"]);
    ran.ended_with(0).printed("test pair ... ok");
    let pids = started(&ran);
    assert_eq!(pids.len(), 2, "{}", ran.err);
    assert!(!pids.into_iter().any(lives));
}

#[test]
fn a_configuration_that_was_built_elsewhere_is_not_built() {
    let code = "#[scenario(configuration = \"web.nix\")] async fn a(machine: Machine) { drop(machine) }";
    let folder = Folder::with("scenarios/a.rs", code);
    folder.put("scenarios/web.nix", "throw \"nobody may evaluate this\"");
    FakeVm::new().write_to(folder.path());
    Ran::of(folder.command(&["scenarios/a.rs"]).env("NIXVM_VMS", "web.nix=result")).ended_with(0);
    Ran::of(folder.command(&["scenarios/a.rs"]).env("NIXVM_VMS", "web.nix"))
        .ended_with(2)
        .printed("it takes");
}

/// Tomorrow's system, and a machine of today's.
const NEXT: &str = r#"
#[scenario(machine = "vm:result", next = "vm:tomorrow/result")]
async fn next_is_built(machine: Machine, next: System) -> Result {
    assert_eq!(machine.name(), "machine");
    assert_eq!((next.name(), next.to_string().as_str()), ("next", "next (vm:tomorrow/result)"));
    println!("tomorrow is {}", next.path()?.display());
    machine.power_off().await
}
"#;

/// Makes the built VM of tomorrow, which has a system.
fn tomorrow(folder: &Folder) {
    std::fs::create_dir(folder.path().join("tomorrow")).unwrap();
    FakeVm::new().write_to(folder.path().join("tomorrow"));
}

#[test]
fn a_system_is_built_and_no_machine() {
    let folder = Folder::with("next.rs", NEXT);
    FakeVm::new().write_to(folder.path());
    tomorrow(&folder);
    let ran = folder.run(&["next.rs", "--", "--nocapture"]);
    let system = folder.path().join("tomorrow/result/system").canonicalize().unwrap();
    ran.ended_with(0).printed(&format!("tomorrow is {}\n", system.display()));
    assert_eq!(started(&ran).len(), 1, "one machine\n{}", ran.err);
    let record = std::fs::read_dir(folder.runs()).unwrap().next().unwrap().unwrap().path();
    let events = std::fs::read_to_string(record.join("events.jsonl")).unwrap();
    assert!(!events.contains("\"machine\":\"next\""), "the record has a machine of that name\n{events}");
}

#[test]
fn a_scenario_of_systems_alone_boots_nothing_and_a_missing_one_is_a_mistake() {
    let code = "#[scenario(next = \"vm:tomorrow/result\")] async fn a(next: System) -> Result { next.path().map(drop) }";
    let folder = Folder::with("a.rs", code);
    folder.run(&["a.rs"]).ended_with(2).printed("tomorrow/result");
    tomorrow(&folder);
    let ran = folder.run(&["a.rs"]);
    ran.ended_with(0).printed("test a ... ok");
    assert!(started(&ran).is_empty(), "{}", ran.err);
    // Where Nix can't run, what was built elsewhere is named by its whole text.
    let git =
        "#[scenario(next = \"flake:.#a\")] async fn b(next: System) -> Result { next.path().map(drop) }";
    folder.put("b.rs", crate::folder::file(git));
    Ran::of(folder.command(&["b.rs"]).env("NIXVM_VMS", "flake:.#a=tomorrow/result")).ended_with(0);
}

#[test]
fn a_kept_disk_lies_in_the_users_folder_and_a_fresh_one_does_not() {
    let folder = Folder::with("a.rs", "#[scenario] async fn a(machine: Machine) { drop(machine) }");
    FakeVm::new().write_to(folder.path());
    folder.run(&["--vm", "result", "a.rs"]).ended_with(0);
    assert!(!folder.path().join("nixos.qcow2").exists());
    folder.run(&["--vm", "result", "--keep-state", "a.rs"]).ended_with(0);
    assert!(folder.path().join("nixos.qcow2").exists());
}

#[test]
fn an_interrupt_ends_the_machine_and_gives_the_signals_code() {
    let folder = Folder::with(
        "a.rs",
        "#[scenario] async fn a(machine: Machine) { std::future::pending::<()>().await; drop(machine) }",
    );
    folder.put("b.rs", crate::folder::file("#[scenario] async fn b() {}"));
    FakeVm::new().write_to(folder.path());
    // One file: the scenario in place of the command. Two: the command waits for it.
    for files in [&["a.rs"][..], &["a.rs", "b.rs"]] {
        folder.run(&[files, &["--", "--list"]].concat()).ended_with(0);
        let log = folder.path().join("log");
        let mut command: Command = folder.command(&[&["--vm", "result"], files].concat());
        command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
        let mut process = command.spawn().unwrap();
        let pid = wait_for_machine(&log);
        let ours = rustix::process::Pid::from_raw(process.id().cast_signed()).unwrap();
        rustix::process::kill_process(ours, rustix::process::Signal::TERM).unwrap();
        let status = process.wait().unwrap();
        let said = std::fs::read_to_string(&log).unwrap();
        assert_eq!(status.code(), Some(143), "{said}");
        assert!(!lives(pid));
        assert!(!said.contains("incomplete"), "{said}");
        // What the machine printed until then is there, in every form.
        let record = folder.run(&["report", "--no-open"]);
        let record = Path::new(record.ended_with(0).out.trim()).parent().unwrap().join("a");
        for form in ["transcript", "transcript.times", "log", "cast", "film", "svg"] {
            let path = record.join(format!("machine.{form}"));
            assert!(path.metadata().unwrap().len() > 0, "{}", path.display());
        }
    }
}

/// What fails because the signal killed its machine must never decide the code, so the signal comes at many moments.
#[test]
fn a_signal_gives_its_code_at_any_moment() {
    let folder = Folder::with(
        "a.rs",
        "#[scenario] async fn a(machine: Machine) { std::future::pending::<()>().await; drop(machine) }",
    );
    FakeVm::new().write_to(folder.path());
    folder.run(&["a.rs", "--", "--list"]).ended_with(0);
    for (number, signal) in [Signal::INT, Signal::TERM, Signal::HUP].into_iter().cycle().take(12).enumerate()
    {
        let mut process = folder.command(&["--vm", "result", "a.rs"]);
        process.stdout(Stdio::piped()).stderr(Stdio::piped());
        let process = process.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(60 + 25 * u64::try_from(number).unwrap()));
        rustix::process::kill_process(Pid::from_child(&process), signal).unwrap();
        let output = process.wait_with_output().unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        // Before the signals are watched for, they end the process themselves.
        let code = output.status.code().or(output.status.signal().map(|number| 128 + number));
        assert_eq!(code, Some(128 + signal.as_raw()), "{said}");
        assert!(!said.contains("FAILED"), "{said}");
    }
}

#[test]
fn a_killed_command_takes_its_machine_along() {
    let asks = r#"machine.login("alice", "test").await?.succeed("echo evidence").await?;"#;
    let waits = "std::future::pending::<Result>().await";
    let folder = Folder::with(
        "a.rs",
        &format!("#[scenario] async fn a(machine: Machine) -> Result {{ {asks} {waits} }}"),
    );
    folder.put("b.rs", crate::folder::file("#[scenario] async fn b() {}"));
    FakeVm::new().write_to(folder.path());
    folder.run(&["a.rs", "b.rs", "--", "--list"]).ended_with(0);
    let log = folder.path().join("log");
    let mut command = folder.command(&["--vm", "result", "a.rs", "b.rs"]);
    command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
    let mut process = command.spawn().unwrap();
    let pid = wait_for_machine(&log);
    let deadline = Instant::now() + HANG;
    // Before the end, which can be any.
    let record = std::fs::read_dir(folder.runs()).unwrap().next().unwrap().unwrap().path();
    let read = |name: &str| std::fs::read_to_string(record.join("a").join(name)).unwrap_or_default();
    while !read("machine.answers").contains("evidence\\n") {
        assert!(Instant::now() < deadline, "the answer is not written as it comes");
        std::thread::sleep(Duration::from_millis(20));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    while lives(pid) {
        assert!(Instant::now() < deadline, "QEMU {pid} outlives the command");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The transcript is there without anybody's help, and what is made of it when the record is read.
    assert!(read("machine.answers").contains("evidence\\n"));
    assert!(read("machine.transcript").contains("nixos login:"), "{}", read("machine.transcript"));
    // The suite itself makes it, if it is told of the end of the command. Its last words are the events.
    while read("machine.film").is_empty() {
        assert!(Instant::now() < deadline, "no film is made");
        folder.run(&["report", "--no-open"]).ended_with(0);
    }
    assert!(read("machine.log").contains("nixos login:"));
    while !std::fs::read_to_string(record.join("events.jsonl")).unwrap().contains("machine.svg") {
        assert!(Instant::now() < deadline, "the picture is not told of");
        std::thread::sleep(Duration::from_millis(20));
    }
    folder.run(&["report", "--no-open"]).ended_with(0);
    let page = std::fs::read_to_string(record.join("report.html")).unwrap();
    assert!(page.contains("a/machine.log"), "the page does not name the log");
}

/// Waits until the log says that the machine is up; its QEMU's process id.
fn wait_for_machine(log: &Path) -> u32 {
    let deadline = Instant::now() + HANG;
    loop {
        let err = std::fs::read_to_string(log).unwrap();
        let ran = Ran { code: None, out: String::new(), err };
        if let [pid] = started(&ran)[..]
            && ran.err.contains("login prompt after")
        {
            return pid;
        }
        assert!(Instant::now() < deadline, "{}", ran.err);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_an_assertion_shows_does_nothing_to_the_terminal_and_does_not_fill_it() {
    let folder = Folder::with(
        "a.rs",
        r#"
#[scenario] async fn panics() { panic!("{}", "seen: \x1b]0;title\x07\x1b[2J\u{9b}31m \u{202e}end"); }
#[scenario] async fn fails() -> Result<(), String> { Err("seen: \x1b[2Jend".into()) }
#[scenario] async fn shows_a_log() { assert!(false, "{}", "a line of a log\n".repeat(100_000)); }
"#,
    );
    // Colours are for terminals, where nothing is taken out on the way.
    let ran = folder.run(&["a.rs", "--", "--color=always"]);
    ran.ended_with(1).printed("seen: \u{fffd}31m \u{fffd}end").printed("seen: end");
    ran.printed("bytes are left out here]");
    for bad in ["\x1b[2J", "\x1b]", "\u{7}", "\u{9b}", "\u{202e}"] {
        assert!(!ran.out.contains(bad), "{bad:?}");
    }
    assert!(ran.out.len() < 200_000, "{}", ran.out.len());
    let record = std::fs::read_dir(folder.runs()).unwrap().next().unwrap().unwrap().path();
    assert!(std::fs::metadata(record.join("events.jsonl")).unwrap().len() < 500_000);
}

#[test]
fn a_checkpoint_that_fails_is_named_and_is_no_failed_boot() {
    let folder = Folder::with(
        "a.rs",
        r#"
#[checkpoint]
async fn seeded(machine: &mut Machine) -> Result {
    machine.login("alice", "test").await?.succeed("echo seeding; false").await.map(drop)
}
#[checkpoint]
async fn watered(machine: &mut Machine) -> Result { panic!("{} has no can", machine.name()) }
#[scenario(from = seeded)] async fn grows(machine: Machine) { drop(machine) }
#[scenario(from = watered)] async fn blooms(machine: Machine) { drop(machine) }
"#,
    );
    FakeVm::new().write_to(folder.path());
    let ran = folder.run(&["--vm", "result", "--no-template", "a.rs"]);
    ran.ended_with(1).printed("`echo seeding; false` ended with status 1").printed("machine has no can");
    ran.printed("the checkpoint panicked\n");
    for name in ["seeded", "watered"] {
        let named =
            ran.out.lines().any(|line| line.starts_with("    | ") && line.ends_with(&format!("::{name}")));
        assert!(named && ran.out.contains("  in the checkpoint:\n"), "{name}\n{}", ran.out);
    }
}
