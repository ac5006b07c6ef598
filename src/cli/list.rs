//! `nixvm-test list`: lists the scenarios in files and folders, with their descriptions.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::scenario::Exit;
use crate::{Result, report};
use clap::Args;
use serde_json::Value;

use super::described;
use super::options::Options;
use super::run;

const EXAMPLES: &str = "\
Examples:
  nixvm-test list                               those in ./scenarios, or else in this folder
  nixvm-test list scenarios/web.rs
  nixvm-test list --json | jq -r '.[].name'";

/// What is listed, and how.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct List {
    /// Files of scenarios, or folders of such files
    #[arg(value_name = "FILE.rs|DIR")]
    scenarios: Vec<PathBuf>,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

impl List {
    /// Compiles the files, asks each binary for its scenarios, and prints them. Builds and boots nothing.
    pub async fn run(&self, options: &Options) -> Result<ExitCode> {
        let here = if Path::new("scenarios").is_dir() { "scenarios" } else { "." };
        let paths = if self.scenarios.is_empty() { &[here.into()][..] } else { &self.scenarios };
        let files = run::files(paths)?;
        let binaries = run::compile(&files, &run::compiler()?, options).await?;
        let mut all: Vec<Value> = Vec::new();
        let mut text = String::new();
        for (file, binary) in files.iter().zip(&binaries) {
            let command = run::command(file, binary, &[], options)?;
            let scenarios = described::scenarios(command, file).await?;
            text.push_str(&as_lines(file, &scenarios));
            all.extend(scenarios);
        }
        if self.json {
            report::answer_json(&Value::Array(all));
        } else {
            report::show(&text);
        }
        Ok(Exit::Passed.into())
    }
}

fn as_lines(file: &Path, scenarios: &[Value]) -> String {
    let mut text = format!("{}\n", run::from_here(file));
    for scenario in scenarios {
        let of = |key: &str| scenario[key].as_str().unwrap_or_default();
        text.push_str(&format!("  {}\n", of("name")));
        for line in of("description").lines() {
            text.push_str(format!("      {}", report::printable(line)).trim_end());
            text.push('\n');
        }
        for (kind, mark) in [("machines", ""), ("systems", " (a system, not booted)")] {
            for built in scenario[kind].as_array().into_iter().flatten() {
                let name = built["name"].as_str().unwrap_or_default();
                let mut source = match built["source"].as_str() {
                    Some(source) => run::from_here(Path::new(source)),
                    None => format!("none: {}", built["error"].as_str().unwrap_or_default()),
                };
                if let Some(nixpkgs) = built["nixpkgs"].as_str() {
                    source.push_str(&format!(", with the nixpkgs {nixpkgs}"));
                }
                text.push_str(&format!("      {name}: {}{mark}\n", report::printable(&source)));
            }
        }
        text.push_str(&format!("      {}\n", limits(scenario)));
        if let Some(why) = scenario["ignore"].as_str() {
            let why = if why.is_empty() { String::new() } else { format!(": {}", report::printable(why)) };
            text.push_str(&format!("      ignored, runs only with -- --ignored{why}\n"));
        }
    }
    text
}

/// Formats where a scenario begins, and its limits.
fn limits(scenario: &Value) -> String {
    let mut parts = Vec::new();
    if scenario["machines"].as_array().is_some_and(|machines| !machines.is_empty()) {
        parts.push(format!("from: {}", scenario["from"].as_str().unwrap_or_default()));
    }
    let seconds = scenario["timeout_seconds"].as_f64().unwrap_or_default();
    parts.push(match seconds {
        _ if seconds >= 60.0 && seconds % 60.0 == 0.0 => format!("limit: {} min", seconds / 60.0),
        _ => format!("limit: {seconds} s"),
    });
    for (key, part) in [("budget_boot_seconds", "boot"), ("budget_userspace_seconds", "userspace")] {
        if let Some(seconds) = scenario[key].as_f64() {
            parts.push(format!("{part} within {seconds} s"));
        }
    }
    let mut number = |key: &str, before: &str, after: &str| {
        if let Some(number) = scenario[key].as_u64().filter(|number| *number > 0) {
            parts.push(format!("{before}{number}{after}"));
        }
    };
    number("memory_mib", "memory: ", " MiB");
    number("cores", "cores: ", "");
    number("retries", "retries: ", "");
    let allowed: Vec<&str> =
        scenario["allow"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !allowed.is_empty() {
        parts.push(format!("allowed: {}", allowed.join(", ")));
    }
    parts.join(", ")
}
