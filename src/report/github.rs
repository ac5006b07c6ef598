//! The report for GitHub Actions: an annotation on the line of each failure, and a summary on the run's page.
//! See <https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands>.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use super::ci;
use super::markdown::{block, cell, code};
use super::wording::printable;
use crate::Failure;
use crate::environment::{is_set, variable};
use crate::record::History;
use crate::record::history::{Outcome, Scenario};
use crate::text;

/// The limits for this program's part of the summary, and for each failure, in bytes. GitHub limits the whole
/// summary to 1 MiB.
const SUMMARY: usize = 500 << 10;
const FAILURE: usize = 8 << 10;

/// The outputs that the environment requests.
#[derive(Debug, Default)]
pub struct Github {
    /// Whether to make annotations. Paths are relative to this folder, the repository's.
    annotations: Option<OsString>,
    /// The file to which a summary is appended.
    summary: Option<OsString>,
    /// Whether each scenario has a process of its own, so that a summary would get many headings.
    alone: bool,
}

impl Github {
    /// Reads `GITHUB_ACTIONS`, `GITHUB_WORKSPACE` and `GITHUB_STEP_SUMMARY`.
    pub fn from_env() -> Self {
        let here = || variable("GITHUB_WORKSPACE").or_else(|| std::env::current_dir().ok().map(Into::into));
        Self {
            annotations: variable("GITHUB_ACTIONS").filter(|value| value == "true").and_then(|_| here()),
            summary: variable("GITHUB_STEP_SUMMARY"),
            alone: is_set("NEXTEST_RUN_ID"),
        }
    }

    /// Whether any output is requested.
    pub fn is_asked_for(&self) -> bool {
        self.annotations.is_some() || self.summary.is_some()
    }

    /// Appends the summary of `scenarios` in this record. Returns the annotations, as whole lines, to be
    /// printed.
    pub fn tell(&self, history: &History, scenarios: &BTreeSet<String>) -> String {
        let suite = crate::record::suite();
        let is_ours = |scenario: &&Scenario| scenarios.contains(&scenario.name) && scenario.suite == suite;
        let ours: Vec<&Scenario> = history.scenarios.iter().filter(is_ours).collect();
        if let Some(path) = &self.summary {
            let text = summary(&ours, self.alone);
            let appended = OpenOptions::new().create(true).append(true).open(path);
            if let Err(error) = appended.and_then(|mut file| file.write_all(text.as_bytes())) {
                tracing::warn!(%error, "could not write the summary for GitHub");
            }
        }
        let Some(root) = &self.annotations else { return String::new() };
        let failures = ours.iter().filter_map(|scenario| Some((*scenario, scenario.failure()?)));
        failures.map(|(scenario, failure)| annotation(scenario, failure, Path::new(root))).collect()
    }
}

fn annotation(scenario: &Scenario, failure: &Failure, root: &Path) -> String {
    let file = failure.file.strip_prefix(root).unwrap_or(&failure.file).display().to_string();
    format!(
        "::error file={},line={},title={}::{}\n",
        property(&ci::without_githubs(&text::line(&file))),
        failure.line,
        property(&ci::without_githubs(&format!("{} failed", printable(&scenario.title())))),
        message(&ci::without_githubs(&text::lines(&failure.report)))
    )
}

/// Escapes the text of a command.
fn message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property of a command, which needs more escapes.
fn property(text: &str) -> String {
    message(text).replace(':', "%3A").replace(',', "%2C")
}

