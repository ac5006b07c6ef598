//! Renders a run as JUnit XML, which CI systems read.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use quick_xml::events::{BytesDecl, BytesText, Event};
use quick_xml::{ElementWriter, Writer};

use super::ci::without_attachments;
use super::wording::boundary;
use crate::FileKind;
use crate::record::History;
use crate::record::history::{Attempt, Machine, Outcome, RecordedFile, Scenario};
use crate::text;

type Xml = Writer<Vec<u8>>;

/// An attribute and its value.
type Pair = (&'static str, String);

/// How much output of a scenario's steps goes into its `system-out`, in bytes.
const MOST: usize = 256 << 10;

/// The maximum indentation of nested steps. Steps that never ended are nested in each other.
const DEEPEST: usize = 20;

/// Renders the report. `folder` is the record's folder, for the paths of attachments.
///
/// # Errors
/// If it can't be written as XML.
pub fn render(history: &History, folder: &Path) -> io::Result<String> {
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 4);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let count = |outcomes: &[Outcome]| {
        history.scenarios.iter().filter(|scenario| outcomes.contains(&scenario.outcome())).count().to_string()
    };
    let (failures, errors) = (count(&[Outcome::Failed]), count(&[Outcome::Unfinished]));
    let whole = [
        ("name", "nixvm-test".to_owned()),
        ("tests", history.scenarios.len().to_string()),
        ("skipped", count(&[Outcome::Skipped])),
    ];
    let when: Vec<Pair> =
        timestamp(history.begun).into_iter().chain([("time", seconds(history.took()))]).collect();
    let all = whole.clone().into_iter().chain([("failures", failures.clone()), ("errors", errors.clone())]);
    element(&mut xml, "testsuites", all.chain(when.clone()), |xml| {
        // The attributes have another order here, as in other programs' files.
        let suite = whole.into_iter().chain([("errors", errors), ("failures", failures)]);
        element(xml, "testsuite", suite.chain(when), |xml| {
            properties(xml, &of_the_run(history, folder))?;
            history.scenarios.iter().try_for_each(|scenario| case(xml, scenario, folder))
        })
    })?;
    let mut text = String::from_utf8(xml.into_inner()).map_err(io::Error::other)?;
    text.push('\n');
    Ok(text)
}

/// Writes an element, with the content that `inside` writes.
fn element(
    xml: &mut Xml,
    name: &str,
    attributes: impl IntoIterator<Item = Pair>,
    inside: impl FnOnce(&mut Xml) -> io::Result<()>,
) -> io::Result<()> {
    begun(xml, name, attributes).write_inner_content(inside).map(drop)
}

/// Writes an element with a text, or an empty one.
fn leaf(
    xml: &mut Xml,
    name: &str,
    attributes: impl IntoIterator<Item = Pair>,
    text: Option<&str>,
) -> io::Result<()> {
    let element = begun(xml, name, attributes);
    match text {
        Some(text) => element.write_text_content(BytesText::new(&xml_text(text))).map(drop),
        None => element.write_empty().map(drop),
    }
}

fn begun<'a>(
    xml: &'a mut Xml,
    name: &'a str,
    attributes: impl IntoIterator<Item = Pair>,
) -> ElementWriter<'a, Vec<u8>> {
    attributes.into_iter().fold(xml.create_element(name), |element, (name, value)| {
        element.with_attribute((name, xml_text(&value).as_str()))
    })
}

/// Returns `text` without the characters that XML can't represent.
fn xml_text(text: &str) -> String {
    let fits = |c: &char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    text.chars().filter(fits).collect()
}

fn properties(xml: &mut Xml, all: &[(String, String)]) -> io::Result<()> {
    if all.is_empty() {
        return Ok(());
    }
    element(xml, "properties", [], |xml| {
        all.iter().try_for_each(|(name, value)| {
            leaf(xml, "property", [("name", line(name)), ("value", line(value))], None)
        })
    })
}

fn of_the_run(history: &History, folder: &Path) -> Vec<(String, String)> {
    let mut all = vec![
        ("host".to_owned(), history.host.clone()),
        ("processors".to_owned(), history.processors.to_string()),
        ("version".to_owned(), history.version.clone()),
        ("record".to_owned(), folder.to_string_lossy().into_owned()),
    ];
    all.extend(history.interrupted.as_ref().map(|signal| ("interrupted".to_owned(), signal.clone())));
    all
}

fn case(xml: &mut Xml, scenario: &Scenario, folder: &Path) -> io::Result<()> {
    let (module, function) = scenario.name.rsplit_once("::").unwrap_or(("", &scenario.name));
    let stem = scenario.file.file_stem().unwrap_or_default().to_string_lossy();
    let class = match (&scenario.apart, module.is_empty()) {
        (None, true) => stem.into_owned(),
        (None, false) => module.to_owned(),
        // Readers of the file identify a case by class and name.
        (Some(apart), true) => apart.clone(),
        (Some(apart), false) => format!("{apart}::{module}"),
    };
    let mut attributes = vec![("name", line(function)), ("classname", line(&class))];
    let last = scenario.attempts.last();
    if let Some(last) = last {
        attributes.extend(timestamp(last.begun));
        attributes.push(("time", seconds(last.took.unwrap_or_default())));
    }
    attributes.push(("file", line(&scenario.file.to_string_lossy())));
    attributes.push(("line", scenario.line.to_string()));
    element(xml, "testcase", attributes, |xml| {
        properties(xml, &last.map(|last| of_an_attempt(last, folder)).unwrap_or_default())?;
        status(xml, scenario)?;
        last.map_or(Ok(()), |last| leaf(xml, "system-out", [], Some(&told(last, folder))))
    })
}

