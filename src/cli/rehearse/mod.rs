//! `nixvm-test rehearse`: switches a machine from the configuration that runs today to tomorrow's, and back.

mod looks;
mod progress;
mod report;
mod scenarios;
mod stages;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::machine::System;
use crate::nix::{Builder, Source, first_admin};
use crate::report::{answer, show_foreign};
use crate::scenario::Exit;
use crate::{Error, ErrorKind, Events, Result};
use clap::Args;

use super::interactive::source_as_written;
use super::options::Options;
use super::startup_reporter::StartupReporter;

const EXAMPLES: &str = "\
Examples:
  nixvm-test rehearse                             from the last commit to ./configuration.nix
  nixvm-test rehearse --from git:main --to web.nix
  nixvm-test rehearse --plan                      the forecast alone
  nixvm-test rehearse --markdown                  for a comment on a pull request
  nixvm-test rehearse scenarios/                  run scenarios at each stage

Exit codes: 0, the deploy is clean; 1, something failed, is different after the rollback, or would be refused; the \
 others as for a run.";

/// A rehearsed deploy.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Rehearse {
    /// The configuration that runs today
    ///
    /// A commit (git:HEAD, git:main:hosts/web.nix), a file, a flake's host (.#web), or a VM that is already built
    /// (./result).
    #[arg(long, value_name = "SOURCE", default_value = "git:HEAD")]
    from: String,
    /// The configuration of tomorrow [default: ./configuration.nix]
    ///
    /// It has the same forms as --from.
    #[arg(long, value_name = "SOURCE")]
    to: Option<String>,
    /// Who is logged in [default: the first user with a password as text who is in the group wheel, or else root]
    ///
    /// The user has to be able to become root. If the configuration has no such user, root gets a password in the two
    /// VMs.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The password of the user [default: the initial one of the configuration]
    #[arg(long, value_name = "PASSWORD", requires = "user")]
    password: Option<String>,
    /// Show the forecast alone: what differs, and which units a switch would touch
    #[arg(long)]
    plan: bool,
    /// Print the result as JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print the result as Markdown
    #[arg(long)]
    markdown: bool,
    /// Scenarios that run before the switch, after it, after the reboot and after the rollback
    #[arg(value_name = "FILE.rs|DIR", conflicts_with_all = ["plan", "json", "markdown"])]
    scenarios: Vec<PathBuf>,
}

/// The two systems of a rehearsal.
struct Systems {
    today: System,
    next: System,
}

impl Systems {
    /// Builds both. Tomorrow's comes first: a mistake is more likely there, and the stand-in reads both for each build.
    async fn build(builder: &Builder, from: &Source, to: &Source, events: &Events) -> Result<Self> {
        let next = System::of(builder.build(to, events).await?, "next", to.to_string());
        let today = System::of(builder.build(from, events).await?, "today", from.to_string());
        Ok(Self { today, next })
    }
}

impl Rehearse {
    /// Rehearses the deploy and prints the result.
    pub async fn run(self, options: &Options) -> Result<ExitCode> {
        let settings = options.settings()?;
        let here = || Source::Configuration(PathBuf::from("configuration.nix"));
        let to = source_as_written(self.to.as_deref().unwrap_or("configuration.nix"), here)?;
        let from = source_as_written(&self.from, || to.clone())?;
        for (source, next) in [
            (&to, "name the configuration of tomorrow with --to"),
            (
                &from,
                "name the configuration of today with --from: a commit (git:HEAD), a file, a flake's host",
            ),
        ] {
            if let Source::Configuration(file) = source {
                Source::checked_configuration(file).map_err(|error| error.next_step(next))?;
            }
        }
        let user = self.user()?;
        let scenarios = match self.scenarios.is_empty() {
            true => None,
            false => Some(scenarios::Scenarios::of(&self.scenarios, options).await?),
        };
        let networked = scenarios.as_ref().is_some_and(scenarios::Scenarios::are_networked);
        let reporter = StartupReporter::new(&settings);
        let events = reporter.events();
        let builder = settings.builder().networked(networked).beside(&[from.clone(), to.clone()]);
        let mut systems = Systems::build(&builder, &from, &to, &events).await?;
        let needs_a_user = self.user.is_none() && scenarios.is_none();
        if needs_a_user
            && from.can_be_extended()
            && to.can_be_extended()
            && first_admin(systems.today.vm()?).is_none()
        {
            events.note(
                "no user of today's configuration has a password as text and is in the group wheel: root gets a password \
                 in the two VMs",
            );
            systems = Systems::build(&builder.root_password(), &from, &to, &events).await?;
        }
        if let Some(scenarios) = scenarios {
            reporter.end();
            return scenarios.run(&systems, options).await;
        }
        let rehearsal = stages::Rehearsal { systems, user, settings, plan_only: self.plan };
        let report = rehearsal.run(&progress::outer_steps(events.clone())).await;
        if let Ok(report) = &report {
            report.append_to_summary(&events);
        }
        reporter.end();
        let report = report?;
        if self.json {
            answer(report.json() + "\n");
        } else {
            show_foreign(&if self.markdown { report.markdown() } else { report.text() });
        }
        Ok(if report.is_clean() { Exit::Passed } else { Exit::Failed }.into())
    }

    fn user(&self) -> Result<Option<(String, Option<String>)>> {
        if self.user.as_deref() == Some("none") {
            return Err(Error::new(ErrorKind::Usage, "a rehearsal needs a user who can become root"));
        }
        Ok(self.user.clone().map(|user| (user, self.password.clone())))
    }
}
