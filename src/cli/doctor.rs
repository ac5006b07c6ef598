//! `nixvm-test doctor`: checks what this host needs for runs, and shows how to fix what is missing.

use std::process::ExitCode;

use crate::doctor::{Finding, Kvm, State, Tried, examine, try_kvm};
use crate::qemu::accelerator;
use crate::scenario::Exit;
use crate::{Result, report};
use clap::Args;
use serde_json::json;

use super::child::Signals;
use super::interactive::source_of;
use super::options::Options;

const EXAMPLES: &str = "\
Examples:
  nixvm-test doctor
  nixvm-test doctor --nixpkgs standin     for runs with this nixpkgs
  nixvm-test doctor --retry               after KVM was repaired, or another hypervisor was stopped
  nixvm-test doctor --kvm ./result        whether this VM runs under KVM here, in a minute at most
  nixvm-test doctor --json | jq '.findings[] | select(.state != \"ok\")'

The exit code is 5 if something that every run needs is missing; with --kvm, also if the VM does not run under KVM.
Warnings do not change the exit code.";

/// How it is shown.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Doctor {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Forget first what earlier boots found out about KVM
    ///
    /// The next boot of each VM tries KVM again.
    #[arg(long)]
    retry: bool,
    /// Try KVM with this VM, for a minute at most
    ///
    /// The steps go from the device to a clone of a clone. VM is a configuration, a flake's host (.#web), or a VM that is
    /// already built (./result). A file for a bug report is written.
    #[arg(long, value_name = "VM")]
    kvm: Option<String>,
}

impl Doctor {
    /// Checks, and prints the findings.
    pub async fn run(&self, options: &Options) -> Result<ExitCode> {
        if self.retry {
            accelerator::forget()?;
        }
        if let Some(vm) = &self.kvm {
            return self.try_kvm(vm, options).await;
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

    async fn try_kvm(&self, vm: &str, options: &Options) -> Result<ExitCode> {
        let mut signals = Signals::listen()?;
        // When a signal drops this future, all processes end and their files are removed.
        let kvm = tokio::select! {
            kvm = self.tried(vm, options) => kvm?,
            signal = signals.next() => {
                return Ok(ExitCode::from(128 + u8::try_from(signal.as_raw()).unwrap_or_default()));
            }
        };
        if self.json {
            report::answer_json(&json!(kvm));
        } else {
            report::show(&where_it_is(&kvm));
        }
        Ok(if kvm.usable { Exit::Passed } else { Exit::Host }.into())
    }

    async fn tried(&self, vm: &str, options: &Options) -> Result<Kvm> {
        let settings = options.settings()?;
        accelerator::check_environment()?;
        let reporter = report::choose(&settings);
        let built = settings
            .builder()
            .clonable(settings.templates)
            .build(&source_of(vm), &crate::Events::to(&reporter))
            .await;
        // The steps below are the answer.
        reporter.finish();
        let mut each = |step: &Tried| {
            if !self.json {
                report::show(&as_line(step));
            }
        };
        try_kvm(&built?, &mut each).await
    }
}

/// Formats a step as a line, printed as soon as the step is done.
fn as_line(step: &Tried) -> String {
    let (begin, end) = colours(step.state);
    let state = step.state.map_or("-", State::name);
    let (tried, found) = (report::printable(&step.tried), report::printable(&step.found));
    let took = step.took.as_secs_f64();
    let mut text = format!("{begin}{state:7}{end}  {:10}  {took:5.1} s  {tried}: {found}\n", step.name);
    if let Some(fix) = &step.fix {
        text.push_str(&format!("{:7}  {:10}  {:7}  -> {}\n", "", "", "", report::printable(fix)));
    }
    text
}

fn where_it_is(kvm: &Kvm) -> String {
    match &kvm.attachment {
        Some(path) => format!("\nFor a bug report: {}\n", report::printable(&path.display().to_string())),
        None => "\nThe file for a bug report can't be written here.\n".to_owned(),
    }
}

/// Returns the escape sequences before and after a state's name.
fn colours(state: Option<State>) -> (&'static str, &'static str) {
    match state {
        _ if !report::in_colour(&std::io::stdout()) => ("", ""),
        Some(State::Ok) => ("\x1b[32m", "\x1b[0m"),
        Some(State::Missing) => ("\x1b[1;31m", "\x1b[0m"),
        Some(_) => ("\x1b[33m", "\x1b[0m"),
        None => ("", ""),
    }
}

fn as_lines(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Finding { name, state, found, fix, .. } in findings {
        let found = report::printable(found);
        let (begin, end) = colours(Some(*state));
        text.push_str(&format!("{begin}{:7}{end}  {name:width$}  {found}\n", state.name()));
        if let Some(fix) = fix {
            text.push_str(&format!("{:7}  {:width$}  -> {fix}\n", "", ""));
        }
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    text.push_str(&match (count(State::Missing), count(State::Warning)) {
        (0, 0) => "\nThis host has everything that nixvm-test needs.\n".to_owned(),
        (0, 1) => "\nThis host has everything that every run needs; see the warning.\n".to_owned(),
        (0, _) => "\nThis host has everything that every run needs; see the warnings.\n".to_owned(),
        (1, _) => "\nOne thing that every run needs is missing.\n".to_owned(),
        (count, _) => format!("\n{count} things that every run needs are missing.\n"),
    });
    text
}
