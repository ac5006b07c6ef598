//! `nixvm-test init`: writes a first configuration, a first scenario, and the files that run them.

mod existing;

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind as Io, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::nix::Source;
use crate::scenario::compile;
use crate::settings::Settings;
use crate::{Error, ErrorKind, Result, report};
use clap::{Args, ValueEnum};

use super::options::Options;
use existing::Existing;

/// The tutorial's sample and its scenario, from this project.
const CONFIGURATION: &str = include_str!("../../../configuration.nix");
const LOGIN: &str = include_str!("../../../scenarios/login.rs");

const EXAMPLES: &str = "\
Examples:
  nixvm-test init                         in the current folder
  nixvm-test init my-machines             in a new one
  nixvm-test init --no-cargo --ci none    only configuration.nix and scenarios/login.rs
  nixvm-test --flake .#web init           beside a flake.nix of several hosts

It changes no existing file, and lists those that it left. If the folder has a configuration.nix, or a flake.nix with
hosts, the scenario tests that: Nix evaluates it, and the scenario logs in as one of its users.";

/// What is made, and where.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Init {
    /// The folder; it is made if it is missing
    #[arg(default_value = ".", hide_default_value = true)]
    dir: PathBuf,
    /// Make no package of cargo; `nixvm-test` alone runs the scenarios
    #[arg(long)]
    no_cargo: bool,
    /// The workflow that runs the scenarios after every push
    #[arg(long, value_name = "WHOSE", default_value = "github")]
    ci: Ci,
}

/// Whose continuous integration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ci {
    Github,
    Gitlab,
    None,
}

