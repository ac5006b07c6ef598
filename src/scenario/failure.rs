//! The report of a failed scenario, in the order in which it is read: what was expected, what came, the line
//! of the scenario, how long it took and its limit, the likely cause, the next step, and where the files are.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::configuration;
use super::exit::Exit;
use super::registry::Scenario;
use super::rehearsal::REHEARSED;
use crate::place::{self, SourceLine};
use crate::record::{Keeper, in_a_path};
use crate::{Error, ErrorKind, environment, secrets, text};

/// How many lines are shown before the line that failed, and after it.
const AROUND: (usize, usize) = (3, 1);

/// How much of a scenario's own text is shown, in bytes: in a whole report, and in its summary. An assertion
/// that prints a log would otherwise fill the terminal and every report.
const MOST: usize = 64 << 10;
const SUMMARY: usize = 4 << 10;

/// Why a scenario failed: the exit code and the report.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub exit: Exit,
    pub error: Error,
    /// Where it panicked: the file as the compiler named it, and the line.
    pub panic: Option<(String, u32)>,
    /// The line of the scenario that led there, if that is known.
    pub line: Option<SourceLine>,
    /// Whether the scenario is retried.
    pub retried: bool,
}

/// Where to look at what a failure left.
#[derive(Debug, Clone, Default)]
pub(super) struct Evidence {
    /// The scenario's folder in the record.
    pub folder: Option<PathBuf>,
    /// The command that returns to the moment of the failure.
    pub attach: Option<String>,
    /// The command that replays the scenario against its machines' recorded answers.
    pub replay: Option<String>,
}

impl Evidence {
    /// Returns what is in the record of `scenario`.
    pub fn of(keeper: &Keeper, scenario: &Scenario, error: &Error) -> Self {
        let Some(folder) = keeper.made() else { return Self::default() };
        let name = &*scenario.name();
        let has = |ending: &str| {
            let mut entries = fs::read_dir(&folder).into_iter().flatten().flatten();
            entries.any(|entry| entry.path().extension().is_some_and(|its| its == ending))
        };
        let run = keeper.record().file_name().unwrap_or_default().to_string_lossy();
        // Another scenario with a similar name, or an earlier try, may own the folder of that name.
        let claimed = folder.file_name().unwrap_or_default().to_string_lossy();
        let called = if claimed == in_a_path(name) { name } else { &*claimed };
        let attach = has("moment").then(|| format!("nixvm-test attach {run} {called}"));
        let replay = (can_be_replayed(error) && has("answers")).then(|| replay(scenario, &run));
        Self { folder: Some(folder.clone()), attach, replay }
    }
}

impl Failure {
    /// Makes a failure at an unknown place of the scenario. A limit of the host has its own exit code at any time,
    /// because the failure says nothing about the machine.
    pub fn new(exit: Exit, error: Error) -> Self {
        let exit = if error.is_of_a_limit() { Exit::Host } else { exit };
        let line = error.line();
        Self { exit, error, panic: None, line, retried: false }
    }

    /// Returns the same failure, and adds that `hang` kept the scenario from its end.
    pub fn and_then(self, hang: &Error) -> Self {
        let told = format!("{}{}", hang.summary(), hang.why());
        Self { error: self.error.section("the cleanup did not end", told), ..self }
    }

    /// Returns the file and line to look at: where it failed, or else the line of the scenario that led there.
    pub fn place(&self, scenario: &Scenario) -> (PathBuf, u32) {
        let made = self.error.place();
        let (file, line) = match &self.panic {
            Some((file, line)) => (&**file, *line),
            None => (made.file(), made.line()),
        };
        let path = configuration::located(file, scenario.manifest_dir);
        match place::is_theirs(file) && path.is_file() {
            true => (path, line),
            false => self.led_there(scenario),
        }
    }

    /// Returns the line of the scenario that led to the failure, or else the line where the scenario begins.
    fn led_there(&self, scenario: &Scenario) -> (PathBuf, u32) {
        // A task of the scenario may run a function of another file, which has other lines.
        let line = self.line.filter(|(file, _)| *file == scenario.file);
        (configuration::source_file(scenario), line.map_or(scenario.line, |(_, line)| line))
    }

    /// Returns what was expected and what came, in one or a few lines.
    pub fn summary(&self) -> String {
        bounded(self.error.shown_summary(), SUMMARY)
    }

