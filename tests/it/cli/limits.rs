//! What holds for a run as a whole: how many machines it has at once, and how long it may take.

use std::path::Path;
use std::time::Instant;

use nixvm_fake_guest::FakeVm;

use crate::cli::machines::{lives, started};
use crate::folder::{Folder, Ran};
use crate::hang::HANG;

/// Four scenarios with a machine each, which note in `log` when they begin and end.
const NOTED: &str = r#"
async fn noted(machine: Machine) -> Result {
    let note = |what: &str| {
        use std::io::Write as _;
        let log = std::fs::File::options().append(true).create(true).open("log");
        log.and_then(|mut log| writeln!(log, "{what}")).map_err(|error| error.to_string())
    };
    note("+")?;
    machine.login("alice", "test").await?.succeed("sleep 0.5").await?;
    // Whoever comes first waits until as many are there as can be.
    let together: usize = std::env::var("TOGETHER").unwrap().parse()?;
    while std::fs::read_to_string("log")?.matches('+').count() < together {
        machine.login("alice", "test").await?.succeed("sleep 0.1").await?;
    }
    note("-")?;
    Ok(())
}
#[scenario] async fn a(machine: Machine) -> Result { noted(machine).await }
#[scenario] async fn b(machine: Machine) -> Result { noted(machine).await }
#[scenario] async fn c(machine: Machine) -> Result { noted(machine).await }
#[scenario] async fn d(machine: Machine) -> Result { noted(machine).await }
"#;

/// How many were under way at once, at most.
fn at_once(log: &Path) -> i32 {
    let text = std::fs::read_to_string(log).unwrap();
    std::fs::remove_file(log).unwrap();
    assert_eq!(text.lines().count(), 8, "{text}");
    let steps = text.lines().map(|line| if line == "+" { 1 } else { -1 });
    steps
        .scan(0, |sum, step| {
            *sum += step;
            Some(*sum)
        })
        .max()
        .unwrap()
}

#[test]
fn a_run_has_as_many_machines_at_once_as_were_allowed_and_no_more() {
    let folder = Folder::with("a.rs", NOTED);
    FakeVm::new().write_to(folder.path());
    let log = folder.path().join("log");
    // Counted apart from other tests' machines, on a host that has room for more.
    let admission = folder.path().join("admission");
    let run = |flags: &[&str], together: &str| {
        let arguments = [&["--vm", "result", "a.rs"], flags].concat();
        let mut command = folder.command(&arguments);
        command.env("NIXVM_HOST_CORES", "8").env("NIXVM_HOST_MEMORY", "64G").env("TOGETHER", together);
        Ran::of(command.env("NIXVM_ADMISSION_DIR", &admission)).ended_with(0).printed("4 passed");
        at_once(&log)
    };
    assert_eq!(run(&["--jobs", "1"], "1"), 1);
    assert_eq!(run(&["--jobs", "2", "--", "--test-threads", "4"], "2"), 2);
    assert_eq!(run(&["--run-timeout", "5m"], "4"), 4, "the host has room for them");
}

#[test]
fn a_run_whose_time_is_up_ends_what_is_under_way_and_runs_no_more() {
    let folder = Folder::with(
        "a.rs",
        r#"
#[scenario] async fn waits(machine: Machine) { std::future::pending::<()>().await; drop(machine) }
#[scenario] async fn blocks(machine: Machine) { std::thread::sleep(Duration::from_secs(600)); drop(machine) }
#[scenario] async fn is_next(machine: Machine) { drop(machine) }
#[scenario] async fn takes_none() {}
"#,
    );
    FakeVm::new().write_to(folder.path());
    folder.run(&["a.rs", "--", "--list"]).ended_with(0);
    let begun = Instant::now();
    // Other tests' machines are counted apart: waiting for them takes the run's time.
    let mut command = folder.command(&[
        "--vm",
        "result",
        "--host-cores",
        "4",
        "--run-timeout",
        "15s",
        "--retries",
        "3",
        "a.rs",
        "--",
        "--test-threads=2",
    ]);
    let ran = Ran::of(command.env("NIXVM_ADMISSION_DIR", folder.path().join("admission")));
    assert!(begun.elapsed() < HANG);
    ran.ended_with(1)
        .printed("test waits      ... FAILED")
        .printed("test blocks     ... FAILED")
        .printed("test is_next    ... ignored (not run: the time limit of the whole run has passed)")
        .printed("test takes_none ... ignored (not run: the time limit of the whole run has passed)")
        .printed("the time limit of the whole run has passed\n")
        .printed("\n  scenario: waits, a.rs:3\n")
        .printed("0 passed; 2 failed; 2 ignored")
        .said("nixvm-test: the time limit of the whole run, 15 s, has passed");
    assert_eq!(ran.err.matches("the time limit of the whole run,").count(), 1, "{}", ran.err);
    let record = std::fs::read_dir(folder.runs()).unwrap().next().unwrap().unwrap().path();
    let junit = std::fs::read_to_string(record.join("junit.xml")).unwrap();
    let skipped = "<skipped message=\"not run: the time limit of the whole run has passed\"/>";
    assert_eq!(junit.matches(skipped).count(), 2, "{junit}");
    let pids = started(&ran);
    assert_eq!(pids.len(), 2, "{}", ran.err);
    assert!(!pids.into_iter().any(lives), "{}", ran.err);
}

#[test]
fn files_of_one_run_share_its_time() {
    let folder = Folder::with("a.rs", "#[scenario] async fn a() { std::future::pending::<()>().await }");
    for name in ["b.rs", "c.rs"] {
        folder.put(name, crate::folder::file("#[scenario] async fn passes() {}"));
    }
    folder.run(&["a.rs", "b.rs", "c.rs", "--", "--list"]).ended_with(0);
    let run = |limit: &str| folder.run(&["a.rs", "b.rs", "c.rs", "--run-timeout", limit]);
    run("1s").ended_with(1).said("no time is left for 2 of 3 files: they are not run");
}

#[test]
fn after_a_failure_no_other_file_is_begun_where_that_is_asked_for() {
    let folder = Folder::with("a.rs", "#[scenario] async fn breaks() { panic!() }");
    folder.put("b.rs", crate::folder::file("#[scenario] async fn passes() {}"));
    let ran = folder.run(&["--fail-fast", "a.rs", "b.rs"]);
    ran.ended_with(1).said("a scenario failed: 1 of 2 files are not run");
    assert!(!ran.out.contains("passes"), "{}", ran.out);
    folder.run(&["--fail-fast", "b.rs", "a.rs"]).ended_with(1).printed("test passes ... ok");
}

#[test]
fn a_scenario_that_holds_its_thread_for_ever_does_not_hold_its_machines_place() {
    let folder = Folder::with(
        "a.rs",
        r#"
#[scenario(timeout = "200ms")]
async fn blocks(machine: Machine) { std::thread::sleep(Duration::from_secs(600)); drop(machine) }
#[scenario] async fn is_next(machine: Machine) { drop(machine) }
"#,
    );
    FakeVm::new().write_to(folder.path());
    let mut command = folder.command(&["--vm", "result", "--jobs", "1", "--run-timeout", "2m", "a.rs"]);
    let ran = Ran::of(command.env("NIXVM_ADMISSION_DIR", folder.path().join("admission")));
    ran.ended_with(1).printed("test is_next ... ok").printed("1 passed; 1 failed");
}
