//! Nothing outlives the runner, however it ends.
//!
//! A test starts this same binary again as the runner: the ignored "test" `runner` below launches a
//! machine and does what the variable ENDING says. Its machine's script starts helpers of every kind
//! that could stay behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nixvm_test::internals::BuiltVm;
use nixvm_test::internals::Events;
use nixvm_test::internals::qemu::{Launch, Qemu, RunDirectory};
use nixvm_test::internals::signals;

use crate::hang::HANG;
use crate::run_script::{RunScript, lives};

/// What a runner waits for if nobody ends it: longer than its test waits.
const FOR_EVER: Duration = Duration::from_secs(2 * HANG.as_secs());

/// Helpers: one in the group, one in the group without the environment, one that became a daemon.
/// Each writes its pid to $PIDS.
const HELPERS: &str = r#"
sleep 1000 & echo $! >> "$PIDS"
env -i "$(command -v sleep)" 1000 & echo $! >> "$PIDS"
setsid sh -c 'echo $$ >> "$PIDS"; touch "$TMPDIR/daemon"; exec sleep 1000' &
until [ -e "$TMPDIR/daemon" ]; do sleep 0.01; done
echo $$ >> "$PIDS"
cd "$TMPDIR"
"#;
const QEMU: &str = "exec qemu-system-x86_64 -m 64 -net none -nographic $QEMU_OPTS";

/// A runner with one machine, as its own process.
struct Runner {
    child: Child,
    directory: PathBuf,
    pids: Vec<u32>,
    _script: RunScript,
    folder: tempfile::TempDir,
}

impl Runner {
    /// Starts it, in a folder of its own, and waits until its machine (with four processes) runs.
    fn start(ending: &str, last: &str) -> Self {
        let folder = marks();
        let base = folder.path().to_owned();
        Self::start_in(folder, &base, ending, last)
    }

    /// Starts one more in the folder of this one.
    fn next(&self, ending: &str, last: &str) -> Self {
        Self::start_in(marks(), self.folder.path(), ending, last)
    }

    /// With its run directories in `base`: in that of all runs, each sweeps what another has left.
    fn start_in(folder: tempfile::TempDir, base: &Path, ending: &str, last: &str) -> Self {
        let script = RunScript::new(&format!("{HELPERS}{last}"));
        let pids_file = folder.path().join("pids");
        let mut child = crate::again::command("supervision::runner")
            .env("ENDING", ending)
            .env("SCRIPT", script.path())
            .env("PIDS", &pids_file)
            .env("MARKS", folder.path())
            .env("TMPDIR", base)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let directory = lines
            .map_while(Result::ok)
            .find_map(|line| line.split_once("directory: ").map(|(_, path)| PathBuf::from(path)))
            .unwrap();
        let pids = eventually(|| {
            let text = fs::read_to_string(&pids_file).unwrap_or_default();
            let pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
            (pids.len() == 4).then_some(pids)
        })
        .expect("four processes");
        Self { child, directory, pids, _script: script, folder }
    }

    fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    fn ends(&mut self) -> ExitStatus {
        eventually(|| self.child.try_wait().unwrap()).expect("the runner ends")
    }

    fn living(&self) -> Vec<u32> {
        self.pids.iter().copied().filter(|pid| lives(*pid)).collect()
    }

    fn assert_nothing_stays(&self) {
        let gone = eventually(|| (self.living().is_empty() && !self.directory.exists()).then_some(()));
        assert!(gone.is_some(), "{:?} live, directory: {}", self.living(), self.directory.exists());
    }

    fn marked(&self, name: &str) -> bool {
        self.folder.path().join(name).exists()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in self.living() {
            signal(pid, "KILL");
        }
    }
}

/// A folder for a runner. Not in TMPDIR, which may be too long for the paths of sockets.
fn marks() -> tempfile::TempDir {
    tempfile::tempdir_in("/tmp").unwrap()
}

fn signal(pid: u32, name: &str) {
    Command::new("kill").args(["-s", name, "--", &pid.to_string()]).status().unwrap();
}

