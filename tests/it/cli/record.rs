//! The record of a run as a whole: what is in it, who finds it, what CI gets.

use nixvm_fake_guest::FakeVm;
use nixvm_test::internals::record::History;
use nixvm_test::internals::record::history::Outcome;

use crate::folder::{Folder, Ran};
use crate::schema::Schema;
use crate::small_disk;

#[test]
fn several_files_share_a_record_with_films_logs_and_reports() {
    let folder = Folder::with(
        "a.rs",
        "#[scenario] async fn login(machine: Machine) -> Result {\n machine.login(\"alice\", \"test\").await?.succeed(\"echo hello\").await?;\n Ok(())\n}",
    );
    // Another file's scenario of the same name.
    folder.put(
        "b.rs",
        crate::folder::file(
            "#[scenario] async fn login(machine: Machine) { panic!(\"{}\", machine.name()) }",
        ),
    );
    FakeVm::new().write_to(folder.path());
    let mut command =
        folder.command(&["--vm", "result", "--report", "junit=out/j.xml,cast=out/casts", "a.rs", "b.rs"]);
    let summary = folder.path().join("summary.md");
    command
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_WORKSPACE", folder.path())
        .env("GITHUB_STEP_SUMMARY", &summary);
    let ran = Ran::of(&mut command);
    ran.ended_with(1).printed("::error file=b.rs,line=");
    let summary = std::fs::read_to_string(summary).unwrap();
    assert!(summary.contains("1 passed") && summary.contains("1 failed"), "{summary}");

    let runs: Vec<_> = std::fs::read_dir(folder.runs()).unwrap().collect();
    assert_eq!(runs.len(), 1, "one record of both files: {runs:?}");
    let record = runs[0].as_ref().unwrap().path();
    Schema::read().describes(&record);
    let history = History::read(&record).unwrap();
    let outcomes: Vec<_> = history.scenarios.iter().map(|one| one.outcome()).collect();
    assert_eq!(outcomes, [Outcome::Passed, Outcome::Failed]);
    assert!(history.finished);
    assert!(history.scenarios.iter().all(|one| one.attempts[0].body.is_some()), "{history:?}");
    for scenario in ["login", "login.2"] {
        for file in ["transcript", "transcript.times", "cast", "log", "svg", "film"] {
            let path = record.join(scenario).join(format!("machine.{file}"));
            assert!(path.is_file(), "{}", path.display());
        }
    }
    let log = std::fs::read_to_string(record.join("login/machine.log")).unwrap();
    assert!(log.contains("login:"), "{log}");
    let junit = std::fs::read(record.join("junit.xml")).unwrap();
    assert_eq!(junit, std::fs::read(folder.path().join("out/j.xml")).unwrap());
    assert!(folder.path().join("out/casts/login.2/machine.cast").is_file());
    assert!(
        std::fs::read_to_string(record.join("report.html")).unwrap().contains("login/machine.transcript")
    );
    let ran = folder.run(&["report", "--no-open"]);
    assert_eq!(ran.ended_with(0).out.trim(), record.join("report.html").display().to_string());
}

