//! Combines the sources of settings. A flag overrides a variable, a variable overrides nixvm.toml, and that
//! overrides the default.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use super::file::{File, find_file};
use super::table::{SOURCES, Setting, TABLE};
use super::value::Form;
use super::{FILE_VARIABLE, Settings};
use crate::{Error, ErrorKind, Result, environment};

/// The source of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A line of nixvm.toml.
    File {
        /// Its number, starting at 1.
        line: usize,
    },
    /// An environment variable.
    Variable,
    /// A flag of the command line.
    Flag,
}

impl Origin {
    /// Returns a word for it: "flag", "variable" or "file".
    pub fn name(self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Variable => "variable",
            Self::Flag => "flag",
        }
    }

    fn rank(self) -> u8 {
        match self {
            Self::File { .. } => 0,
            Self::Variable => 1,
            Self::Flag => 2,
        }
    }
}

/// Every value that was given, with its source.
#[derive(Debug, Default)]
pub struct Layers {
    file: PathBuf,
    /// The value in effect for each setting, and the others by rank.
    given: Vec<ChosenValue>,
}

/// A value that was given for a setting.
#[derive(Debug, Clone)]
pub struct ChosenValue {
    /// The setting.
    pub setting: &'static Setting,
    /// The value, in the syntax of a variable.
    pub value: OsString,
    /// Its source.
    pub origin: Origin,
}

impl Layers {
    /// Combines flags, variables and nixvm.toml. That file is the one that the variable `NIXVM_TOML` names,
    /// or the first one in or above one of `folders`. Relative paths in flags and variables are relative to
    /// the current folder.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for an invalid nixvm.toml or variable.
    pub fn gather(flags: Vec<(&'static Setting, OsString)>, folders: &[PathBuf]) -> Result<Self> {
        let file = find_file(folders).map(|path| File::read(&path)).transpose()?.unwrap_or_default();
        Self::of(flags, environment::variable, file, &std::env::current_dir().unwrap_or_default())
    }

    pub(super) fn of(
        flags: Vec<(&'static Setting, OsString)>,
        variable: impl Fn(&str) -> Option<OsString>,
        file: File,
        folder: &Path,
    ) -> Result<Self> {
        let mut given: Vec<ChosenValue> = Vec::new();
        for (setting, value) in flags {
            let value = setting.form.resolved(value, folder);
            given.push(ChosenValue { setting, value, origin: Origin::Flag });
        }
        for setting in TABLE {
            let Some(value) = variable(setting.variable).filter(|value| !value.is_empty()) else { continue };
            if !setting.accepts(&value) {
                let (name, value) = (setting.variable, value.to_string_lossy());
                let why = format!("{name}={value} is invalid: it takes {}", setting.form.takes());
                return Err(usage(why));
            }
            let value = setting.form.resolved(value, folder);
            given.push(ChosenValue { setting, value, origin: Origin::Variable });
        }
        for (setting, value, line) in file.given {
            given.push(ChosenValue { setting, value, origin: Origin::File { line } });
        }
        let mut layers = Self { file: file.path, given };
        layers.settle()?;
        Ok(layers)
    }

    /// Keeps the value in effect for each setting, and refuses contradictions.
    fn settle(&mut self) -> Result {
        let is_source = |given: &ChosenValue| SOURCES.contains(&given.setting.key);
        // If several sources say what to boot, the highest rank wins. A flag and a variable of different
        // kinds do not contradict each other, because the flag is there to override.
        let first = self.given.iter().filter(|given| is_source(given)).map(|given| given.origin.rank()).max();
        self.given.retain(|given| !is_source(given) || Some(given.origin.rank()) == first);
        let mut seen = Vec::new();
        self.given.retain(|given| {
            let first = !seen.contains(&given.setting.key);
            seen.push(given.setting.key);
            first
        });
        let sources: Vec<&ChosenValue> = self.given.iter().filter(|given| is_source(given)).collect();
        if let [one, other, ..] = sources.as_slice() {
            let (one, other) = (self.name(one), self.name(other));
            return Err(usage(format!("{one} and {other} are both set, and contradict each other"))
                .next_step("remove one of them"));
        }
        let brings_its_own = sources.first().filter(|given| given.setting.key != "configuration");
        let nixpkgs = self.given.iter().find(|given| given.setting.key == "nixpkgs");
        if let (Some(source), Some(nixpkgs)) = (brings_its_own, nixpkgs) {
            if nixpkgs.origin.rank() >= source.origin.rank() {
                let (nixpkgs, source) = (self.name(nixpkgs), self.name(source));
                return Err(usage(format!("{nixpkgs} has no effect with {source}, which brings its own"))
                    .next_step("remove one of the two"));
            }
            // It is meant for configurations, not for what was given instead of them.
            self.given.retain(|given| given.setting.key != "nixpkgs");
        }
        Ok(())
    }

    /// Returns the name of a given value as the user knows it: a flag, a variable, or a line of the file.
    fn name(&self, given: &ChosenValue) -> String {
        match given.origin {
            Origin::Flag if given.value == "0" && matches!(given.setting.form, Form::Switch { .. }) => {
                format!("--no-{}", given.setting.flag)
            }
            Origin::Flag => format!("--{}", given.setting.flag),
            Origin::Variable => given.setting.variable.to_owned(),
            Origin::File { line } => format!("`{}` ({}:{line})", given.setting.key, self.file.display()),
        }
    }

    /// Returns the nixvm.toml that was read, if there is one.
    pub fn file(&self) -> Option<&Path> {
        (!self.file.as_os_str().is_empty()).then_some(&self.file)
    }

    /// Returns the value that was given for `setting`, or `None` if the default is in effect.
    pub fn given(&self, setting: &Setting) -> Option<&ChosenValue> {
        self.given.iter().find(|given| given.setting.key == setting.key)
    }

    /// Returns the source of `given` for display.
    pub fn shown(&self, given: &ChosenValue) -> impl fmt::Display {
        match given.origin {
            Origin::File { line } => format!("{}:{line}", self.file.display()),
            _ => self.name(given),
        }
    }

    /// Returns the settings in effect.
    pub fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        for given in &self.given {
            // Each value was checked when it was read.
            let taken = (given.setting.set)(&mut settings, OsStr::new(&given.value));
            debug_assert!(taken.is_some(), "{given:?}");
        }
        settings
    }

    /// Returns the variables that give another process the same settings, if it inherits this process's
    /// environment.
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        let mut variables: Vec<(&'static str, OsString)> = Vec::new();
        for setting in TABLE {
            match self.given(setting) {
                Some(given) if given.origin == Origin::Flag => {
                    variables.push((setting.variable, given.value.clone()));
                }
                // A flag of another kind of source overrides it.
                None if environment::is_set(setting.variable) => {
                    variables.push((setting.variable, OsString::new()));
                }
                _ => {}
            }
        }
        if let Some(file) = self.file() {
            variables.push((FILE_VARIABLE, file.into()));
        }
        variables
    }
}

fn usage(why: String) -> Error {
    Error::new(ErrorKind::Usage, why)
}

#[cfg(test)]
mod tests {
    use super::super::KeepState;
    use super::*;
    use crate::nix::Source;

