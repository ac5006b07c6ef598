//! The harness: what it runs, lists, reports and returns.

use nixvm_fake_guest::FakeVm;

use crate::folder::{Folder, Ran};

/// One scenario of each fate; none takes a machine.
const FATES: &str = r#"
/// Nothing to do.
#[scenario]
async fn passes() {}

#[scenario]
async fn returns_an_error() -> Result { Err("the page is empty")? }

#[scenario]
async fn panics() {
    assert_eq!(1 + 1, 3, "sums");
}

#[scenario(ignore = "needs a moon")]
async fn ignored() {}

#[scenario(timeout = "300ms")]
async fn waits_for_ever() { std::future::pending::<()>().await }

#[scenario(timeout = "200ms")]
async fn blocks() { std::thread::sleep(Duration::from_secs(60)) }

#[scenario]
async fn shows_a_foreign_error() -> Result<(), std::num::ParseIntError> { "x".parse::<i32>().map(drop) }

#[scenario]
async fn shows_an_error_without_display() -> Result<(), Vec<u8>> { Err(vec![7]) }
"#;

/// The frontmatter of a file whose scenarios spawn tasks.
const TOKIO: &str = "---\n[dependencies]\ntokio = { version = \"1\", features = [\"rt\"] }\n---\n";

#[test]
fn scenarios_fail_in_every_way_and_the_others_run() {
    let folder = Folder::with("fates.rs", FATES);
    let ran = folder.run(&["fates.rs"]);
    ran.ended_with(1)
        .printed("test passes                         ... ok\n")
        .printed("test ignored                        ... ignored (needs a moon)\n")
        .printed("---- returns_an_error ----\nthe page is empty\n  scenario: returns_an_error, fates.rs:8\n")
        .printed(
            "---- panics ----\nfates.rs:12:5: assertion `left == right` failed: sums\n  left: 2\n right: 3\n",
        )
        .printed("did not end within its time limit\n")
        .printed(" s of 0.3 s\n")
        .printed("and holds its thread\n")
        .printed("invalid digit found in string")
        .printed("[7]")
        .printed("1 passed; 6 failed; 1 ignored;");
    // The panic is told by the report alone.
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
}

#[test]
fn what_follows_a_scenario_may_take_longer_than_its_limit() {
    // The runtime waits for 5 s for the task that each of them leaves behind.
    let code = r#"
fn leaves_a_task() {
    drop(tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_secs(600))));
}

#[scenario(timeout = "300ms")]
async fn passes() { leaves_a_task() }

#[scenario(timeout = "300ms")]
async fn waits_for_ever() { leaves_a_task(); std::future::pending::<()>().await }

#[scenario(timeout = "300ms")]
async fn blocks() { leaves_a_task(); std::thread::sleep(Duration::from_secs(600)) }
"#;
    let folder = Folder::new();
    folder.put("slow.rs", format!("{TOKIO}{}", crate::folder::file(code)));
    let ran = folder.run(&["slow.rs"]);
    ran.ended_with(1)
        .printed("test passes         ... ok\n")
        .printed("---- waits_for_ever ----\nthe scenario did not end within its time limit\n  scenario: waits_for_ever")
        .printed("---- blocks ----\nthe scenario did not end within its time limit, and holds its thread\n")
        .printed("1 passed; 2 failed;");
    let late = ["slow.rs", "--run-timeout", "1s", "--", "--exact", "waits_for_ever"];
    folder.run(&late).ended_with(1).printed("the time limit of the whole run has passed");
}

