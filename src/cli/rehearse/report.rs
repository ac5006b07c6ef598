//! The result of a rehearsal, for a person, as Markdown and as JSON.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::machine::{Outcome, Plan, System, SystemDiff, boots_directly};
use crate::report::markdown::{block, cell, code};
use crate::{Error, Events, Result, environment, secrets, text};

/// The variable with the file of a GitHub job summary.
const SUMMARY: &str = "GITHUB_STEP_SUMMARY";
/// Maximum number of bytes of a block in the summary.
const LONGEST: usize = 8 << 10;

/// The result of a rehearsal.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    today: Side,
    next: Side,
    /// Whether both are the same system.
    same: bool,
    /// What differs between the two, read without a machine.
    difference: Option<SystemDiff>,
    pub(super) plan: Option<Plan>,
    pub(super) stages: Vec<Stage>,
    /// What these machines can't show.
    pub(super) not_rehearsed: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct Side {
    source: String,
    system: String,
}

/// One stage.
#[derive(Debug, Serialize)]
pub(super) struct Stage {
    name: &'static str,
    clean: bool,
    summary: String,
    seconds: f64,
    findings: Vec<Finding>,
    /// Why units were stopped or restarted.
    why: Vec<String>,
    /// The ends of the journals of units that failed.
    journals: Vec<Journal>,
    /// The whole error, if the stage failed.
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Journal {
    unit: String,
    end: String,
}

#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    list: Vec<String>,
}

impl Stage {
    /// A stage that switched the machine.
    pub(super) fn of_outcome(name: &'static str, outcome: &Outcome, took: Duration) -> Self {
        let error = (!outcome.is_clean()).then(|| outcome.output());
        let why = outcome
            .disturbed_beyond_every_switch()
            .iter()
            .map(|unit| text::lines(&secrets::words(&outcome.why(unit))))
            .collect();
        let journal = |(unit, end): (&String, &String)| Journal {
            unit: text::line(&secrets::words(unit)),
            end: text::lines(&secrets::words(end)),
        };
        let journals = outcome.journals.iter().map(journal).collect();
        let findings = outcome.findings();
        Self {
            why,
            journals,
            ..Self::new(name, outcome.is_clean(), outcome.summary(), findings, took, error)
        }
    }

