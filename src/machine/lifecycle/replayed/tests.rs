//! Hand-written records and the answers that they give.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::beneath::Beneath;
use crate::machine::Replay;
use crate::machine::{Machine, MachineOptions, Stream};
use crate::{ErrorKind, Result};

fn opened(folder: &Path) -> Arc<Beneath> {
    Arc::new(Beneath::open(folder).unwrap())
}

/// A scenario's folder in a record, with the answers of the machine `m`.
struct Record(tempfile::TempDir);

impl Record {
    /// Creates a record with a start and these lines.
    fn of(lines: &[Value]) -> Self {
        let lines: Vec<Value> = [start(0)].iter().chain(lines).cloned().collect();
        Self::whole(&lines)
    }

    fn whole(lines: &[Value]) -> Self {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        Self::bytes(text.as_bytes())
    }

    fn bytes(bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("m.answers"), bytes).unwrap();
        Self(folder)
    }

    async fn machine(&self) -> Machine {
        let replay = Arc::new(Replay::open(opened(self.0.path()), Path::new(""), "m").unwrap());
        Machine::replayed(replay, MachineOptions::new("m"), None).await.unwrap()
    }
}

fn start(secrets: usize) -> Value {
    let start = json!({ "speed": 60.0, "secrets": secrets, "console": "at_login" });
    json!({ "asked": "start", "from": 0, "to": 0, "passed": true, "answer": start })
}

fn ran(printed: &str) -> Value {
    json!({ "status": 0, "mute": false, "stdout": printed, "stderr": "" })
}

/// Returns the entry of root's command and its output, asked after this many answers.
fn root(command: &str, printed: &str, after: usize) -> Value {
    let asked = format!("root: {command}");
    json!({ "asked": asked, "from": 0, "to": 0, "after": after, "answer": ran(printed) })
}

fn broken_off(command: &str, printed: &str) -> Value {
    json!({ "asked": format!("root: {command}"), "from": 0, "to": 0, "enough": ran(printed) })
}

fn login(user: &str, number: usize) -> Value {
    json!({ "asked": format!("log in {user}"), "from": 0, "to": 0, "passed": true, "secret": number, "answer": "Bash" })
}

/// Returns the outputs of root's commands, run one after the other.
async fn asked(machine: &Machine, commands: &[&str]) -> Vec<String> {
    let mut printed = Vec::new();
    for command in commands {
        printed.push(machine.succeed(*command).await.unwrap().text().to_owned());
    }
    printed
}

/// Returns the token of a secret.
fn token(number: usize) -> String {
    format!("\u{f8f5}{number}\u{f8f5}")
}

#[tokio::test]
async fn whoever_watches_a_command_that_was_broken_off_sees_enough_again() {
    let record = Record::of(&[broken_off("follow", "one\ntwo\n"), broken_off("follow", "one\ntwo\n")]);
    let machine = record.machine().await;
    let follow = |found: &Arc<Notify>| {
        let found = Arc::clone(found);
        machine.command("follow").watch(move |stream, bytes| {
            if stream == Stream::Stdout && bytes.ends_with(b"two\n") {
                found.notify_one();
            }
        })
    };
    let found = Arc::new(Notify::new());
    tokio::select! {
        biased;
        ended = follow(&found).output() => panic!("{ended:?}"),
        () = found.notified() => {}
    }
    // The task that has seen enough may be another one, which is not ready at once.
    let following = tokio::spawn(follow(&found).output());
    found.notified().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    following.abort();
    assert!(following.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn a_command_that_was_broken_off_has_no_end_for_who_waits_for_it() {
    let record = Record::of(&[broken_off("follow", "one\n"), broken_off("follow", "one\n")]);
    let machine = record.machine().await;
    let error = machine.command("follow").output().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRecorded);
    assert!(error.summary().contains("`root: follow` was cancelled when it was recorded"), "{error}");
    let error = machine.command("follow").watch(|_, _| {}).output().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRecorded, "{error}");
}

#[tokio::test]
async fn who_asks_over_and_over_may_ask_less_often_and_what_is_left_over_answers_nothing_later() {
    let record = Record::of(&[
        root("state", "starting", 1),
        root("state", "starting", 2),
        root("state", "up", 3),
        root("stop", "", 4),
        root("state", "down", 5),
    ]);
    let as_it_was = ["state", "state", "state", "stop", "state"];
    assert_eq!(asked(&record.machine().await, &as_it_was).await, ["starting", "starting", "up", "", "down"]);
    assert_eq!(asked(&record.machine().await, &["state", "stop", "state"]).await, ["starting", "", "down"]);
    // In another order, all of them have answers.
    let in_another = asked(&record.machine().await, &["stop", "state", "state"]).await;
    assert_eq!(in_another, ["", "starting", "starting"]);
}