#[test]
fn a_failure_is_told_although_its_tasks_hold_all_that_follows() {
    let code = r#"
use std::sync::atomic::{AtomicUsize, Ordering};
static HOLDING: AtomicUsize = AtomicUsize::new(0);

#[scenario]
async fn fails(machine: Machine) -> Result {
    machine.login("alice", "test").await?.succeed("true").await?;
    for _ in 0..2 {
        drop(tokio::spawn(async {
            HOLDING.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_secs(3600));
        }));
    }
    while HOLDING.load(Ordering::SeqCst) < 2 {
        std::thread::sleep(Duration::from_millis(10));
    }
    Err("the page is empty")?
}"#;
    let folder = Folder::new();
    folder.put("held.rs", format!("{TOKIO}{}", crate::folder::file(code)));
    FakeVm::new().write_to(folder.path());
    let ran = folder.run(&["--vm", "result", "held.rs"]);
    ran.ended_with(1)
        .printed("---- fails ----\nthe page is empty\n")
        .printed("  the cleanup did not end:\n    | the scenario's function ended, but its cleanup can't: ")
        .printed("scenario: fails, held.rs:");
}

#[test]
fn a_list_is_nothing_but_the_list() {
    let folder = Folder::with("fates.rs", FATES);
    folder.run(&["fates.rs", "--", "--list"]).ended_with(0);
    let ran = folder.run(&["fates.rs", "--", "--list", "--format", "terse"]);
    ran.ended_with(0);
    assert_eq!(ran.err, "");
    let names: Vec<&str> = ran.out.lines().collect();
    assert_eq!(names.len(), 8, "{names:?}");
    assert!(names.contains(&"passes: test") && names.contains(&"ignored: test"), "{names:?}");
    let ran = folder.run(&["fates.rs", "--", "--list", "--ignored"]);
    assert_eq!(ran.ended_with(0).out, "ignored: test\n");
}