    /// A stage that compared two looks at the machine. It is clean if it found nothing, or nothing of `bad`, if there
    /// are such kinds.
    pub(super) fn of_looks(
        name: &'static str,
        found: Vec<(&'static str, Vec<String>)>,
        bad: &[&str],
        took: Duration,
    ) -> Self {
        let clean =
            if bad.is_empty() { found.is_empty() } else { !found.iter().any(|(what, _)| bad.contains(what)) };
        let summary = match (found.is_empty(), clean) {
            (true, _) => "nothing is different",
            (false, true) => "up, with differences",
            (false, false) => "different",
        };
        Self::new(name, clean, summary.to_owned(), found, took, None)
    }

    /// A stage that ended with an error.
    pub(super) fn failed(name: &'static str, error: &Error, took: Duration) -> Self {
        Self::new(name, false, error.summary().to_owned(), Vec::new(), took, Some(error.to_string()))
    }

    fn new(
        name: &'static str,
        clean: bool,
        summary: String,
        found: Vec<(&'static str, Vec<String>)>,
        took: Duration,
        error: Option<String>,
    ) -> Self {
        let clear = |list: Vec<String>| list.iter().map(|item| text::line(&secrets::words(item))).collect();
        let findings = found.into_iter().map(|(what, list)| Finding { what, list: clear(list) }).collect();
        let seconds = (took.as_secs_f64() * 10.0).round() / 10.0;
        Self {
            name,
            clean,
            summary: text::line(&secrets::words(&summary)),
            seconds,
            findings,
            why: Vec::new(),
            journals: Vec::new(),
            error: error.map(|error| text::lines(&secrets::words(&error))),
        }
    }
}

impl Report {
    pub(super) fn new(today: &System, next: &System) -> Result<Self> {
        let side = |system: &System| -> Result<Side> {
            Ok(Side { source: text::line(system.source()), system: system.path()?.display().to_string() })
        };
        let same = today.path()? == next.path()?;
        let has_no_boot_loader = boots_directly(today.vm()?)?;
        let (today, next) = (side(today)?, side(next)?);
        let not_rehearsed = match has_no_boot_loader {
            true => {
                vec!["the installation of a boot loader: this VM has none (virtualisation.useBootLoader)"]
            }
            false => Vec::new(),
        };
        Ok(Self { today, next, same, difference: None, plan: None, stages: Vec::new(), not_rehearsed })
    }

    /// Adds what differs between the two systems.
    pub(super) fn with_difference(self, difference: SystemDiff) -> Self {
        Self { difference: Some(difference), ..self }
    }

    /// Whether every stage was clean. A forecast is clean unless the switch would be refused.
    pub(super) fn is_clean(&self) -> bool {
        self.stages.iter().all(|stage| stage.clean) && !self.would_be_refused()
    }

    /// Whether this is a forecast alone, of a switch that would be refused.
    fn would_be_refused(&self) -> bool {
        self.stages.is_empty() && self.plan.as_ref().is_some_and(|plan| !plan.refused_by().is_empty())
    }

    fn verdict(&self) -> &'static str {
        if self.same {
            "nothing changes: both are the same system"
        } else if self.would_be_refused() {
            "forecast only: the switch would be refused"
        } else if self.stages.is_empty() {
            "forecast only: nothing was switched"
        } else if self.is_clean() {
            "the deploy is clean"
        } else {
            "the deploy is NOT clean"
        }
    }

    /// Returns the result for a terminal.
    pub(super) fn text(&self) -> String {
        let mut all = String::new();
        // Writing to a String does not fail.
        let _ = writeln!(all, "{} -> {}: {}", self.today.source, self.next.source, self.verdict());
        if let Some(difference) = &self.difference {
            let _ = writeln!(all, "\nwhat differs");
            let _ = writeln!(all, "  {}", difference.to_string().trim_end().replace('\n', "\n  "));
        }
        if let Some(plan) = &self.plan {
            let _ = writeln!(all, "\nplan");
            let _ = writeln!(all, "  {}", plan.to_string().replace('\n', "\n  "));
        }
        for stage in &self.stages {
            let mark = if stage.clean { "ok" } else { "NOT CLEAN" };
            let _ = writeln!(all, "\n{}: {mark}, {} ({:.1} s)", stage.name, stage.summary, stage.seconds);
            for finding in &stage.findings {
                let _ = writeln!(all, "  {}: {}", finding.what, finding.list.join(", "));
            }
            for why in &stage.why {
                let _ = writeln!(all, "  why {}", why.replace('\n', "\n    "));
            }
            for Journal { unit, end } in &stage.journals {
                let end = end.trim_end().replace('\n', "\n    ");
                let _ = writeln!(all, "  the end of the journal of {unit}:\n    {end}");
            }
            if let Some(error) = &stage.error {
                let _ = writeln!(all, "  {}", error.trim_end().replace('\n', "\n  "));
            }
        }
        for what in self.left_out() {
            let _ = writeln!(all, "\nnot rehearsed: {what}");
        }
        // The plan, the difference and the sources stand in it as they are.
        secrets::words(&all)
    }

    /// Returns what was not rehearsed although machines were switched.
    fn left_out(&self) -> &[&'static str] {
        if self.stages.is_empty() { &[] } else { &self.not_rehearsed }
    }

    /// Returns the result as Markdown.
    pub(super) fn markdown(&self) -> String {
        let mut all = String::new();
        let sign = match (self.is_clean(), self.stages.is_empty() && !self.same) {
            (false, _) => "❌ ",
            // A forecast proves nothing.
            (true, true) => "",
            (true, false) => "✅ ",
        };
        let _ = writeln!(all, "### {sign}Rehearsed deploy: {}\n", self.verdict());
        let _ = writeln!(all, "{} → {}\n", code(&self.today.source), code(&self.next.source));
        let mut folded = |title: &str, text: &str| {
            let block = block(text, LONGEST);
            let _ = writeln!(all, "<details><summary>{title}</summary>\n\n{block}</details>\n");
        };
        if let Some(difference) = &self.difference {
            folded("What differs", &difference.to_string());
        }
        if let Some(plan) = &self.plan {
            folded("Plan", &plan.to_string());
        }
        if !self.stages.is_empty() {
            let _ = writeln!(all, "| | stage | result | time |\n|---|---|---|--:|");
        }
        for stage in &self.stages {
            let sign = if stage.clean { "✅" } else { "❌" };
            let (name, summary) = (stage.name, cell(&stage.summary));
            let _ = writeln!(all, "| {sign} | {name} | {summary} | {:.1} s |", stage.seconds);
        }
        let has_more = |stage: &&Stage| {
            !stage.findings.is_empty() || !stage.journals.is_empty() || stage.error.is_some()
        };
        for stage in self.stages.iter().filter(has_more) {
            let _ = writeln!(all, "\n**{}**\n", stage.name);
            for finding in &stage.findings {
                let items: Vec<String> = finding.list.iter().map(|item| code(item)).collect();
                let _ = writeln!(all, "- {}: {}", finding.what, items.join(", "));
            }
            if !stage.why.is_empty() {
                let _ = writeln!(all, "\nWhy:\n\n{}", block(&stage.why.join("\n"), LONGEST));
            }
            for Journal { unit, end } in &stage.journals {
                let block = block(end, LONGEST);
                let _ = writeln!(all, "\nThe end of the journal of {}:\n\n{block}", code(unit));
            }
            if let Some(error) = &stage.error {
                let _ = writeln!(all, "\n{}", block(error, LONGEST));
            }
        }
        for what in self.left_out() {
            let _ = writeln!(all, "\nNot rehearsed: {what}");
        }
        secrets::words(&all)
    }

    /// Returns the result as JSON.
    pub(super) fn json(&self) -> String {
        #[derive(Serialize)]
        struct Whole<'a> {
            /// `None` if nothing was switched, and nothing refuses it.
            clean: Option<bool>,
            verdict: &'static str,
            #[serde(flatten)]
            report: &'a Report,
        }
        let whole = Whole {
            clean: (!self.stages.is_empty() || self.would_be_refused()).then(|| self.is_clean()),
            verdict: self.verdict(),
            report: self,
        };
        // Strings, numbers and lists of them are always valid.
        let json = serde_json::to_string_pretty(&whole).unwrap_or_default();
        text::json(&secrets::words(&json))
    }

