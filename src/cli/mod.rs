//! The command line of `nixvm-test`, with one file for each subcommand.

mod applies;
mod attach;
mod build;
mod cache;
mod child;
mod completions;
mod config;
mod console;
mod described;
mod diff;
mod doctor;
mod editor;
mod init;
mod interactive;
mod list;
mod man;
mod mutants;
mod options;
mod rehearse;
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
use crate::{Error, ErrorKind, Result, host_limits, report, threads};
use clap::{ArgMatches, Args, FromArgMatches, Parser, Subcommand};

use options::{Flags, Options};

/// Time that background work has to end before the process exits.
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

/// Tests a NixOS configuration by booting it
///
/// It builds the VM, boots it, logs in on its serial console, runs the scenarios and powers off. A scenario is a function
/// in a file of Rust, which is compiled when it is run.
#[derive(Debug, Parser)]
#[command(
    name = "nixvm-test",
    version,
    arg_required_else_help = true,
    subcommand_negates_reqs = true,
    after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"),
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Chosen>,
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
    /// Run again after every save, until ctrl-C
    ///
    /// What is watched: the files of the scenarios, what they are compiled from, and their configurations. A save ends a
    /// run that is under way.
    #[arg(short, long)]
    watch: bool,
    /// Arguments for the harness: filters, --list, --exact, …
    ///
    /// A word is a filter: scenarios run whose name contains it. Flags: --list, --exact, --skip WORD, --ignored,
    /// --include-ignored, --test-threads N, --format json, --nocapture.
    #[arg(last = true, value_name = "HARNESS ARGUMENTS")]
    harness: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the VM of a configuration, and link it as ./result
    ///
    /// It does what nix-build does for the tutorial's VM. Nothing is booted.
    Build(build::Build),
    /// Open the console of a machine as it was when its scenario failed
    ///
    /// The machine goes on in this terminal from the moment of the failure. It needs a run that kept its failed machines,
    /// which runs do by default.
    Attach(attach::Attach),
    /// Boot a machine, log in, and connect its console to this terminal
    ///
    /// The machine is a clone of a template if there is one. It is stopped when the session ends.
    Shell(shell::Shell),
    /// Rehearse a deploy: switch a machine to another configuration, and back
    ///
    /// It boots today's configuration, switches to tomorrow's, reboots into it and rolls back. It shows which units restart
    /// and why, what fails, what needs a reboot, and what is different after the rollback.
    Rehearse(rehearse::Rehearse),
    /// Type commands for a live machine, and save those that worked as a scenario
    ///
    /// The commands have the names of the methods of a machine.
    Repl(repl::Repl),
    /// List or prune the templates of machines
    ///
    /// A template is the saved state of a machine that has booted. Machines are cloned from it within a second or two.
    Cache(cache::Cache),
    /// Write a first configuration, scenario, package and workflow
    ///
    /// The new scenario passes without a change. A file that exists is not changed.
    Init(init::Init),
    /// Write what rust-analyzer needs for scenario files
    ///
    /// A scenario file belongs to no package, so an editor knows none of its names. This writes a package beside the
    /// files that rust-analyzer finds by itself.
    Editor(editor::Editor),
    /// List the scenarios in files and folders
    ///
    /// It shows what each scenario tests, its machines and its limits. Nothing is built or booted.
    List(list::List),
    /// Change one definition of a configuration at a time, and run the scenarios
    ///
    /// A change that no scenario notices shows what the scenarios do not test. The files themselves stay as they are:
    /// a copy of them is changed. What is found stands in ./mutants.out, too.
    Mutants(mutants::Mutants),
    /// Check what this host needs, and show how to fix what is missing
    ///
    /// It checks Nix, QEMU, KVM, the Rust compiler, disk space and memory. Nothing is built or booted without --kvm.
    Doctor(doctor::Doctor),
    /// Show every setting, its value, and where the value comes from
    ///
    /// A setting comes from a flag, a variable, a line of nixvm.toml, or the default, in this order.
    Config(config::Config),
    /// Print the completion script of a shell
    ///
    /// The examples show where each shell looks for it.
    Completions(completions::Completions),
    /// Print the manual page, or write all manual pages
    ///
    /// There is a page for the program and one for each subcommand.
    Man(man::Man),
    /// Print the path of a run's report, and open it where there is a display
    ///
    /// The report is one page with every console as a film.
    Report(report_page::ReportPage),
    /// Play what a machine's console showed in a run
    ///
    /// It plays in this terminal. Only what the screen showed is drawn, so no escape sequence of the guest gets through.
    Replay(replay::Replay),
    /// Compare two runs: outcomes, times, output
    ///
    /// The exit code is 1 when outcomes differ: a scenario ended in another way, is new, or is gone.
    Diff(diff::Diff),
}

/// A subcommand, with the settings whose flags stand after its name.
#[derive(Debug)]
struct Chosen {
    name: String,
    command: Command,
    flags: Flags,
}

impl FromArgMatches for Chosen {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let command = Command::from_arg_matches(matches)?;
        let (name, its) = matches.subcommand().unwrap_or(("", matches));
        Ok(Self { flags: Flags::of(its, &applies::settings(name)), name: name.to_owned(), command })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Subcommand for Chosen {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        let mut command = Command::augment_subcommands(command);
        for name in command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect::<Vec<_>>() {
            let its = options::arguments(&applies::settings(&name));
            command = command.mut_subcommand(name, |sub| sub.args(its));
        }
        command
    }

    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        Command::has_subcommand(name)
    }
}

/// Runs the program with its command line.
pub fn program() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => cli.run(),
        Err(error) => match applies::refused(&error, std::env::args()) {
            Some(error) => {
                report::error(&error);
                Exit::before_the_body(&error, Exit::Failed).into()
            }
            None => report::usage(&error),
        },
    }
}