#[tokio::test]
async fn who_asks_more_often_is_told_how_often_it_was() {
    let record = Record::of(&[root("state", "starting", 1), root("state", "starting", 2)]);
    let machine = record.machine().await;
    assert_eq!(asked(&machine, &["state", "state"]).await, ["starting", "starting"]);
    let error = machine.succeed("state").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRecorded);
    assert!(error.summary().contains("no further answer to `root: state`"), "{error}");
    assert!(error.to_string().contains("the recorded run asked it 2 times"), "{error}");
}

#[tokio::test]
async fn what_runs_beside_it_says_nothing_of_where_a_task_stands() {
    // `load` ran all the time: it was asked first, and answered after the second `state`.
    let record = Record::of(&[
        root("state", "one", 1),
        root("next", "", 2),
        root("load", "", 1),
        root("state", "two", 4),
        root("rest", "", 5),
        root("state", "three", 6),
    ]);
    let machine = record.machine().await;
    assert_eq!(asked(&machine, &["load", "state", "next", "state"]).await, ["", "one", "", "two"]);
    let machine = record.machine().await;
    assert_eq!(asked(&machine, &["state"]).await, ["one"]);
    let beside = machine.clone();
    tokio::spawn(async move { asked(&beside, &["load", "rest"]).await }).await.unwrap();
    assert_eq!(asked(&machine, &["next", "state", "state"]).await, ["", "two", "three"]);
}

