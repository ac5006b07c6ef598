//! Builds a VM from a source, once per source.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::OnceCell;

use crate::BuiltVm;
use crate::mutex::lock;

use super::additions::Additions;
use super::git::{self, Checkout};
use super::nixpkgs::Nixpkgs;
use super::previous_build::PreviousBuild;
use super::process::Ended;
use super::refused::Refused;
use super::run::{Run, result_of};
use super::source::Source;
use super::store::Store;
use super::{commands, host};
use crate::{Error, ErrorKind, Events, Result, cache, digest, environment};

/// Builds VMs. Clones share the results: the same source is built only once, even if several scenarios request it from
/// several threads. If the build fails, all of them get the error.
///
/// ```no_run
/// # async fn build() -> nixvm_test::Result {
/// use nixvm_test::internals::{Events, nix::{Builder, Source}};
/// let builder = Builder::new().nixpkgs("channel:nixos-26.05");
/// let vm = builder.build(&Source::Configuration("configuration.nix".into()), &Events::none()).await?;
/// assert_eq!(vm.name(), "nixos");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Builder {
    pub(super) nixpkgs: Option<String>,
    out_link: Option<PathBuf>,
    pub(super) limit: Duration,
    pub(super) clonable: bool,
    beside: Vec<Source>,
    pub(super) root_password: bool,
    pub(super) networked: bool,
    built: Arc<Mutex<HashMap<Key, Building>>>,
}

/// The files that a build leaves behind.
pub(super) struct BuildFiles {
    /// Nix's link to the result, which also protects it from the garbage collector.
    pub(super) link: PathBuf,
    /// The log of the whole output, kept if the build fails.
    pub(super) log: PathBuf,
}

/// What a result depends on: the source, the nixpkgs, the sources that it is built beside, and whether it has the network
/// module.
type Key = (Source, Option<String>, Vec<Source>, bool);

type Building = Arc<OnceCell<Result<BuiltVm>>>;

