//! A run as one page that needs nothing else: no network, no other file.
//!
//! What a guest printed gets there as data: JSON in which no `<` stands, of which the page's script sets texts and
//! class names and nothing else. A policy in the page forbids every script and style but the two that are in it.

mod budget;
mod encode;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::FileKind;
use crate::record::History;
use crate::record::history::Scenario;
use crate::record::screen::hex;
use budget::Budget;
use encode::{Harmless, base64, digest};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Larger ones are left out, in bytes: films, journals, and scenarios' files.
const FILM: u64 = 16 << 20;
const JOURNAL: u64 = 64 << 20;
const SOURCE: u64 = 4 << 20;

/// Writes the page of the record in `folder` to `path`.
///
/// # Errors
/// If the page can't be written. What can't be read is missing in it.
pub fn render(history: &History, folder: &Path, path: &Path) -> io::Result<()> {
    let mut page = Vec::new();
    write(history, folder, &mut page)?;
    super::rendering::replace(path, &page)
}

fn write(history: &History, folder: &Path, out: &mut Vec<u8>) -> io::Result<()> {
    let style = format!("{STYLE}{}", colours());
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; base-uri 'none'; \
         form-action 'none'",
        digest(SCRIPT),
        digest(&style)
    );
    let mut rest = PAGE;
    for (mark, text) in [("{policy}", &policy), ("{style}", &style)] {
        let (before, after) = rest.split_once(mark).unwrap_or((rest, ""));
        out.write_all(before.as_bytes())?;
        out.write_all(text.as_bytes())?;
        rest = after;
    }
    let (before, after) = rest.split_once("{data}").unwrap_or((rest, ""));
    out.write_all(before.as_bytes())?;
    data(history, folder, &mut Harmless(&mut *out))?;
    let (before, after) = after.split_once("{script}").unwrap_or((after, ""));
    for text in [before, SCRIPT, after] {
        out.write_all(text.as_bytes())?;
    }
    Ok(())
}

/// The data of the page: the run, the films of its consoles, its pictures, texts and lines of source.
fn data(history: &History, folder: &Path, out: &mut impl Write) -> io::Result<()> {
    let mut budget = Budget::default();
    let mut run = serde_json::to_value(history)?;
    for (told, scenario) in run["scenarios"].as_array_mut().into_iter().flatten().zip(&history.scenarios) {
        told["outcome"] = json!(scenario.outcome());
        budget.outputs(told, scenario.outcome());
    }
    out.write_all(b"{\"run\":")?;
    serde_json::to_writer(&mut *out, &run)?;
    out.write_all(b",\"sources\":")?;
    serde_json::to_writer(&mut *out, &sources(&history.scenarios))?;
    let (mut images, mut texts) = (BTreeMap::new(), BTreeMap::new());
    out.write_all(b",\"films\":{")?;
    let mut comma = "";
    // Those of failures first: they are what is looked for.
    let mut scenarios: Vec<&Scenario> = history.scenarios.iter().collect();
    scenarios.sort_by_key(|scenario| scenario.failure().is_none());
    let attempts = scenarios.iter().flat_map(|scenario| scenario.attempts.iter().rev());
    for file in attempts.flat_map(|attempt| &attempt.machines).flat_map(|machine| &machine.files) {
        // A record from elsewhere names only what is in it.
        if !file.is_within() {
            continue;
        }
        let (path, name) = (folder.join(&file.path), file.path.display().to_string());
        match file.kind {
            FileKind::Transcript => {
                let film = file_of_at_most(FILM, &path.with_extension(crate::record::FILM));
                let film = film.and_then(|film| String::from_utf8(film).ok());
                // Read and written again, so that what is escaped in it is seen for what it is.
                if let Some(film) = film.filter(|film| budget.film(film.len()))
                    && let Ok(film) = serde_json::from_str::<Value>(&film)
                {
                    out.write_all(comma.as_bytes())?;
                    serde_json::to_writer(&mut *out, &name)?;
                    out.write_all(b":")?;
                    serde_json::to_writer(&mut *out, &film)?;
                    comma = ",";
                }
            }
            FileKind::Screenshot => {
                let size = fs::metadata(&path).map_or(u64::MAX, |found| found.len());
                if budget.image(size)
                    && let Some(png) = file_of_at_most(size, &path)
                {
                    images.insert(name, format!("data:image/png;base64,{}", base64(&png)));
                }
            }
            FileKind::Journal => {
                if let Some(journal) = file_of_at_most(JOURNAL, &path) {
                    texts.insert(name, budget.text(&crate::text::lines(&String::from_utf8_lossy(&journal))));
                }
            }
            _ => {}
        }
    }
    out.write_all(b"},\"images\":")?;
    serde_json::to_writer(&mut *out, &images)?;
    out.write_all(b",\"texts\":")?;
    serde_json::to_writer(&mut *out, &texts)?;
    out.write_all(b"}")
}

/// The lines of scenarios' files that steps and failures name: by file and number.
fn sources(scenarios: &[Scenario]) -> Value {
    let mut wanted: BTreeMap<&Path, BTreeSet<usize>> = BTreeMap::new();
    for scenario in scenarios {
        let lines = wanted.entry(&scenario.file).or_default();
        for attempt in &scenario.attempts {
            let steps = attempt.machines.iter().flat_map(|machine| &machine.steps);
            lines.extend(steps.filter_map(|step| step.line).map(|line| line as usize));
        }
    }
    let of_file = |(file, lines): (&Path, BTreeSet<usize>)| {
        let text = file_of_at_most(SOURCE, file).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let found = text.lines().enumerate().filter(|(before, _)| lines.contains(&(before + 1)));
        let found: serde_json::Map<String, Value> =
            found.map(|(before, line)| ((before + 1).to_string(), json!(line.trim()))).collect();
        (file.display().to_string(), Value::Object(found))
    };
    Value::Object(wanted.into_iter().map(of_file).collect())
}

/// What is in a file, unless it has more than `most` bytes, or is none: a record from elsewhere may name a device, which
/// has no end.
fn file_of_at_most(most: u64, path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    File::open(path).ok()?.take(most + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= most).then_some(bytes)
}

/// The classes of the colours that a terminal has.
fn colours() -> String {
    let both = |colour| {
        let (letters, ground) = (legible(&hex(colour)), hex(colour));
        format!(".f{colour}{{--f:{letters}}}.b{colour}{{--b:{ground}}}\n")
    };
    (0..=u8::MAX).map(both).collect()
}

/// A colour for letters on the dark ground of a console: what is too dark is made lighter.
fn legible(hex: &str) -> String {
    let number = u32::from_str_radix(hex.trim_start_matches('#'), 16).unwrap_or_default();
    let parts = [number >> 16 & 255, number >> 8 & 255, number & 255];
    let light = 0.3 * f64::from(parts[0]) + 0.59 * f64::from(parts[1]) + 0.11 * f64::from(parts[2]);
    if light >= 90.0 {
        return hex.to_owned();
    }
    let [red, green, blue] = parts.map(|part| part + (255 - part) * 2 / 5);
    format!("#{red:02x}{green:02x}{blue:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_long_and_what_has_no_end_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("film");
        fs::write(&path, "film").unwrap();
        assert_eq!(file_of_at_most(4, &path).as_deref(), Some(&b"film"[..]));
        assert_eq!(file_of_at_most(3, &path), None);
        assert_eq!(file_of_at_most(1 << 20, Path::new("/dev/zero")), None);
        assert_eq!(file_of_at_most(4, folder.path()), None);
        assert_eq!(file_of_at_most(4, &folder.path().join("nothing")), None);
    }
}
