//! `nixvm-test cache list|prune|path`: the templates of machines.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use crate::mutants;
use crate::nix::git;
use crate::qemu::accelerator;
use crate::template::{self, Entry, Store};
use crate::{Result, report};
use clap::{Args, Subcommand};

const EXAMPLES: &str = "\
Examples:
  nixvm-test cache list
  nixvm-test cache prune                 removes what is not in use
  nixvm-test cache prune --size 2048     down to 2 GiB";

/// What to do with the templates.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Cache {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List each template: its own size, what it shares, when it was used last, whether it is in use
    List,
    /// Remove templates that are not in use, the least recently used first, checked-out commits, copies of
    /// configurations that `mutants` left when it was killed, and what was found out about KVM
    Prune {
        /// Stop when all templates together take at most this many MiB
        #[arg(long, value_name = "MIB", default_value_t = 0)]
        size: u64,
    },
    /// Print the path of their folder
    Path,
}

impl Cache {
    /// Runs the chosen subcommand.
    pub fn run(&self) -> Result<ExitCode> {
        let store = Store::open()?;
        match &self.action {
            Action::Path => report::answer_path(store.folder()),
            Action::List => {
                let entries = template::list(&store)?;
                let line = |entry: &Entry| {
                    let used = ago(entry.used.elapsed().unwrap_or_default().as_secs());
                    let state = if entry.in_use { "in use" } else { "" };
                    let (own, shared) = (entry.size >> 20, entry.shared >> 20);
                    format!(
                        "{}  {own:>6} MiB + {shared:>6} MiB shared  used {used} ago  {state}\n",
                        entry.key
                    )
                };
                let mut shown: String = entries.iter().map(line).collect();
                if !entries.is_empty() {
                    let (all, number) = (template::total(&entries) >> 20, count(entries.len()));
                    // Writing to a String cannot fail.
                    let _ = writeln!(shown, "{number}: {all} MiB in total; shared files count once");
                }
                report::show(&shown);
            }
            Action::Prune { size } => {
                let gone = template::prune(&store, size.saturating_mul(1 << 20))?;
                let bytes: u64 = gone.iter().map(|entry| entry.size).sum();
                accelerator::forget()?;
                let commits = match git::prune(Duration::ZERO)? {
                    0 => String::new(),
                    1 => ", and 1 checked-out commit".to_owned(),
                    number => format!(", and {number} checked-out commits"),
                };
                let copies = match mutants::prune()? {
                    0 => String::new(),
                    1 => ", and 1 copy of a configuration".to_owned(),
                    number => format!(", and {number} copies of configurations"),
                };
                report::answer(format!(
                    "removed {} of {} MiB{commits}{copies}\n",
                    count(gone.len()),
                    bytes >> 20
                ));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn count(number: usize) -> String {
    if number == 1 { "1 template".to_owned() } else { format!("{number} templates") }
}

/// Formats seconds for people.
fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
