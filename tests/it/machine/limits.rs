//! Commands that do not end.

use super::Fake;
use nixvm_fake_guest::FakeVm;
use nixvm_test::machine::Session;
use nixvm_test::{Error, ErrorKind};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(300);

/// The error of a command that runs into its limit. On a busy host that may be before the command has begun, and then its
/// error does not have `words`: it gets more time, until it has.
async fn runs_into_its_limit(alice: &Session, command: &str, words: &str) -> Error {
    let mut limit = SHORT;
    loop {
        let error = alice.within(limit).execute(command).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CommandTimeout, "{error}");
        if error.to_string().contains(words) {
            return error;
        }
        assert!(limit < crate::hang::HANG, "{words:?} is not in {error}");
        limit *= 4;
    }
}

async fn is_interrupted(command: &str) {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    let error = alice.within(SHORT).execute(command).await.expect_err(command);
    assert_eq!(error.kind(), ErrorKind::CommandTimeout, "{command}: {error}");
    assert_eq!(alice.execute("echo still here").await.expect(command).text(), "still here\n", "{command}");
    assert_eq!(alice.execute("echo once more; false").await.unwrap().status(), 1, "{command}");
}

#[tokio::test]
async fn a_command_that_sleeps_is_interrupted() {
    is_interrupted("echo begun; sleep 1000").await;
}

#[tokio::test]
async fn a_command_that_waits_for_input_is_interrupted() {
    is_interrupted("cat").await;
}

#[tokio::test]
async fn an_endless_loop_of_the_shell_is_interrupted() {
    is_interrupted("while :; do :; done").await;
}

#[tokio::test]
async fn an_endless_flood_is_interrupted() {
    is_interrupted("yes").await;
}

#[tokio::test]
async fn a_command_that_ignores_interrupts_is_ended_all_the_same() {
    is_interrupted("sh -c 'trap \"\" INT; sleep 1000; sleep 1000'").await;
    is_interrupted("sh -c 'trap \"\" INT QUIT; while :; do sleep 1000; done'").await;
}

#[tokio::test]
async fn a_command_that_ends_in_good_order_at_an_interrupt_leaves_its_last_words() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    let command = "sh -c 'trap \"echo last words; exit 3\" INT; echo begun; while :; do sleep 0.05; done'";
    runs_into_its_limit(&alice, command, "begun").await;
    assert_eq!(alice.execute("echo still here").await.unwrap().text(), "still here\n");
}

#[tokio::test]
async fn a_command_whose_future_was_dropped_does_not_disturb_the_next() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    let dropped = tokio::time::timeout(SHORT, alice.execute("echo lost; sleep 1000; echo lost")).await;
    assert!(dropped.is_err());
    assert_eq!(alice.execute("echo mine").await.unwrap().text(), "mine\n");
}

#[tokio::test]
async fn a_shell_that_can_not_be_got_back_is_said_to_be_lost() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    let command = "stty raw -echo; trap '' INT QUIT TSTP; sleep 1000";
    runs_into_its_limit(&alice, command, "the shell did not come back").await;
    assert_eq!(alice.execute("true").await.unwrap_err().kind(), ErrorKind::SessionEnded);
}

/// A guest that QEMU was told to stop answers nobody. Nothing is waited for after the limit, and the error says why.
#[tokio::test]
async fn a_limit_holds_where_the_machine_stands_still() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await.within(SHORT);
    let machine = fake.machine.within(SHORT);
    fake.machine.qmp("stop", None).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    std::fs::write(&from, "content").unwrap();
    let errors = [
        ("a command on the console", ErrorKind::CommandTimeout, alice.execute("true").await.err()),
        ("another one", ErrorKind::CommandTimeout, alice.execute("true").await.err()),
        ("a command", ErrorKind::CommandTimeout, machine.succeed("true").await.err()),
        ("a user's command", ErrorKind::CommandTimeout, machine.as_user("bob").succeed("true").await.err()),
        ("a repeated command", ErrorKind::Timeout, machine.wait_until_succeeds("true").await.err()),
        ("a unit", ErrorKind::Timeout, machine.wait_for_unit("nginx").await.err()),
        ("a port", ErrorKind::Timeout, machine.wait_for_open_port(80).await.err()),
        ("a file", ErrorKind::Timeout, machine.wait_for_file("/x").await.err()),
        ("a socket", ErrorKind::Timeout, machine.wait_for_open_unix_socket("/x").await.err()),
        ("a log", ErrorKind::Timeout, machine.wait_for_log("nginx", "x").await.err()),
        ("a window", ErrorKind::Timeout, machine.wait_for_window("x").await.err()),
        ("a copy into it", ErrorKind::CommandTimeout, machine.copy_to(&from, "/tmp/x").await.err()),
        ("a copy out of it", ErrorKind::CommandTimeout, machine.copy_from("/etc", &to).await.err()),
    ];
    for (what, kind, error) in errors {
        let error = error.unwrap_or_else(|| panic!("{what} does not fail"));
        assert_eq!(error.kind(), kind, "{what}: {error}");
        assert!(error.to_string().contains("the machine is paused"), "{what}: {error}");
    }
    fake.machine.qmp("cont", None).await.unwrap();
    let alice = alice.within(crate::hang::HANG);
    assert_eq!(alice.execute("echo on").await.unwrap().text(), "on\n");
    fake.machine.qmp("stop", None).await.unwrap();
    let error = machine.power_off().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("the machine is paused"), "{error}");
}

/// As short as a limit may be, and a stop that is longer.
const WAITED: Duration = Duration::from_secs(4);
const STOPPED: Duration = Duration::from_secs(6);

#[test]
fn time_in_which_this_process_is_stopped_is_none_of_a_limit() {
    use rustix::process::{Pid, Signal, kill_process};
    let folder = tempfile::tempdir().unwrap();
    let (pid, go) = (folder.path().join("pid"), folder.path().join("go"));
    let mut command = crate::again::command("machine::limits::waits_while_it_is_stopped");
    let mut waits = crate::again::Process::start(command.env("GO", &go).env("PID", &pid));
    waits.until("waits");
    let pid = Pid::from_raw(std::fs::read_to_string(&pid).unwrap().parse().unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    std::thread::sleep(STOPPED);
    kill_process(pid, Signal::CONT).unwrap();
    // Only now: what had come before could be read before the limit is looked at.
    std::fs::write(&go, "").unwrap();
    waits.end();
}

#[tokio::test]
#[ignore = "is started by the test above"]
async fn waits_while_it_is_stopped() {
    let fake = Fake::boot(FakeVm::new()).await;
    let alice = fake.alice().await;
    let go = std::env::var("GO").unwrap();
    alice.execute(format!("(until test -e {go}; do sleep 0.05; done; echo it ca''me) &")).await.unwrap();
    std::fs::write(std::env::var("PID").unwrap(), std::process::id().to_string()).unwrap();
    let console = fake.machine.console();
    let waiting = console.expect("it came\n", WAITED);
    let says = async { crate::again::say("waits") };
    let (came, ()) = tokio::join!(waiting, says);
    came.unwrap();
}
