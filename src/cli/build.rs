//! `nixvm-test build`: builds the VM and makes the link `./result`, as nix-build does.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::nix::Source;
use crate::scenario::Exit;
use crate::signals;
use crate::{Error, ErrorKind, Result, report};
use clap::Args;

use super::options::Options;

const EXAMPLES: &str = "\
Examples:
  nixvm-test build                                  ./configuration.nix
  nixvm-test build --configuration web.nix -o web   another, with the link ./web
  nixvm-test build --flake .#web
Then, as in the tutorial: ./result/bin/run-nixos-vm";

/// Where the link goes.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Build {
    /// The link to make
    #[arg(short, long, value_name = "LINK", default_value = "result")]
    out_link: PathBuf,

    /// Add the network module, with which a machine of a scenario has its name and its addresses
    ///
    /// The result is then as a scenario with several machines builds it. `-vv` shows the command with the module.
    #[arg(long)]
    network: bool,
}

impl Build {
    /// Builds, and prints the path of the result.
    pub async fn run(self, options: &Options) -> Result<ExitCode> {
        let settings = options.settings()?;
        let here = Source::Configuration("configuration.nix".into());
        let source = settings.source.clone().unwrap_or(here);
        if let Source::Built(vm) = &source {
            let summary = format!("{} is built already: there is nothing to build", vm.display());
            return Err(Error::new(ErrorKind::Usage, summary)
                .next_step("name a configuration instead: --configuration FILE.nix"));
        }
        let reporter = report::choose(&settings);
        let events = crate::Events::to(&reporter);
        let at_signal = reporter.clone();
        signals::install(move |_| at_signal.finish())?;
        let builder = settings.builder().clonable(false).networked(self.network).out_link(&self.out_link);
        let built = builder.build(&source, &events).await;
        signals::hold_if_ending();
        reporter.finish();
        let built = built?;
        // The script is `bin/run-NAME-vm` in the build result.
        let result = built.script().ancestors().nth(2).unwrap_or(built.script());
        report::answer_path(result);
        Ok(Exit::Passed.into())
    }
}
