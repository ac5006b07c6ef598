//! Renders a run as one page that needs no network and no other file.
//!
//! Guest output is embedded as data: JSON without `<`, from which the page's script sets only texts and class
//! names. A policy in the page forbids every script and style except its own two.

mod budget;
mod encode;
mod film;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::FileKind;
use crate::beneath::Beneath;
use crate::record::History;
use crate::record::history::Scenario;
use crate::record::screen::hex;
use budget::Budget;
use encode::{Harmless, base64, digest};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Larger films and scenario files are omitted, in bytes.
const FILM: usize = 16 << 20;
const SOURCE: u64 = 4 << 20;

/// How much of the end of a journal is read, in bytes: more than a page shows.
const JOURNAL: u64 = 1 << 20;

/// The options of a page.
#[derive(Debug, Clone, Copy)]
pub struct Pages<'a> {
    /// The files of the record.
    pub record: &'a Beneath,
    /// Whether its paths on this host are trusted, so that lines of the scenarios' files are shown.
    pub is_own: bool,
    /// Whether the page is stored outside of the record, and has to name the record's folder.
    pub is_elsewhere: bool,
}

/// Renders the page of a record. Files that can't be read are omitted.
///
/// # Errors
/// If the page can't be written.
pub fn render(history: &History, of: Pages<'_>) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    write(history, of, &mut page)?;
    Ok(page)
}

fn write(history: &History, of: Pages<'_>, out: &mut Vec<u8>) -> io::Result<()> {
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
    data(history, of, &mut Harmless(&mut *out))?;
    let (before, after) = after.split_once("{script}").unwrap_or((after, ""));
    for text in [before, SCRIPT, after] {
        out.write_all(text.as_bytes())?;
    }
    Ok(())
}