impl Cli {
    /// Runs the chosen subcommand.
    pub fn run(self) -> ExitCode {
        self.options.start_log();
        let done = self.carry_out();
        threads::finish(FINISHING);
        if report::has_no_reader() {
            return report::NO_READER.into();
        }
        let done = done.and_then(|code| report::lost_output().map_or(Ok(code), Err));
        done.unwrap_or_else(|error| {
            report::error(&error);
            Exit::before_the_body(&error, Exit::Failed).into()
        })
    }

    fn carry_out(mut self) -> Result<ExitCode> {
        if let Some(limit) = host_limits::lacks_memory(host_limits::FOR_ITSELF) {
            return Err(Error::limited("begin", limit));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| Error::host("start a runtime", &source))?;
        if self.run.watch && self.command.is_some() {
            return Err(Error::new(ErrorKind::Usage, "--watch is for scenarios: it takes no subcommand"));
        }
        let command = match self.command {
            Some(Chosen { name, command, flags }) => {
                applies::check(&name, self.options.given())?;
                self.options.add(flags);
                Some(command)
            }
            None => None,
        };
        match command {
            Some(Command::Cache(cache)) => cache.run(),
            Some(Command::List(list)) => runtime.block_on(list.run(&self.options)),
            Some(Command::Completions(completions)) => Ok(completions.run()),
            Some(Command::Man(man)) => man.run(),
            Some(Command::Init(init)) => runtime.block_on(init.run(&self.options)),
            Some(Command::Editor(editor)) => runtime.block_on(editor.run()),
            Some(Command::Mutants(mutants)) => runtime.block_on(mutants.run(&self.options)),
            Some(Command::Doctor(doctor)) => runtime.block_on(doctor.run(&self.options)),
            Some(Command::Config(config)) => config.run(&self.options),
            Some(Command::Attach(attach)) => runtime.block_on(attach.run(&self.options)),
            Some(Command::Shell(shell)) => runtime.block_on(shell.run(&self.options)),
            Some(Command::Report(report)) => report.run(),
            Some(Command::Replay(replay)) => runtime.block_on(replay.run()),
            Some(Command::Diff(diff)) => diff.run(),
            Some(Command::Repl(repl)) => runtime.block_on(repl.run(&self.options)),
            Some(Command::Rehearse(rehearse)) => runtime.block_on(rehearse.run(&self.options)),
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
            let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:\n"), "{} has no examples:\n{help}", command.get_name());
            let lines = help.lines().map(str::trim).filter_map(|line| line.strip_prefix("nixvm-test "));
            for line in lines {
                // The command ends before two spaces (its description), a pipe or a redirection.
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

    /// Returns the text of `-h` or `--help` for these words.
    fn help(words: &[&str]) -> String {
        let words = std::iter::once("nixvm-test").chain(words.iter().copied());
        let error = Cli::try_parse_from(words).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::DisplayHelp);
        error.to_string()
    }

    #[test]
    fn the_short_help_is_a_part_of_the_long_one_and_takes_a_line_for_each_flag() {
        let commands = Cli::command();
        let names = commands.get_subcommands().map(clap::Command::get_name);
        for name in names.map(Some).chain([None]) {
            let (short, long) = (
                help(&name.into_iter().chain(["-h"]).collect::<Vec<_>>()),
                help(&name.into_iter().chain(["--help"]).collect::<Vec<_>>()),
            );
            let lines = |text: &str| text.lines().count();
            assert!(lines(&short) < 65 && lines(&short) + 5 < lines(&long), "{name:?}:\n{short}\n{long}");
            assert!(
                !short.contains("Examples:") && long.contains("Examples:\n"),
                "{name:?}:\n{short}\n{long}"
            );
            let flags = |text: &str| -> Vec<String> {
                let words = text.split([' ', ',', '[', '=', '.', '\n']);
                words.filter(|word| word.starts_with('-')).map(str::to_owned).collect()
            };
            let all = flags(&long);
            for flag in flags(&short) {
                assert!(all.contains(&flag), "{name:?}: {flag} is not in\n{long}");
            }
        }
        let (short, long) = (help(&["-h"]), help(&["--help"]));
        assert!(!short.contains("--host-cores") && long.contains("--host-cores"));
        assert!(!short.contains("Exit codes:") && long.contains("Exit codes:"));
    }

    #[test]
    fn the_help_of_a_subcommand_lists_the_settings_that_apply_to_it_and_no_others() {
        let commands = Cli::command();
        for name in commands.get_subcommands().map(clap::Command::get_name) {
            let (long, takes) = (help(&[name, "--help"]), applies::settings(name));
            for setting in crate::settings::TABLE {
                // `doctor` and `attach` have flags of their own that are not settings.
                let is_listed = long.contains(&format!("The variable is {},", setting.variable));
                let applies = takes.iter().any(|its| its.key == setting.key);
                assert_eq!(is_listed, applies, "{name}: {}\n{long}", setting.key);
            }
        }
    }

    #[test]
    fn options_stand_before_or_after_the_subcommand() {
        for line in [["nixvm-test", "--flake", ".#web", "build"], ["nixvm-test", "build", "--flake", ".#web"]]
        {
            let mut cli = Cli::parse_from(line);
            let chosen = cli.command.unwrap();
            assert!(matches!(chosen.command, Command::Build(_)));
            cli.options.add(chosen.flags);
            let settings = cli.options.settings().unwrap();
            assert!(
                matches!(settings.source, Some(crate::nix::Source::Flake(flake)) if flake.ends_with("#web"))
            );
        }
    }
}
