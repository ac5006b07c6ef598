//! Machines are counted over processes: what runs beside each other is never more than the host has.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use nixvm_fake_guest::FakeVm;

use super::runs::{Process, Runs};
use crate::folder::{Ran, take_over};

/// They note in `log` what they take when they begin and when they end.
const NOTED: &str = r#"
async fn takes(machine: Machine, cores: u32) -> Result {
    note(&format!("{cores}"))?;
    machine.login("alice", "test").await?.succeed("sleep 0.3").await?;
    note(&format!("-{cores}"))
}
#[scenario] async fn one(machine: Machine) -> Result { takes(machine, 1).await }
#[scenario] async fn another(machine: Machine) -> Result { takes(machine, 1).await }
#[scenario(cores = 2)] async fn two(machine: Machine) -> Result { takes(machine, 2).await }
#[scenario(cores = 9)] async fn nine(machine: Machine) -> Result { takes(machine, 9).await }
#[scenario] async fn pair(server: Machine, client: Machine) -> Result {
    drop(client);
    takes(server, 2).await
}
#[scenario(memory = "100G")] async fn huge(machine: Machine) -> Result { takes(machine, 9).await }

#[scenario(timeout = "10m")] async fn holds(machine: Machine) -> Result {
    note("held")?;
    std::future::pending::<()>().await;
    drop(machine);
    Ok(())
}
"#;

/// On a host of two processors.
fn host() -> Runs {
    Runs::new(NOTED, FakeVm::new(), &[("NIXVM_HOST_CORES", "2")])
}

#[test]
fn several_processes_together_take_no_more_than_the_host_has_and_all_get_their_turn() {
    let host = host();
    // More threads than processors in each; `huge` and `nine` take more than there is.
    let others = ["--skip", "holds", "--test-threads", "4"];
    let processes: Vec<Process> =
        (0..3).map(|number| host.process(&others, &format!("said{number}"))).collect();
    processes.into_iter().for_each(Process::passes);
    let log = host.read("log");
    assert_eq!(log.lines().count(), 3 * 6 * 2, "{log}");
    let (mut sum, mut most) = (0, 0);
    for step in log.lines().map(|line| line.parse::<i32>().unwrap()) {
        sum += step;
        assert!(sum <= 2 || sum == 9 && step == 9, "{sum} at once\n{log}");
        most = most.max(if sum < 9 { sum } else { 0 });
    }
    assert_eq!(most, 2, "the host was never in full use\n{log}");
    for text in [
        "nine: it needs 9 processors, and this host has 2 for machines: it runs alone",
        "huge: it needs 102656 MiB, and this host has 65536 MiB for machines: it runs alone",
    ] {
        assert!(host.read("said0").contains(text), "{}", host.read("said0"));
    }
    let left: Vec<_> = std::fs::read_dir(host.file("admission")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "the list alone is left: {left:?}");
    assert_eq!(host.read("admission/list.json"), "[]");
}

#[test]
fn whoever_is_killed_gives_their_place_to_the_next_whether_they_ran_or_waited() {
    let host = host();
    let waiting = "waiting until other machines on this host are done";
    let one = host.process(&["holds"], "said one");
    let other = host.process(&["holds"], "said other");
    while host.read("log") != "held\nheld\n" {
        std::thread::sleep(Duration::from_millis(20));
    }
    let first = host.process(&["--exact", "pair"], "said first");
    host.wait_for("said first", waiting);
    let second = host.process(&["--exact", "two"], "said second");
    host.wait_for("said second", waiting);
    let third = host.process(&["--exact", "one"], "said third");
    host.wait_for("said third", waiting);
    // Who waits first keeps the place that got free until there are two, and dies.
    one.kill();
    first.kill();
    other.kill();
    second.passes();
    third.passes();
    assert_eq!(host.read("log"), "held\nheld\n2\n-2\n1\n-1\n", "in the order in which they asked");
}

#[test]
fn machines_that_a_person_has_open_are_up_at_once_and_leave_a_suite_the_rest_of_the_host() {
    let host = host();
    let open = || {
        let mut command = host.program(&["repl", "result", "--user", "none", "--no-template"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut repl = command.spawn().unwrap();
        let mut line = String::new();
        repl.stdin.as_mut().unwrap().write_all(b"nobody\nhelp\n").unwrap();
        BufReader::new(repl.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "it is not up");
        Process(repl)
    };
    // The third is more than the host has: a person does not wait.
    let mut persons: Vec<Process> = (0..3).map(|_| open()).collect();
    let suite = host.process(&["--exact", "one"], "said");
    host.wait_for("said", "; a person has one open (nixvm-test shell, attach or repl)");
    assert_eq!(host.read("log"), "");
    for _ in 0..2 {
        let mut gone = persons.pop().unwrap();
        drop(gone.0.stdin.take());
        gone.0.wait().unwrap();
    }
    suite.passes();
    assert_eq!(host.read("log"), "1\n-1\n");
}

#[test]
fn a_folder_that_can_not_be_used_is_named_with_what_to_do() {
    let host = host();
    host.folder.put("admission", "a file");
    let ran = Ran::of(&mut host.command(&["--exact", "one"]));
    ran.ended_with(5).printed("count machines in").printed("admission").printed("NIXVM_ADMISSION_DIR");
}

/// Another user of this host, who is not root, against one who runs scenarios.
#[test]
fn what_another_user_put_in_the_place_of_the_folder_is_refused_and_nothing_is_removed_or_waited_for() {
    if Command::new("setpriv").arg("--version").output().is_err() || !rustix::process::geteuid().is_root() {
        eprintln!(
            "not root, or no setpriv: no process of another user can be started, so this is not tested"
        );
        return;
    }
    let host = host();
    // As the list of one who runs, whose lock is a file of the user who comes next.
    let listed = r#"mkdir admission; echo '[{"holder":"../mine/kept","need":{"memory":9,"cores":9},"runs":true}]' >admission/list.json"#;
    for attack in [
        listed,
        "mkdir admission; mkfifo admission/list.json",
        "mkdir -m 755 admission",
        "ln -s mine admission",
    ] {
        let place = tempfile::tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
        std::fs::create_dir(place.path().join("mine")).unwrap();
        std::fs::write(place.path().join("mine/kept"), "kept").unwrap();
        let stranger = ["--reuid", "4242", "--regid", "4242", "--clear-groups", "sh", "-ec"];
        let attacked = Command::new("setpriv")
            .args(stranger)
            .arg(format!("umask 0; {attack}"))
            .current_dir(place.path())
            .status();
        assert!(attacked.unwrap().success(), "{attack}");
        let mut command = host.command(&["--exact", "one"]);
        command.env("NIXVM_ADMISSION_DIR", place.path().join("admission")).stdin(Stdio::null());
        let mut limited = Command::new("timeout");
        limited.args(["--signal=KILL", "120"]).arg(command.get_program()).args(command.get_args());
        limited.current_dir(host.folder.path());
        take_over(&mut limited, &command);
        let ran = Ran::of(&mut limited);
        ran.ended_with(5)
            .printed("count machines in")
            .printed("is not used: it")
            .printed("NIXVM_ADMISSION_DIR");
        let mine: Vec<_> = std::fs::read_dir(place.path().join("mine")).unwrap().flatten().collect();
        assert_eq!(mine.len(), 1, "{attack}: {mine:?}");
        assert_eq!(std::fs::read_to_string(place.path().join("mine/kept")).unwrap(), "kept", "{attack}");
    }
}
