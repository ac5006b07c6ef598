//! Starts the machine of an interactive session: builds it, boots or clones it, and logs in. Used by `shell` and
//! `repl`.

use std::path::{Path, PathBuf};

use crate::BuiltVm;
use crate::machine::{Machine, MachineOptions};
use crate::nix::{Source, Written, first_user, password_of};
use crate::qemu::{Disk, accelerator};
use crate::scenario::ByHand;
use crate::settings::Settings;
use crate::template::{self, Moment};
use crate::{Events, Result};
use clap::Args;

use super::options::Options;

/// Which machine, and who is logged in.
#[derive(Debug, Args)]
pub struct Interactive {
    /// What to boot [default: ./configuration.nix]
    ///
    /// A configuration, a flake's host (.#web), a VM that is already built (./result), or a configuration as it was
    /// committed (git:HEAD, git:main~3:web.nix). Without it --configuration, --flake or --vm decides.
    #[arg(value_name = "CONFIG")]
    config: Option<String>,
    /// Who is logged in; `none` stops at the login prompt
    ///
    /// The default is the first user whose initial password is in the configuration.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The password of the user [default: the initial one of the configuration]
    #[arg(long, value_name = "PASSWORD", requires = "user")]
    password: Option<String>,
    /// The passphrase of the machine's encrypted disks, for which its boot asks
    #[arg(long, value_name = "PASSPHRASE")]
    passphrase: Option<String>,
}

/// A running machine.
pub struct Up {
    /// The machine.
    pub machine: Machine,
    /// What it was built from.
    pub source: Source,
    /// The logged-in user, with their password.
    pub user: Option<(String, String)>,
    /// Whether its disk is kept after it ends.
    pub is_kept: bool,
    /// Counts the machine, so that suites that run at the same time leave it its share of the host.
    _counted: ByHand,
}

impl Interactive {
    /// Builds the VM and starts the machine.
    pub async fn up(&self, options: &Options, events: &Events) -> Result<Up> {
        let settings = options.settings()?;
        accelerator::check_environment()?;
        let source = self.source(&settings)?;
        let vm = settings.builder().build(&source, events).await?;
        let user = self.user(&vm)?;
        let disk = Disk::of(settings.keep_state, &source.home(), &vm);
        let is_kept = disk.is_kept();
        let templates = settings.templates && !is_kept;
        let mut its = MachineOptions::new(vm.name()).disk(disk).events(events.clone());
        if let Some(passphrase) = &self.passphrase {
            its = its.passphrase(passphrase);
        }
        let moment = match &user {
            Some((user, password)) => Moment::LoggedIn { user: user.clone(), password: password.clone() },
            None => Moment::Booted,
        };
        let counted = ByHand::count(Some(&vm));
        let machine = match templates {
            true => template::machine(&vm, its, &moment, events).await?,
            false => cold(&vm, its, user.as_ref()).await?,
        };
        Ok(Up { machine, source, user, is_kept, _counted: counted })
    }

    fn source(&self, settings: &Settings) -> Result<Source> {
        let here = || Source::Configuration(PathBuf::from("configuration.nix"));
        let usual = || settings.source.clone().unwrap_or_else(here);
        match &self.config {
            Some(given) => source_as_written(given, usual),
            None => Ok(usual()),
        }
    }

    /// Returns the user to log in, with their password.
    fn user(&self, vm: &BuiltVm) -> Result<Option<(String, String)>> {
        match (self.user.as_deref(), &self.password) {
            (Some("none"), _) => Ok(None),
            (Some(user), Some(password)) => Ok(Some((user.to_owned(), password.clone()))),
            (Some(user), None) => Ok(Some((user.to_owned(), password_of(vm, user)?))),
            (None, _) => Ok(first_user(vm)),
        }
    }
}

/// Returns what a word of the command line names, which may begin with the kind of source (`git:HEAD`). `usual` is the
/// source without that word: a commit without a path has its file.
pub fn source_as_written(given: &str, usual: impl FnOnce() -> Source) -> Result<Source> {
    match Written::parse(given) {
        written if written.file().is_some() => Ok(source_of(given)),
        written => written.source(Path::new("."), || Ok(usual())),
    }
}

/// Returns what a word of the command line names: a built VM, a flake's host, or a configuration.
pub fn source_of(given: &str) -> Source {
    let path = Path::new(given);
    if path.join("bin").is_dir()
        || path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("run-"))
    {
        return Source::Built(path.to_owned());
    }
    if path.join("configuration.nix").is_file() && !path.join("default.nix").is_file() {
        return Source::Configuration(path.join("configuration.nix"));
    }
    if given.contains('#') { Source::Flake(given.to_owned()) } else { Source::Configuration(path.to_owned()) }
}

/// Boots a machine for this session only.
async fn cold(vm: &BuiltVm, options: MachineOptions, user: Option<&(String, String)>) -> Result<Machine> {
    let machine = Machine::boot(vm, options).await?;
    if let Some((user, password)) = user {
        machine.login(user, password).await?;
    }
    Ok(machine)
}
