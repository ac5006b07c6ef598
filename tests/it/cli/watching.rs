//! `nixvm-test --watch`: what is saved is run again, and ctrl-C leaves nothing.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nixvm_fake_guest::FakeVm;
use rustix::process::Signal;

use crate::folder::{Folder, file};

/// Longest wait for anything; a first compilation of the library may be part of it.
const LIMIT: Duration = Duration::from_secs(400);

/// A command that watches, and what it says.
struct Watching {
    process: Child,
    log: PathBuf,
    /// Up to where it was read.
    read: usize,
}

impl Watching {
    fn start(folder: &Folder, arguments: &[&str]) -> Self {
        Self::of(folder, folder.command(&[&["--watch"], arguments].concat()))
    }

    fn of(folder: &Folder, mut command: Command) -> Self {
        let log = folder.path().join("watch.log");
        let out = std::fs::File::create(&log).unwrap();
        command.stdin(std::process::Stdio::null()).stderr(out.try_clone().unwrap()).stdout(out);
        Self { process: command.spawn().unwrap(), log, read: 0 }
    }

    /// Waits until it says `text` behind what was waited for before; returns what it said up to there.
    #[track_caller]
    fn until(&mut self, text: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let said = std::fs::read_to_string(&self.log).unwrap();
            if let Some(at) = said[self.read..].find(text) {
                let before = said[self.read..self.read + at].to_owned();
                self.read += at + text.len();
                return before;
            }
            let over = self.process.try_wait().unwrap();
            assert!(over.is_none() && Instant::now() < deadline, "no {text:?}, {over:?}:\n{said}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal to it alone, and wants it to end with that code.
    #[track_caller]
    fn ends(mut self, signal: Signal, code: i32) {
        let pid = rustix::process::Pid::from_raw(self.process.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        let status = self.process.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{}", std::fs::read_to_string(&self.log).unwrap());
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// As most editors save: another file under the same name.
fn save(folder: &Folder, name: &str, text: &str) {
    folder.put(&format!("{name}.new~"), text);
    std::fs::rename(folder.path().join(format!("{name}.new~")), folder.path().join(name)).unwrap();
}

/// The living processes whose command line names `what`.
fn processes_with(what: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let commands = processes.map(|entry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default());
    let commands = commands.map(|command| String::from_utf8_lossy(&command).replace('\0', " "));
    commands.filter(|command| command.contains(what)).collect()
}

#[test]
fn a_saved_scenario_is_run_again_and_an_error_ends_nothing() {
    let folder = Folder::with("a.rs", "#[scenario] async fn one() {}");
    let mut watching = Watching::start(&folder, &["a.rs"]);
    watching.until("test one ... ok");
    watching.until("──── passed after");

    save(&folder, "a.rs", &file("#[scenario] async fn two() { panic!(\"no\") }"));
    watching.until("──── a.rs changed ────");
    watching.until("test two ... FAILED");
    watching.until("──── failed (exit code 1) after");

    save(&folder, "a.rs", &file("#[scenario] async fn three() { nothing_like_it() }"));
    watching.until("cannot find function `nothing_like_it`");
    let before = watching.until("──── nothing was run");
    assert!(!before.contains("running"), "{before}");

    // In place, as some editors do.
    folder.put("a.rs", file("#[scenario] async fn four() {}"));
    watching.until("test four ... ok");
    watching.until("──── passed after");
    let said = std::fs::read_to_string(&watching.log).unwrap();
    assert!(!said.contains('\x1b'), "control sequences without a terminal: {said:?}");
    watching.ends(Signal::INT, 130);
}

#[test]
fn what_runs_after_one_save_is_one_record() {
    let folder = Folder::with("a.rs", "#[scenario] async fn one() {}");
    folder.put("b.rs", file("#[scenario] async fn two() {}"));
    let records = || std::fs::read_dir(folder.runs()).unwrap().count();
    let mut watching = Watching::start(&folder, &["a.rs", "b.rs"]);
    watching.until("──── passed after");
    assert_eq!(records(), 1);
    save(&folder, "b.rs", &file("#[scenario] async fn three() {}"));
    watching.until("test three ... ok");
    watching.until("──── passed after");
    assert_eq!(records(), 2);
    let history = |run: &str| {
        let record =
            nixvm_test::internals::record::Folder::find(&folder.runs().join(run).display().to_string())
                .unwrap();
        let history = nixvm_test::internals::record::History::read(record.path()).unwrap();
        history.scenarios.into_iter().map(|scenario| scenario.name).collect::<Vec<_>>()
    };
    let runs =
        std::fs::read_dir(folder.runs()).unwrap().map(|run| run.unwrap().file_name().into_string().unwrap());
    let mut all: Vec<_> = runs.map(|run| history(&run)).collect();
    all.sort();
    assert_eq!(all, [vec!["one".to_owned(), "two".to_owned()], vec!["three".to_owned()]]);
    watching.ends(Signal::INT, 130);
}

#[test]
fn whatever_the_scenario_is_compiled_from_is_watched() {
    let folder = Folder::with(
        "in/a.rs",
        r#"mod helper;
#[scenario] async fn a() -> Result { Err(format!("{} {}", helper::TEXT, include_str!("../a text.txt")))? }"#,
    );
    folder.put("in/helper.rs", "pub const TEXT: &str = \"one\";");
    folder.put("a text.txt", "eins");
    let mut watching = Watching::start(&folder, &["in"]);
    watching.until("one eins");
    watching.until("────\n");
    save(&folder, "in/helper.rs", "pub const TEXT: &str = \"two\";");
    watching.until("──── in/helper.rs changed ────");
    watching.until("two eins");
    watching.until("────\n");
    save(&folder, "a text.txt", "zwei");
    watching.until("two zwei");
    watching.until("────\n");
    // Nobody reads this one. A scenario that is new in the folder is run, and the other is not.
    save(&folder, "in/notes.txt", "");
    save(&folder, "in/b.rs", &file("mod missing; #[scenario] async fn b() {}"));
    let before = watching.until("──── in/b.rs changed ────");
    assert_eq!(before, "");
    watching.until("──── nothing was run");
    save(&folder, "in/missing.rs", "");
    let before = watching.until("test b ... ok");
    assert!(!before.contains("test a"), "{before}");
    watching.ends(Signal::TERM, 143);
}

/// A folder whose configuration is built by a nix-build of its own, which always gives the fake VM.
fn with_nix(code: &str) -> (Folder, Command) {
    let folder = Folder::with("scenarios/a.rs", code);
    folder.put(".git/HEAD", "");
    folder.put("nixpkgs/nixos/default.nix", "{ }");
    FakeVm::new().write_to(folder.path());
    let result = folder.path().join("result").display().to_string();
    folder.program("bin/nix-build", format!("#!/bin/sh\necho built >&2\necho {result}\n"));
    let path = format!("{}:{}", folder.path().join("bin").display(), std::env::var("PATH").unwrap());
    let mut command = folder.command(&["--watch", "--nixpkgs", "./nixpkgs", "scenarios/a.rs"]);
    command.env("PATH", path);
    (folder, command)
}

#[test]
fn a_saved_configuration_is_built_and_run_again_with_all_that_it_imports() {
    let (folder, command) =
        with_nix("#[scenario] async fn a(machine: Machine) -> Result { machine.power_off().await }");
    let mut watching = Watching::of(&folder, command);
    // There is none yet.
    watching.until("no configuration.nix for scenarios in");
    watching.until("────\n");
    save(&folder, "scenarios/configuration.nix", "{ imports = [ ../web.nix ]; }");
    watching.until("──── scenarios/configuration.nix changed ────");
    watching.until("test a ... ok");
    watching.until("────\n");
    // It is imported already.
    save(&folder, "web.nix", "{ }");
    watching.until("──── web.nix changed ────");
    let before = watching.until("test a ... ok");
    assert!(before.contains(": built\n") && !before.contains("building a.rs"), "{before}");
    watching.until("────\n");
    watching.ends(Signal::INT, 130);
}

#[test]
fn a_save_ends_the_run_under_way_and_its_machine() {
    let waits =
        "#[scenario] async fn waits(machine: Machine) { std::future::pending::<()>().await; drop(machine) }";
    let folder = Folder::with("a.rs", waits);
    FakeVm::new().write_to(folder.path());
    let mut watching = Watching::start(&folder, &["--vm", "result", "a.rs"]);
    watching.until("(QEMU is process ");
    let pid = watching.until(")");
    watching.until("login prompt");
    save(&folder, "a.rs", &file("#[scenario] async fn ends() {}"));
    watching.until("──── a.rs changed ────");
    assert!(!PathBuf::from(format!("/proc/{pid}")).exists(), "QEMU {pid} outlives its run");
    watching.until("test ends ... ok");
    watching.until("──── passed after");

    save(&folder, "a.rs", &file(waits));
    watching.until("login prompt");
    watching.ends(Signal::INT, 130);
    assert_eq!(processes_with(&folder.path().display().to_string()), Vec::<String>::new());
}

#[test]
fn a_signal_ends_the_compiler_too() {
    let folder = Folder::with(
        "a.rs",
        "const _: () = { let mut rounds = 0_u64; while rounds < 1_000_000_000_000 { rounds += 1 } };
        #[scenario] async fn a() {}",
    );
    // It would take hours.
    let text = std::fs::read_to_string(folder.path().join("a.rs")).unwrap();
    folder.put("a.rs", format!("#![allow(long_running_const_eval)]\n{text}"));
    let mut watching = Watching::start(&folder, &["a.rs"]);
    watching.until("compiling nixvm-a-");
    let file = folder.path().join("a.rs").display().to_string();
    let deadline = Instant::now() + LIMIT;
    while !processes_with(&file).iter().any(|command| command.contains("--crate-name")) {
        assert!(Instant::now() < deadline, "no compiler");
        std::thread::sleep(Duration::from_millis(10));
    }
    watching.ends(Signal::INT, 130);
    let deadline = Instant::now() + LIMIT;
    while !processes_with(&file).is_empty() {
        assert!(Instant::now() < deadline, "left over: {:?}", processes_with(&file));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_saved_nixvm_toml_is_a_reason_to_run_again_and_a_wrong_one_no_reason_to_end() {
    let folder = Folder::with("a.rs", r#"#[scenario] async fn a() {}"#);
    folder.put("nixvm.toml", "skip = true\n");
    let mut watching = Watching::start(&folder, &["a.rs"]);
    watching.until("ignored (skip is set");
    watching.until("watching");
    folder.put("nixvm.toml", "skpi = true\n");
    watching.until("did you mean `skip`?");
    watching.until("watching");
    folder.put("nixvm.toml", "skip = false\n");
    watching.until("test a ... ok");
    watching.ends(Signal::TERM, 143);
}
