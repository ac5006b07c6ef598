//! The events of a record: the page about them and their JSON Schema, both made from `src/event.rs`.

use std::fs;

use serde_json::{Map, Value, json};

use crate::book::pages::{is_made_from_the_code, root};
use crate::book::reference::{head, room};
use crate::book::source::plain;

/// An event, or a part of one, and its fields.
struct Object {
    /// As it stands in the code.
    name: String,
    about: String,
    fields: Vec<Field>,
}

struct Field {
    name: String,
    about: String,
    /// As it stands in the code, without `Option`.
    of: String,
    /// Left out where there is nothing to say.
    left_out: bool,
    /// Earlier records do not have it.
    newer: bool,
}

/// What has fields: each variant of `Event`, or the struct of this name.
fn objects(source: &str, begin: &str) -> Vec<Object> {
    let body = source.split(begin).nth(1).unwrap().split("\n}").next().unwrap();
    let struct_name = begin.strip_prefix("pub struct ").map(|rest| rest.trim_end_matches([' ', '{', '\n']));
    let mut found = Vec::new();
    found.extend(struct_name.map(|name| Object {
        name: name.to_owned(),
        about: String::new(),
        fields: Vec::new(),
    }));
    let (mut about, mut left_out, mut newer) = (String::new(), false, false);
    for line in body.lines().map(str::trim) {
        if let Some(said) = line.strip_prefix("///") {
            about.push_str(said.replace("Event::", "").as_str());
        } else if line.starts_with("#[") {
            left_out |= line.contains("skip_serializing_if");
            newer |= line.contains("default");
        } else if struct_name.is_none() && line.ends_with('{') {
            let about = plain(&std::mem::take(&mut about)).trim().to_owned();
            found.push(Object { name: line.trim_end_matches(" {").to_owned(), about, fields: Vec::new() });
        } else if let Some((name, of)) = line.trim_start_matches("pub ").split_once(": ") {
            let of = of.trim_end_matches(',');
            let of = of.strip_prefix("Option<").and_then(|of| of.strip_suffix('>')).unwrap_or(of).to_owned();
            let about = plain(&std::mem::take(&mut about)).trim().to_owned();
            let (left_out, newer) = (std::mem::take(&mut left_out), std::mem::take(&mut newer));
            found.last_mut().unwrap().fields.push(Field {
                name: name.to_owned(),
                about,
                of,
                left_out,
                newer,
            });
        }
    }
    found
}

/// The events, and the parts that they have.
fn all() -> (Vec<Object>, Vec<Object>) {
    let source = fs::read_to_string(root().join("src/event.rs")).unwrap();
    let events = objects(&source, "pub enum Event {\n");
    assert!(events.len() > 12, "{} events", events.len());
    let parts =
        ["StepOutput", "Failure", "LinkFaults", "LinkTraffic"].map(|name| format!("pub struct {name} {{\n"));
    (events, parts.iter().flat_map(|begin| objects(&source, begin)).collect())
}

/// The names of an enum's variants, with what is said of them.
fn variants(file: &str, name: &str) -> Vec<(String, String)> {
    let items = room(&[file]).into_iter().filter(|item| item.of == name && item.name != name);
    items.map(|item| (item.name, item.about.trim().replace('\n', " "))).collect()
}

fn table(fields: &[Field]) -> String {
    let mut table = String::new();
    for field in fields {
        let may = if field.left_out { "; optional" } else { "" };
        let (name, of, about) = (&field.name, words(&field.of), field.about.replace('|', "\\|"));
        table.push_str(&format!("| `{name}` | {of}{may} | {about} |\n"));
    }
    if table.is_empty() { table } else { format!("| key | value | |\n|---|---|---|\n{table}") }
}

/// What a field's type is in JSON, for people.
fn words(rust: &str) -> String {
    match rust {
        "String" | "PathBuf" => "text".to_owned(),
        "Duration" => "seconds".to_owned(),
        "bool" => "true or false".to_owned(),
        "Vec<String>" => "list of texts".to_owned(),
        "StepOutput" | "Failure" => format!("[{rust}](#{})", rust.to_lowercase()),
        "Vec<LinkFaults>" | "Vec<LinkTraffic>" => {
            let part = part_of(rust);
            format!("list of [{part}](#{})", part.to_lowercase())
        }
        "FailureKind" => "[a kind of error](errors.md#errorkind)".to_owned(),
        "FileKind" => "[a kind of file](#kinds-of-files)".to_owned(),
        number if number.starts_with(['u', 'i', 'f']) => "number".to_owned(),
        other => panic!("the page does not say what {other} is"),
    }
}

/// The items of a list.
fn part_of(rust: &str) -> &str {
    rust.strip_prefix("Vec<").and_then(|rust| rust.strip_suffix('>')).unwrap_or(rust)
}

