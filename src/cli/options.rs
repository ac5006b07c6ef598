//! What holds for every subcommand: where the VM comes from, its state, the log. The binary of a
//! scenario gets all of it as `NIXVM_*` variables, which work by themselves too (in CI, with cargo).

use std::env::VarError;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use nixvm_test::Copies;
use nixvm_test::build::{Settings, Source};
use nixvm_test::report;
use nixvm_test::scenario::Partition;

/// Where the VM comes from and what becomes of its state.
#[derive(Debug, Args)]
pub struct Options {
    /// nixpkgs to build with: a channel (channel:nixos-23.11), a path, <nixpkgs>, a URL
    #[arg(long, global = true, value_name = "NIXPKGS")]
    pub nixpkgs: Option<String>,
    /// The configuration, for scenarios that name none [default: configuration.nix beside or above the scenario]
    #[arg(long, global = true, value_name = "FILE.nix", conflicts_with_all = ["flake", "vm"])]
    pub configuration: Option<PathBuf>,
    /// A flake's host instead of a configuration: its config.system.build.vm
    #[arg(long, global = true, value_name = "FLAKE#HOST", conflicts_with = "vm")]
    pub flake: Option<String>,
    /// A VM that is built already (./result of nix-build or nixos-rebuild build-vm)
    #[arg(long, global = true, value_name = "RESULT")]
    pub vm: Option<PathBuf>,
    /// Keep the VM's disk beside the configuration, from run to run [strict: refuse one of another configuration]
    #[arg(
        long,
        global = true,
        value_name = "HOW",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "on",
        hide_possible_values = true
    )]
    pub keep_state: Option<KeepState>,
    /// Boot every machine for its scenario alone, instead of cloning a template
    #[arg(long, global = true)]
    pub no_template: bool,
    /// Run scenarios in an order that this number decides
    #[arg(long, global = true, value_name = "SEED")]
    pub shuffle: Option<u64>,
    /// Run a share of the scenarios alone: hash:1/3 is the first of three
    #[arg(long, global = true, value_name = "SHARE")]
    pub partition: Option<Partition>,
    /// Try scenarios that failed again, so often; those that pass then are named flaky
    #[arg(long, global = true, value_name = "N")]
    pub retries: Option<u32>,
    /// Begin nothing more once a scenario has failed
    #[arg(long, global = true)]
    pub fail_fast: bool,
    /// Run so many machines at once, at most [default: as many as this host has processors and memory for]
    #[arg(short, long, global = true, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub jobs: Option<u64>,
    /// Write reports beside those in the record of the run, too: junit=FILE,html=FILE,jsonl=FILE,cast=DIR
    #[arg(long, global = true, value_name = "FORMAT=PATH,…")]
    pub report: Option<Copies>,
    /// Longest time the whole run may take: 90s, 45m, 2h. Then what is under way is ended, and the rest is not run
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    pub run_timeout: Option<Duration>,
    /// Show the log on standard error; -vv shows all of it
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// What to do with a kept disk that another configuration left.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum KeepState {
    /// Start fresh.
    On,
    /// Refuse to start.
    Strict,
}

