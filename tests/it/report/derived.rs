//! What is made of a record beside the page: JUnit's XML, copies, the comparison, the film in a terminal.

use std::process::Command;
use std::time::Duration;

use expectrl::Expect as _;
use expectrl::session::OsSession;
use nixvm_test::internals::record::History;
use nixvm_test::internals::report::compare;
use nixvm_test::internals::{RequestedReports, StepOutput};

use crate::report::record::{Record, every_fate};

fn nixvm(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nixvm-test"));
    command.args(arguments).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    command
}

#[test]
fn junit_has_every_fate_and_whatever_a_guest_prints_is_xml() {
    let mut record = every_fate();
    record
        .scenario(25.0, "evil", "", 1, "")
        .step_with(
            (25.1, 25.2),
            "evil",
            1,
            "]]><x>",
            4,
            Some(StepOutput { stdout: "\0\u{8}\x1b[2J]]>&<".into(), ..StepOutput::default() }),
        )
        .failed(26.0, "evil", 1.0, "\u{1}<&\"]]>", false)
        .written();
    let path = record.path().join("junit.xml");
    let text = std::fs::read_to_string(&path).unwrap();
    for part in [
        r#"tests="5" skipped="1" errors="0" failures="2""#,
        r#"<testcase name="login" classname="web""#,
        r#"<failure message="machine: unit web.service has failed" type="Timeout">"#,
        "<flakyFailure",
        r#"<testcase name="everything" classname="slow" file="tests/slow.rs" line="7">"#,
        r#"<skipped message="needs an hour""#,
        "machine: alice: cowsay hello | lolcat (1.200 s, line 7)\n  |  _______\n",
        "[[ATTACHMENT|",
        r#"<property name="machine.phase.kernel" value="1.400"/>"#,
        r#"<property name="machine.accelerator" value="tcg"/>"#,
        r#"<property name="host" value="builder"/>"#,
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let parse =
        "import sys, xml.etree.ElementTree as e; print(len(e.parse(sys.argv[1]).findall('.//testcase')))";
    let parsed = Command::new("python3").args(["-c", parse]).arg(&path).output().unwrap();
    assert_eq!(
        String::from_utf8(parsed.stdout).unwrap(),
        "5\n",
        "{}",
        String::from_utf8_lossy(&parsed.stderr)
    );
}

#[test]
fn copies_are_where_they_were_asked_for() {
    let out = tempfile::tempdir().unwrap();
    let at = |name: &str| out.path().join(name);
    let wanted = format!(
        "junit={},html={},jsonl={}",
        at("a/j.xml").display(),
        at("r.html").display(),
        at("e").display()
    );
    let record = every_fate();
    record.written_with(&wanted.parse::<RequestedReports>().unwrap());
    for (copy, of) in [("a/j.xml", "junit.xml"), ("r.html", "report.html"), ("e", "events.jsonl")] {
        assert_eq!(std::fs::read(at(copy)).unwrap(), std::fs::read(record.path().join(of)).unwrap());
    }
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 3);
}

#[test]
fn a_comparison_says_what_changed_and_keeps_silent_about_noise() {
    let history = |record: &Record| History::read(record.written().path()).unwrap();
    let run =
        |boot: f64, printed: &str, fails: bool, name: &str| {
            let mut record = Record::new(2);
            let output = StepOutput { stdout: printed.into(), status: Some(0), ..StepOutput::default() };
            record
                .scenario(0.0, "a", "", 1, "")
                .booted(0.0, "a", "machine", [1.0, boot, boot + 0.1])
                .step_with((7.0, 7.1), "a", 1, "root: ip address", 5, Some(output));
            if fails {
                record.failed(9.0, "a", 9.0, "it did not\x1b[2J", false);
            } else {
                record.passed(9.2, "a", 9.2);
            }
            record.scenario(9.0, name, "", 1, "").passed(9.1, name, 0.1);
            history(&record)
        };
    let old = run(3.0, "lo\neth0 10.0.2.15\n", false, "b");
    let same = compare(&old, &run(3.2, "lo\neth0 10.0.2.15\n", false, "b"));
    assert_eq!((same.text.as_str(), same.outcomes_differ), ("no differences except for noise\n", false));
    let slower = compare(&old, &run(6.0, "lo\neth0 10.0.2.16\x1b[2J\n", false, "b"));
    assert!(!slower.outcomes_differ);
    assert_eq!(
        slower.text,
        "times:\n  a, machine: services: 3.0 s → 6.0 s (+3.0 s)\n  a, machine: login prompt: 3.1 s → 6.1 s (+3.0 s)\n\
         output:\n  a, machine: root: ip address\n    @@ -1,2 +1,2 @@\n     lo\n    -eth0 10.0.2.15\n    +eth0 10.0.2.16\n"
    );
    let worse = compare(&old, &run(3.0, "lo\neth0 10.0.2.15\n", true, "c"));
    assert!(worse.outcomes_differ);
    assert_eq!(
        worse.text,
        "outcomes:\n  a: passed → failed (it did not)\n  b: removed (it was passed)\n  c: added (it was passed)\n"
    );
}

