//! `nixvm-test config`: prints every setting, its value, and where the value comes from.

use std::process::ExitCode;

use crate::settings::{FILE_NAME, Layers, TABLE, VARIABLES, reference};
use crate::{Result, environment, nearest, report};
use clap::Args;
use serde_json::{Value, json};

use super::options::Options;

const EXAMPLES: &str = "\
Examples:
  nixvm-test config                   the settings in effect here
  nixvm-test config >nixvm.toml       a first nixvm.toml
  nixvm-test config --json | jq '.settings[] | select(.from != \"default\")'
  nixvm-test config --reference       every key, flag and variable";

/// How it is shown.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Config {
    /// Print one JSON object
    #[arg(long, conflicts_with = "reference")]
    json: bool,
    /// Print the reference of all settings, as a page in Markdown
    #[arg(long)]
    reference: bool,
}

impl Config {
    /// Prints the settings.
    pub fn run(&self, options: &Options) -> Result<ExitCode> {
        if self.reference {
            report::answer(reference());
        } else {
            let layers = options.layers()?;
            if self.json {
                report::answer_json(&as_json(&layers));
            } else {
                report::show_foreign(&as_lines(&layers));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn as_lines(layers: &Layers) -> String {
    let mut text = match layers.file() {
        Some(file) => format!("# {}\n", file.display()),
        None => format!("# no {FILE_NAME} here or above\n"),
    };
    let rows = TABLE.iter().map(|setting| match layers.given(setting) {
        Some(given) => {
            let value = toml_of(&setting.form.json(&given.value));
            (format!("{} = {value}", setting.key), layers.shown(given).to_string())
        }
        // Printed as a comment, so that the output is a valid nixvm.toml.
        None => (format!("# {}", setting.key), format!("default: {}", setting.default)),
    });
    let rows: Vec<(String, String)> = rows.collect();
    let width = rows.iter().map(|(left, _)| left.chars().count()).filter(|width| *width < 60).max();
    for (left, right) in rows {
        text.push_str(&format!("{left:width$}  # {right}\n", width = width.unwrap_or_default()));
    }
    let set = VARIABLES.iter().filter_map(|(name, _)| Some((name, environment::variable(name)?)));
    for (name, value) in set {
        text.push_str(&format!("# {name}={}\n", value.display()));
    }
    for (name, near) in unknown_variables() {
        let near = near.map(|near| format!(": did you mean {near}?")).unwrap_or_default();
        text.push_str(&format!("# {name} is set, but nixvm-test does not read it{near}\n"));
    }
    text
}

/// Returns the variables that look like ours but are unknown, each with the most similar known one.
fn unknown_variables() -> Vec<(String, Option<&'static str>)> {
    const OURS: &str = "NIXVM_";
    let known: Vec<&str> =
        TABLE.iter().map(|one| one.variable).chain(VARIABLES.iter().map(|(name, _)| *name)).collect();
    // The common prefix is ignored, since it says nothing about similarity.
    let ends = || known.iter().filter_map(|name| name.strip_prefix(OURS));
    let names = environment::all().into_iter().filter_map(|(name, _)| name.into_string().ok());
    let unknown = names.filter(|name| !known.contains(&name.as_str())).filter_map(|name| {
        let near = nearest(name.strip_prefix(OURS)?, ends());
        let near = known.iter().copied().find(|name| name.strip_prefix(OURS) == near && near.is_some());
        Some((report::printable(&name), near))
    });
    let mut unknown: Vec<_> = unknown.collect();
    unknown.sort();
    unknown
}

/// Formats a value as TOML. JSON escapes the same characters in the same way.
fn toml_of(value: &Value) -> String {
    value.to_string()
}

fn as_json(layers: &Layers) -> Value {
    let settings = TABLE.iter().map(|setting| {
        let given = layers.given(setting);
        json!({
            "key": setting.key,
            "variable": setting.variable,
            "flag": format!("--{}", setting.flag),
            "value": given.map(|given| setting.form.json(&given.value)),
            "from": given.map_or("default", |given| given.origin.name()),
            "where": given.map(|given| layers.shown(given).to_string()),
            "default": setting.default,
            "meaning": setting.meaning,
        })
    });
    let unknown =
        unknown_variables().into_iter().map(|(name, near)| json!({ "name": name, "nearest": near }));
    json!({
        "file": layers.file(),
        "settings": settings.collect::<Vec<_>>(),
        "unknown_variables": unknown.collect::<Vec<_>>(),
    })
}
