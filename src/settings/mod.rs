//! The user's choices: by flags of the command line, by `NIXVM_*` variables, and by a nixvm.toml. A suite
//! gets the flags as variables, and a CI system can set variables itself.
//!
//! [`TABLE`] has every setting. To add one, add an entry there and a field of [`Settings`].

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

/// The variable with the path of the nixvm.toml. `nixvm-test` sets it for a scenario's binary.
pub const FILE_VARIABLE: &str = "NIXVM_TOML";

/// Whether a machine's disk image is kept between runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeepState {
    /// Every run starts with a new image, and leaves none.
    #[default]
    Fresh,
    /// The image is kept beside the configuration, as in the NixOS tutorial. If the configuration has changed
    /// since then, the run starts with a new image, and a note says so.
    Keep,
    /// Does the same as [`Keep`](Self::Keep), but refuses a changed configuration.
    Strict,
}

/// The choices of the user.
///
#[doc = include_str!("../../docs/src/reference/settings.md")]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// What to boot instead of the scenario's configuration.
    pub source: Option<Source>,
    /// The nixpkgs to build with, as given.
    pub nixpkgs: Option<String>,
    /// Whether disk images are kept.
    pub keep_state: KeepState,
    /// Whether scenarios are skipped.
    pub skip: bool,
    /// Whether a run stops where a scenario fails, until a key is pressed.
    pub pause_on_failure: bool,
    /// Whether machines of failed scenarios are kept.
    pub keep_failed: bool,
    /// Whether the packets of networks are captured.
    pub capture_network: bool,
    /// How much of the packets of a VLAN is kept, at its beginning and at its end, in MiB.
    pub capture_network_size: u64,
    /// Whether the output of consoles is shown.
    pub console: bool,
    /// Whether progress is hidden.
    pub quiet: bool,
    /// Whether progress may be shown as a live display.
    pub capture: bool,
    /// Whether machines may be clones of templates.
    pub templates: bool,
    /// The seed for the order of scenarios; `None` for the order of the source.
    pub shuffle: Option<u64>,
    /// The seed of the random faults of networks; `None` for a new one.
    pub seed: Option<u64>,
    /// The share of the scenarios that run.
    pub partition: Option<Partition>,
    /// How often a failed scenario is retried.
    pub retries: u32,
    /// Whether no scenario begins after a failure.
    pub fail_fast: bool,
    /// How many machines of this run may run at once; `None` for as many as the host has room for.
    pub jobs: Option<u64>,
    /// The reports to write in addition to those in the record.
    pub report: RequestedReports,
    /// The record that answers instead of machines.
    pub against: Option<String>,
    /// The time limit of the whole run.
    pub run_limit: Option<Duration>,
    /// How many of the host's processors machines may use; `None` for all.
    pub host_cores: Option<u64>,
    /// How much of the host's memory machines may use, in MiB; `None` for most of it.
    pub host_memory: Option<u64>,
    /// The time limit of a build; `None` for the default.
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
            capture_network: true,
            capture_network_size: 8,
            console: false,
            quiet: false,
            capture: true,
            templates: true,
            shuffle: None,
            seed: None,
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
    /// Reads the environment: the variables, and the nixvm.toml in the current folder or the nearest one
    /// above it.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for an invalid value, for contradicting values, and for
    /// an unknown key.
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

    /// Returns a builder with these settings.
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
            ("NIXVM_CAPTURE_NETWORK", "0"),
            ("NIXVM_CAPTURE_NETWORK_SIZE", "1G"),
        ])
        .unwrap();
        let file = std::env::current_dir().unwrap().join("some/c.nix");
        assert_eq!(settings.source, Some(Source::Configuration(file)));
        assert_eq!(settings.nixpkgs.as_deref(), Some("channel:nixos-26.05"));
        assert_eq!((settings.keep_state, settings.skip), (KeepState::Strict, true));
        assert_eq!(settings.build_limit, Some(Duration::from_secs(7200)));
        assert_eq!((settings.run_limit, settings.jobs), (Some(Duration::from_secs(1800)), Some(3)));
        assert_eq!((settings.host_cores, settings.host_memory), (Some(2), Some(4096)));
        assert_eq!((settings.capture_network, settings.capture_network_size), (false, 1024));
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
            ("NIXVM_CAPTURE_NETWORK", "no"),
            ("NIXVM_CAPTURE_NETWORK_SIZE", "0M"),
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
