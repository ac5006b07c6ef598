//! A run as JUnit's XML, which CI systems read.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestRerun, TestSuite};

use super::ci::without_attachments;
use super::wording::boundary;
use crate::FileKind;
use crate::record::History;
use crate::record::history::{Attempt, Kept, Machine, Outcome, Scenario};
use crate::text;

/// As much of what the steps of a scenario gave is in its `system-out`, in bytes.
const MOST: usize = 256 << 10;

/// Steps within steps are indented so often: those that never ended are each within all others.
const DEEPEST: usize = 20;

/// The report. `folder` is that of the record, for the paths of attachments.
///
/// # Errors
/// If it can't be written as XML.
pub fn render(history: &History, folder: &Path) -> Result<String, quick_junit::SerializeError> {
    let mut report = Report::new("nixvm-test");
    report.set_time(duration(history.took()));
    let mut suite = TestSuite::new("nixvm-test");
    suite.set_time(duration(history.took()));
    if let Some(time) = timestamp(history.begun) {
        report.set_timestamp(time);
        suite.set_timestamp(time);
    }
    suite.add_property(("host", line(&history.host).as_str()));
    suite.add_property(("processors", history.processors.to_string().as_str()));
    suite.add_property(("version", line(&history.version).as_str()));
    suite.add_property(("record", line(&folder.to_string_lossy()).as_str()));
    if let Some(signal) = &history.interrupted {
        suite.add_property(("interrupted", line(signal).as_str()));
    }
    for scenario in &history.scenarios {
        suite.add_test_case(case(scenario, folder));
    }
    report.add_test_suite(suite);
    report.to_string()
}

fn case(scenario: &Scenario, folder: &Path) -> TestCase {
    let (module, function) = scenario.name.rsplit_once("::").unwrap_or(("", &scenario.name));
    let mut case = TestCase::new(line(function), status(scenario));
    let stem = scenario.file.file_stem().unwrap_or_default().to_string_lossy();
    let class = match (&scenario.apart, module.is_empty()) {
        (None, true) => stem.into_owned(),
        (None, false) => module.to_owned(),
        // Who reads it knows a case by class and name.
        (Some(apart), true) => apart.clone(),
        (Some(apart), false) => format!("{apart}::{module}"),
    };
    case.set_classname(line(&class));
    case.extra.insert("file".into(), line(&scenario.file.to_string_lossy()).as_str().into());
    case.extra.insert("line".into(), scenario.line.to_string().into());
    let Some(last) = scenario.attempts.last() else { return case };
    case.set_time(duration(last.took.unwrap_or_default()));
    if let Some(time) = timestamp(last.begun) {
        case.set_timestamp(time);
    }
    case.set_system_out(told(last, folder));
    for machine in &last.machines {
        properties(&mut case, machine, folder);
    }
    case
}

fn status(scenario: &Scenario) -> TestCaseStatus {
    let before = scenario.attempts.split_last().map_or(&[][..], |(_, before)| before);
    let mut status = match scenario.outcome() {
        Outcome::Passed | Outcome::Flaky => TestCaseStatus::success(),
        Outcome::Skipped => {
            let mut status = TestCaseStatus::skipped();
            if let Some(why) = scenario.skipped.as_deref().filter(|why| !why.is_empty()) {
                status.set_message(lines(why));
            }
            status
        }
        Outcome::Failed => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            if let Some(failure) = scenario.failure() {
                status.set_message(lines(&failure.summary));
                status.set_type(line(&failure.kind));
                status.set_description(lines(&failure.report));
            }
            status
        }
        Outcome::Unfinished => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_message("it has not ended").set_type("Unfinished");
            status
        }
    };
    for failure in
        before.iter().filter_map(|attempt| attempt.failure.as_ref().map(|failure| (attempt, failure)))
    {
        let (attempt, failure) = failure;
        let mut rerun = TestRerun::new(NonSuccessKind::Failure);
        rerun.set_message(lines(&failure.summary));
        rerun.set_type(line(&failure.kind));
        rerun.set_description(lines(&failure.report));
        rerun.set_time(duration(attempt.took.unwrap_or_default()));
        status.add_rerun(rerun);
    }
    status
}

fn properties(case: &mut TestCase, machine: &Machine, folder: &Path) {
    let mut add = |name: &str, value: String| {
        let name = format!("{}.{name}", machine.name);
        case.add_property((line(&name).as_str(), line(&value).as_str()));
    };
    if let Some(accelerator) = &machine.accelerator {
        add("accelerator", accelerator.clone());
    }
    if let Some(factor) = machine.factor {
        add("times-slower-than-kvm", format!("{factor:.1}"));
    }
    for phase in &machine.phases {
        add(&format!("phase.{}", phase.name), format!("{:.3}", phase.at));
    }
    for file in machine.files.iter().filter(|file| is_attached(file)) {
        let path = folder.join(&file.path);
        case.add_property(("attachment", line(&path.to_string_lossy()).as_str()));
    }
}

/// The steps with what they gave, and the attachments as Jenkins and GitLab know them.
fn told(attempt: &Attempt, folder: &Path) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    for note in &attempt.notes {
        let _ = writeln!(text, "{note}");
    }
    for machine in &attempt.machines {
        for step in &machine.steps {
            let indent = "  ".repeat(step.depth.min(DEEPEST));
            let took = step.took.map_or("did not end".to_owned(), |took| format!("{took:.3} s"));
            let line = step.line.map(|line| format!(", line {line}")).unwrap_or_default();
            // What it gave is in the report of the failure, or attached.
            if step.afterwards {
                let _ = writeln!(text, "after the scenario: {}: {} ({took})", machine.name, step.text);
                continue;
            }
            let _ = writeln!(text, "{indent}{}: {} ({took}{line})", machine.name, step.text);
            let Some(output) = &step.output else { continue };
            for printed in output.stdout.lines().chain(output.stderr.lines()) {
                let _ = writeln!(text, "{indent}  | {printed}");
            }
            if let Some(status) = output.status.filter(|status| *status != 0) {
                let _ = writeln!(text, "{indent}  status {status}");
            }
        }
    }
    if text.len() > MOST {
        let from = boundary(&text, text.len() - MOST);
        text = format!("[{from} bytes are left out here]\n{}", &text[from..]);
    }
    text = lines(&text);
    for file in attempt.machines.iter().flat_map(|machine| &machine.files).filter(|file| is_attached(file)) {
        let path = folder.join(&file.path).display().to_string();
        // A path in which the form itself stands would be read as another one.
        if text::line(&path) == path && !path.contains("[[") && !path.contains("]]") {
            let _ = writeln!(text, "[[ATTACHMENT|{path}]]");
        }
    }
    text
}

/// `text` as one line, with nothing in it that a CI system takes for an attachment.
fn line(text: &str) -> String {
    without_attachments(&text::line(text))
}

/// `text` as lines, with nothing in it that a CI system takes for an attachment.
fn lines(text: &str) -> String {
    without_attachments(&text::lines(text))
}

/// Whether a CI system may take it along: nothing outside of the record.
fn is_attached(file: &Kept) -> bool {
    file.kind != FileKind::Moment && file.is_within()
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn timestamp(seconds: f64) -> Option<chrono::DateTime<chrono::FixedOffset>> {
    chrono::DateTime::from_timestamp_millis((seconds * 1000.0) as i64).map(|time| time.fixed_offset())
}
