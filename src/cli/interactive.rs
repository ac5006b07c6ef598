//! Starts the machines of an interactive session: builds them, boots or clones them, and logs in. Used by `shell` and
//! `repl`.

use std::path::{Path, PathBuf};

use crate::BuiltVm;
use crate::machine::{Machine, MachineOptions};
use crate::nix::{Source, Written, first_user, password_of};
use crate::qemu::{Disk, accelerator};
use crate::scenario::{ByHand, Topology};
use crate::settings::Settings;
use crate::template::{self, Moment};
use crate::{Error, ErrorKind, Events, Result};
use clap::Args;
use tokio::task::JoinSet;

use super::options::Options;

/// Which machines, and who is logged in.
#[derive(Debug, Args)]
pub struct Interactive {
    /// What to boot [default: ./configuration.nix]
    ///
    /// A configuration, a flake's host (.#web), a VM that is already built (./result), or a configuration as it was
    /// committed (git:HEAD, git:main~3:web.nix). Without it --configuration, --flake or --vm decides. Several machines
    /// have names and are on one network: server=server.nix client=client.nix
    #[arg(value_name = "CONFIG|NAME=CONFIG")]
    configs: Vec<String>,
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
    /// The name that it was given.
    pub name: Option<String>,
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
    /// Builds the VMs and starts the machines, all at once. Returns them in the order of the command line.
    pub async fn up(&self, options: &Options, events: &Events) -> Result<Vec<Up>> {
        let settings = options.settings()?;
        accelerator::check_environment()?;
        let sources = self.sources(&settings)?;
        let is_networked = sources.len() > 1;
        let builder = settings.builder().networked(is_networked);
        let mut vms = Vec::new();
        for (_, source) in &sources {
            vms.push(builder.build(source, events).await?);
        }
        let names: Vec<&str> = sources.iter().filter_map(|(name, _)| name.as_deref()).collect();
        let networks = match is_networked {
            true => Topology::by_hand(&names, &vms.iter().collect::<Vec<_>>(), events)?,
            false => Vec::new(),
        };
        let mut networks = networks.into_iter();
        let mut starting = JoinSet::new();
        for (place, ((name, source), vm)) in sources.into_iter().zip(vms).enumerate() {
            let mut start = self.start(&settings, name, source, vm, events)?;
            start.options = start.options.networks(networks.next());
            starting.spawn(async move { (place, start.up().await) });
        }
        let mut all = Vec::new();
        while let Some(started) = starting.join_next().await {
            let (place, up) = started.map_err(|error| {
                Error::new(ErrorKind::Other, format!("a boot ended by itself: {error}")).caused_by(error)
            })?;
            all.push((place, up?));
        }
        all.sort_by_key(|(place, _)| *place);
        Ok(all.into_iter().map(|(_, up)| up).collect())
    }

    /// Decides how a machine is started.
    fn start(
        &self,
        settings: &Settings,
        name: Option<String>,
        source: Source,
        vm: BuiltVm,
        events: &Events,
    ) -> Result<Start> {
        let user = self.user(&vm)?;
        let disk = Disk::of(settings.keep_state, &source.home(), &vm);
        let is_kept = disk.is_kept();
        let its = name.clone().unwrap_or_else(|| vm.name().to_owned());
        let mut options = MachineOptions::new(its).disk(disk).events(events.clone());
        if let Some(passphrase) = &self.passphrase {
            options = options.passphrase(passphrase);
        }
        let is_cloned = settings.templates && !is_kept;
        Ok(Start { name, source, vm, user, options, is_cloned, is_kept, events: events.clone() })
    }

    /// Returns what each machine is built from, with its name if it has one.
    fn sources(&self, settings: &Settings) -> Result<Vec<(Option<String>, Source)>> {
        let here = || Source::Configuration(PathBuf::from("configuration.nix"));
        let usual = || settings.source.clone().unwrap_or_else(here);
        if self.configs.is_empty() {
            return Ok(vec![(None, usual())]);
        }
        let mut sources: Vec<(Option<String>, Source)> = Vec::new();
        for given in &self.configs {
            let (name, config) = match named(given) {
                Some((name, config)) => (Some(name.to_owned()), config),
                None if self.configs.len() == 1 => (None, given.as_str()),
                None => {
                    let summary = format!("{given:?} has no name, and each of several machines needs one");
                    return Err(Error::new(ErrorKind::Usage, summary).next_step(
                        "write NAME=CONFIG for each: server=server.nix client=client.nix; a name has letters, digits and _",
                    ));
                }
            };
            if name.is_some() && sources.iter().any(|(other, _)| *other == name) {
                return Err(Error::new(ErrorKind::Usage, format!("two machines have one name: {given}")));
            }
            sources.push((name, source_as_written(config, usual)?));
        }
        Ok(sources)
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

/// A machine that is to be started.
struct Start {
    name: Option<String>,
    source: Source,
    vm: BuiltVm,
    user: Option<(String, String)>,
    options: MachineOptions,
    is_cloned: bool,
    is_kept: bool,
    events: Events,
}

impl Start {
    async fn up(self) -> Result<Up> {
        let Self { name, source, vm, user, options, is_cloned, is_kept, events } = self;
        let moment = match &user {
            Some((user, password)) => Moment::LoggedIn { user: user.clone(), password: password.clone() },
            None => Moment::Booted,
        };
        let counted = ByHand::count(Some(&vm));
        let machine = match is_cloned {
            true => template::machine(&vm, options, &moment, &events).await?,
            false => cold(&vm, options, user.as_ref()).await?,
        };
        Ok(Up { name, machine, source, user, is_kept, _counted: counted })
    }
}

/// Takes `NAME=CONFIG` apart. A file of that whole name is no such pair.
fn named(given: &str) -> Option<(&str, &str)> {
    let (name, config) = given.split_once('=')?;
    (is_name(name) && !config.is_empty() && !Path::new(given).exists()).then_some((name, config))
}

/// Returns whether a machine can have this name, which becomes a parameter of a scenario.
pub fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Returns the machine with this name. Without a name it has to be the only one.
///
/// # Errors
/// [`ErrorKind::Usage`] when there is no such machine, or `name` is missing.
pub fn machine_of<'a>(all: &'a [Up], name: Option<&str>, example: &str) -> Result<(usize, &'a Up)> {
    let mut numbered = all.iter().enumerate();
    let found = match name {
        Some(name) => numbered.find(|(_, up)| up.machine.name() == name),
        None if all.len() == 1 => numbered.next(),
        None => None,
    };
    found.ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|up| up.machine.name()).collect();
        let summary = match name {
            Some(name) => format!("there is no machine {name}"),
            None => "there are several machines: which one?".to_owned(),
        };
        Error::new(ErrorKind::Usage, summary)
            .section("there are", names.join("\n"))
            .next_step(format!("name the machine: {example}"))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_a_name_where_a_name_stands_before_the_sign() {
        assert_eq!(named("server=web.nix"), Some(("server", "web.nix")));
        assert_eq!(named("db_1=git:HEAD:a=b.nix"), Some(("db_1", "git:HEAD:a=b.nix")));
        for given in
            ["web.nix", "github:me/x?ref=y#h", ".#a=b", "=web.nix", "server=", "1a=web.nix", "a-b=web.nix"]
        {
            assert_eq!(named(given), None, "{given}");
        }
    }
}
