//! `nixvm-test diff RUN1 RUN2`: shows what changed from one run to another.

use std::process::ExitCode;

use crate::record::{Folder, History};
use crate::scenario::Exit;
use crate::{Result, report};
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  nixvm-test diff 20261122 last               what changed since yesterday's run
  nixvm-test diff green.run/ last             against a record that was copied here";

/// Compares two runs. The exit code is 1 when outcomes differ: a scenario ended otherwise, came or went.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Diff {
    /// The one run: the folder of its record, its name, the beginning of that, or `last`
    old: String,
    /// The other, likewise
    #[arg(default_value = "last")]
    new: String,
}

impl Diff {
    /// Prints the difference.
    pub fn run(&self) -> Result<ExitCode> {
        let read = |named: &str| History::of(Folder::find(named)?.files());
        let found = report::compare(&read(&self.old)?, &read(&self.new)?);
        report::show(&found.text);
        Ok(if found.outcomes_differ { Exit::Failed } else { Exit::Passed }.into())
    }
}
