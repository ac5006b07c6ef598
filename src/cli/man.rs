//! `nixvm-test man`: prints or writes the manual pages.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::{Error, Result, report};
use clap::{Args, CommandFactory as _};

const EXAMPLES: &str = "\
Examples:
  nixvm-test man | man -l -                                   to read it
  nixvm-test man --dir ~/.local/share/man/man1                to have `man nixvm-test`, and a page a subcommand";

/// Where they go.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Man {
    /// Write a page for the command and one for each subcommand to this folder, instead of printing the first
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    /// Prints or writes them.
    pub fn run(&self) -> Result<ExitCode> {
        let failed = |source: std::io::Error| Error::io("write the manual pages", &source);
        let command = super::Cli::command();
        match &self.dir {
            Some(dir) => {
                std::fs::create_dir_all(dir).map_err(failed)?;
                clap_mangen::generate_to(command, dir).map_err(failed)?;
            }
            None => {
                let mut page = Vec::new();
                clap_mangen::Man::new(command).render(&mut page).map_err(failed)?;
                report::answer(page);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