fn eventually<T>(mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + HANG;
    loop {
        if let Some(value) = ready() {
            return Some(value);
        }
        if Instant::now() > until {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The runner; see above.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "is the runner that other tests start"]
async fn runner() {
    let (Ok(ending), Ok(script)) = (std::env::var("ENDING"), std::env::var("SCRIPT")) else { return };
    let marks = PathBuf::from(std::env::var("MARKS").unwrap());
    let mark = {
        let marks = marks.clone();
        move |name: &str| fs::write(marks.join(name), "").unwrap()
    };
    if ending.starts_with("signal") {
        let slow = ending == "signal, slow hook";
        let mark = mark.clone();
        signals::install(move |name| {
            mark(name);
            if slow {
                std::thread::sleep(FOR_EVER);
            }
        })
        .unwrap();
    }
    let vm = BuiltVm::open(script).unwrap();
    let run = RunDirectory::create().unwrap();
    println!("directory: {}", run.path().display());
    if ending == "keep" {
        run.keep().unwrap();
    }
    let mut launch = Launch::new(&vm, "server", &run, Events::none());
    launch.limit = HANG;
    let launched = Qemu::launch(launch).await;
    // As a harness does: after ctrl-C this fails since the machine was killed.
    signals::hold_if_ending();
    let (qemu, _console) = launched.unwrap();
    match ending.as_str() {
        "panic" => panic!("as asked"),
        "exit" => std::process::exit(7),
        "quit" => {
            qemu.qmp().execute("quit", None, HANG).await.unwrap();
            qemu.exit().wait_for(Option::is_some).await.unwrap();
            mark("quit");
            while !marks.join("drop").exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            drop(qemu);
            drop(run);
            mark("dropped");
            tokio::time::sleep(FOR_EVER).await;
        }
        _ => tokio::time::sleep(FOR_EVER).await,
    }
}

#[test]
fn a_runner_killed_with_sigkill_leaves_nothing() {
    let mut runner = Runner::start("wait", QEMU);
    assert_eq!(runner.living().len(), 4);
    runner.signal("KILL");
    assert_eq!(runner.ends().signal(), Some(9));
    runner.assert_nothing_stays();
}

#[test]
fn a_runner_killed_while_the_script_still_makes_its_image_leaves_nothing() {
    let mut runner = Runner::start("wait", "sleep 1000; true");
    runner.signal("KILL");
    runner.ends();
    runner.assert_nothing_stays();
}

#[test]
fn a_panic_leaves_nothing() {
    let mut runner = Runner::start("panic", QEMU);
    assert!(!runner.ends().success());
    runner.assert_nothing_stays();
}

#[test]
fn an_exit_without_drops_leaves_nothing() {
    let mut runner = Runner::start("exit", QEMU);
    assert_eq!(runner.ends().code(), Some(7));
    runner.assert_nothing_stays();
}

#[test]
fn helpers_do_not_outlive_a_machine_that_ended_by_itself() {
    let runner = Runner::start("quit", QEMU);
    eventually(|| runner.marked("quit").then_some(())).expect("quit");
    // Nobody asks for their end.
    eventually(|| runner.living().is_empty().then_some(())).expect("the helpers end");
    fs::write(runner.folder.path().join("drop"), "").unwrap();
    eventually(|| runner.marked("dropped").then_some(())).expect("dropped");
    assert!(!runner.directory.exists());
}

#[test]
fn ctrl_c_ends_the_machines_before_the_runner_exits_with_130() {
    let mut runner = Runner::start("signal", QEMU);
    runner.signal("INT");
    assert_eq!(runner.ends().code(), Some(130));
    assert!(runner.living().is_empty());
    assert!(!runner.directory.exists());
    assert!(runner.marked("SIGINT"), "the hook was called");
}

#[test]
fn sigterm_ends_the_machines_before_the_runner_exits_with_143() {
    let mut runner = Runner::start("signal", "sleep 1000; true");
    runner.signal("TERM");
    assert_eq!(runner.ends().code(), Some(143));
    assert!(runner.living().is_empty());
    assert!(!runner.directory.exists());
}

#[test]
fn a_second_ctrl_c_does_not_wait() {
    let mut runner = Runner::start("signal, slow hook", QEMU);
    runner.signal("INT");
    eventually(|| runner.marked("SIGINT").then_some(())).expect("the hook is called");
    runner.signal("INT");
    assert_eq!(runner.ends().code(), Some(130));
    runner.assert_nothing_stays();
}

#[test]
fn a_kept_directory_keeps_its_small_files_when_the_runner_is_killed() {
    let mut runner = Runner::start("keep", QEMU);
    fs::write(runner.directory.join("transcript"), "boot").unwrap();
    runner.signal("KILL");
    runner.ends();
    let gone =
        eventually(|| (runner.living().is_empty() && !runner.directory.join("tmp").exists()).then_some(()));
    assert!(gone.is_some());
    assert!(runner.directory.join("transcript").exists());
    assert!(runner.directory.join("stderr").exists());
    fs::remove_dir_all(&runner.directory).unwrap();
}

#[test]
fn a_watchdog_killed_too_leaves_no_qemu_and_the_next_run_sweeps_the_rest() {
    let mut runner = Runner::start("wait", QEMU);
    let watchdog = watchdog_of(runner.child.id()).expect("a watchdog");
    signal(watchdog, "KILL");
    runner.signal("KILL");
    runner.ends();
    let qemu = *runner.pids.last().unwrap();
    eventually(|| (!lives(qemu)).then_some(())).expect("the parent-death signal ends QEMU");
    assert!(runner.directory.exists(), "nobody was left to remove it");

    let mut next = runner.next("exit", QEMU);
    next.ends();
    assert!(!runner.directory.exists());
    // What wiped its environment and is orphaned is beyond reach now; the others are not.
    let (in_group, daemon) = (runner.pids[0], runner.pids[2]);
    eventually(|| (!lives(in_group) && !lives(daemon)).then_some(())).expect("they are killed");
}

/// The child of the runner whose name says what it is.
fn watchdog_of(runner: u32) -> Option<u32> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        let named = command.windows(14).any(|word| word == b"nixvm-watchdog");
        (named && parent == runner.to_string()).then_some(pid)
    })
}

#[test]
fn a_machine_lives_on_when_the_thread_that_launched_it_ends() {
    let script = RunScript::new(&format!("cd \"$TMPDIR\"; {QEMU}"));
    let vm = script.vm();
    let run = RunDirectory::create().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (qemu, _console) = std::thread::scope(|scope| {
        let launch = Launch::new(&vm, "server", &run, Events::none());
        scope.spawn(|| runtime.block_on(Qemu::launch(launch)).unwrap()).join().unwrap()
    });
    std::thread::sleep(Duration::from_millis(300));
    assert!(lives(qemu.pid()));
    let pid = qemu.pid();
    drop(qemu);
    assert!(!lives(pid));
}
