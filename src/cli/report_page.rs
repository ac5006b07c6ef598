//! `nixvm-test report [RUN]`: shows the report of a run.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::environment::is_set;
use crate::record::Folder;
use crate::scenario::Exit;
use crate::{Result, report};
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  nixvm-test report                           of the newest run
  nixvm-test report 20261123 --no-open        only where the page of that day's run is";

/// Shows the report of a run.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ReportPage {
    /// The run: the folder of its record, its name, the beginning of that, or `last`
    #[arg(default_value = "last")]
    run: String,
    /// Only print the path of the page
    #[arg(long)]
    no_open: bool,
}

impl ReportPage {
    /// Prints the path, and opens the page.
    pub fn run(&self) -> Result<ExitCode> {
        let folder = Folder::find(&self.run)?;
        let old = folder.path().join("report.html");
        let page = match report::render(&folder) {
            Ok(page) => page,
            // A run that was killed has an old page, or none. A page in another user's record may contain any script.
            Err(error) if folder.is_own() && old.is_file() => {
                tracing::warn!(%error, "the page is not up to date");
                old
            }
            Err(error) => return Err(error),
        };
        report::answer_path(&page);
        if !self.no_open && (is_set("DISPLAY") || is_set("WAYLAND_DISPLAY")) {
            open(&page);
        }
        Ok(Exit::Passed.into())
    }
}

/// Opens the page. If there is no such program, the printed path has to do.
fn open(page: &Path) {
    // An absolute path is neither an option nor a URL.
    let Ok(page) = std::path::absolute(page) else { return };
    let mut command = Command::new("xdg-open");
    let _ = command.arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}