/// Time limit of a build. A first build of real NixOS downloads some gigabytes.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// Age at which an unused log, or an unused link that protects a VM from the garbage collector, is removed.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl Builder {
    /// Creates a builder that finds nixpkgs itself and limits a build to 60 minutes.
    pub fn new() -> Self {
        Self {
            nixpkgs: None,
            out_link: None,
            limit: LIMIT,
            clonable: false,
            beside: Vec::new(),
            root_password: false,
            networked: false,
            built: Arc::default(),
        }
    }

    /// Builds with this nixpkgs: see `Nixpkgs::choose` for the accepted values. Flakes bring their own. A result that
    /// was built with another nixpkgs is not reused.
    #[must_use]
    pub fn nixpkgs(mut self, given: impl Into<String>) -> Self {
        self.nixpkgs = Some(given.into());
        self
    }

    /// Leaves a link to the built VM at this path, as `nix-build` leaves `result`. Without this the link is in the
    /// cache folder, and the caller's folder does not change.
    #[must_use]
    pub fn out_link(mut self, link: impl Into<PathBuf>) -> Self {
        self.out_link = Some(link.into());
        self.built = Arc::default();
        self
    }

    /// Sets the time limit of one build; the default is 60 minutes.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Adds what clones of a VM need to a configuration of real NixOS: the store becomes an image, and the two folders
    /// that every VM shares with its host are left out (`/tmp/xchg`, `/tmp/shared`). The configuration's own options
    /// for the image take precedence, and folders that it shares itself stay. If this module makes the build fail, the
    /// configuration is built unchanged. A host of a flake gets the same by its `extendModules`.
    #[must_use]
    pub fn clonable(mut self, clonable: bool) -> Self {
        self.clonable = clonable;
        self.built = Arc::default();
        self
    }

    /// Returns a builder for systems that one machine is switched between. The programs of a VM of the stand-in come from
    /// one disk image, so each VM gets the packages of all of `sources`. It makes no difference to a real nixpkgs. The
    /// results are shared with this builder.
    #[must_use]
    pub(crate) fn beside(&self, sources: &[Source]) -> Self {
        Self { beside: sources.to_vec(), ..self.clone() }
    }

    /// Returns a builder of VMs in which root has a password, where the source [can be
    /// extended](Source::can_be_extended).
    #[must_use]
    pub(crate) fn root_password(&self) -> Self {
        Self { root_password: true, built: Arc::default(), ..self.clone() }
    }

    /// Returns a builder of VMs that take their names and addresses from the scenario's network, if `networked`. The results
    /// are shared with this builder.
    #[must_use]
    pub(crate) fn networked(&self, networked: bool) -> Self {
        Self { networked, ..self.clone() }
    }

    /// Builds `source`, or opens it if it is already built.
    ///
    /// Sends [`BuildStarted`](crate::Event::BuildStarted), then an [`BuildLine`](crate::Event::BuildLine) for every line that Nix and the builders print, and
    /// [`BuildFinished`](crate::Event::BuildFinished) at the end. Dropping the future ends Nix and its builders. Must be called on a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Build`] when evaluating or building fails, or exceeds its time limit: the error contains
    /// Nix's message, the user's own line and the path of the whole log. [`crate::ErrorKind::Host`] when the host lacks
    /// a program or a right, [`crate::ErrorKind::Usage`] when the named source does not exist.
    pub async fn build(&self, source: &Source, events: &Events) -> Result<BuiltVm> {
        let cell = {
            let mut built = lock(&self.built);
            let key = (source.clone(), self.nixpkgs.clone(), self.beside.clone(), self.networked);
            Arc::clone(built.entry(key).or_default())
        };
        // If the future that builds is dropped, the next one that waits builds instead.
        cell.get_or_init(|| self.build_now(source, events)).await.clone()
    }

    /// Returns the VM of the last build of `source`, in this or another process. This is a guess: call
    /// [`Builder::build`] to confirm it before reporting anything about it.
    pub(crate) fn expected(&self, source: &Source) -> Option<BuiltVm> {
        self.last(source)?.read()
    }

    fn last(&self, source: &Source) -> Option<PreviousBuild> {
        PreviousBuild::of(source, self.nixpkgs.as_deref(), self.networked, &folder("last").ok()?)
    }

    async fn build_now(&self, source: &Source, events: &Events) -> Result<BuiltVm> {
        let vm = match source {
            Source::Built(path) => BuiltVm::open(path)?,
            Source::Configuration(_) | Source::Committed(_) => {
                // The checkout stays while Nix reads it.
                let (file, _checkout) = file_of(source, events).await?;
                let nixpkgs = Nixpkgs::choose(self.nixpkgs.as_deref(), events).await?;
                host::check_build(source, Some(&nixpkgs))?;
                let identity = identity(&nixpkgs);
                let mut parts: Vec<&[u8]> =
                    vec![b"configuration", file.as_os_str().as_encoded_bytes(), &identity];
                if self.networked {
                    parts.push(b"on networks");
                }
                let place = self.place(&parts)?;
                let store = Store::find()?;
                let mut additions = Additions {
                    root_password: self.root_password,
                    network: self.networked,
                    ..Additions::default()
                };
                // The checkouts stay while Nix reads them.
                let mut beside = Vec::new();
                if nixpkgs.is_stand_in() {
                    for other in self.beside.iter().filter(|other| !other.brings_its_own_nixpkgs()) {
                        beside.push(file_of(other, &Events::none()).await?);
                    }
                    additions.packages_of = beside.iter().map(|(file, _)| file.clone()).collect();
                }
                // The stand-in mounts no folder of the host.
                additions.clones = self.clonable && !nixpkgs.is_stand_in();
                let vm = loop {
                    let mut command = commands::configuration(&file, &nixpkgs, store, &place.link);
                    additions.add_to(&mut command)?;
                    match self.run(source, file.parent(), command, &place, events).await {
                        Err(error) if additions.leave_out_the_cause_of(&error) => {}
                        built => break built?,
                    }
                };
                additions.tell_what_was_left_out(events);
                vm
            }
            Source::Flake(reference) => self.flake(source, reference, events).await?,
        };
        host::check_run(&vm)?;
        Ok(vm)
    }

    /// Returns the paths for the build with this `identity`.
    pub(super) fn place(&self, identity: &[&[u8]]) -> Result<BuildFiles> {
        let id = digest::of_parts(identity);
        let (roots, logs) = (folder("roots")?, folder("logs")?);
        for folder in [&roots, &logs, &folder("last")?] {
            remove_unused(folder, SystemTime::now());
        }
        // Checkouts that can't be removed are left for the next time.
        let _ = git::prune(UNUSED);
        let link = match &self.out_link {
            Some(link) => std::path::absolute(link)
                .map_err(|source| Error::io(format_args!("find {}", link.display()), &source))?,
            None => roots.join(&id),
        };
        Ok(BuildFiles { link, log: logs.join(format!("{id}.log")) })
    }

    pub(super) async fn run(
        &self,
        source: &Source,
        home: Option<&Path>,
        command: std::process::Command,
        place: &BuildFiles,
        events: &Events,
    ) -> Result<BuiltVm> {
        self.run_with_blame(source, home, command, place, events).await.map_err(|refused| refused.error)
    }

    /// Does the same, and says of a failure who is at fault.
    pub(super) async fn run_with_blame(
        &self,
        source: &Source,
        home: Option<&Path>,
        command: std::process::Command,
        place: &BuildFiles,
        events: &Events,
    ) -> Result<BuiltVm, Refused> {
        let mut run = Run::begin(source, home, self.limit, place, events)?;
        let ended = run.nix(command).await;
        self.end(source, run, ended)
    }

    /// Ends a run with the outcome of its last command.
    pub(super) fn end(
        &self,
        source: &Source,
        run: Run,
        ended: Result<Ended, Refused>,
    ) -> Result<BuiltVm, Refused> {
        let vm = run.end(ended)?;
        if let Some(last) = self.last(source) {
            last.write(&result_of(&vm));
        }
        Ok(vm)
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the file of a configuration, and its checkout if it was committed.
pub(super) async fn file_of(source: &Source, events: &Events) -> Result<(PathBuf, Option<Checkout>)> {
    match source {
        Source::Configuration(file) => Ok((Source::checked_configuration(file)?, None)),
        Source::Committed(committed) => {
            let checkout = Checkout::of(committed, events).await?;
            Ok((checkout.file.clone(), Some(checkout)))
        }
        other @ (Source::Flake(_) | Source::Built(_)) => {
            Err(Error::new(ErrorKind::Usage, format!("{other} is no configuration")))
        }
    }
}

/// Returns the bytes that distinguish this nixpkgs in the name of a link.
pub(super) fn identity(nixpkgs: &Nixpkgs) -> Vec<u8> {
    match nixpkgs.search_path() {
        Some(value) => value.into_bytes(),
        None => environment::variable("NIX_PATH").unwrap_or_default().into_encoded_bytes(),
    }
}

fn folder(name: &str) -> Result<PathBuf> {
    let folder = cache::dir()?.join(name);
    std::fs::create_dir_all(&folder).map_err(|source| {
        Error::host(format_args!("make {}", folder.display()), &source)
            .next_step("set NIXVM_CACHE_DIR to a folder that you may write to")
            .because_of_a_limit(&source)
    })?;
    Ok(folder)
}

/// Removes old links and logs. Nix recreates a link at every build, so the age of a link shows when it was last used.
/// The age of a log shows when it was written.
fn remove_unused(folder: &Path, now: SystemTime) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let used = entry.metadata().and_then(|link| link.modified());
        let old = used.is_ok_and(|used| now.duration_since(used).is_ok_and(|age| age > UNUSED));
        if old {
            // Another process may have removed it first.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