#[test]
fn filters_are_those_of_every_rust_test() {
    let folder = Folder::with("fates.rs", FATES);
    let run = |harness: &[&str]| folder.run(&[&["fates.rs", "--"], harness].concat());
    run(&["passes"]).ended_with(0).printed("1 passed; 0 failed; 0 ignored; 0 measured; 7 filtered out");
    run(&["--exact", "passe"]).ended_with(2).said("did you mean `passes`?");
    run(&["--ignored"]).ended_with(0).printed("test ignored ... ok");
    run(&["pass", "--test-threads", "1"]).ended_with(0).printed("test passes ... ok");
    run(&["pass", "--format", "json"]).ended_with(0).printed(r#""name": "passes", "event": "ok""#);
    run(&["--no-such-flag"]).ended_with(2);
}

#[test]
fn one_at_a_time_means_one_at_a_time() {
    let folder = Folder::with(
        "turns.rs",
        r#"
use std::sync::atomic::{AtomicUsize, Ordering};
static RUNNING: AtomicUsize = AtomicUsize::new(0);
async fn alone() {
    assert_eq!(RUNNING.fetch_add(1, Ordering::SeqCst), 0);
    std::thread::sleep(Duration::from_millis(100));
    RUNNING.fetch_sub(1, Ordering::SeqCst);
}
#[scenario] async fn a() { alone().await }
#[scenario] async fn b() { alone().await }
#[scenario] async fn c() { alone().await }
"#,
    );
    folder.run(&["turns.rs", "--", "--test-threads=1"]).ended_with(0).printed("3 passed");
}

#[test]
fn a_suite_of_no_scenarios_fails_and_says_why() {
    let folder = Folder::new();
    folder.put("empty.rs", "nixvm_test::main!();\n");
    folder.run(&["empty.rs"]).ended_with(2).said("no scenarios").said("use my_scenarios as _;");
    folder.run(&["empty.rs", "--", "--list"]).ended_with(2);
}

#[test]
fn skipping_is_said_and_runs_nothing() {
    let folder = Folder::with("skipped.rs", r#"#[scenario] async fn fails() { panic!("it ran") }"#);
    let ran = Ran::of(folder.command(&["skipped.rs"]).env("NIXVM_SKIP", "1"));
    ran.ended_with(0).printed("ignored (skip is set, by NIXVM_SKIP").printed("0 passed; 0 failed; 1 ignored");
}

#[test]
fn a_configuration_that_does_not_evaluate_gives_its_own_code() {
    let folder = Folder::with("a.rs", "#[scenario] async fn a(machine: Machine) { drop(machine); }");
    folder.put("configuration.nix", "{ this is not Nix");
    folder.run(&["a.rs"]).ended_with(3).printed("scenario: a, a.rs:2");
}

#[test]
fn a_panic_of_a_spawned_task_is_told_with_the_failure() {
    let folder = Folder::new();
    let code = r#"
#[scenario]
async fn spawns() -> Result {
    tokio::spawn(async { panic!("in the task") }).await.map_err(|_| "the task is gone")?;
    Ok(())
}"#;
    folder.put("tasks.rs", format!("{TOKIO}{}", crate::folder::file(code)));
    let ran = folder.run(&["tasks.rs"]);
    ran.ended_with(1)
        .printed("the task is gone\n  a task of the scenario panicked:\n    | tasks.rs:9:26: in the task");
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
}

#[test]
fn a_suite_of_several_files_names_scenarios_by_their_modules() {
    let folder = Folder::new();
    folder.put("login.rs", crate::folder::file("#[scenario] async fn login() {}"));
    folder.put("suite.rs", "mod login;\nnixvm_test::main!();\n");
    let ran = folder.run(&["suite.rs"]);
    ran.ended_with(0).printed("test login::login ... ok");
    // `main` of the module is not called, and that is no reason for a warning.
    assert!(!ran.err.contains("warning"), "{}", ran.err);
}

#[test]
fn a_crate_of_scenarios_runs_where_it_is_referred_to_and_its_loss_is_noticed_where_not() {
    let folder = Folder::new();
    let library = env!("CARGO_MANIFEST_DIR");
    folder.put(
        "mine/Cargo.toml",
        format!(
            "[package]\nname = \"my-scenarios\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
             [dependencies]\nnixvm-test = {{ path = {library:?} }}\n[workspace]\n"
        ),
    );
    folder.put("mine/src/lib.rs", "pub mod login { #[nixvm_test::scenario] async fn login() {} }\n");
    let suite = |code: &str| {
        let mine = folder.path().join("mine").display().to_string();
        format!(
            "---\n[dependencies]\nmy-scenarios = {{ path = {mine:?} }}\n---\n{code}nixvm_test::main!();\n"
        )
    };
    folder.put("suite.rs", suite(""));
    folder.run(&["suite.rs"]).ended_with(2).said("no scenarios");
    folder.put("suite.rs", suite("use my_scenarios as _;\n"));
    folder.run(&["suite.rs"]).ended_with(0).printed("test login::login ... ok");
}

#[test]
fn nothing_is_asked_of_the_users_crate() {
    // No dependency but this one, no unsafe code of its own, every warning an error.
    let folder = Folder::new();
    folder.put(
        "strict.rs",
        "//! Strict.\n#![deny(warnings, missing_docs, unused, unreachable_pub, unsafe_code)]\nuse nixvm_test::prelude::*;\n\
         /// Runs.\n#[scenario]\nasync fn strict(machine: Machine) -> Result { machine.power_off().await }\n\
         nixvm_test::main!();\n",
    );
    folder.run(&["strict.rs", "--", "--list"]).ended_with(0).printed("strict: test");
}

/// A reader that goes away (`| head -1`) ends the run as SIGPIPE ends any program.
#[test]
fn a_reader_that_goes_away_ends_the_run_without_a_word_and_its_machine() {
    let scenario = "#[scenario] async fn a(machine: Machine) { println!(\"up\"); std::future::pending::<()>().await; drop(machine) }";
    let folder = Folder::with("a.rs", scenario);
    nixvm_fake_guest::FakeVm::new().write_to(folder.path());
    folder.run(&["a.rs", "--", "--list"]).ended_with(0);
    for arguments in [&["--vm", "result", "a.rs"][..], &["a.rs", "--", "--list"], &["config"], &["--help"]] {
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        let ran = crate::folder::Ran::of_with(folder.command(arguments).stdout(write));
        ran.ended_with(141).said_not("panicked").said_not("Broken pipe");
        assert!(!crate::cli::machines::started(&ran).into_iter().any(crate::cli::machines::lives));
    }
}
