//! What the code writes into `events.jsonl` is what its JSON Schema describes.
//!
//! The schema uses few keywords, so they are checked here: every crate that validates schemas brings some forty others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use nixvm_test::ErrorKind;
use nixvm_test::internals::record::{EVENTS, EventLine, VERSION};
use nixvm_test::internals::{Event, Failure, FailureKind, FileKind, LinkFaults, LinkTraffic, StepOutput};
use serde_json::Value;

/// The schema of a line.
pub struct Schema(Value);

impl Schema {
    pub fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src/reference/events.schema.json");
        Self(serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
    }

    /// Fails unless the schema describes every line of a record, with all its keys.
    #[track_caller]
    pub fn describes(&self, record: &Path) {
        let text = fs::read_to_string(record.join(EVENTS)).unwrap();
        assert!(text.lines().count() > 3, "{text}");
        for line in text.lines() {
            let faults = self.faults(&serde_json::from_str(line).unwrap());
            assert!(faults.is_empty(), "{line}\n{faults:#?}");
        }
    }

    /// What is wrong with a line. What the schema lets pass for later versions is wrong here: keys and names that it
    /// does not know.
    fn faults(&self, line: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        self.whole(&self.0, line, "", &mut faults);
        let known = self.0["$defs"].as_object().unwrap();
        if !line["event"].as_str().is_some_and(|event| known.contains_key(event)) {
            faults.push(format!("the event {} is not described", line["event"]));
        }
        faults
    }

    /// Checks a value, and that all its keys are described.
    fn whole(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        let described = self.check(schema, value, at, faults);
        for key in value.as_object().into_iter().flat_map(|object| object.keys()) {
            if !described.contains(key) {
                faults.push(format!("{at}/{key} is not described"));
            }
        }
    }

    /// Checks a value, and gives the keys that the schema describes.
    fn check(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) -> BTreeSet<String> {
        let mut described = BTreeSet::new();
        let schema = schema.as_object().unwrap();
        let texts = |what: &Value| -> Vec<String> {
            what.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        for (keyword, what) in schema {
            let right = match keyword.as_str() {
                "$schema" | "$comment" | "$defs" | "title" | "description" | "then" => true,
                "type" => is_a(value, what.as_str().unwrap()),
                "const" => value == what,
                "examples" => what.as_array().unwrap().contains(value),
                "minimum" => value.as_f64() >= what.as_f64(),
                "required" => texts(what).iter().all(|key| value.get(key).is_some()),
                "properties" => {
                    for (key, schema) in what.as_object().unwrap() {
                        described.insert(key.clone());
                        if let Some(value) = value.get(key) {
                            self.whole(schema, value, &format!("{at}/{key}"), faults);
                        }
                    }
                    true
                }
                "items" => {
                    let items = value.as_array().into_iter().flatten();
                    items.for_each(|item| self.whole(what, item, &format!("{at}/*"), faults));
                    true
                }
                "allOf" => {
                    let all = what.as_array().unwrap().iter();
                    all.for_each(|schema| described.extend(self.check(schema, value, at, faults)));
                    true
                }
                "if" => {
                    let mut otherwise = Vec::new();
                    self.check(what, value, at, &mut otherwise);
                    if otherwise.is_empty() {
                        described.extend(self.check(&schema["then"], value, at, faults));
                    }
                    true
                }
                "$ref" => {
                    let its = self.0.pointer(what.as_str().unwrap().strip_prefix('#').unwrap()).unwrap();
                    described.extend(self.check(its, value, at, faults));
                    true
                }
                other => panic!("the schema uses the keyword {other}, which is not checked here"),
            };
            if !right {
                faults.push(format!("{at}: {value} is not as `{keyword}` says: {what}"));
            }
        }
        described
    }
}

fn is_a(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("the schema uses the type {other}, which is not checked here"),
    }
}

/// Every event with all its fields, and those that leave fields out once more without them.
fn samples() -> Vec<Event> {
    let text = || "a text".to_owned();
    let took = Duration::from_millis(1500);
    let failure = |kind: FailureKind| Failure {
        summary: text(),
        kind,
        report: text(),
        file: "/a/b.rs".into(),
        line: 3,
    };
    let output = StepOutput { stdout: text(), stderr: text(), cut: 1, status: Some(-1) };
    let started = |record| Event::RunStarted {
        arguments: vec![text()],
        version: text(),
        host: text(),
        processors: 2,
        scenarios: 3,
        record,
    };
    let faults =
        || LinkFaults { vlan: 1, from: text(), to: text(), faults: vec!["partition".to_owned(), text()] };
    let traffic = || LinkTraffic {
        vlan: 1,
        from: text(),
        to: text(),
        sent: 9,
        delivered: 8,
        dropped: 7,
        delayed: 6,
        held: 5,
        duplicated: 4,
        reordered: 3,
        corrupted: 2,
    };
    let finished = |failure, retried| Event::ScenarioFinished { scenario: text(), took, failure, retried };
    let step_finished = |output| Event::StepFinished { machine: text(), step: 1, took, output };
    let mut samples = vec![
        started(Some("/runs/1".into())),
        started(None),
        Event::RunFinished { took, interrupted: Some("SIGINT".to_owned()) },
        Event::RunFinished { took, interrupted: None },
        Event::Note { text: text() },
        Event::BuildStarted { what: text() },
        Event::BuildLine { text: text() },
        Event::BuildFinished { what: text(), result: "/result".into(), took },
        Event::MachineStarted { machine: text(), pid: 1 },
        Event::HostSpeed { machine: text(), accelerator: "kvm".to_owned(), factor: 1.5 },
        Event::Phase { machine: text(), phase: text(), at: took },
        Event::BootTimes { machine: text(), kernel: took, initrd: took, userspace: took, calibration: 1.0 },
        Event::ConsoleLine { machine: text(), text: text() },
        Event::StepStarted { machine: text(), step: 1, text: text(), line: Some(7) },
        Event::StepStarted { machine: text(), step: 1, text: text(), line: None },
        Event::NetworkFaults { text: text(), line: Some(7), links: vec![faults()], left_out: 1 },
        Event::NetworkFaults { text: text(), line: None, links: Vec::new(), left_out: 0 },
        Event::NetworkCounts { links: vec![traffic()], left_out: 1 },
        Event::NetworkCounts { links: Vec::new(), left_out: 0 },
        step_finished(Some(output)),
        step_finished(Some(StepOutput::default())),
        step_finished(None),
        Event::MachineStopped { machine: text(), how: text() },
        Event::ScenarioStarted { scenario: text(), about: text(), file: "a.rs".into(), line: 1, attempt: 1 },
        Event::BodyStarted { limit: took },
        Event::BodyFinished { took },
        finished(Some(failure(ErrorKind::Timeout.into())), true),
        finished(None, false),
        Event::ScenarioSkipped { scenario: text(), why: text(), file: "a.rs".into(), line: 1 },
    ];
    for kind in [
        FileKind::Transcript,
        FileKind::Cast,
        FileKind::Log,
        FileKind::Screen,
        FileKind::Screenshot,
        FileKind::Journal,
        FileKind::Moment,
        FileKind::Packets,
    ] {
        samples.push(Event::FileKept { machine: text(), kind, path: "a/b".into() });
    }
    samples
}

