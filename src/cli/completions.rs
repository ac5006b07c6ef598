//! `nixvm-test completions`: prints what a shell needs to complete this command.

use std::process::ExitCode;

use crate::report;
use clap::{Args, Command, CommandFactory as _};
use clap_complete::Shell;

const EXAMPLES: &str = "\
Examples:
  nixvm-test completions bash >~/.local/share/bash-completion/completions/nixvm-test
  nixvm-test completions zsh >\"${fpath[1]}/_nixvm-test\"
  nixvm-test completions fish >~/.config/fish/completions/nixvm-test.fish";

/// The command to complete.
const NAME: &str = "nixvm-test";

/// For which shell.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Prints the script.
    pub fn run(&self) -> ExitCode {
        let mut script = Vec::new();
        let mut command = super::Cli::command();
        if self.shell == Shell::Zsh {
            command = without_files(&command);
        }
        clap_complete::generate(self.shell, &mut command, NAME, &mut script);
        let script = String::from_utf8_lossy(&script);
        report::answer(match self.shell {
            // clap_complete 4.6 writes a `-` in the name in two ways, and then does not match any subcommand by its
            // name.
            Shell::Bash => script.replace("nixvm__subcmd__test", "nixvm__test"),
            Shell::Zsh => with_files(&script),
            _ => script.into_owned(),
        });
        ExitCode::SUCCESS
    }
}

/// Returns the command without scenario files: clap_complete's zsh script puts subcommands after all of them.
fn without_files(full: &Command) -> Command {
    let flags = full.get_arguments().filter(|argument| !argument.is_positional());
    let version = full.get_version().unwrap_or_default().to_owned();
    Command::new(NAME).version(version).args(flags).subcommands(full.get_subcommands())
}

/// Changes the script so that the first word is a subcommand or a file, and each word after a file is a file.
fn with_files(script: &str) -> String {
    let commands = format!("_describe -t commands '{NAME} commands' commands \"$@\"\n");
    let script = script.replacen(&commands, &format!("{commands}    _files\n"), 1);
    let cases = "case $line[1] in\n";
    script.replacen(cases, &format!("{cases}            (*.rs|*/*)\n_files && ret=0\n;;\n"), 1)
}