/// A file to write: its name, its text, and its description.
struct Plan(&'static str, String, String);

impl Init {
    /// Writes the files and prints their names. Writes nothing if the existing configuration does not evaluate, or if
    /// no user can log in.
    pub async fn run(&self, options: &Options) -> Result<ExitCode> {
        let dir = &self.dir;
        if dir.exists() && !dir.is_dir() {
            return Err(Error::new(ErrorKind::Usage, format!("{} is not a folder", dir.display())));
        }
        let folder = std::path::absolute(dir)
            .map_err(|source| Error::io(format_args!("find {}", dir.display()), &source))?;
        let mut settings = options.layers_of(Some(&folder))?.settings();
        // A VM that is already built (NIXVM_VM) decides what is booted, but says nothing about a configuration in this
        // folder.
        settings.source = settings.source.filter(|source| !matches!(source, Source::Built(_)));
        let (existing, mut notes) = self.existing(&folder, &settings).await?;
        let given = options.file_for(Some(&folder)).filter(|_| existing.is_some());
        let mut nixvm_toml = existing.as_ref().and_then(|existing| existing.setting.clone());
        if let (Some(file), Some((key, value))) = (&given, &nixvm_toml) {
            if !existing::names_a_source(file) {
                let line = toml_line(key, value);
                notes.push_str(&format!("Add to {}: {line}", report::printable(&file.display().to_string())));
            }
            nixvm_toml = None;
        }
        // The user's own package is not changed. One that already depends on this library needs no change.
        let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap_or_default();
        let foreign = !self.no_cargo && dir.join("Cargo.toml").exists() && !manifest.contains("nixvm-test");
        let library = compile::dependency();
        let is_path = library.contains_key("path");
        let library = dependency(&library);
        let mut said = String::new();
        let mut left = Vec::new();
        let has_own = match &existing {
            Some(existing) => existing.setting.is_some(),
            None => settings.source.is_some(),
        };
        for Plan(name, text, what) in self.plan(foreign, &library, has_own, existing.as_ref(), nixvm_toml) {
            let made = make(&dir.join(name), &text)?;
            said.push_str(&format!(
                "{}  {name:34} {}\n",
                if made { "made" } else { "left" },
                report::printable(&what)
            ));
            if !made {
                left.push(name);
            }
        }
        if !left.is_empty() {
            said.push_str(&format!("\nAlready there, not changed: {}\n", left.join(", ")));
        }
        if !notes.is_empty() {
            said.push_str(&format!("\n{notes}"));
        }
        if foreign {
            said.push_str(&advice(&library));
        }
        if is_path && self.ci != Ci::None && !self.no_cargo {
            said.push_str(
                "\nThe workflow can't use the path in Cargo.toml, which is a path of this host: \
                give it a nixvm-test that it can download.\n",
            );
        }
        if self.ci != Ci::None && self.no_cargo {
            said.push_str(
                "\nThe workflow installs nixvm-test from crates.io, where it is not published yet: replace the line \
                 with `cargo install`.\n",
            );
        }
        said.push_str(&self.next(foreign));
        report::show_foreign(&said);
        Ok(ExitCode::SUCCESS)
    }

    /// Returns the existing configuration with a message about it. It is not read if nothing depends on it.
    async fn existing(&self, folder: &Path, settings: &Settings) -> Result<(Option<Existing>, String)> {
        let file = folder.join("configuration.nix");
        let has = |path: &Path| path.symlink_metadata().is_ok();
        let decided = settings.source.is_some() || has(&file);
        let is_sample = settings.source.is_none()
            && !has(&folder.join("flake.nix"))
            && fs::read(&file).is_ok_and(|text| text == CONFIGURATION.as_bytes());
        if is_sample || (decided && has(&folder.join("scenarios/login.rs"))) {
            return Ok((None, String::new()));
        }
        existing::look(folder, settings).await
    }

    /// Returns the files to write, in the order in which they are listed.
    fn plan(
        &self,
        foreign: bool,
        library: &str,
        has_own: bool,
        existing: Option<&Existing>,
        nixvm_toml: Option<(&str, String)>,
    ) -> Vec<Plan> {
        let mut plan = Vec::new();
        if !has_own {
            let is_there = self.dir.join("configuration.nix").symlink_metadata().is_ok();
            let what = if is_there { "the machine" } else { "the machine: a user alice who has cowsay" };
            plan.push(Plan("configuration.nix", CONFIGURATION.into(), what.into()));
        }
        let brings_nixpkgs = nixvm_toml.as_ref().is_some_and(|(key, _)| *key == "flake");
        if let Some((key, value)) = nixvm_toml {
            let text = format!("# What the scenarios in this folder boot.\n{}", toml_line(key, &value));
            plan.push(Plan("nixvm.toml", text, format!("what is tested: {value}")));
        }
        plan.push(match existing {
            Some(Existing { user, password, .. }) => {
                Plan("scenarios/login.rs", login(user, password), format!("the test: {user} logs in"))
            }
            None => {
                Plan("scenarios/login.rs", LOGIN.into(), "the test: alice logs in, and the cow speaks".into())
            }
        });
        if !self.no_cargo && !foreign {
            let manifest = include_str!("Cargo.toml.in").replace("@NAME@", &package_name(&self.dir));
            let manifest = manifest.replace("@LINES@", lines(library).trim_end());
            plan.push(Plan("Cargo.toml", manifest, "a package, for `cargo test`".into()));
            plan.push(Plan("tests/scenarios.rs", SUITE.into(), "its test: every scenario".into()));
            plan.push(Plan(".gitignore", "/target\n/result\n*.qcow2\n".into(), "what builds leave".into()));
        }
        let run = if self.no_cargo {
            concat!(
                "cargo install nixvm-test --locked --version ",
                env!("CARGO_PKG_VERSION"),
                " && nixvm-test scenarios/"
            )
        } else {
            "cargo test --test scenarios"
        };
        let workflow = |text: &str| {
            let text = text.replace("@RUN@", run);
            if !brings_nixpkgs {
                return text;
            }
            // A flake sets its own release.
            let lines = text.lines().filter(|line| {
                !line.contains("NIXVM_NIXPKGS") && !line.contains("# The release of NixOS that is tested.")
            });
            lines.map(|line| format!("{line}\n")).collect()
        };
        match self.ci {
            Ci::Github => plan.push(Plan(
                ".github/workflows/nixvm-test.yml",
                workflow(include_str!("github.yml")),
                "runs it after every push".into(),
            )),
            Ci::Gitlab => plan.push(Plan(
                ".gitlab-ci.yml",
                workflow(include_str!("gitlab.yml")),
                "runs it after every push".into(),
            )),
            Ci::None => {}
        }
        plan
    }

    /// Returns the commands to type next.
    fn next(&self, foreign: bool) -> String {
        let mut next = String::from("\nNow:\n");
        if self.dir != Path::new(".") {
            next.push_str(&format!("  cd {}\n", quoted(&self.dir.display().to_string())));
        }
        next.push_str("  nixvm-test scenarios/login.rs\n");
        if !self.no_cargo && !foreign {
            next.push_str("  cargo test                      # the same, with all flags of cargo\n");
        }
        next.push_str("`nixvm-test doctor` checks whether this host has everything that it needs.\n");
        next
    }
}

const SUITE: &str = include_str!("scenarios.rs");

/// Returns a first scenario for an existing configuration.
fn login(user: &str, password: &str) -> String {
    format!(
        "use nixvm_test::prelude::*;

/// The user can log in with the password of the configuration.
#[scenario]
async fn login(machine: Machine) -> Result {{
    let session = machine.login({user:?}, {password:?}).await?;
    let name = session.succeed(\"whoami\").await?;
    assert_eq!(name.text().trim_end(), {user:?});
    machine.shutdown().await
}}

nixvm_test::main!();
"
    )
}

/// Returns a line of nixvm.toml.
fn toml_line(key: &str, value: &str) -> String {
    format!("{key} = {}\n", toml::Value::from(value))
}

/// Returns the lines that a manifest needs.
fn lines(library: &str) -> String {
    include_str!("lines.toml").replace("@LIBRARY@", library)
}

/// Returns what to add to the user's own package.
fn advice(library: &str) -> String {
    let indented = |text: &str| {
        let lines = text.trim_end().lines().filter(|line| !line.starts_with("//!"));
        let lines = lines.map(|line| if line.is_empty() { "\n".to_owned() } else { format!("    {line}\n") });
        lines.collect::<String>().trim_start_matches('\n').to_owned()
    };
    format!(
        "\nCargo.toml exists and was not changed. For `cargo test`, add this to it:\n\n{}\n\
         and create tests/scenarios.rs:\n\n{}",
        indented(&lines(library)),
        indented(SUITE)
    )
}

/// Creates a file unless its name exists already, as any kind of file. Returns whether it was created.
fn make(path: &Path, text: &str) -> Result<bool> {
    let failed = |source: std::io::Error| Error::io(format_args!("make {}", path.display()), &source);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map_err(failed).map(|()| true),
        Err(source) if source.kind() == Io::AlreadyExists => Ok(false),
        Err(source) => Err(failed(source)),
    }
}

/// Quotes a word for a shell.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "/._-+@%:,~".contains(letter);
    if word.chars().all(plain) && !word.starts_with(['-', '~']) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Formats a dependency on one line: a plain version, or a path in braces.
fn dependency(table: &toml::Table) -> String {
    let quoted = |value: &toml::Value| value.to_string();
    match table.get("version") {
        Some(version) => quoted(version),
        None => {
            let pairs = table.iter().map(|(key, value)| format!("{key} = {}", quoted(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Returns a name that cargo accepts, derived from the folder's.
fn package_name(dir: &Path) -> String {
    let path = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let folder = path.components().next_back().map(|name| name.as_os_str().to_string_lossy().to_lowercase());
    let fit = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let name: String = folder.unwrap_or_default().chars().map(fit).collect();
    let name = name.trim_matches('-');
    let letter_first = name.starts_with(|first: char| first.is_ascii_alphabetic());
    match name {
        "" => "machines".to_owned(),
        _ if !letter_first => format!("machines-{name}"),
        // A name of one word may be a keyword or one of Rust's own crates, and a package can't depend on one of the
        // same name.
        _ if !name.contains('-') || name == "nixvm-test" => format!("{name}-machines"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fit_for_cargo_is_made_of_any_folder() {
        assert_eq!(package_name(Path::new("/home/u/my-host")), "my-host");
        assert_eq!(package_name(Path::new("/home/u/web")), "web-machines");
        assert_eq!(package_name(Path::new("/home/u/.nixos config")), "nixos-config");
        assert_eq!(package_name(Path::new("/home/u/test")), "test-machines");
        assert_eq!(package_name(Path::new("/")), "machines");
        assert_eq!(package_name(Path::new("/home/u/nixvm-test")), "nixvm-test-machines");
    }

    #[test]
    fn what_is_to_be_typed_is_one_word_to_a_shell() {
        assert_eq!(quoted("../my-machines"), "../my-machines");
        assert_eq!(quoted("my machines"), "'my machines'");
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
    }

    #[test]
    fn a_dependency_is_a_version_or_a_path() {
        let table = |text: &str| text.parse::<toml::Table>().unwrap();
        assert_eq!(dependency(&table("version = \"0.1.0\"")), "\"0.1.0\"");
        assert_eq!(dependency(&table("path = '/a \"b\"'")), "{ path = '/a \"b\"' }");
    }
}