    /// Returns the whole report.
    pub fn report(&self, scenario: &Scenario, kept: &Evidence) -> String {
        let mut text = bounded(self.error.what(), MOST);
        let place = self.place(scenario);
        let its_lines = scenario.line..=scenario.last_line;
        let in_its_body = place.0 == configuration::source_file(scenario) && its_lines.contains(&place.1);
        let (file, line) = if in_its_body { place.clone() } else { self.led_there(scenario) };
        // Writing to a String can't fail.
        if place != (file.clone(), line) {
            let _ = write!(text, "\n  failed at: {}:{}", from_here(&place.0.display().to_string()), place.1);
            text.push_str(&excerpt(&place.0, place.1));
        }
        let shown = file.display().to_string();
        let _ = write!(text, "\n  scenario: {}, {}:{line}", scenario.name(), from_here(&shown));
        text.push_str(&excerpt(&file, line));
        text.push_str(&self.error.why());
        let lines = [
            ("record", kept.folder.as_deref().and_then(Path::to_str)),
            ("go back to it", kept.attach.as_deref()),
            ("after a correction, replay it", kept.replay.as_deref()),
        ];
        for (title, line) in lines {
            if let Some(line) = line {
                let _ = write!(text, "\n  {title}: {line}");
            }
        }
        text
    }
}

/// Whether the same answers can lead to another verdict, which is so if the scenario's own expectation failed. A
/// refused login, a failed command and a broken machine are the same in every replay. A replay does not take a machine to
/// a stage of a rehearsal.
fn can_be_replayed(error: &Error) -> bool {
    if environment::text(REHEARSED).is_some() {
        return false;
    }
    error.kind() == ErrorKind::Other || error.is_foreign()
}

/// Returns the command that replays `scenario` against the record `run`, in the way that it was run.
fn replay(scenario: &Scenario, run: &str) -> String {
    // cargo names the files of a suite relative to its workspace.
    match Path::new(scenario.file).is_absolute() {
        true => format!("nixvm-test {} --against {run}", from_here(scenario.file)),
        false => format!("NIXVM_AGAINST={run} cargo test {}", scenario.name()),
    }
}

/// Returns `text`, or its beginning and end if it is longer than `most` bytes.
fn bounded(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let boundary = |at: usize| (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    let (head, tail) = (boundary(most / 2), boundary(text.len() - most / 2));
    format!("{}\n[{} bytes are left out here]\n{}", &text[..head], tail - head, &text[tail..])
}

/// Returns the line of the file with a mark, and the lines around it.
fn excerpt(file: &Path, line: u32) -> String {
    let Ok(text) = fs::read_to_string(file) else { return String::new() };
    let text = secrets::source::masked(&text);
    let line = line as usize;
    let mut excerpt = String::new();
    let around = line.saturating_sub(AROUND.0).max(1)..=line + AROUND.1;
    for (number, text) in text.lines().enumerate().map(|(before, text)| (before + 1, text)) {
        if around.contains(&number) {
            let mark = if number == line { '>' } else { ' ' };
            let text = text::line(&text.replace('\t', "    "));
            let _ = write!(excerpt, "\n  {mark} {number:>4} | {}", text.trim_end());
        }
    }
    excerpt
}

/// Returns `text`, which begins with a path, relative to the current folder.
pub(super) fn from_here(text: &str) -> &str {
    let here = std::env::current_dir().unwrap_or_default();
    text.strip_prefix(&*here.to_string_lossy()).and_then(|rest| rest.strip_prefix('/')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replayed_by_its_name_and_a_suite_by_cargo() {
        let here = std::env::current_dir().unwrap().join("a.rs").display().to_string();
        let scenario =
            |file| Scenario { function: "works", module: "suite::web", file, ..Scenario::sample() };
        let (file, suite) = (scenario(here.leak()), scenario("tests/suite.rs"));
        assert_eq!(replay(&file, "2026"), "nixvm-test a.rs --against 2026");
        assert_eq!(replay(&suite, "2026"), "NIXVM_AGAINST=2026 cargo test web::works");
    }

    #[test]
    fn what_a_scenario_says_does_nothing_to_a_terminal_and_is_of_bounded_length() {
        let said = "red\x1b[2J\x1b]0;title\x07\r\n\tb\u{9b}31m\u{202e}c\rd";
        assert_eq!(Error::from(said).what(), "red\n    b\u{fffd}31m\u{fffd}c\nd");
        assert_eq!(bounded("short".to_owned(), 5), "short");
        assert_eq!(bounded("äää0123456789zzz".to_owned(), 7), "ä\n[14 bytes are left out here]\nzzz");
    }

    #[test]
    fn the_line_is_marked_and_has_its_context() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "one\ntwo\nthree\n\tfour\x1b[2J\nfive\nsix\n").unwrap();
        let shown = excerpt(file.path(), 4);
        assert_eq!(
            shown,
            "\n       1 | one\n       2 | two\n       3 | three\n  >    4 |     four\n       5 | five"
        );
        assert_eq!(excerpt(file.path(), 1), "\n  >    1 | one\n       2 | two");
        assert_eq!(excerpt(Path::new("/nowhere"), 1), "");
    }
}