fn summary(scenarios: &[&Scenario], alone: bool) -> String {
    let worth = |scenario: &&&Scenario| {
        !alone || matches!(scenario.outcome(), Outcome::Failed | Outcome::Flaky | Outcome::Unfinished)
    };
    let shown: Vec<&&Scenario> = scenarios.iter().filter(worth).collect();
    if shown.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    let mut counts = Vec::new();
    use Outcome::{Failed, Flaky, Passed, Skipped, Unfinished};
    for outcome in [Failed, Flaky, Unfinished, Passed, Skipped] {
        let count = scenarios.iter().filter(|scenario| scenario.outcome() == outcome).count();
        if count > 0 {
            counts.push(format!("{count} {}", outcome.name()));
        }
    }
    // Writing to a String can't fail.
    let _ = write!(text, "### nixvm-test: {}\n\n| | scenario | time |\n|---|---|--:|\n", counts.join(", "));
    for (index, scenario) in shown.iter().enumerate() {
        let sign = match scenario.outcome() {
            Passed => "✅",
            Failed | Unfinished => "❌",
            Flaky => "⚠️",
            Skipped => "⏭️",
        };
        let (name, took) = (cell(&scenario.title()), scenario.took());
        let _ = writeln!(text, "| {sign} {} | {name} | {took:.1} s |", scenario.outcome().name());
        let rest = shown.len() - index - 1;
        if rest > 0 && text.len() > SUMMARY / 2 {
            let _ = writeln!(text, "| | and {rest} more | |");
            break;
        }
    }
    for scenario in &shown {
        let Some(failure) = scenario.failure() else { continue };
        let part = format!("\n#### {}\n\n{}", code(&scenario.title()), block(&failure.report, FAILURE));
        if text.len() + part.len() > SUMMARY {
            text.push_str("\nMore failures are in the log.\n");
            break;
        }
        text.push_str(&part);
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::history::Attempt;

    fn failed(report: &str) -> Scenario {
        let failure = Failure {
            summary: "no".into(),
            kind: crate::ErrorKind::Other.into(),
            report: report.into(),
            file: "/repo/tests/a,b.rs".into(),
            line: 7,
        };
        let attempt = Attempt { took: Some(1.5), failure: Some(failure), ..Attempt::default() };
        Scenario { name: "web::login".into(), attempts: vec![attempt], ..Scenario::default() }
    }

    #[test]
    fn an_annotation_stands_on_the_line_and_is_one_command_whatever_is_in_it() {
        let scenario = failed("100% wrong\n::warning::not a command\x1b[2J");
        let line = annotation(&scenario, scenario.failure().unwrap(), Path::new("/repo"));
        assert_eq!(
            line,
            "::error file=tests/a%2Cb.rs,line=7,title=web%3A%3Alogin failed::100%25 wrong%0A: :warning::not a command\n"
        );
    }

    #[test]
    fn a_summary_has_a_table_and_no_report_ends_its_own_fence() {
        let scenario = failed("a\n```\n# not a heading");
        let text = summary(&[&scenario], false);
        assert!(text.contains("### nixvm-test: 1 failed\n"), "{text}");
        assert!(text.contains("| ❌ failed | `web::login` | 1.5 s |\n"), "{text}");
        assert!(text.contains("\n````text\na\n```\n# not a heading\n````\n"), "{text}");
    }

    #[test]
    fn where_every_scenario_has_its_own_process_what_passed_is_not_told() {
        let passed =
            Scenario { attempts: vec![Attempt { took: Some(1.0), ..Attempt::default() }], ..failed("") };
        assert_eq!(summary(&[&passed], true), "");
        assert_ne!(summary(&[&passed], false), "");
    }

    /// Returns the commands in a job's log as `ActionCommand.TryParseV2` and `TryParse` of actions/runner
    /// find them: name, properties, data.
    fn commands(log: &str) -> Vec<(String, String, String)> {
        log.split(['\n', '\r'])
            .filter_map(|line| {
                if let Some(rest) = line.trim_start().strip_prefix("::")
                    && let Some((info, data)) = rest.split_once("::")
                {
                    let (name, properties) = info.split_once(' ').unwrap_or((info, ""));
                    return Some((name.to_owned(), properties.to_owned(), data.to_owned()));
                }
                let (_, rest) = line.split_once("##[")?;
                let (info, data) = rest.split_once(']')?;
                Some((info.to_owned(), String::new(), data.to_owned()))
            })
            .collect()
    }

    fn hostile() -> Vec<String> {
        let odd = (0..=0x10_ffff).filter_map(char::from_u32).filter(|c| u32::from(*c) < 0x3100);
        let odd: Vec<char> = odd.chain(('\u{fe00}'..='\u{ffff}').chain('\u{e0000}'..='\u{e0fff}')).collect();
        let around = odd.iter().map(|c| format!("{c}::error::{c}##[error]{c}"));
        let others = [
            "\n::error file=x::forged",
            "\r::stop-commands::x",
            "a\n\u{3000} ::add-mask::x",
            "##[error]x",
            "%0A::error::x%",
            "title=a,b::c:,%2C",
            "\n```\n# heading",
            "````\n````\n",
            "|a|\n</details><script>",
        ];
        let others = others.into_iter().map(str::to_owned);
        around.collect::<Vec<_>>().chunks(500).map(|texts| texts.join("\n")).chain(others).collect()
    }

    #[test]
    fn each_failure_is_one_command_to_githubs_runner() {
        for text in hostile() {
            let mut scenario = failed(&text);
            scenario.name.clone_from(&text);
            let mut failure = scenario.failure().unwrap().clone();
            failure.file = format!("/repo/{text}").into();
            let log = annotation(&scenario, &failure, Path::new("/repo"));
            let found = commands(&log);
            let [(name, properties, data)] = &found[..] else { panic!("{found:?}") };
            assert_eq!(name, "error");
            let keys: Vec<&str> = properties.split(',').map(|one| one.split('=').next().unwrap()).collect();
            assert_eq!(keys, ["file", "line", "title"], "{properties}");
            // If other output precedes it on the same line, it is not a command, and nothing in it is one.
            assert!(commands(&format!("a dot. {log}")).is_empty(), "{:?}", &data[..data.len().min(90)]);
        }
    }

    #[test]
    fn no_report_ends_the_fence_of_the_summary() {
        for text in hostile() {
            let mut scenario = failed(&text);
            scenario.name.clone_from(&text);
            let summary = summary(&[&scenario], false);
            let (mut fence, mut titles): (Option<String>, _) = (None, 0);
            for line in summary.lines() {
                let ticks: String = line.chars().take_while(|c| *c == '`').collect();
                match &fence {
                    Some(open) if line.trim_end() == open => fence = None,
                    Some(_) => {}
                    None if ticks.len() >= 3 => fence = Some(ticks),
                    None => titles += usize::from(line.starts_with('#')),
                }
            }
            assert_eq!((fence, titles), (None, 2), "{summary}");
        }
    }
}
