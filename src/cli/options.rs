//! Handles the settings, each with a flag, and the log. The binary of a scenario gets them as `NIXVM_*` variables,
//! which also work without this program (in CI, with cargo).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::report;
use crate::settings::Settings;
use crate::settings::{Form, Layers, SOURCES, Setting, TABLE, find_file};
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

/// The flags that stand before a subcommand, or beside the files of scenarios.
#[derive(Debug, Args)]
pub struct Options {
    /// One flag for each setting.
    #[command(flatten)]
    flags: Flags,
    /// Show what machines print; -vv also shows the log
    ///
    /// Once shows what machines print on their consoles, twice also the log of nixvm-test, three times all of the log.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

impl Options {
    /// Returns the settings whose flags were given.
    pub fn given(&self) -> impl Iterator<Item = &'static Setting> {
        self.flags.0.iter().map(|(setting, _)| *setting)
    }

    /// Adds the flags after a subcommand's name. They override those before it.
    pub fn add(&mut self, flags: Flags) {
        self.flags.0.splice(0..0, flags.0);
    }

    /// Starts this process's own log.
    pub fn start_log(&self) {
        if let Some(level) = self.log() {
            report::log::start_with(level);
        } else {
            report::log::start();
        }
    }

    fn log(&self) -> Option<&'static str> {
        match self.verbose {
            0 | 1 => None,
            2 => Some("debug"),
            _ => Some("trace"),
        }
    }

    /// Returns the settings for the current folder, from all their sources.
    pub fn layers(&self) -> crate::Result<Layers> {
        self.layers_of(None)
    }

    /// Returns the same for `folder`: its nixvm.toml overrides that of the current folder.
    pub fn layers_of(&self, folder: Option<&Path>) -> crate::Result<Layers> {
        Layers::gather(self.flags.0.clone(), &folders(folder))
    }

    /// Returns the nixvm.toml that applies to `folder`, without reading it.
    pub fn file_for(&self, folder: Option<&Path>) -> Option<PathBuf> {
        find_file(&folders(folder))
    }

    /// Returns the settings for this process.
    pub fn settings(&self) -> crate::Result<Settings> {
        Ok(self.layers()?.settings())
    }

    /// Returns the variables for the binary of a scenario in `folder`. Relative paths become absolute, so that they do
    /// not depend on the binary's current folder.
    pub fn variables(&self, folder: Option<&Path>) -> crate::Result<Vec<(&'static str, OsString)>> {
        let mut variables = self.layers_of(folder)?.variables();
        if self.verbose > 0 {
            variables.retain(|(name, _)| *name != "NIXVM_CONSOLE");
            variables.push(("NIXVM_CONSOLE", "1".into()));
        }
        variables.extend(self.log().map(|level| (report::log::VARIABLE, level.into())));
        Ok(variables)
    }
}

/// Returns the folders in which nixvm.toml is searched.
fn folders(folder: Option<&Path>) -> Vec<PathBuf> {
    folder.map(Path::to_owned).into_iter().chain(std::env::current_dir()).collect()
}

