//! What the user chose: flags of the command line reach a suite as environment variables, and a
//! continuous integration can set them itself.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::{Builder, Source};
use crate::partition::Partition;
use crate::{Copies, Error, ErrorKind, Result};

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

/// The choices of the user, as read from the environment. An empty variable counts as not set.
///
/// | variable | meaning |
/// |---|---|
/// | `NIXVM_CONFIGURATION` | the configuration file, for scenarios that name none |
/// | `NIXVM_FLAKE` | `REF#HOST`: a flake's host instead |
/// | `NIXVM_VM` | a VM that is built already: `./result` or its script |
/// | `NIXVM_NIXPKGS` | which nixpkgs: see [`Nixpkgs::choose`](super::Nixpkgs::choose) |
/// | `NIXVM_KEEP_STATE` | `1` keeps the disk image, `strict` as well; `0` does not |
/// | `NIXVM_SKIP` | `1`: scenarios are skipped, and that is said; `0`: they run |
/// | `NIXVM_TEMPLATES` | `0`: every machine is booted for its scenario alone; `1`: clones of templates, where that is possible (the default) |
/// | `NIXVM_SHUFFLE` | a number: scenarios run in an order that it decides |
/// | `NIXVM_PARTITION` | `hash:1/3`: the first of three shares of the scenarios; `count:1/3` |
/// | `NIXVM_RETRIES` | how often a scenario that failed is tried again; it is named flaky when it passes then |
/// | `NIXVM_FAIL_FAST` | `1`: nothing more is begun once a scenario has failed |
/// | `NIXVM_JOBS` | a number: so many machines of this run at once, at most |
/// | `NIXVM_REPORT` | `junit=FILE,html=FILE,jsonl=FILE,cast=DIR`: reports that are wanted beside those in the record of the run |
/// | `NIXVM_RUN_TIMEOUT` | longest time the whole run may take: `90s`, `45m`, `2h`, or seconds; no limit if not set |
/// | `NIXVM_HOST_CORES`, `NIXVM_HOST_MEMORY` | how many processors, and how much memory (`4G`, `512M`), machines may take on this host, of all users and runs that say the same; default: all processors, and seven eighths of the memory |
/// | `NIXVM_BUILD_TIMEOUT` | longest time a build may take: `90s`, `45m`, `2h`, or seconds; default `60m` |
///
/// At most one of the first three may be set, and a nixpkgs only where one is used.
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
    pub report: Copies,
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
            templates: true,
            shuffle: None,
            partition: None,
            retries: 0,
            fail_fast: false,
            jobs: None,
            report: Copies::default(),
            run_limit: None,
            host_cores: None,
            host_memory: None,
            build_limit: None,
        }
    }
}