#[test]
fn steps_of_one_text_are_compared_in_their_order_however_many_they_are() {
    let run = |word: &str| {
        let mut record = Record::new(1);
        record.scenario(0.0, "a", "", 1, "");
        let mut step = |number: u32, text: &str, stdout: &str| {
            let at = 1.0 + f64::from(number) / 1e4;
            let output = StepOutput { stdout: stdout.into(), ..StepOutput::default() };
            record.step_with((at, at + 1e-4), "a", number.into(), text, 5, Some(output));
        };
        for number in 0..5_000 {
            step(number, "root: date", if number % 2_499 == 0 { word } else { "" });
        }
        // What is asked of the machine when the scenario is over is no matter.
        record.at(4.0, "a", nixvm_test::internals::Event::BodyFinished { took: Duration::from_secs(1) });
        let journal = StepOutput { stdout: word.into(), ..StepOutput::default() };
        record.step_with((4.1, 4.2), "a", 5_001, "root: journalctl", 5, Some(journal));
        record.passed(5.0, "a", 5.0);
        History::read(record.written().path()).unwrap()
    };
    let change = "  a, machine: root: date\n    @@ -1 +1 @@\n    -x\n    +y\n";
    assert_eq!(compare(&run("x"), &run("y")).text, format!("output:\n{}", change.repeat(3)));
}

#[test]
fn the_commands_find_a_run_by_its_folder() {
    let (one, other) = (every_fate(), Record::new(0));
    let (one, other) =
        (one.written().path().display().to_string(), other.written().path().display().to_string());
    let ran = nixvm(&["report", "--no-open", &one]).output().unwrap();
    assert_eq!(String::from_utf8(ran.stdout).unwrap(), format!("{one}/report.html\n"));
    assert_eq!(nixvm(&["diff", &one, &one]).output().unwrap().status.code(), Some(0));
    let ran = nixvm(&["diff", &one, &other]).output().unwrap();
    assert_eq!(ran.status.code(), Some(1));
    assert!(String::from_utf8(ran.stdout).unwrap().contains("web::login: removed (it was passed)"));
    // Nothing is played where there is no terminal.
    let ran = nixvm(&["replay", &one]).output().unwrap();
    assert_eq!(ran.status.code(), Some(2));
    assert!(String::from_utf8(ran.stderr).unwrap().contains("machine.log"));
}

#[test]
fn the_page_of_a_run_is_made_where_it_is_old_or_missing_and_said_to_be_missing_where_it_cant_be() {
    let record = every_fate();
    let (folder, page) = (record.written().path(), record.path().join("report.html"));
    let report = || nixvm(&["report", "--no-open", &folder.display().to_string()]).output().unwrap();
    std::fs::remove_file(&page).unwrap();
    assert!(report().status.success());
    assert!(page.is_file(), "the events are no newer than the last page was");
    let events = folder.join("events.jsonl");
    let late = r#"{"v":1,"time":1e9,"scenario":"","event":"note","text":"said after the page was made"}"#;
    let old = std::fs::read_to_string(&events).unwrap();
    std::fs::write(&events, format!("{old}{late}\n")).unwrap();
    assert!(report().status.success());
    assert!(std::fs::read_to_string(&page).unwrap().contains("said after the page was made"));
    std::fs::remove_file(&page).unwrap();
    std::fs::create_dir(&page).unwrap();
    let ran = report();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(!ran.status.success() && ran.stdout.is_empty(), "{said}");
    assert!(said.contains("could not make the reports") && said.contains("next: "), "{said}");
}

#[test]
fn a_film_plays_in_a_terminal_which_is_left_as_it_was() {
    let record = every_fate();
    let path = record.written().path().display().to_string();
    for quit in ["q", "\x03"] {
        let mut session = OsSession::spawn(nixvm(&["replay", &path, "login", "--speed", "50"])).unwrap();
        session.set_expect_timeout(Some(crate::hang::HANG));
        session.expect("\x1b[?1049h").unwrap();
        session.expect("hello >").unwrap();
        session.expect("8.1 s of 8.1 s  paused").unwrap();
        session.send("\x1b[D").unwrap();
        session.expect("3.1 s of 8.1 s").unwrap();
        session.send(quit).unwrap();
        session.expect("\x1b[?25h\x1b[?1049l").unwrap();
        session.expect(expectrl::Eof).unwrap();
    }
}