#[test]
fn two_test_binaries_at_once_with_a_scenario_of_one_name_are_told_apart() {
    let scenario = |then: &str| {
        crate::folder::file(&format!(
            "#[scenario] async fn login(machine: Machine) -> Result {{
                machine.login(\"alice\", \"test\").await?.succeed(\"sleep 1\").await?;
                {then}
            }}"
        ))
    };
    let folder = Folder::new();
    folder.put("a.rs", scenario("Ok(())"));
    folder.put("b.rs", scenario("panic!(\"no\")"));
    FakeVm::new().write_to(folder.path());
    folder.run(&["a.rs", "b.rs", "--", "--list"]).ended_with(0);
    // As cargo-nextest has it: a process for each, and both at once.
    let begin = |file: &str| {
        let mut command = folder.command(&["--vm", "result", "--host-cores", "4", file]);
        command.env("NEXTEST_RUN_ID", "a-run").env("NEXTEST_BINARY_ID", format!("crate::{file}"));
        command.env("NIXVM_ADMISSION_DIR", folder.path().join("admission"));
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    let codes = [begin("a.rs"), begin("b.rs")].map(|mut process| process.wait().unwrap().code());
    assert_eq!(codes, [Some(0), Some(1)]);
    let record = folder.runs().join("nextest-a-run");
    let mut history = History::read(&record).unwrap();
    history.scenarios.sort_by_key(|scenario| scenario.title());
    let [a, b] = &history.scenarios[..] else { panic!("{history:?}") };
    assert_eq!((a.title(), a.outcome()), ("login (crate::a.rs)".to_owned(), Outcome::Passed));
    assert_eq!((b.title(), b.outcome()), ("login (crate::b.rs)".to_owned(), Outcome::Failed));
    for scenario in [a, b] {
        let [attempt] = &scenario.attempts[..] else { panic!("{scenario:?}") };
        let [machine] = &attempt.machines[..] else { panic!("{attempt:?}") };
        assert_eq!((machine.started.len(), machine.stopped.len()), (1, 1), "{machine:?}");
        let slept = machine.steps.iter().filter(|step| step.text == "alice: sleep 1");
        assert_eq!(slept.count(), 1, "{machine:?}");
    }
    assert_ne!(a.attempts[0].machines[0].files[0].path, b.attempts[0].machines[0].files[0].path);
    let junit = std::fs::read_to_string(record.join("junit.xml")).unwrap();
    for class in ["crate::a.rs", "crate::b.rs"] {
        assert!(junit.contains(&format!(r#"<testcase name="login" classname="{class}""#)), "{junit}");
    }
}

#[test]
fn a_full_disk_fails_no_scenario_and_one_line_says_that_the_record_is_incomplete() {
    let steps = "for number in 0..400 { alice.succeed(&format!(\"echo {number}\")).await?; }";
    let login = "machine.login(\"alice\", \"test\").await?";
    let code = format!(
        "#[scenario] async fn talks(machine: Machine) -> Result {{ let alice = {login}; {steps} Ok(()) }}\n#[scenario] async fn also(machine: Machine) -> Result {{ {login}; Ok(()) }}"
    );
    let folder = Folder::with("a.rs", &code);
    FakeVm::new().write_to(folder.path());
    folder.run(&["a.rs", "--", "--list"]).ended_with(0);
    let small = small_disk::command(&folder.runs(), "64k");
    let mut command = folder.command_by(small, &["--vm", "result", "a.rs"]);
    let ran = Ran::of(&mut command);
    ran.ended_with(0).printed("test result: ok. 2 passed").said("No space left on device");
    let said = ran.err.matches("the record of this run is incomplete").count();
    assert_eq!(said, 1, "{}", ran.err);
}

#[test]
fn a_report_that_can_not_be_put_where_it_is_wanted_is_said() {
    let folder = Folder::with("a.rs", "#[scenario] async fn a() {}");
    folder.put("file", "");
    let ran = folder.run(&["--report", "junit=file/j.xml", "a.rs"]);
    ran.ended_with(0).said("file/j.xml");
}

#[test]
fn an_unknown_format_of_a_report_is_refused_with_the_known_ones() {
    let folder = Folder::with("a.rs", "#[scenario] async fn a() {}");
    folder.run(&["--report", "pdf=x", "a.rs"]).ended_with(2).said("junit=FILE,html=FILE,jsonl=FILE,cast=DIR");
}

#[test]
fn what_is_not_run_after_a_failure_is_in_the_record_with_the_reason() {
    let folder = Folder::with(
        "a.rs",
        "#[scenario] async fn breaks() { panic!() }\n#[scenario] async fn comes_next() {}",
    );
    let ran = folder.run(&["a.rs", "--fail-fast", "--", "--test-threads=1"]);
    ran.ended_with(1).printed("test comes_next ... ignored (another scenario has failed)");
    let record = std::fs::read_dir(folder.runs()).unwrap().next().unwrap().unwrap().path();
    let junit = std::fs::read_to_string(record.join("junit.xml")).unwrap();
    assert!(junit.contains("<skipped message=\"another scenario has failed\"/>"), "{junit}");
}