fn status(xml: &mut Xml, scenario: &Scenario) -> io::Result<()> {
    let before = match scenario.outcome() {
        Outcome::Passed | Outcome::Flaky => "flakyFailure",
        Outcome::Skipped => {
            let why = scenario.skipped.as_deref().filter(|why| !why.is_empty());
            return leaf(xml, "skipped", why.map(|why| ("message", lines(why))), None);
        }
        Outcome::Failed => {
            let failure = scenario.failure();
            let attributes = failure.into_iter().flat_map(|failure| {
                [("message", lines(&failure.summary)), ("type", line(&failure.kind.to_string()))]
            });
            leaf(xml, "failure", attributes, failure.map(|failure| lines(&failure.report)).as_deref())?;
            "rerunFailure"
        }
        Outcome::Unfinished => {
            let attributes = [("message", "it has not ended".to_owned()), ("type", "Unfinished".to_owned())];
            leaf(xml, "error", attributes, None)?;
            "rerunFailure"
        }
    };
    let earlier = scenario.attempts.split_last().map_or(&[][..], |(_, before)| before);
    for attempt in earlier {
        let Some(failure) = &attempt.failure else { continue };
        let attributes = [
            ("time", seconds(attempt.took.unwrap_or_default())),
            ("message", lines(&failure.summary)),
            ("type", line(&failure.kind.to_string())),
        ];
        leaf(xml, before, attributes, Some(&lines(&failure.report)))?;
    }
    Ok(())
}

fn of_an_attempt(attempt: &Attempt, folder: &Path) -> Vec<(String, String)> {
    let machines = attempt.machines.iter().flat_map(|machine| of_a_machine(machine, folder));
    machines.chain(attachments(&attempt.files, folder)).collect()
}

fn attachments(files: &[RecordedFile], folder: &Path) -> impl Iterator<Item = (String, String)> {
    let path = |file: &RecordedFile| folder.join(&file.path).to_string_lossy().into_owned();
    files.iter().filter(|file| is_attached(file)).map(move |file| ("attachment".to_owned(), path(file)))
}

fn of_a_machine(machine: &Machine, folder: &Path) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut add = |name: &str, value: String| all.push((format!("{}.{name}", machine.name), value));
    if let Some(accelerator) = &machine.accelerator {
        add("accelerator", accelerator.clone());
    }
    if let Some(factor) = machine.factor {
        add("times-slower-than-kvm", format!("{factor:.1}"));
    }
    for phase in &machine.phases {
        add(&format!("phase.{}", phase.name), format!("{:.3}", phase.at));
    }
    all.extend(attachments(&machine.files, folder));
    all
}

/// Returns the steps with their output, and the attachments in the syntax of Jenkins and GitLab.
fn told(attempt: &Attempt, folder: &Path) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    for note in &attempt.notes {
        let _ = writeln!(text, "{note}");
    }
    for machine in &attempt.machines {
        for step in &machine.steps {
            let indent = "  ".repeat(step.depth.min(DEEPEST));
            let took = step.took.map_or("did not end".to_owned(), |took| format!("{took:.3} s"));
            let line = step.line.map(|line| format!(", line {line}")).unwrap_or_default();
            // Its output is in the report of the failure, or attached.
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
    let of_machines = attempt.machines.iter().flat_map(|machine| &machine.files);
    for file in of_machines.chain(&attempt.files).filter(|file| is_attached(file)) {
        let path = folder.join(&file.path).display().to_string();
        // A path that contains this syntax would be read as another path.
        if text::line(&path) == path && !path.contains("[[") && !path.contains("]]") {
            let _ = writeln!(text, "[[ATTACHMENT|{path}]]");
        }
    }
    text
}

/// Returns `text` as one line, without anything that a CI system reads as an attachment.
fn line(text: &str) -> String {
    without_attachments(&text::line(text))
}

/// Returns `text` as lines, without anything that a CI system reads as an attachment.
fn lines(text: &str) -> String {
    without_attachments(&text::lines(text))
}

/// Whether a CI system may collect the file, which must be in the record.
fn is_attached(file: &RecordedFile) -> bool {
    file.kind != FileKind::Moment && file.is_within()
}

fn seconds(seconds: f64) -> String {
    format!("{:.3}", Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs_f64())
}

/// Formats a time as in XML Schema, or returns `None` if it is out of range.
fn timestamp(seconds: f64) -> Option<Pair> {
    let time = UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)?;
    let mut text = String::new();
    // The crate refuses years with five digits.
    write!(text, "{}", humantime::format_rfc3339_millis(time)).ok()?;
    Some(("timestamp", text))
}
