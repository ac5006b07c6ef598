//! What the user chose: by flags of the command line, by `NIXVM_*` variables (flags reach a suite as variables, and a
//! continuous integration can set them itself), and by a nixvm.toml.
//!
//! [`TABLE`] has every setting. Adding one is an entry there and a field of [`Settings`].

mod file;
mod layers;
mod reference;
mod table;
mod value;
mod variables;

use std::path::PathBuf;
use std::time::Duration;

use crate::nix::{Builder, Source};
use crate::partition::Partition;
use crate::{RequestedReports, Result};

pub use file::{NAME as FILE_NAME, find_file};
pub use layers::Layers;
pub use reference::reference;
pub use table::{SOURCES, Setting, TABLE};
pub use value::Form;
pub use variables::VARIABLES;

/// Names the nixvm.toml to read. `nixvm-test` sets it for a scenario's binary.
pub const FILE_VARIABLE: &str = "NIXVM_TOML";

/// What happens to a machine's disk image between runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeepState {
    /// Every run starts from nothing, and leaves nothing.
    #[default]
    Fresh,
    /// The image stays beside the configuration, as the tutorial has it; when the configuration
    /// has changed since, the run says so and starts from nothing.
    Keep,
    /// As [`Keep`](Self::Keep), but a changed configuration is refused.
    Strict,
}

/// The choices of the user.
///
#[doc = include_str!("../../docs/src/reference/settings.md")]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// What to boot instead of what a scenario names.
    pub source: Option<Source>,
    /// Which nixpkgs to build with, as given.
    pub nixpkgs: Option<String>,
    /// What happens to disk images.
    pub keep_state: KeepState,
    /// Scenarios are to be skipped.
    pub skip: bool,
    /// The run stops where a scenario fails, until a key is pressed.
    pub pause_on_failure: bool,
    /// Machines of scenarios that failed are kept.
    pub keep_failed: bool,
    /// What consoles say is shown.
    pub console: bool,
    /// No progress is shown.
    pub quiet: bool,
    /// Progress may be a live picture.
    pub capture: bool,
    /// Machines may be clones of templates.
    pub templates: bool,
    /// What decides the order of scenarios; `None` for the one in which they are written.
    pub shuffle: Option<u64>,
    /// The share of the scenarios that run.
    pub partition: Option<Partition>,
    /// How often a scenario that failed is tried again.
    pub retries: u32,
    /// Nothing more is begun once a scenario has failed.
    pub fail_fast: bool,
    /// How many machines of this run there may be at once; `None` for as many as the host has room for.
    pub jobs: Option<u64>,
    /// Reports that are wanted beside those in the record of the run.
    pub report: RequestedReports,
    /// The record of a run that answers in the place of machines.
    pub against: Option<String>,
    /// Longest time the whole run may take.
    pub run_limit: Option<Duration>,
    /// How many of the host's processors machines may take; `None` for all.
    pub host_cores: Option<u64>,
    /// How much of the host's memory machines may take, in MiB; `None` for most of it.
    pub host_memory: Option<u64>,
    /// Longest time a build may take, if it is not the default.
    pub build_limit: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            source: None,
            nixpkgs: None,
            keep_state: KeepState::default(),
            skip: false,
            pause_on_failure: false,
            keep_failed: true,
            console: false,
            quiet: false,
            capture: true,
            templates: true,
            shuffle: None,
            partition: None,
            retries: 0,
            fail_fast: false,
            jobs: None,
            report: RequestedReports::default(),
            against: None,
            run_limit: None,
            host_cores: None,
            host_memory: None,
            build_limit: None,
        }
    }
}

impl Settings {
    /// Reads the environment: the variables, and the nixvm.toml of the current folder or the nearest one above it.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for a value that makes no sense, for two that contradict each
    /// other, and for a key that is not known.
    ///
    /// ```
    /// # fn main() -> nixvm_test::Result {
    /// let settings = nixvm_test::internals::settings::Settings::from_env()?;
    /// let builder = settings.builder();
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_env() -> Result<Self> {
        let here: Vec<PathBuf> = std::env::current_dir().into_iter().collect();
        Ok(Layers::gather(Vec::new(), &here)?.settings())
    }

    /// A builder that follows these settings.
    pub fn builder(&self) -> Builder {
        let mut builder = Builder::new().clonable(self.templates && self.keep_state == KeepState::Fresh);
        if let Some(nixpkgs) = &self.nixpkgs {
            builder = builder.nixpkgs(nixpkgs);
        }
        if let Some(limit) = self.build_limit {
            builder = builder.limit(limit);
        }
        builder
    }
}