/// The same as a schema.
fn schema_of(rust: &str) -> Map<String, Value> {
    let schema = match rust {
        "String" | "PathBuf" => json!({ "type": "string" }),
        "Duration" => json!({ "type": "number", "minimum": 0 }),
        "bool" => json!({ "type": "boolean" }),
        "Vec<String>" => json!({ "type": "array", "items": { "type": "string" } }),
        "StepOutput" | "Failure" | "FailureKind" | "FileKind" => {
            json!({ "$ref": format!("#/$defs/{rust}") })
        }
        "Vec<LinkFaults>" | "Vec<LinkTraffic>" => {
            json!({ "type": "array", "items": { "$ref": format!("#/$defs/{}", part_of(rust)) } })
        }
        natural if natural.starts_with('u') => json!({ "type": "integer", "minimum": 0 }),
        whole if whole.starts_with('i') => json!({ "type": "integer" }),
        real if real.starts_with('f') => json!({ "type": "number" }),
        other => panic!("the schema does not say what {other} is"),
    };
    let Value::Object(schema) = schema else { unreachable!() };
    schema
}

fn schema_of_object(object: &Object) -> Value {
    let mut properties = Map::new();
    for field in &object.fields {
        let mut schema = schema_of(&field.of);
        schema.insert("description".into(), field.about.as_str().into());
        properties.insert(field.name.clone(), schema.into());
    }
    let always = object.fields.iter().filter(|field| !field.left_out && !field.newer);
    let always: Vec<&str> = always.map(|field| field.name.as_str()).collect();
    let mut schema = json!({ "type": "object", "properties": properties, "required": always });
    if !object.about.is_empty() {
        schema["description"] = object.about.as_str().into();
    }
    schema
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

#[test]
fn every_event_is_in_the_book() {
    let text = fs::read_to_string(root().join("src/record/mod.rs")).unwrap();
    let about: String = text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .map(|line| format!("{}\n", line.trim_start_matches("//!").strip_prefix(' ').unwrap_or_default()))
        .collect();
    let mut made = head("The record of a run, and its events", "src/record/mod.rs, src/event.rs");
    made.push_str(
        &plain(&about.replace("# events.jsonl", "# `events.jsonl`"))
            .replace("**`events.jsonl`:**", "## events.jsonl\n"),
    );
    made.push_str("\nThe [JSON Schema of a line](events.schema.json) describes every event.\n\n## Events\n");
    let (events, parts) = all();
    for event in &events {
        let (name, about) = (snake(&event.name), &event.about);
        made.push_str(&format!("\n### {name}\n\n{about}\n\n{}", table(&event.fields)));
    }
    for part in &parts {
        made.push_str(&format!("\n### {}\n\n{}", part.name, table(&part.fields)));
    }
    made.push_str("\n### Kinds of files\n\n| kind | |\n|---|---|\n");
    for (name, about) in variants("src/event.rs", "FileKind") {
        made.push_str(&format!("| `{}` | {about} |\n", snake(&name)));
    }
    is_made_from_the_code("reference/record.md", &made);
}

#[test]
fn every_event_is_in_the_json_schema() {
    let (events, parts) = all();
    let mut definitions = Map::new();
    for object in &parts {
        definitions.insert(object.name.clone(), schema_of_object(object));
    }
    let kind = |file, name, spelling: fn(&str) -> String, about: &str| {
        let names: Vec<String> = variants(file, name).iter().map(|(name, _)| spelling(name)).collect();
        assert!(names.len() > 3, "{name}: {names:?}");
        json!({ "type": "string", "examples": names, "description": about })
    };
    let about = "A kind of error. Later versions may have others.";
    definitions.insert("FailureKind".into(), kind("src/error.rs", "ErrorKind", str::to_owned, about));
    let about = "A kind of file. Later versions may have others.";
    definitions.insert("FileKind".into(), kind("src/event.rs", "FileKind", snake, about));
    let mut by_name = Vec::new();
    for event in &events {
        let name = snake(&event.name);
        by_name.push(json!({
            "if": { "properties": { "event": { "const": name } }, "required": ["event"] },
            "then": { "$ref": format!("#/$defs/{name}") },
        }));
        definitions.insert(name, schema_of_object(event));
    }
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": "Made from the code (src/event.rs) by: ./just book-write",
        "title": "A line of events.jsonl",
        "description": "An event of a run. Events and keys that are not described here are to be passed over: \
                        later versions may have them.",
        "type": "object",
        "properties": {
            "v": { "const": nixvm_test::internals::record::VERSION, "description": "The version of the format." },
            "time": { "type": "number", "description": "Seconds since 1970, UTC." },
            "scenario": {
                "type": "string",
                "description": "The scenario's name. Empty for what is about the whole run.",
            },
            "suite": {
                "type": "string",
                "description": "The test binary, as cargo-nextest calls it, where it shares a record with others.",
            },
            "event": { "type": "string", "description": "Which event it is." },
        },
        "required": ["v", "time", "scenario", "event"],
        "allOf": by_name,
        "$defs": definitions,
    });
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    is_made_from_the_code("reference/events.schema.json", &text);
}