/// As it is written.
fn line(event: Event) -> Value {
    let line = EventLine { v: VERSION, time: 1.5, scenario: "a".to_owned(), suite: "b".to_owned(), event };
    serde_json::to_value(&line).unwrap()
}

#[test]
fn the_schema_describes_every_event_that_is_written_and_no_other() {
    let schema = Schema::read();
    let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in samples().into_iter().map(line) {
        let faults = schema.faults(&line);
        assert!(faults.is_empty(), "{line}\n{faults:#?}");
        let event = line["event"].as_str().unwrap().to_owned();
        keys.entry(event).or_default().extend(line.as_object().unwrap().keys().cloned());
    }
    let events = schema.0["allOf"].as_array().unwrap();
    let events = events.iter().map(|one| one["if"]["properties"]["event"]["const"].as_str().unwrap());
    for event in events {
        let written = keys.remove(event).unwrap_or_else(|| panic!("no sample of the event {event}"));
        for key in schema.0["$defs"][event]["properties"].as_object().unwrap().keys() {
            assert!(written.contains(key), "{event} is never written with {key}");
        }
    }
    assert!(keys.is_empty(), "{keys:?}");
}

#[test]
fn what_the_schema_does_not_describe_is_a_fault() {
    let schema = Schema::read();
    let failed = Event::ScenarioFinished {
        scenario: "a".to_owned(),
        took: Duration::ZERO,
        failure: Some(Failure {
            summary: String::new(),
            kind: ErrorKind::Timeout.into(),
            report: String::new(),
            file: "a.rs".into(),
            line: 1,
        }),
        retried: false,
    };
    let right = line(failed);
    assert!(schema.faults(&right).is_empty());
    for (place, key, value) in [
        ("", "another", Value::from(1)),
        ("/failure", "another", Value::from(1)),
        ("", "event", "another".into()),
        ("", "took", "1.5".into()),
        ("", "took", Value::from(-1)),
        ("", "v", Value::from(VERSION + 1)),
        ("", "failure", Value::Null),
        ("/failure", "kind", "Another".into()),
        ("/failure", "line", Value::from(1.5)),
    ] {
        let mut wrong = right.clone();
        wrong.pointer_mut(place).unwrap()[key] = value;
        assert!(!schema.faults(&wrong).is_empty(), "{wrong}");
    }
    for (place, key) in [("", "time"), ("", "took"), ("/failure", "kind")] {
        let mut wrong = right.clone();
        wrong.pointer_mut(place).unwrap().as_object_mut().unwrap().remove(key);
        assert!(!schema.faults(&wrong).is_empty(), "{wrong}");
    }
}

/// The names that are in the records of today.
#[test]
fn a_kind_of_error_is_written_by_its_name_and_one_of_a_later_version_is_read() {
    for kind in [ErrorKind::Timeout, ErrorKind::CommandFailed, ErrorKind::NoRoot, ErrorKind::Other] {
        let name = format!("{kind:?}");
        assert_eq!(serde_json::to_value(FailureKind::from(kind)).unwrap(), *name);
        assert_eq!(serde_json::from_value::<FailureKind>(name.clone().into()).unwrap(), kind.into());
        assert_eq!((FailureKind::from(kind).to_string(), kind.to_string()), (name.clone(), name));
    }
    let line = r#"{"v":1,"time":1.5,"event":"scenario_finished","scenario":"a","took":1,"failure":
        {"summary":"a","kind":"TooLate","report":"b","file":"c.rs","line":1}}"#;
    let Event::ScenarioFinished { failure: Some(failure), .. } =
        serde_json::from_str::<EventLine>(line).unwrap().event
    else {
        panic!("another event")
    };
    assert_eq!(
        (failure.kind.to_string().as_str(), &failure.kind),
        ("TooLate", &FailureKind::Unknown("TooLate".to_owned()))
    );
}