    fn flag(key: &str, value: &str) -> (&'static Setting, OsString) {
        (Setting::by_key(key).unwrap(), value.into())
    }

    fn layers(flags: &[(&str, &str)], variables: &[(&str, &str)], file: &[(&str, &str)]) -> Result<Layers> {
        let flags = flags.iter().map(|(key, value)| flag(key, value)).collect();
        let variable = |name: &str| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.into())
        };
        let given = file.iter().enumerate().map(|(index, (key, value))| {
            let (setting, value) = flag(key, value);
            (setting, value, index + 1)
        });
        let file = File { path: "/p/nixvm.toml".into(), given: given.collect() };
        Layers::of(flags, variable, file, Path::new("/here"))
    }

    fn shown(layers: &Layers, key: &str) -> String {
        layers
            .given(Setting::by_key(key).unwrap())
            .map_or("default".into(), |given| layers.shown(given).to_string())
    }

    #[test]
    fn a_flag_goes_before_a_variable_a_variable_before_the_file_and_the_file_before_the_default() {
        let file = [("jobs", "1"), ("retries", "1"), ("run-timeout", "1s")];
        let variables = [("NIXVM_JOBS", "2"), ("NIXVM_RETRIES", "2")];
        let layers = layers(&[("jobs", "3"), ("templates", "0")], &variables, &file).unwrap();
        let settings = layers.settings();
        assert_eq!((settings.jobs, settings.retries), (Some(3), 2));
        assert_eq!(settings.run_limit.unwrap().as_secs(), 1);
        assert_eq!(settings.keep_state, KeepState::Fresh);
        assert_eq!(shown(&layers, "jobs"), "--jobs");
        assert_eq!(shown(&layers, "templates"), "--no-template");
        assert_eq!(shown(&layers, "retries"), "NIXVM_RETRIES");
        assert_eq!(shown(&layers, "run-timeout"), "/p/nixvm.toml:3");
        assert_eq!(shown(&layers, "keep-state"), "default");
    }

    #[test]
    fn what_is_booted_is_decided_by_who_goes_first_whatever_kind_it_is() {
        let file = [("configuration", "/p/web.nix")];
        let source = |flags: &[(&str, &str)], variables: &[(&str, &str)]| {
            layers(flags, variables, &file).unwrap().settings().source
        };
        assert_eq!(source(&[], &[]), Some(Source::Configuration("/p/web.nix".into())));
        assert_eq!(source(&[], &[("NIXVM_FLAKE", ".#x")]), Some(Source::Flake("/here#x".into())));
        let built = Some(Source::Built("/here/result".into()));
        assert_eq!(source(&[("vm", "result")], &[("NIXVM_FLAKE", ".#x")]), built);
    }

    #[test]
    fn a_nixpkgs_of_the_file_gives_way_to_what_brings_its_own_and_one_that_was_asked_for_does_not() {
        let file = [("nixpkgs", "standin")];
        assert_eq!(layers(&[("vm", "/r")], &[], &file).unwrap().settings().nixpkgs, None);
        let variable = [("NIXVM_NIXPKGS", "standin")];
        assert_eq!(layers(&[("vm", "/r")], &variable, &[]).unwrap().settings().nixpkgs, None);
        let error = layers(&[("nixpkgs", "standin")], &[("NIXVM_VM", "/r")], &[]).unwrap_err().to_string();
        assert!(error.contains("--nixpkgs has no effect with NIXVM_VM"), "{error}");
        let error = layers(&[], &[], &[("flake", "/f#x"), ("nixpkgs", "standin")]).unwrap_err().to_string();
        assert!(
            error.contains("`nixpkgs` (/p/nixvm.toml:2) has no effect with `flake` (/p/nixvm.toml:1)"),
            "{error}"
        );
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        let layers = layers(&[], &[("NIXVM_JOBS", "")], &[("jobs", "4")]).unwrap();
        assert_eq!(layers.settings().jobs, Some(4));
    }
}
