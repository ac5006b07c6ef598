//! `nixvm-test completions`: what a shell needs to complete this command's words.

use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use nixvm_test::report;

const EXAMPLES: &str = "\
Examples:
  nixvm-test completions bash >~/.local/share/bash-completion/completions/nixvm-test
  nixvm-test completions zsh >\"${fpath[1]}/_nixvm-test\"
  nixvm-test completions fish >~/.config/fish/completions/nixvm-test.fish";

/// For which shell.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Prints it.
    pub fn run(&self) -> ExitCode {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::Cli::command(), "nixvm-test", &mut script);
        report::answer(script);
        ExitCode::SUCCESS
    }
}