#[cfg(test)]
mod tests {
    use super::file::File;
    use super::*;
    use crate::ErrorKind;

    fn read(variables: &[(&str, &str)]) -> Result<Settings> {
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        let here = std::env::current_dir().unwrap();
        Ok(Layers::of(Vec::new(), variable, File::default(), &here)?.settings())
    }

    #[test]
    fn nothing_set_means_the_scenarios_own_choices() {
        assert_eq!(read(&[]).unwrap(), Settings::default());
        assert_eq!(read(&[("NIXVM_VM", ""), ("NIXVM_FLAKE", "")]).unwrap(), Settings::default());
    }

    #[test]
    fn every_variable_is_read() {
        let settings = read(&[
            ("NIXVM_CONFIGURATION", "some/c.nix"),
            ("NIXVM_NIXPKGS", "channel:nixos-26.05"),
            ("NIXVM_KEEP_STATE", "strict"),
            ("NIXVM_SKIP", "1"),
            ("NIXVM_BUILD_TIMEOUT", "2h"),
            ("NIXVM_RUN_TIMEOUT", "30m"),
            ("NIXVM_JOBS", "3"),
            ("NIXVM_HOST_CORES", "2"),
            ("NIXVM_HOST_MEMORY", "4G"),
        ])
        .unwrap();
        let file = std::env::current_dir().unwrap().join("some/c.nix");
        assert_eq!(settings.source, Some(Source::Configuration(file)));
        assert_eq!(settings.nixpkgs.as_deref(), Some("channel:nixos-26.05"));
        assert_eq!((settings.keep_state, settings.skip), (KeepState::Strict, true));
        assert_eq!(settings.build_limit, Some(Duration::from_secs(7200)));
        assert_eq!((settings.run_limit, settings.jobs), (Some(Duration::from_secs(1800)), Some(3)));
        assert_eq!((settings.host_cores, settings.host_memory), (Some(2), Some(4096)));
        assert_eq!(
            read(&[("NIXVM_FLAKE", "github:me/x#x")]).unwrap().source,
            Some(Source::Flake("github:me/x#x".to_owned()))
        );
        assert_eq!(read(&[("NIXVM_VM", "/r")]).unwrap().source, Some(Source::Built("/r".into())));
        assert_eq!(read(&[("NIXVM_KEEP_STATE", "1")]).unwrap().keep_state, KeepState::Keep);
    }

    #[test]
    fn contradictions_are_refused_with_both_names() {
        for variables in [
            [("NIXVM_VM", "/r"), ("NIXVM_FLAKE", ".#x")],
            [("NIXVM_CONFIGURATION", "/c"), ("NIXVM_VM", "/r")],
            [("NIXVM_NIXPKGS", "/n"), ("NIXVM_FLAKE", ".#x")],
            [("NIXVM_NIXPKGS", "/n"), ("NIXVM_VM", "/r")],
        ] {
            let error = read(&variables).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            for (name, _) in variables {
                assert!(error.to_string().contains(name), "{error}");
            }
        }
    }

    #[test]
    fn a_value_that_makes_no_sense_is_refused_with_what_would() {
        for (name, value) in [
            ("NIXVM_KEEP_STATE", "yes"),
            ("NIXVM_SKIP", "true"),
            ("NIXVM_TEMPLATES", "no"),
            ("NIXVM_SHUFFLE", "much"),
            ("NIXVM_PARTITION", "hash:3/2"),
            ("NIXVM_RETRIES", "-1"),
            ("NIXVM_FAIL_FAST", "yes"),
            ("NIXVM_JOBS", "0"),
            ("NIXVM_JOBS", "all"),
            ("NIXVM_HOST_CORES", "-2"),
            ("NIXVM_HOST_MEMORY", "4"),
            ("NIXVM_HOST_MEMORY", "0G"),
            ("NIXVM_RUN_TIMEOUT", "soon"),
            ("NIXVM_BUILD_TIMEOUT", "0"),
            ("NIXVM_BUILD_TIMEOUT", "5 minutes"),
            ("NIXVM_BUILD_TIMEOUT", "99999999999999999999h"),
            ("NIXVM_BUILD_TIMEOUT", "-1"),
        ] {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(value) && error.contains("takes"), "{error}");
        }
    }
}
