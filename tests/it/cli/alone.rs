//! Machines whose network leads to other machines: one scenario at a time has them, over all processes of a user.

use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nixvm_fake_guest::FakeVm;

use super::runs::{Process, Runs};
use crate::folder::Ran;
use crate::hang::HANG;

/// They note in `log` when they have their machines and when they are done.
const NOTED: &str = r#"
async fn takes(machine: Machine) -> Result {
    note("1")?;
    machine.login("alice", "test").await?.succeed("sleep 0.3").await?;
    note("-1")
}
#[scenario] async fn one(machine: Machine) -> Result { takes(machine).await }
#[scenario] async fn another(machine: Machine) -> Result { takes(machine).await }
#[scenario] async fn pair(server: Machine, client: Machine) -> Result {
    takes(server).await?;
    drop(client);
    Ok(())
}
#[scenario(timeout = "10m")] async fn holds(machine: Machine) -> Result {
    note("held")?;
    std::future::pending::<()>().await;
    drop(machine);
    Ok(())
}
async fn until_told(machine: Machine) -> Result {
    note("has it")?;
    let alice = machine.login("alice", "test").await?;
    while !std::path::Path::new("told").exists() {
        alice.succeed("sleep 0.1").await?;
    }
    Ok(())
}
#[scenario(timeout = "10m")] async fn holds_until_told(machine: Machine) -> Result { until_told(machine).await }
#[scenario(timeout = "10m")] async fn holds_until_told_too(machine: Machine) -> Result { until_told(machine).await }
"#;

/// On a host with room for all of them. The run script may have its card from the variable `CARD`.
fn runs(options: &str) -> Runs {
    let card = ("CARD", "-netdev socket,id=n,mcast=230.0.0.1:1234");
    Runs::new(NOTED, FakeVm::new().qemu_options(options), &[("NIXVM_HOST_CORES", "8"), card])
}

#[test]
fn one_scenario_at_a_time_has_machines_that_reach_others() {
    let case = runs("-netdev socket,id=n,mcast=230.0.0.1:1234 -device virtio-net-pci,netdev=n");
    let others = ["--skip", "holds", "--test-threads", "3"];
    let processes: Vec<Process> =
        (0..2).map(|number| case.process(&others, &format!("said{number}"))).collect();
    for mut process in processes {
        assert!(process.0.wait().unwrap().success(), "{}\n{}", case.read("said0"), case.read("said1"));
    }
    assert_eq!(case.read("log"), "1\n-1\n".repeat(6), "two at once");
    let said = case.read("said0") + &case.read("said1");
    assert!(said.contains("is done: one scenario at a time runs such a machine (-netdev socket,"), "{said}");
    // Also a person's machine, and one that is no template's clone: it waits for whoever has it, and gets it.
    std::fs::remove_file(case.file("log")).unwrap();
    let holder = case.process(&["--exact", "holds"], "said holder");
    case.wait_for("log", "held");
    let mut person = case.program(&["repl", "result", "--user", "none", "--no-template"]);
    person.stdin(Stdio::null()).stdout(Stdio::null());
    person.stderr(File::create(case.file("said person")).unwrap());
    let mut person = Process(person.spawn().unwrap());
    case.wait_for("said person", &format!("waiting until process {}", holder.0.id()));
    drop(holder);
    assert!(person.0.wait().unwrap().success(), "{}", case.read("said person"));

    // The text of the run script does not show the card: the second is an error that names the first.
    let case = runs("$CARD -device virtio-net-pci,netdev=n");
    let holder = case.process(&["--exact", "holds"], "said holder");
    case.wait_for("log", "held");
    let ran = Ran::of(&mut case.command(&["--exact", "one"]));
    assert_ne!(ran.code, Some(0));
    ran.printed("reaches other machines, and process ").printed("mcast=230.0.0.1:1234").printed("--jobs 1");
    assert!(
        ran.out.contains(&holder.0.id().to_string()) || ran.err.contains(&holder.0.id().to_string()),
        "{ran:?}"
    );
    drop(holder);
    Ran::of(&mut case.command(&["--exact", "one"])).ended_with(0);

    // Two scenarios of one process are no exception.
    std::fs::remove_file(case.file("log")).unwrap();
    let mut both = case.command(&["holds_until_told", "--test-threads", "3"]);
    both.stdout(File::create(case.file("said")).unwrap()).stderr(Stdio::null());
    let mut both = Process(both.spawn().unwrap());
    let deadline = Instant::now() + HANG;
    while !case.read("said").contains("FAILED") && case.read("log") != "has it\nhas it\n" {
        assert!(Instant::now() < deadline, "{}", case.read("said"));
        std::thread::sleep(Duration::from_millis(20));
    }
    File::create(case.file("told")).unwrap();
    assert!(!both.0.wait().unwrap().success(), "two scenarios of one process have such a machine at once");
    let said = case.read("said");
    assert!(said.contains("reaches other machines, and this process ("), "{said}");
    assert!(said.contains("1 passed; 1 failed"), "{said}");
    assert_eq!(case.read("log"), "has it\n");
}