    /// Appends the Markdown to the summary of a GitHub job, if this is one.
    pub(super) fn append_to_summary(&self, events: &Events) {
        let Some(path) = environment::path(SUMMARY) else { return };
        let file = OpenOptions::new().create(true).append(true).open(path);
        if let Err(error) = file.and_then(|mut file| file.write_all(self.markdown().as_bytes())) {
            events.note(format!("the summary for GitHub could not be written ({SUMMARY}): {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(stages: Vec<Stage>) -> Report {
        let side = |source: &str| Side { source: source.to_owned(), system: "/nix/store/x".to_owned() };
        let not_rehearsed = vec!["the boot loader"];
        let (today, next) = (side("git:HEAD"), side("a.nix"));
        Report { today, next, same: false, difference: None, plan: None, stages, not_rehearsed }
    }

    #[test]
    fn what_was_not_rehearsed_is_said_once_and_only_if_something_was() {
        let stage = || Stage::of_looks("reboot", Vec::new(), &[], Duration::ZERO);
        let both = report(vec![stage(), stage()]);
        assert_eq!(both.text().matches("not rehearsed: the boot loader").count(), 1, "{}", both.text());
        assert_eq!(both.markdown().matches("Not rehearsed: the boot loader").count(), 1);
        assert!(!report(Vec::new()).text().contains("not rehearsed"));
    }

    fn plan(printed: &str, refused_by: &[&str]) -> Plan {
        let asker = ("nixos".to_owned(), crate::Events::none());
        let plan = Plan::of(("", printed), None, Default::default(), asker);
        plan.refused(refused_by.iter().map(|by| (*by).to_owned()).collect())
    }

    fn outcome() -> Outcome {
        Outcome {
            machine: "nixos".to_owned(),
            events: crate::Events::none(),
            target: "/nix/store/b".to_owned(),
            action: crate::machine::Action::Switch,
            back: false,
            status: 0,
            words: Default::default(),
            stdout: String::new(),
            stderr: String::new(),
            before: Default::default(),
            after: Default::default(),
            took: Duration::ZERO,
            systems: None,
            journals: Default::default(),
            holders: Default::default(),
        }
    }

    #[test]
    fn a_forecast_of_a_switch_that_would_be_refused_is_not_clean() {
        let forecast =
            |refused_by: &[&str]| Report { plan: Some(plan("", refused_by)), ..report(Vec::new()) };
        let refused = forecast(&["dbus-implementation: dbus -> broker"]);
        assert!(!refused.is_clean());
        assert!(refused.markdown().starts_with("### ❌ Rehearsed deploy: forecast only"));
        assert!(refused.json().contains("\"clean\": false"), "{}", refused.json());
        let accepted = forecast(&[]);
        assert!(accepted.is_clean() && !accepted.markdown().contains('✅'), "{}", accepted.markdown());
        assert!(accepted.json().contains("\"clean\": null"), "{}", accepted.json());
    }

    #[test]
    fn words_of_a_guest_stay_code_in_markdown() {
        let hostile = "Failed to start <img src=//evil> [x](http://evil) @org/team `a|b";
        let error = Error::new(crate::ErrorKind::Other, hostile);
        let markdown = report(vec![Stage::failed("switch", &error, Duration::ZERO)]).markdown();
        let row = markdown.lines().find(|line| line.starts_with("| ❌")).unwrap();
        let code = "`Failed to start <img src=//evil> [x](http://evil) @org/team 'a\\|b`";
        assert_eq!(row, format!("| ❌ | switch | {code} | 0.0 s |"));
        let fence = report(vec![Stage::failed(
            "switch",
            &Error::new(crate::ErrorKind::Other, "a\n```\n# b"),
            Duration::ZERO,
        )]);
        assert!(fence.markdown().contains("\n````text\n"), "{}", fence.markdown());
    }

    #[test]
    fn passwords_are_masked_in_the_whole_report() {
        let secret = "Sesame-of-a-report-22";
        crate::secrets::know(secret);
        let printed = format!("would restart the following units: {secret}.service\n");
        let mut leaky = report(Vec::new());
        leaky.plan = Some(plan(&printed, &[]));
        leaky.next.source = secret.to_owned();
        for shown in [leaky.text(), leaky.markdown(), leaky.json()] {
            assert!(shown.contains(crate::secrets::MASK) && !shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn the_journal_of_a_unit_that_died_after_the_program_is_in_the_report() {
        let journals = [("web.service".to_owned(), "web: no such port\nweb: the end".to_owned())].into();
        let stage = Stage::of_outcome("switch", &Outcome { journals, ..outcome() }, Duration::ZERO);
        let report = report(vec![stage]);
        let (text, markdown) = (report.text(), report.markdown());
        let shown = "  the end of the journal of web.service:\n    web: no such port\n    web: the end\n";
        assert!(text.contains(shown), "{text}");
        let shown =
            "The end of the journal of `web.service`:\n\n```text\nweb: no such port\nweb: the end\n```\n";
        assert!(markdown.contains(shown), "{markdown}");
        assert!(report.json().contains("\"end\": \"web: no such port"), "{}", report.json());
    }
}