impl Options {
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
            0 => None,
            1 => Some("debug"),
            _ => Some("trace"),
        }
    }

    /// The variables for a scenario's binary. Relative paths are made absolute, so that they mean the same
    /// wherever it looks at them from.
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        let mut variables: Vec<(&'static str, OsString)> = Vec::new();
        let mut add = |name, value: Option<OsString>| variables.extend(value.map(|value| (name, value)));
        add("NIXVM_NIXPKGS", self.nixpkgs().map(Into::into));
        add("NIXVM_CONFIGURATION", self.configuration.as_deref().map(absolute).map(Into::into));
        add("NIXVM_FLAKE", self.flake().map(Into::into));
        add("NIXVM_VM", self.vm.as_deref().map(absolute).map(Into::into));
        add(
            "NIXVM_KEEP_STATE",
            self.keep_state.map(|keep| match keep {
                KeepState::On => "1".into(),
                KeepState::Strict => "strict".into(),
            }),
        );
        add("NIXVM_TEMPLATES", self.no_template.then(|| "0".into()));
        add("NIXVM_SHUFFLE", self.shuffle.map(|seed| seed.to_string().into()));
        add("NIXVM_PARTITION", self.partition.map(|share| share.to_string().into()));
        add("NIXVM_RETRIES", self.retries.map(|count| count.to_string().into()));
        add("NIXVM_FAIL_FAST", self.fail_fast.then(|| "1".into()));
        add("NIXVM_JOBS", self.jobs.map(|count| count.to_string().into()));
        add("NIXVM_REPORT", self.report.as_ref().map(|copies| copies.absolute().to_string().into()));
        add("NIXVM_RUN_TIMEOUT", self.run_timeout.map(|limit| limit.as_secs().to_string().into()));
        add(report::log::VARIABLE, self.log().map(Into::into));
        // A flag of one kind of source overrides a variable of another that is set already.
        if self.configuration.is_some() || self.flake.is_some() || self.vm.is_some() {
            for other in ["NIXVM_CONFIGURATION", "NIXVM_FLAKE", "NIXVM_VM"] {
                let set = !matches!(std::env::var(other), Err(VarError::NotPresent));
                if set && !variables.iter().any(|(name, _)| *name == other) {
                    variables.push((other, OsString::new()));
                }
            }
        }
        variables
    }

    /// The same for what runs in this process.
    pub fn settings(&self) -> nixvm_test::Result<Settings> {
        let mut settings = Settings::from_env()?;
        if let Some(nixpkgs) = self.nixpkgs() {
            settings.nixpkgs = Some(nixpkgs);
        }
        let vm = self.vm.as_deref().map(absolute).map(Source::Built);
        let configuration = self.configuration.as_deref().map(absolute).map(Source::Configuration);
        if let Some(source) = configuration.or(self.flake().map(Source::Flake)).or(vm) {
            settings.source = Some(source);
        }
        settings.run_limit = self.run_timeout.or(settings.run_limit);
        Ok(settings)
    }

    /// `--nixpkgs`, with a path made absolute.
    fn nixpkgs(&self) -> Option<String> {
        self.nixpkgs.as_deref().map(|given| {
            let is_path =
                given.starts_with('.') || (!given.contains([':', '<']) && Path::new(given).exists());
            if is_path { absolute(Path::new(given)).display().to_string() } else { given.to_owned() }
        })
    }

    /// `--flake`, with a path made absolute.
    fn flake(&self) -> Option<String> {
        self.flake.as_deref().map(|given| {
            let (folder, host) =
                given.split_once('#').map_or((given, None), |(folder, host)| (folder, Some(host)));
            let (scheme, path) = folder.split_once("path:").map_or(("", folder), |(_, path)| ("path:", path));
            if !path.starts_with('.') && !path.is_empty() {
                return given.to_owned();
            }
            let path = absolute(Path::new(if path.is_empty() { "." } else { path }));
            let host = host.map(|host| format!("#{host}")).unwrap_or_default();
            format!("{scheme}{}{host}", path.display())
        })
    }
}

fn time(text: &str) -> Result<Duration, &'static str> {
    Settings::parse_time(text).ok_or("a time of at least one second, such as 90s, 45m or 2h")
}

/// The path from the root, without `.` in it; links are left as they are.
fn absolute(path: &Path) -> PathBuf {
    // Fails only for an empty path or without a current folder: then it is said where it is used.
    std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.components().collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::Cli;

    fn variables(line: &[&str]) -> Vec<(&'static str, String)> {
        let cli = Cli::parse_from(["nixvm-test", "a.rs"].iter().chain(line));
        let variables = cli.options.variables();
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
        for nixpkgs in ["channel:nixos-23.11", "<nixpkgs>", "https://example.org/nixpkgs.tar.gz"] {
            assert_eq!(variables(&["--nixpkgs", nixpkgs]), [("NIXVM_NIXPKGS", nixpkgs.to_owned())]);
        }
        let flake = "github:user/repository#web";
        assert_eq!(variables(&["--flake", flake]), [("NIXVM_FLAKE", flake.to_owned())]);
    }

    #[test]
    fn what_is_said_of_a_suite_reaches_it() {
        assert_eq!(variables(&["-j", "3"]), [("NIXVM_JOBS", "3".to_owned())]);
        assert_eq!(variables(&["--run-timeout", "45m"]), [("NIXVM_RUN_TIMEOUT", "2700".to_owned())]);
        assert!(Cli::try_parse_from(["nixvm-test", "a.rs", "--jobs", "0"]).is_err());
    }

    #[test]
    fn keep_state_and_the_log_have_levels() {
        assert_eq!(variables(&["--keep-state"]), [("NIXVM_KEEP_STATE", "1".to_owned())]);
        assert_eq!(variables(&["--keep-state=strict"]), [("NIXVM_KEEP_STATE", "strict".to_owned())]);
        assert_eq!(variables(&["-v"]), [("NIXVM_LOG", "debug".to_owned())]);
        assert_eq!(variables(&["-vv"]), [("NIXVM_LOG", "trace".to_owned())]);
    }
}