/// The flags of the [table](TABLE) that were given.
#[derive(Debug, Clone, Default)]
pub struct Flags(Vec<(&'static Setting, OsString)>);

/// Their heading in help texts.
const HEADING: &str = "Settings (also in nixvm.toml, and as NIXVM_* variables: see `nixvm-test config`)";

/// Returns the flag that turns a switch off.
fn no(setting: &Setting) -> String {
    format!("no-{}", setting.flag)
}

/// Returns the flags of these settings.
pub fn arguments(settings: &[&'static Setting]) -> Vec<Arg> {
    settings.iter().flat_map(|setting| flags_of(setting, settings)).collect()
}

/// Returns the flags of one setting, for a command that has those of `all`.
fn flags_of(setting: &'static Setting, all: &[&'static Setting]) -> Vec<Arg> {
    let default = match setting.default {
        "no" | "none" => String::new(),
        default => format!(" [default: {default}]"),
    };
    let long = |help: &str| {
        format!("{help}\n\nThe variable is {}, the key in nixvm.toml `{}`.", setting.variable, setting.key)
    };
    let help = format!("{}{default}", capital(setting.meaning));
    let arg = Arg::new(setting.key).long(setting.flag).long_help(long(&help)).help(capital(setting.meaning));
    let mut arg = arg.help_heading(HEADING).hide_short_help(!setting.is_common);
    if let Some(short) = setting.short {
        arg = arg.short(short);
    }
    let Form::Switch { or } = setting.form else {
        let takes = format!("it takes {}", setting.form.takes());
        let parser = OsStringValueParser::new()
            .try_map(move |value| if setting.accepts(&value) { Ok(value) } else { Err(takes.clone()) });
        if SOURCES.contains(&setting.key) {
            let others = all.iter().map(|other| other.key).filter(|key| SOURCES.contains(key));
            arg = arg.conflicts_with_all(others.filter(|key| *key != setting.key));
        }
        return vec![arg.value_name(setting.placeholder).value_parser(parser)];
    };
    arg = match or {
        None => arg.action(ArgAction::SetTrue),
        Some(word) => arg
            .value_name(setting.placeholder)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("on")
            .value_parser(["on", word])
            .hide_possible_values(true),
    };
    let negative = Arg::new(no(setting)).help_heading(HEADING).long(no(setting)).action(ArgAction::SetTrue);
    let help = setting.meaning_of_no.map(capital).unwrap_or_default();
    let negative = negative.long_help(long(&help)).help(help).overrides_with(setting.key);
    let is_on = setting.meaning_of_no.is_some();
    let negative = negative.hide(!is_on).hide_short_help(!setting.is_common);
    vec![arg.hide(is_on).overrides_with(no(setting)), negative]
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        command.args(arguments(&all()))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn all() -> Vec<&'static Setting> {
    TABLE.iter().collect()
}

impl Flags {
    /// Returns those of `settings` that were given to a command that has them.
    pub fn of(matches: &ArgMatches, settings: &[&'static Setting]) -> Self {
        let was_given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let given = settings.iter().copied().filter_map(|setting| {
            let value = match setting.form {
                Form::Switch { .. } if was_given(&no(setting)) => "0".into(),
                Form::Switch { .. } if !was_given(setting.key) => return None,
                Form::Switch { or: None } => "1".into(),
                Form::Switch { or: Some(_) } => match matches.get_one::<String>(setting.key)?.as_str() {
                    "on" => "1".into(),
                    word => word.into(),
                },
                _ => matches.get_one::<OsString>(setting.key)?.clone(),
            };
            Some((setting, value))
        });
        Self(given.collect())
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self::of(matches, &all()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::Cli;

    fn variables(line: &[&str]) -> Vec<(&'static str, String)> {
        let cli = Cli::parse_from(["nixvm-test", "a.rs"].iter().chain(line));
        let variables = cli.options.variables(None).unwrap();
        variables.into_iter().map(|(name, value)| (name, value.into_string().unwrap())).collect()
    }

    #[test]
    fn relative_paths_are_made_absolute() {
        let here = std::env::current_dir().unwrap();
        let in_here = |path: &str| here.join(path).display().to_string();
        assert_eq!(variables(&["--vm", "./result"]), [("NIXVM_VM", in_here("result"))]);
        assert_eq!(variables(&["--configuration", "web.nix"]), [("NIXVM_CONFIGURATION", in_here("web.nix"))]);
        let root = here.display();
        assert_eq!(variables(&["--flake", ".#web"]), [("NIXVM_FLAKE", format!("{root}#web"))]);
        assert_eq!(variables(&["--flake", "#web"]), [("NIXVM_FLAKE", format!("{root}#web"))]);
        assert_eq!(variables(&["--flake", "path:./x#web"]), [("NIXVM_FLAKE", format!("path:{root}/x#web"))]);
        assert_eq!(variables(&["--nixpkgs", "./src"]), [("NIXVM_NIXPKGS", in_here("src"))]);
    }

    #[test]
    fn what_is_no_path_stays_as_it_is() {
        // This project has a folder with the last name, so `./standin` would name that folder.
        for nixpkgs in ["channel:nixos-26.05", "<nixpkgs>", "https://example.org/nixpkgs.tar.gz", "standin"] {
            assert_eq!(variables(&["--nixpkgs", nixpkgs]), [("NIXVM_NIXPKGS", nixpkgs.to_owned())]);
        }
        let flake = "github:user/repository#web";
        assert_eq!(variables(&["--flake", flake]), [("NIXVM_FLAKE", flake.to_owned())]);
    }

    #[test]
    fn what_is_said_of_a_suite_reaches_it() {
        assert_eq!(variables(&["-j", "3"]), [("NIXVM_JOBS", "3".to_owned())]);
        assert_eq!(variables(&["--run-timeout", "45m"]), [("NIXVM_RUN_TIMEOUT", "45m".to_owned())]);
        assert!(Cli::try_parse_from(["nixvm-test", "a.rs", "--jobs", "0"]).is_err());
    }

    #[test]
    fn a_switch_has_a_flag_for_yes_and_one_for_no_and_the_last_one_holds() {
        assert_eq!(variables(&["--keep-state"]), [("NIXVM_KEEP_STATE", "1".to_owned())]);
        assert_eq!(variables(&["--keep-state=strict"]), [("NIXVM_KEEP_STATE", "strict".to_owned())]);
        assert_eq!(variables(&["--no-keep-state"]), [("NIXVM_KEEP_STATE", "0".to_owned())]);
        assert_eq!(variables(&["--no-template"]), [("NIXVM_TEMPLATES", "0".to_owned())]);
        assert_eq!(variables(&["--fail-fast", "--no-fail-fast"]), [("NIXVM_FAIL_FAST", "0".to_owned())]);
        assert_eq!(variables(&["--no-fail-fast", "--fail-fast"]), [("NIXVM_FAIL_FAST", "1".to_owned())]);
    }

    #[test]
    fn the_log_has_levels() {
        let console = ("NIXVM_CONSOLE", "1".to_owned());
        let log = |level: &str| ("NIXVM_LOG", level.to_owned());
        assert_eq!(variables(&["-v"]), vec![console.clone()]);
        assert_eq!(variables(&["-vv"]), vec![console.clone(), log("debug")]);
        assert_eq!(variables(&["-vvv", "--no-console"]), vec![console, log("trace")]);
    }
}
