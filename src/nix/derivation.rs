//! Evaluates the VM of a configuration to its derivation, and builds that. Two configurations with the same derivation
//! are the same system.

use std::path::{Path, PathBuf};

use super::additions::Additions;
use super::builder::{Builder, identity};
use super::error_text::Tail;
use super::nixpkgs::Nixpkgs;
use super::process::{self, Stopped};
use super::refused::Refused;
use super::source::Source;
use super::store::Store;
use super::{commands, host};
use crate::{BuiltVm, Error, Events};

impl Builder {
    /// Evaluates the VM of the configuration `file`, and returns the path of its derivation in the Nix store. Builds
    /// nothing. Dropping the future ends Nix.
    ///
    /// # Errors
    /// Nix's message, and who is at fault.
    pub(crate) async fn derivation(&self, file: &Path, events: &Events) -> Result<PathBuf, Refused> {
        let file = Source::checked_configuration(file)?;
        let nixpkgs = Nixpkgs::choose(self.nixpkgs.as_deref(), events).await?;
        host::check_build(&Source::Configuration(file.clone()), Some(&nixpkgs))?;
        let store = Store::find()?;
        // As the build has it: the stand-in needs nothing for clones.
        let mut additions = Additions {
            clones: self.clonable && !nixpkgs.is_stand_in(),
            network: self.networked,
            ..Additions::default()
        };
        let derivation = loop {
            let mut command = commands::derivation(&file, &nixpkgs, store);
            additions.add_to(&mut command)?;
            match self.derived(&file, command).await {
                Err(refused) if additions.leave_out_the_cause_of(&refused.error) => {}
                derived => break derived?,
            }
        };
        additions.tell_what_was_left_out(events);
        Ok(derivation)
    }

    async fn derived(&self, file: &Path, command: std::process::Command) -> Result<PathBuf, Refused> {
        tracing::debug!(?command, "evaluate");
        let what = file.display().to_string();
        let mut tail = Tail::default();
        let ended = match process::run(command, self.limit, |line| tail.push(line)).await {
            Ok(ended) if ended.status.success() => ended,
            Ok(ended) => {
                return Err(Refused::with_status("evaluating", &what, file.parent(), ended.status, &tail));
            }
            Err(Stopped::Limit) => return Err(Refused::too_long("evaluating", &what, self.limit, &tail)),
            Err(Stopped::Io(source)) => {
                return Err(Error::io("run nix", &source).because_of_a_limit(&source).into());
            }
        };
        let path = ended.stdout.lines().map(str::trim).rfind(|line| line.starts_with('/'));
        path.map(PathBuf::from).ok_or_else(|| {
            let summary = format!("Nix evaluated {what}, and named no derivation");
            Error::new(crate::ErrorKind::Host, summary).section("it printed", ended.stdout.clone()).into()
        })
    }

    /// Builds `derivation`, which `file` was evaluated to. Sends the events of a build.
    ///
    /// # Errors
    /// Nix's message, and who is at fault.
    pub(crate) async fn realise(
        &self,
        derivation: &Path,
        file: &Path,
        events: &Events,
    ) -> Result<BuiltVm, Refused> {
        let nixpkgs = Nixpkgs::choose(self.nixpkgs.as_deref(), events).await?;
        let place = self.place(&[b"derivation", file.as_os_str().as_encoded_bytes(), &identity(&nixpkgs)])?;
        let command = commands::realise(derivation, nixpkgs.is_stand_in(), Store::find()?, &place.link);
        let source = Source::Configuration(file.to_owned());
        let vm = self.run_with_blame(&source, file.parent(), command, &place, events).await?;
        host::check_run(&vm)?;
        Ok(vm)
    }
}
