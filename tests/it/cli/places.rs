//! Where a scenario failed: the call of the library, and the line of the scenario that led to it.

use std::path::Path;

use nixvm_fake_guest::FakeVm;

use crate::folder::Folder;

/// Each line with a comment is one that a failure is to name.
const SCENARIOS: &str = r#"
mod steps;

use nixvm_test::tokio;

#[scenario(from = logged_in("alice", "test"))]
async fn in_a_chain(alice: Session) -> Result {
    alice.succeed("true").await?;
    alice
        .within(Duration::from_secs(60))
        .succeed("(exit 1)") // chain
        .await?;
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn in_a_loop(alice: Session) -> Result {
    for status in 0..3 {
        alice.succeed("true").await?;
        alice.succeed(format!("(exit {status})")).await?; // loop
    }
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn in_an_assertion(alice: Session) -> Result {
    assert_eq!(
        alice.succeed("true").await?.text(),
        alice.succeed("(exit 2)").await?.text(), // assertion
    );
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn in_try_join(alice: Session) -> Result {
    tokio::try_join!(
        alice.succeed("true"),
        alice.succeed("(exit 3)"), // try_join
    )?;
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn in_join(alice: Session) -> Result {
    let (one, two) = tokio::join!(
        alice.succeed("(exit 4)"), // join
        alice.succeed("true"),
    );
    two?;
    one?;
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn in_a_closure(alice: Session) -> Result {
    let ends_with = |status| alice.succeed(format!("(exit {status})")); // closure
    ends_with(0).await?;
    ends_with(5).await?;
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn in_an_async_closure(alice: Session) -> Result {
    let ends_with = async |status| {
        alice.succeed(format!("(exit {status})")).await // async closure
    };
    ends_with(0).await?;
    ends_with(6).await?;
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn in_a_task(alice: Session) -> Result {
    let task = tokio::spawn(async move {
        alice.succeed("true").await?;
        alice.succeed("(exit 7)").await // task
    });
    task.await.unwrap()?;
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn in_a_helper_in_a_task(alice: Session) -> Result {
    let task = tokio::spawn(async move {
        ends_with_8(&alice).await // helper in a task
    });
    task.await.unwrap()?;
    Ok(())
}

async fn ends_with_8(alice: &Session) -> Result {
    alice.succeed("true").await?;
    alice.succeed("(exit 8)").await?; // helper
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn in_a_helper(alice: Session) -> Result {
    alice.succeed("true").await?;
    ends_with_8(&alice).await?; // to the helper
    alice.succeed("true").await?;
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn in_a_helper_of_a_helper(alice: Session) -> Result {
    async fn inner(alice: &Session) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
        ends_with_8(alice).await?;
        Ok(())
    }
    alice.succeed("true").await?;
    inner(&alice).await?; // to the helper of a helper
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn in_a_helper_in_an_assertion(alice: Session) -> Result {
    alice.succeed("true").await?;
    assert!(steps::fails(&alice).await? == ()); // helper in an assertion
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn in_one_of_two_parts(alice: Session) -> Result {
    let one = async {
        alice.succeed("sleep 0.1").await?;
        steps::fails(&alice).await // part
    };
    let two = async {
        alice.succeed("true").await?;
        tokio::time::sleep(Duration::from_secs(600)).await;
        Ok(())
    };
    tokio::try_join!(one, two)?;
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn in_a_subtest(alice: Session, machine: Machine) -> Result {
    machine.subtest("ends with 0", async {
        alice.succeed("true").await?;
        alice.succeed("(exit 10)").await // subtest
    }).await?;
    Ok(())
}

#[checkpoint(from = logged_in("alice", "test"))]
async fn seeded(machine: &mut Machine) -> Result {
    let alice = machine.session().await.unwrap();
    alice.succeed("true").await?;
    alice.succeed("(exit 11)").await?; // checkpoint
    Ok(())
}

#[scenario(from = seeded)]
async fn in_a_checkpoint(machine: Machine) -> Result { // from a checkpoint
    machine.power_off().await
}

#[scenario(from = logged_in("alice", "test"))]
async fn a_helper_elsewhere_panics(alice: Session) -> Result {
    alice.succeed("true").await?;
    steps::panics(&alice).await; // to the panic
    Ok(())
}

fn check(text: &str) {
    assert_eq!(text, "hello"); // check
}

#[scenario(from = logged_in("alice", "test"))]
async fn a_helper_that_waits_for_nothing_panics(alice: Session) -> Result {
    let text = alice.succeed("true").await?;
    check(text.text()); // to the check
    alice.succeed("true").await?;
    Ok(())
}

#[scenario(from = logged_in("alice", "test"))]
async fn a_pattern_is_wrong(alice: Session) -> Result {
    alice.succeed("true").await?;
    steps::pattern("(")?; // to the pattern
    Ok(())
}

#[scenario]
async fn on_the_console(machine: Machine) -> Result {
    machine.console().send_line("nobody").await?;
    assert!(!machine.console()
        .expect("no such text", Duration::from_millis(1)).await?.bytes().is_empty()); // console
    Ok(())
}

#[scenario]
async fn of_a_machine_that_is_off(machine: Machine) -> Result {
    machine.stop().await;
    steps::reboots(&machine).await?; // to the reboot
    Ok(())
}

#[scenario(timeout = "300ms")]
async fn when_the_time_is_up(machine: Machine) -> Result {
    machine.console().send_line("nobody").await?;
    let one = steps::sleeps(&machine);
    let all = async {
        machine.session().await;
        steps::sleeps(&machine).await; // time
    };
    tokio::join!(one, all);
    machine.power_off().await
}
"#;

const STEPS: &str = r#"use nixvm_test::prelude::*;
use nixvm_test::console::Pattern;
pub async fn fails(alice: &Session) -> Result {
    alice.succeed("(exit 9)").await?; // step
    Ok(())
}
pub async fn panics(alice: &Session) {
    alice.succeed("true").await.unwrap();
    panic!("no"); // panic
}
pub fn pattern(text: &str) -> Result<Pattern> {
    Pattern::regex(text) // pattern
}
pub async fn reboots(machine: &Machine) -> Result {
    machine
        .reboot() // reboot
        .await
}
pub async fn sleeps(_: &Machine) {
    nixvm_test::tokio::time::sleep(Duration::from_secs(3600)).await;
}
"#;

/// The line of a text that ends with a comment.
#[track_caller]
fn line(text: &str, comment: &str) -> usize {
    let mut lines = text.lines();
    lines.position(|line| line.ends_with(&format!("// {comment}"))).expect("a line has the comment") + 1
}

#[test]
fn a_failure_names_the_call_and_the_line_of_the_scenario_that_led_to_it() {
    let folder = Folder::with("a.rs", SCENARIOS);
    folder.put("steps.rs", STEPS);
    FakeVm::new().write_to(folder.path());
    let ran = folder.run(&["--vm", "result", "a.rs"]);
    ran.ended_with(1);
    let text = crate::folder::file(SCENARIOS);
    // The line of the scenario, and that of the call where it is another one.
    let table = [
        ("in_a_chain", "chain", None),
        ("in_a_loop", "loop", None),
        ("in_an_assertion", "assertion", None),
        ("in_try_join", "try_join", None),
        ("in_join", "join", None),
        ("in_a_closure", "closure", None),
        ("in_an_async_closure", "async closure", None),
        ("in_a_task", "task", None),
        ("in_a_helper_in_a_task", "helper in a task", Some(("a.rs", "helper"))),
        ("in_a_helper", "to the helper", Some(("a.rs", "helper"))),
        ("in_a_helper_of_a_helper", "to the helper of a helper", Some(("a.rs", "helper"))),
        ("in_a_helper_in_an_assertion", "helper in an assertion", Some(("steps.rs", "step"))),
        ("in_one_of_two_parts", "part", Some(("steps.rs", "step"))),
        ("in_a_subtest", "subtest", None),
        ("in_a_checkpoint", "from a checkpoint", Some(("a.rs", "checkpoint"))),
        ("a_helper_elsewhere_panics", "to the panic", Some(("steps.rs", "panic"))),
        ("a_helper_that_waits_for_nothing_panics", "to the check", Some(("a.rs", "check"))),
        ("a_pattern_is_wrong", "to the pattern", Some(("steps.rs", "pattern"))),
        ("on_the_console", "console", None),
        ("of_a_machine_that_is_off", "to the reboot", Some(("steps.rs", "reboot"))),
        ("when_the_time_is_up", "time", None),
    ];
    let mut wrong = String::new();
    for (scenario, own, at) in table {
        let report = ran.out.split(&format!("---- {scenario} ----")).nth(1).unwrap_or_default();
        let report = report.split("\n---- ").next().unwrap_or_default();
        let named = |title: &str| report.lines().find_map(|line| line.trim().strip_prefix(title));
        let expected = format!("{scenario}, a.rs:{}", line(&text, own));
        let call = at.map(|(file, comment)| {
            let text = if file == "a.rs" { &*text } else { STEPS };
            format!("{file}:{}", line(text, comment))
        });
        if named("scenario: ") != Some(&expected) || named("failed at: ") != call.as_deref() {
            wrong.push_str(&format!("\n==== expected {expected} and {call:?}, but:\n{report}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Every method of machines and consoles that can fail knows its caller.
#[test]
fn every_public_method_that_waits_and_can_fail_is_tracked() {
    let mut seen = 0;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![source.join("machine"), source.join("console")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for (at, _) in text.match_indices("pub async fn ") {
                let before = text[..at].trim_end().lines().next_back().unwrap_or_default().trim();
                let signature = text[at..].split('{').next().unwrap_or_default();
                let name = signature["pub async fn ".len()..].split(['(', '<']).next().unwrap_or_default();
                // A console that nobody outside of the library gets, and a machine that was kept.
                let hidden = matches!(name, "find" | "resume");
                if signature.contains("-> Result") && !hidden {
                    assert_eq!(before, "#[tracked]", "{name} in {}", path.display());
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 90, "{seen}");
}
