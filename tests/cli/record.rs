//! The record of a run as a whole: what is in it, who finds it, what CI gets.

use nixvm_fake_guest::FakeVm;
use nixvm_test::record::History;
use nixvm_test::record::history::Outcome;

use crate::folder::{Folder, Ran};

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
    let history = History::read(&record).unwrap();
    let outcomes: Vec<_> = history.scenarios.iter().map(|one| one.outcome()).collect();
    assert_eq!(outcomes, [Outcome::Passed, Outcome::Failed]);
    assert!(history.finished);
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
fn an_unknown_format_of_a_report_is_refused_with_the_known_ones() {
    let folder = Folder::with("a.rs", "#[scenario] async fn a() {}");
    folder.run(&["--report", "pdf=x", "a.rs"]).ended_with(2).said("junit=FILE,html=FILE,jsonl=FILE,cast=DIR");
}
