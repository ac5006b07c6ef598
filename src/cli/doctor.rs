//! `nixvm-test doctor`: what this host has of all that runs need, and what mends the rest.

use std::process::ExitCode;

use clap::Args;
use nixvm_test::doctor::{Finding, State, examine};
use nixvm_test::qemu::accelerator;
use nixvm_test::scenario::Exit;
use nixvm_test::{Result, report};
use serde_json::json;

use super::options::Options;

const EXAMPLES: &str = "\
Examples:
  nixvm-test doctor
  nixvm-test doctor --nixpkgs standin     for runs with this nixpkgs
  nixvm-test doctor --retry               once KVM was put right, or another hypervisor has ended
  nixvm-test doctor --json | jq '.findings[] | select(.state != \"ok\")'

Ends with 5 if something is missing that every run needs. Warnings are no failures.";

/// How it is shown.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Doctor {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Forget first what was found out about KVM: the next boot of each VM tries it again
    #[arg(long)]
    retry: bool,
}

impl Doctor {
    /// Looks, and prints what it found.
    pub async fn run(&self, options: &Options) -> Result<ExitCode> {
        if self.retry {
            accelerator::forget()?;
        }
        let findings = examine(&options.settings()?).await;
        let missing = findings.iter().any(|finding| finding.state == State::Missing);
        if self.json {
            report::answer_json(&json!({ "ok": !missing, "findings": findings }));
        } else {
            report::show(&as_lines(&findings));
        }
        Ok(if missing { Exit::Host } else { Exit::Passed }.into())
    }
}

fn as_lines(findings: &[Finding]) -> String {
    let colour = report::in_colour(&std::io::stdout());
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Finding { name, state, found, mend, .. } in findings {
        let found = report::printable(found);
        let (begin, end) = match state {
            _ if !colour => ("", ""),
            State::Ok => ("\x1b[32m", "\x1b[0m"),
            State::Missing => ("\x1b[1;31m", "\x1b[0m"),
            _ => ("\x1b[33m", "\x1b[0m"),
        };
        text.push_str(&format!("{begin}{:7}{end}  {name:width$}  {found}\n", state.name()));
        if let Some(mend) = mend {
            text.push_str(&format!("{:7}  {:width$}  -> {mend}\n", "", ""));
        }
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    text.push_str(&match (count(State::Missing), count(State::Warning)) {
        (0, 0) => "\nThis host has all it takes.\n".to_owned(),
        (0, 1) => "\nThis host has what it takes; see the warning.\n".to_owned(),
        (0, _) => "\nThis host has what it takes; see the warnings.\n".to_owned(),
        (1, _) => "\nOne thing is missing that every run needs.\n".to_owned(),
        (count, _) => format!("\n{count} things are missing that every run needs.\n"),
    });
    text
}
