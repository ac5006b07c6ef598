//! A scenario that is replayed against the record of a run: no machine is there, and an expectation can be corrected.

use nixvm_fake_guest::FakeVm;

use crate::folder::{Folder, Ran, file};

/// With one wrong expectation, in `{}`.
const SCENARIOS: &str = r#"
#[scenario]
async fn page(machine: Machine) -> Result {
    let alice = machine.login("alice", "test").await?;
    let page = alice.succeed("printf 'a test page\\n\\377'").await?;
    assert_eq!(page.bytes(), b"a {} page\n\xff");
    assert_eq!(alice.execute("cd /nowhere").await?.status(), 1);
    machine.console().expect("No such file", Duration::from_millis(300)).await.unwrap_err();
    assert!(machine.get_console_log()?.contains("No such file"));
    alice.log_out().await?;
    machine.login("alice", "wrong").await.unwrap_err();
    machine.login("alice", "test").await?.succeed("echo let in").await?;
    machine.power_off().await?;
    machine.start().await?;
    machine.login("alice", "test").await?.execute("fake die 3").await.unwrap_err();
    machine.start().await?;
    machine.login("alice", "test").await?.succeed("echo again").await?;
    machine.crash().await;
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn clone(alice: Session) -> Result {
    assert_eq!(alice.succeed("echo a test").await?.text(), "a test\n");
    Ok(())
}
"#;

fn scenarios(expected: &str) -> String {
    file(&SCENARIOS.replace("{}", expected))
}

/// Where they ran once on machines, which are gone.
fn recorded() -> Folder {
    let folder = Folder::new();
    folder.put("a.rs", scenarios("text"));
    FakeVm::new().write_to(folder.path());
    folder
        .run(&["--vm", "result", "a.rs"])
        .ended_with(1)
        .printed("test clone ... ok")
        // The word is a password.
        .printed("a **** page")
        .printed("  after a correction, replay it: nixvm-test a.rs --against 2");
    std::fs::remove_dir_all(folder.path().join("result")).unwrap();
    folder
}

fn replay(folder: &Folder) -> Ran {
    folder.run(&["a.rs", "--against", "last"])
}

#[test]
fn an_expectation_is_corrected_without_a_machine_and_leaves_no_record() {
    let folder = recorded();
    let record = std::fs::read_dir(folder.runs()).unwrap().count();
    replay(&folder).ended_with(1).printed("test page  ... FAILED").printed("test clone ... ok");
    folder.put("a.rs", scenarios("test"));
    let ran = replay(&folder);
    // What came after the failure was never asked.
    ran.ended_with(1).printed("the record has no answer to `alice$ cd /nowhere`").printed(
        "the scenario now passes the point where the recorded run failed; later steps were not recorded",
    );
    FakeVm::new().write_to(folder.path());
    folder.run(&["--vm", "result", "a.rs"]).ended_with(0);
    std::fs::remove_dir_all(folder.path().join("result")).unwrap();
    let ran = replay(&folder);
    ran.ended_with(0).printed("test page  ... ok").said("no machine is booted");
    assert!(!ran.err.contains("QEMU is process"), "{}", ran.err);
    assert_eq!(std::fs::read_dir(folder.runs()).unwrap().count(), record + 1);
}

#[test]
fn what_was_never_asked_has_no_answer_and_the_error_names_what_was() {
    let folder = recorded();
    let asks = scenarios("test").replace("echo a test", "echo a tset");
    folder.put("a.rs", asks);
    replay(&folder)
        .ended_with(1)
        .printed("alice: the record has no answer to `alice$ echo a tset`")
        // The word is a password.
        .printed("the recorded run asked `alice$ echo a ****`")
        .printed("without --against");
    folder.put("a.rs", scenarios("test").replace("fn clone", "fn klone"));
    replay(&folder)
        .ended_with(1)
        .printed("there is no scenario klone in the record")
        .printed("it was called clone then");
}

#[test]
fn passwords_are_not_in_what_is_kept_and_other_words_come_back() {
    let folder = Folder::with(
        "a.rs",
        r#"
#[scenario]
async fn login(machine: Machine) -> Result {
    let alice = machine.login("alice", "test").await?;
    assert_eq!(alice.succeed("echo te''st; cat /dev/null").await?.text(), "test\n");
    assert_eq!(alice.succeed("echo test").await?.text(), "test\n");
    Ok(())
}"#,
    );
    FakeVm::new().write_to(folder.path());
    folder.run(&["--vm", "result", "a.rs"]).ended_with(0);
    let record = std::fs::read_dir(folder.runs()).unwrap().next().unwrap().unwrap().path();
    let answers = std::fs::read_to_string(record.join("login/machine.answers")).unwrap();
    assert!(answers.contains("alice$ echo te''st") && !answers.contains("test"), "{answers}");
    folder.run(&["a.rs", "--against", &record.display().to_string()]).ended_with(0);
}

/// The checkpoint is reached on the machine of the scenario itself: a fake one is not cloned.
const LATER: &str = r#"
#[checkpoint]
async fn at_work(machine: &mut Machine) -> Result {
    let alice = machine.login("alice", "test").await?;
    assert_eq!(alice.succeed("n=${n}x; echo $n").await?.text(), "x\n");
    Ok(())
}

#[scenario(from = at_work)]
async fn later(machine: Machine) -> Result {
    let alice = machine.session().await.unwrap();
    assert_eq!(alice.succeed("n=${n}x; echo $n").await?.text(), "xx\n");
    let bob = machine.login("bob", "bobs").await?;
    assert_eq!(bob.succeed("echo b''obs").await?.text(), "bobs\n");
    Ok(())
}
"#;

#[test]
fn a_scenario_from_a_checkpoint_is_replayed_from_there() {
    let folder = Folder::with("a.rs", LATER);
    FakeVm::new().user("alice", "test").setting("user", "bob:bobs:nowheel").write_to(folder.path());
    folder.run(&["--vm", "result", "a.rs"]).ended_with(0);
    let ran = replay(&folder);
    ran.ended_with(0).printed("test later ... ok").said("no machine is booted");
    folder.put("a.rs", file(&LATER.replace("echo b''obs", "echo b''obsie")));
    let ran = replay(&folder);
    ran.ended_with(1).printed("the record has no answer to `bob$ echo b''obsie`");
    assert!(!ran.out.contains("bobs\n"), "{}", ran.out);
}

#[test]
fn a_record_names_no_files_outside_of_itself() {
    let folder = recorded();
    let events =
        std::fs::read_dir(folder.runs()).unwrap().next().unwrap().unwrap().path().join("events.jsonl");
    let text = std::fs::read_to_string(&events).unwrap();
    assert!(text.contains("\"clone/alice.transcript\""), "{text}");
    let text = text.replace("\"clone/alice.transcript\"", "\"../elsewhere/alice.transcript\"");
    std::fs::write(&events, text).unwrap();
    replay(&folder).printed("test clone ... ok");
}

#[test]
fn a_record_that_is_not_there_or_damaged_is_said() {
    let folder = recorded();
    folder.run(&["a.rs", "--against", "1999"]).ended_with(2).said("begins with it");
    folder
        .run(&["a.rs", "--against", "last", "--report", "html=a.html"])
        .ended_with(2)
        .said("a replay makes no reports");
    let record = std::fs::read_dir(folder.runs()).unwrap().next().unwrap().unwrap().path();
    let answers = record.join("clone/alice.answers");
    let text = std::fs::read_to_string(&answers).unwrap();
    // Cut in the middle of a line, as by a full disk.
    std::fs::write(&answers, &text[..text.find("echo a").unwrap()]).unwrap();
    replay(&folder).ended_with(1).printed("the record has no answer to `alice$ echo");
    std::fs::write(&answers, "\u{0}nonsense\n{}\n").unwrap();
    replay(&folder).ended_with(1).printed("the record has no answer to a start of the machine");
    std::fs::remove_file(&answers).unwrap();
    replay(&folder).ended_with(1).printed("alice.answers is missing");
}

/// As the tutorial has it: an expectation fails, and the machine is powered off after it.
#[test]
fn a_corrected_expectation_is_tried_up_to_the_end_of_the_machine() {
    let scenario = |expected: &str| {
        file(&format!(
            "#[scenario] async fn a(machine: Machine) -> Result {{
                let alice = machine.login(\"alice\", \"test\").await?;
                assert_eq!(alice.succeed(\"echo hello\").await?.text(), \"{expected}\\n\");
                machine.power_off().await
            }}"
        ))
    };
    let folder = Folder::new();
    folder.put("a.rs", scenario("goodbye"));
    FakeVm::new().write_to(folder.path());
    folder.run(&["--vm", "result", "a.rs"]).ended_with(1).printed("after a correction, replay it");
    replay(&folder).ended_with(1);
    folder.put("a.rs", scenario("hello"));
    replay(&folder).ended_with(0);
}