/// Writes the data of the page: the run, the films of its consoles, its pictures, texts and source lines.
fn data(history: &History, of: Pages<'_>, out: &mut impl Write) -> io::Result<()> {
    let mut budget = Budget::default();
    let mut run = serde_json::to_value(history)?;
    for (told, scenario) in run["scenarios"].as_array_mut().into_iter().flatten().zip(&history.scenarios) {
        told["outcome"] = json!(scenario.outcome());
        budget.outputs(told, scenario.outcome());
    }
    out.write_all(b"{\"run\":")?;
    serde_json::to_writer(&mut *out, &run)?;
    out.write_all(b",\"sources\":")?;
    let sources = if of.is_own { sources(&history.scenarios) } else { json!({}) };
    serde_json::to_writer(&mut *out, &sources)?;
    if of.is_elsewhere {
        out.write_all(b",\"folder\":")?;
        serde_json::to_writer(&mut *out, &std::path::absolute(of.record.path())?.to_string_lossy())?;
    }
    let (mut images, mut texts) = (BTreeMap::new(), BTreeMap::new());
    out.write_all(b",\"films\":{")?;
    let mut comma = "";
    // Films of failures come first, because people look for those.
    let mut scenarios: Vec<&Scenario> = history.scenarios.iter().collect();
    scenarios.sort_by_key(|scenario| scenario.failure().is_none());
    let attempts = scenarios.iter().flat_map(|scenario| scenario.attempts.iter().rev());
    for file in attempts.flat_map(|attempt| &attempt.machines).flat_map(|machine| &machine.files) {
        let name = file.path.display().to_string();
        match file.kind {
            FileKind::Transcript => {
                let film = file.path.with_extension(crate::record::FILM);
                let film = of.record.read(film, budget.film_left().min(FILM) as u64).ok();
                let film = film.filter(|film| budget.film(film.len()));
                // Parsed and written again, so that escapes are decoded and then handled like other text.
                if let Some(film) = film.as_deref().and_then(film::checked) {
                    out.write_all(comma.as_bytes())?;
                    serde_json::to_writer(&mut *out, &name)?;
                    out.write_all(b":")?;
                    serde_json::to_writer(&mut *out, &film)?;
                    comma = ",";
                }
            }
            FileKind::Screenshot => {
                if let Ok(png) = of.record.read(&file.path, budget.image_left())
                    && budget.image(png.len() as u64)
                {
                    images.insert(name, format!("data:image/png;base64,{}", base64(&png)));
                }
            }
            FileKind::Journal => {
                let end = budget.has_text().then(|| end_of(of.record, &file.path));
                if let Some(Ok(end)) = end {
                    texts.insert(name, budget.text(&crate::text::lines(&String::from_utf8_lossy(&end))));
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

/// Returns the lines of scenario files that steps and failures name, by file and number.
fn sources(scenarios: &[Scenario]) -> Value {
    let mut wanted: BTreeMap<&Path, BTreeSet<usize>> = BTreeMap::new();
    for scenario in scenarios {
        let lines = wanted.entry(&scenario.file).or_default();
        for attempt in &scenario.attempts {
            let steps = attempt.machines.iter().flat_map(|machine| &machine.steps);
            lines.extend(steps.filter_map(|step| step.line).map(|line| line as usize));
            lines.extend(attempt.faults.iter().filter_map(|change| change.line).map(|line| line as usize));
        }
    }
    let of_file = |(file, lines): (&Path, BTreeSet<usize>)| {
        let text = source_of(file).unwrap_or_default();
        let text = crate::secrets::source::masked(&String::from_utf8_lossy(&text));
        let found = text.lines().enumerate().filter(|(before, _)| lines.contains(&(before + 1)));
        let found: serde_json::Map<String, Value> =
            found.map(|(before, line)| ((before + 1).to_string(), json!(line.trim()))).collect();
        (file.display().to_string(), Value::Object(found))
    };
    Value::Object(wanted.into_iter().map(of_file).collect())
}

/// Returns the end of a journal in the record.
fn end_of(record: &Beneath, name: &Path) -> io::Result<Vec<u8>> {
    let (mut file, size) = record.file(name)?;
    file.seek(SeekFrom::Start(size.saturating_sub(JOURNAL)))?;
    let mut end = Vec::new();
    file.take(JOURNAL).read_to_end(&mut end)?;
    Ok(end)
}

/// Returns the content of a scenario's file, unless it is too large or not a Rust file.
fn source_of(path: &Path) -> Option<Vec<u8>> {
    path.extension().filter(|extension| *extension == "rs")?;
    let no_wait = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(no_wait).open(path).ok()?;
    file.metadata().ok().filter(|found| found.is_file() && found.len() <= SOURCE)?;
    let mut bytes = Vec::new();
    file.take(SOURCE).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Returns the CSS classes of a terminal's colours.
fn colours() -> String {
    let both = |colour| {
        let (letters, ground) = (legible(&hex(colour)), hex(colour));
        format!(".f{colour}{{--f:{letters}}}.b{colour}{{--b:{ground}}}\n")
    };
    (0..=u8::MAX).map(both).collect()
}

/// Returns a readable text colour for the dark background of a console. Dark colours are lightened.
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
    fn the_file_of_a_scenario_is_a_regular_file_of_rust() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("a.rs"), "fn").unwrap();
        std::fs::write(path("shadow"), "root").unwrap();
        std::fs::create_dir(path("folder.rs")).unwrap();
        File::create(path("huge.rs")).unwrap().set_len(SOURCE + 1).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path("fifo.rs"), rustix::fs::Mode::RWXU).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path("zero.rs")).unwrap();
        assert_eq!(source_of(&path("a.rs")).as_deref(), Some(&b"fn"[..]));
        for name in ["shadow", "folder.rs", "huge.rs", "fifo.rs", "zero.rs", "nothing.rs"] {
            assert_eq!(source_of(&path(name)), None, "{name}");
        }
    }

    #[test]
    fn of_a_journal_the_end_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("j")).unwrap();
        file.set_len(6 << 40).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"the end", (6 << 40) - 7).unwrap();
        let end = end_of(&Beneath::open(folder.path()).unwrap(), Path::new("j")).unwrap();
        assert!(end.len() as u64 == JOURNAL && end.ends_with(b"the end"));
    }
}