/// Time advances automatically when idle, so the measured time is the time waited for.
#[tokio::test(start_paused = true)]
async fn tries_cost_no_time_and_end_also_where_errors_are_no_end() {
    let mut lines: Vec<Value> = (0..60).map(|after| root("state", "starting", after + 1)).collect();
    lines.push(root("state", "up", 61));
    let machine = Record::of(&lines).machine().await;
    let look = || async { machine.succeed("state").await.map(|state| (state.text() == "up").then_some(())) };
    let started = tokio::time::Instant::now();
    machine.retry("it is up", look).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let never = || async { Ok(machine.succeed("state").await.ok()) };
    let outcome = tokio::time::timeout(crate::hang::HANG, machine.retry("it is up", never)).await;
    assert_eq!(outcome.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_wait_is_asked_for_in_its_own_words() {
    let answer = |what: &str| json!({ "asked": format!("root: wait until {what}"), "from": 0, "to": 0, "answer": ran("") });
    let lines =
        ["`test -e x` succeeds", "`test -e x` fails", "/run/x is there", "port 80 of localhost is open"];
    let machine = Record::of(&lines.map(answer)).machine().await;
    machine.wait_until_succeeds("test -e x").await.unwrap();
    machine.wait_until_fails("test -e x").await.unwrap();
    machine.wait_for_file("/run/x").await.unwrap();
    let error = machine.wait_for_open_port(8080).await.unwrap_err();
    let summary = error.summary();
    assert!(summary.contains("`root: wait until port 8080 of localhost is open`"), "{error}");
    assert!(error.to_string().contains("the recorded run asked `root: wait until port 80 of"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_cut_in_the_middle_of_a_character_answers_what_it_has() {
    let lines = format!("{}\n{}\n{}", start(0), root("a", "one", 1), root("b", "zwei ä", 2));
    let cut = lines.rfind('ä').unwrap() + 1;
    let machine = Record::bytes(&lines.as_bytes()[..cut]).machine().await;
    assert_eq!(asked(&machine, &["a"]).await, ["one"]);
    assert_eq!(machine.succeed("b").await.unwrap_err().kind(), ErrorKind::NotRecorded);
}

#[test]
fn a_pipe_in_the_place_of_the_file_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.answers");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let (tell, hear) = std::sync::mpsc::channel();
    let open = folder.path().to_owned();
    std::thread::spawn(move || tell.send(Replay::open(opened(&open), Path::new(""), "m").map(drop)));
    let opened: Result = hear.recv_timeout(crate::hang::HANG).unwrap();
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::Io);
}

#[tokio::test]
async fn what_a_hostile_record_says_drives_no_terminal_and_answers_of_another_form_are_said() {
    let told = json!({ "kind": "Other", "summary": "\u{1b}]0;bad\u{7} it\nand", "sections": [["\u{1b}c", "\u{202e}x\ty"]],
        "took": [1e308, -1.0], "cause": "\u{1b}[2J", "next": null });
    let lines = [
        json!({ "asked": "root: a", "from": 0, "to": u64::MAX, "after": usize::MAX, "off": false, "error": told }),
        json!({ "asked": "root: b", "from": u64::MAX, "to": 0, "answer": { "\u{1b}[2J": 1 } }),
        json!({ "asked": "root: b", "from": 0, "to": 0, "secret": usize::MAX, "answer": "\u{1b}[2J" }),
        json!({ "asked": "root: \u{202e}c", "from": 0, "to": 0 }),
    ];
    let machine = Record::whole(&[&[start(usize::MAX)], &lines[..]].concat()).machine().await;
    for command in ["a", "b", "b", "cc", "\u{202e}c"] {
        let error = machine.succeed(command).await.unwrap_err().to_string();
        let error = error.replace(&format!("`root: {command}`"), "");
        assert!(!error.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{command:?}: {error:?}");
    }
}

#[tokio::test]
async fn secrets_are_not_shown_where_a_question_has_no_answer() {
    let hidden = root(&format!("echo {}", token(0)), "", 2);
    let machine = Record::of(&[login("alice", 0), hidden]).machine().await;
    machine.login("alice", "hunter22").await.unwrap();
    let error = machine.succeed("ecko").await.unwrap_err().to_string();
    assert!(error.contains("root: echo ****") && !error.contains("hunter22"), "{error}");
}

#[tokio::test]
async fn a_password_that_a_checkpoint_typed_takes_no_other_ones_place() {
    let lines = [
        start(1),
        login("bob", 1),
        root("cat page", &format!("a {} of {}", token(0), token(1)), 2),
        root(&format!("{} -e /page", token(0)), "there", 3),
    ];
    let machine = Record::whole(&lines).machine().await;
    machine.login("bob", "bobs").await.unwrap();
    let page = asked(&machine, &["cat page"]).await;
    assert!(page[0].ends_with(" of bobs") && !page[0].starts_with("a bobs"), "{page:?}");
    // The scenario does not name the secret; the question shows it.
    assert_eq!(asked(&machine, &["test -e /page"]).await, ["there"]);
}

#[tokio::test]
async fn who_was_refused_may_log_in_again_whenever_the_prompt_came_back() {
    let told = json!({ "kind": "LoginRefused", "summary": "refused", "sections": [], "took": null, "cause": null, "next": null });
    let refused =
        json!({ "asked": "log in alice", "from": 0, "to": 0, "passed": true, "secret": 0, "error": told });
    let prompt =
        json!({ "asked": "in passing: the prompt after a refusal", "from": 0, "to": 0, "answer": true });
    let machine = Record::of(&[refused, prompt, login("alice", 1)]).machine().await;
    assert_eq!(machine.login("alice", "wrong").await.unwrap_err().kind(), ErrorKind::LoginRefused);
    machine.login("alice", "right").await.unwrap();
}

#[tokio::test]
async fn each_start_has_secrets_of_its_own() {
    let echo = root(&format!("echo {}", token(0)), "said", 2);
    let lines = [start(0), login("alice", 0), echo.clone(), start(0), login("bob", 0), echo];
    let machine = Record::whole(&lines).machine().await;
    machine.login("alice", "alices").await.unwrap();
    assert_eq!(asked(&machine, &["echo alices"]).await, ["said"]);
    machine.crash().await;
    machine.start().await.unwrap();
    machine.login("bob", "bobs").await.unwrap();
    assert_eq!(asked(&machine, &["echo bobs"]).await, ["said"]);
}

#[tokio::test]
async fn what_was_answered_on_the_way_to_where_the_scenario_begins_is_not_its_own() {
    let mut moment = start(0);
    moment["asked"] = "moment".into();
    moment["answer"]["console"] = json!({ "shell": { "user": "alice", "language": "Bash", "secret": null } });
    let lines = [
        start(0),
        root("state", "before it", 1),
        start(0),
        root("state", "on the way", 1),
        moment,
        root("state", "its own", 3),
        start(0),
        root("state", "the last", 1),
    ];
    let machine = Record::whole(&lines).machine().await;
    assert_eq!(machine.session().await.unwrap().user(), "alice");
    assert_eq!(asked(&machine, &["state"]).await, ["its own"]);
    machine.crash().await;
    machine.start().await.unwrap();
    assert_eq!(asked(&machine, &["state"]).await, ["the last"]);
}

#[tokio::test]
async fn a_machine_that_had_ended_has_ended() {
    let gone = json!({ "kind": "QemuGone", "summary": "QEMU ended", "sections": [], "took": null, "cause": null, "next": null });
    let gone = |off| json!({ "asked": "root: poweroff", "from": 0, "to": 0, "off": off, "error": gone });
    let machine = Record::whole(&[start(0), gone(false), start(0), gone(true)]).machine().await;
    machine.succeed("poweroff").await.unwrap_err();
    assert_eq!(machine.power_off().await.unwrap_err().kind(), ErrorKind::QemuGone);
    machine.start().await.unwrap();
    machine.succeed("poweroff").await.unwrap_err();
    machine.power_off().await.unwrap();
    let error = machine.start().await.unwrap_err();
    assert!(error.to_string().contains("the record has no answer to a start of the machine"), "{error}");
}
