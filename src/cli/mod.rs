//! The command line of `nixvm-test`: one file a subcommand.

mod attach;
mod build;
mod cache;
mod child;
mod completions;
mod config;
mod console;
mod diff;
mod doctor;
mod init;
mod interactive;
mod list;
mod man;
mod options;
mod repl;
mod replay;
mod report_page;
mod run;
mod shell;
mod startup_reporter;
mod terminal;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::scenario::{EXIT_CODES, Exit};
use crate::{Error, ErrorKind, Result, report, signals, threads};
use clap::{Args, Parser, Subcommand};

use options::Options;

/// How long work that goes on beside has to end, before the process exits.
const FINISHING: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  nixvm-test scenarios/login.rs                   one file
  nixvm-test scenarios/                           every scenario in a folder
  nixvm-test --watch scenarios/login.rs           again after every save
  nixvm-test scenarios/login.rs -- --list         what is in it
  nixvm-test scenarios/ -- login --test-threads=1 those whose name contains \"login\", one at a time
  nixvm-test --nixpkgs channel:nixos-26.05 scenarios/login.rs
  nixvm-test --flake .#web scenarios/web.rs
  nixvm-test --vm ./result scenarios/login.rs     a VM that is built already
  nixvm-test report                               the page of the last run
  nixvm-test replay last login                    what its console showed, as a film
  nixvm-test build                                only build ./configuration.nix, as nix-build does";

/// Tests a NixOS configuration by booting it: builds the VM, boots it, logs in on its serial console,
/// runs the scenario and powers off.
#[derive(Debug, Parser)]
#[command(
    name = "nixvm-test",
    version,
    arg_required_else_help = true,
    subcommand_negates_reqs = true,
    after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"),
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
    #[command(flatten)]
    options: Options,
}

/// What to run, when it is scenarios.
#[derive(Debug, Args)]
struct Run {
    /// Files of scenarios, or folders of such files
    #[arg(value_name = "FILE.rs|DIR", required = true)]
    scenarios: Vec<PathBuf>,
    /// Run again after every save of a scenario or its configuration, until ctrl-C; a save ends a run under way
    #[arg(short, long)]
    watch: bool,
    /// Arguments for the harness: filters, --list, --exact, --ignored, --test-threads N, --format json
    #[arg(last = true, value_name = "HARNESS ARGUMENTS")]
    harness: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the VM of a configuration and make the link ./result, as nix-build does
    Build(build::Build),
    /// Go back to the moment at which a scenario failed: its machine's console in this terminal
    Attach(attach::Attach),
    /// A session by hand: the machine booted or cloned, somebody logged in, its console in this terminal
    Shell(shell::Shell),
    /// Commands against a live machine, and a scenario made of those that worked
    Repl(repl::Repl),
    /// Show, or make smaller, what is kept between runs: templates of machines
    Cache(cache::Cache),
    /// Make a first configuration and scenario, a package and a workflow: what passes as it stands
    Init(init::Init),
    /// List the scenarios in files and folders: what they test, on which machines, within which limits
    List(list::List),
    /// Look at all that this host needs, and say what mends what it lacks
    Doctor(doctor::Doctor),
    /// Show every setting: what holds, and which flag, variable or line of nixvm.toml says so
    Config(config::Config),
    /// Print what a shell needs to complete the words of this command
    Completions(completions::Completions),
    /// Print the manual page, or write all of them
    Man(man::Man),
    /// Show the report of a run: print where its page is, and open it where there is a display
    Report(report_page::ReportPage),
    /// Play what a machine's console showed in a run
    Replay(replay::Replay),
    /// Say what changed from one run to another: outcomes, times, output
    Diff(diff::Diff),
}

impl Cli {
    /// Does what was asked for.
    pub fn run(self) -> ExitCode {
        self.options.start_log();
        let done = self.carry_out();
        threads::finish(FINISHING);
        if report::has_no_reader() {
            return signals::NO_READER.into();
        }
        done.unwrap_or_else(|error| {
            report::error(&error);
            Exit::before_the_body(&error, Exit::Failed).into()
        })
    }

    fn carry_out(self) -> Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| Error::host("start a runtime", &source))?;
        if self.run.watch && self.command.is_some() {
            return Err(Error::new(ErrorKind::Usage, "--watch is for scenarios: it takes no subcommand"));
        }
        match self.command {
            Some(Command::Cache(cache)) => cache.run(),
            Some(Command::List(list)) => runtime.block_on(list.run(&self.options)),
            Some(Command::Completions(completions)) => Ok(completions.run()),
            Some(Command::Man(man)) => man.run(),
            Some(Command::Init(init)) => runtime.block_on(init.run(&self.options)),
            Some(Command::Doctor(doctor)) => runtime.block_on(doctor.run(&self.options)),
            Some(Command::Config(config)) => config.run(&self.options),
            Some(Command::Attach(attach)) => runtime.block_on(attach.run(&self.options)),
            Some(Command::Shell(shell)) => runtime.block_on(shell.run(&self.options)),
            Some(Command::Report(report)) => report.run(),
            Some(Command::Replay(replay)) => runtime.block_on(replay.run()),
            Some(Command::Diff(diff)) => diff.run(),
            Some(Command::Repl(repl)) => runtime.block_on(repl.run(&self.options)),
            Some(Command::Build(build)) => runtime.block_on(build.run(&self.options)),
            None if self.run.watch => {
                runtime.block_on(watch::watch(&self.run.scenarios, &self.run.harness, &self.options))
            }
            None => runtime.block_on(run::run(&self.run.scenarios, &self.run.harness, &self.options)),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_shows_examples_that_parse() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:\n"), "{} has no examples:\n{help}", command.get_name());
            let lines = help.lines().map(str::trim).filter_map(|line| line.strip_prefix("nixvm-test "));
            for line in lines {
                // The words before two spaces (what it is for), a pipe or a redirection.
                let words = line.split("  ").next().unwrap_or_default();
                let words = words.split(['|', '>', '&']).next().unwrap_or_default();
                let words = words.split_whitespace().map(|word| word.replace('"', ""));
                let parsed = Cli::try_parse_from(std::iter::once("nixvm-test".to_owned()).chain(words));
                assert!(parsed.is_ok(), "{line}: {parsed:?}");
            }
        }
    }

    #[test]
    fn arguments_after_two_dashes_go_to_the_harness() {
        let cli = Cli::parse_from(["nixvm-test", "a.rs", "b.rs", "--", "--list", "login"]);
        assert_eq!(cli.run.scenarios, ["a.rs", "b.rs"].map(PathBuf::from));
        assert_eq!(cli.run.harness, ["--list", "login"].map(OsString::from));
    }

    #[test]
    fn options_stand_before_or_after_the_subcommand() {
        for line in [["nixvm-test", "--flake", ".#web", "build"], ["nixvm-test", "build", "--flake", ".#web"]]
        {
            let cli = Cli::parse_from(line);
            assert!(matches!(cli.command, Some(Command::Build(_))));
            let settings = cli.options.settings().unwrap();
            assert!(
                matches!(settings.source, Some(crate::nix::Source::Flake(flake)) if flake.ends_with("#web"))
            );
        }
    }
}