impl Settings {
    /// Reads the environment variables above.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a value that makes no sense, and for two that contradict each
    /// other.
    ///
    /// ```
    /// # fn main() -> nixvm_test::Result {
    /// let settings = nixvm_test::build::Settings::from_env()?;
    /// let builder = settings.builder();
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_env() -> Result<Self> {
        Self::from_lookup(|name| std::env::var_os(name))
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

    /// A length of time as variables and flags have it: `90s`, `45m`, `2h`, or seconds; at least one second, at
    /// most a year.
    pub fn parse_time(text: &str) -> Option<Duration> {
        duration(text)
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let raw = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let text = |name: &str| {
            raw(name)
                .map(|value| value.into_string().map_err(|_| usage(format!("{name} is not UTF-8"))))
                .transpose()
        };
        let path = |name: &str| {
            raw(name)
                .map(|value| {
                    std::path::absolute(PathBuf::from(value))
                        .map_err(|source| usage(format!("{name} names no path: {source}")))
                })
                .transpose()
        };
        let given: Vec<(&str, Source)> = [
            ("NIXVM_CONFIGURATION", path("NIXVM_CONFIGURATION")?.map(Source::Configuration)),
            ("NIXVM_FLAKE", text("NIXVM_FLAKE")?.map(Source::Flake)),
            ("NIXVM_VM", path("NIXVM_VM")?.map(Source::Built)),
        ]
        .into_iter()
        .filter_map(|(name, source)| Some((name, source?)))
        .collect();
        let nixpkgs = text("NIXVM_NIXPKGS")?;
        match given.as_slice() {
            [(one, _), (other, _), ..] => {
                return Err(usage(format!("{one} and {other} are both set, and contradict each other"))
                    .next_step("unset all but one"));
            }
            [(name, Source::Flake(_) | Source::Built(_))] if nixpkgs.is_some() => {
                return Err(usage(format!("NIXVM_NIXPKGS has no use with {name}, which brings its own"))
                    .next_step("unset one of the two"));
            }
            _ => {}
        }
        let keep_state = match text("NIXVM_KEEP_STATE")?.as_deref() {
            None | Some("0") => KeepState::Fresh,
            Some("1") => KeepState::Keep,
            Some("strict") => KeepState::Strict,
            Some(other) => return Err(choice("NIXVM_KEEP_STATE", other, "1, strict or 0")),
        };
        let skip = match text("NIXVM_SKIP")?.as_deref() {
            None | Some("0") => false,
            Some("1") => true,
            Some(other) => return Err(choice("NIXVM_SKIP", other, "1 or 0")),
        };
        let templates = match text("NIXVM_TEMPLATES")?.as_deref() {
            None | Some("1") => true,
            Some("0") => false,
            Some(other) => return Err(choice("NIXVM_TEMPLATES", other, "1 or 0")),
        };
        let shuffle = match text("NIXVM_SHUFFLE")? {
            None => None,
            Some(seed) => Some(seed.parse().map_err(|_| choice("NIXVM_SHUFFLE", &seed, "a number"))?),
        };
        let partition = match text("NIXVM_PARTITION")? {
            None => None,
            Some(share) => Some(share.parse().map_err(|_| {
                choice("NIXVM_PARTITION", &share, "a share such as hash:1/3, the first of three")
            })?),
        };
        let retries = match text("NIXVM_RETRIES")? {
            None => 0,
            Some(count) => count.parse().map_err(|_| choice("NIXVM_RETRIES", &count, "a number"))?,
        };
        let fail_fast = match text("NIXVM_FAIL_FAST")?.as_deref() {
            None | Some("0") => false,
            Some("1") => true,
            Some(other) => return Err(choice("NIXVM_FAIL_FAST", other, "1 or 0")),
        };
        let time = |name: &str| match text(name)? {
            None => Ok(None),
            Some(value) => duration(&value)
                .map(Some)
                .ok_or_else(|| choice(name, &value, "a time of at least one second, such as 90s, 45m or 2h")),
        };
        let (build_limit, run_limit) = (time("NIXVM_BUILD_TIMEOUT")?, time("NIXVM_RUN_TIMEOUT")?);
        let count = |name: &str| match text(name)? {
            None => Ok(None),
            Some(value) => match value.parse::<u64>() {
                Ok(count @ 1..) => Ok(Some(count)),
                _ => Err(choice(name, &value, "a number from 1")),
            },
        };
        let (jobs, host_cores) = (count("NIXVM_JOBS")?, count("NIXVM_HOST_CORES")?);
        let host_memory = match text("NIXVM_HOST_MEMORY")? {
            None => None,
            Some(value) => Some(
                mebibytes(&value)
                    .ok_or_else(|| choice("NIXVM_HOST_MEMORY", &value, "a size such as 4G or 512M"))?,
            ),
        };
        let report: Copies = text("NIXVM_REPORT")?.unwrap_or_default().parse()?;
        let report = report.absolute();
        let source = given.into_iter().next().map(|(_, source)| source);
        Ok(Self {
            source,
            nixpkgs,
            keep_state,
            skip,
            templates,
            shuffle,
            partition,
            retries,
            fail_fast,
            jobs,
            report,
            run_limit,
            host_cores,
            host_memory,
            build_limit,
        })
    }
}

fn duration(value: &str) -> Option<Duration> {
    let (number, unit) = match value.char_indices().find(|(_, c)| !c.is_ascii_digit()) {
        Some((at, _)) => value.split_at(at),
        None => (value, "s"),
    };
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    let total = number.parse::<u64>().ok()?.checked_mul(seconds)?;
    // A year is as good as no limit, and keeps every sum of times far from overflowing.
    (1..=31_536_000).contains(&total).then(|| Duration::from_secs(total))
}

/// A size in MiB, as a scenario's attribute has it: `4G`, `512M`.
fn mebibytes(value: &str) -> Option<u64> {
    let (number, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let each = match unit {
        "M" => 1,
        "G" => 1024,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(each).filter(|size| (1..1 << 40).contains(size))
}

fn choice(name: &str, value: &str, choices: &str) -> Error {
    usage(format!("{name}={value} makes no sense: it takes {choices}"))
}

fn usage(why: String) -> Error {
    Error::new(ErrorKind::Usage, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings> {
        Settings::from_lookup(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        })
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
            ("NIXVM_NIXPKGS", "channel:nixos-23.11"),
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
        assert_eq!(settings.nixpkgs.as_deref(), Some("channel:nixos-23.11"));
        assert_eq!((settings.keep_state, settings.skip), (KeepState::Strict, true));
        assert_eq!(settings.build_limit, Some(Duration::from_secs(7200)));
        assert_eq!((settings.run_limit, settings.jobs), (Some(Duration::from_secs(1800)), Some(3)));
        assert_eq!((settings.host_cores, settings.host_memory), (Some(2), Some(4096)));
        assert_eq!(read(&[("NIXVM_FLAKE", ".#x")]).unwrap().source, Some(Source::Flake(".#x".to_owned())));
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
        assert_eq!(duration("90"), Some(Duration::from_secs(90)));
        assert_eq!(duration("45m"), Some(Duration::from_secs(2700)));
    }
}
