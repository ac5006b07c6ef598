//! Builds a source to a VM, once.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::OnceCell;

use crate::BuiltVm;
use crate::mutex::lock;

use super::error_text::Tail;
use super::line::cut;
use super::line_filter::LineFilter;
use super::nixpkgs::Nixpkgs;
use super::previous_build::PreviousBuild;
use super::process::{self, Stopped};
use super::source::{FlakeVm, Source};
use super::store::Store;
use super::{commands, diagnosis, host};
use crate::{Error, Event, Events, Result, cache, digest, environment};

/// Builds VMs. Clones share what was built: the same source is built once, however many scenarios
/// ask for it and on however many threads, and a failure is told to all of them.
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
    clonable: bool,
    built: Arc<Mutex<HashMap<Source, Building>>>,
}

/// Where a build leaves its traces.
struct BuildFiles {
    /// Nix's link to the result, which also keeps it from the garbage collector.
    link: PathBuf,
    /// The whole output, when it fails.
    log: PathBuf,
}

type Building = Arc<OnceCell<Result<BuiltVm>>>;

/// A first build of real NixOS downloads some gigabytes.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// Longest line of a build that is passed on, in characters.
const LINE: usize = 400;

/// Largest log that is kept of a failed build, in bytes.
const LOG: u64 = 64 * 1024 * 1024;

/// A link that keeps a VM from the garbage collector, and a log, is removed when it was not used
/// for so long.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl Builder {
    /// A builder that finds its nixpkgs by itself and gives a build 60 minutes.
    pub fn new() -> Self {
        Self { nixpkgs: None, out_link: None, limit: LIMIT, clonable: false, built: Arc::default() }
    }

    /// Builds with this nixpkgs: see `Nixpkgs::choose` for what may be given. Flakes bring their
    /// own. Nothing that was built before is taken for a build with this one.
    #[must_use]
    pub fn nixpkgs(mut self, given: impl Into<String>) -> Self {
        self.nixpkgs = Some(given.into());
        self.built = Arc::default();
        self
    }

    /// Leaves a link to the built VM here, as `nix-build` leaves `result`. Without this nothing is
    /// left in the caller's folder: the link is in the cache folder.
    #[must_use]
    pub fn out_link(mut self, link: impl Into<PathBuf>) -> Self {
        self.out_link = Some(link.into());
        self.built = Arc::default();
        self
    }

    /// The longest time that one build may take; default 60 minutes.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Adds what clones of a VM need to a configuration of real NixOS: the store comes as an image, and the two folders
    /// that every VM shares with its host are left out (`/tmp/xchg`, `/tmp/shared`). What the configuration itself says of
    /// the image holds, and so do folders that it shares of its own. Where that fails because of them, it is built as it
    /// is. Flakes stay as they are.
    #[must_use]
    pub fn clonable(mut self, clonable: bool) -> Self {
        self.clonable = clonable;
        self.built = Arc::default();
        self
    }

    /// Builds `source`, or opens it if it is built already.
    ///
    /// Sends [`Event::BuildStarted`], a [`Event::BuildLine`] for every line that Nix and the
    /// builders print, and [`Event::BuildFinished`] when it is done. Dropping the future ends Nix
    /// and its builders. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Build`] when evaluating or building fails, or takes too long: the error has
    /// what Nix says, the user's own line and the path of the whole log. [`crate::ErrorKind::Host`] when
    /// the host lacks a program or a right, [`crate::ErrorKind::Usage`] when what is named is not there.
    pub async fn build(&self, source: &Source, events: &Events) -> Result<BuiltVm> {
        let cell = {
            let mut built = lock(&self.built);
            Arc::clone(built.entry(source.clone()).or_default())
        };
        // When the future that builds is dropped, the next one that waits takes over.
        cell.get_or_init(|| self.build_now(source, events)).await.clone()
    }

    /// What `source` was built to the last time, here or in another process: a guess at what it is, which
    /// [`Builder::build`] has to confirm before anything is said of it.
    pub(crate) fn expected(&self, source: &Source) -> Option<BuiltVm> {
        self.last(source)?.read()
    }

    fn last(&self, source: &Source) -> Option<PreviousBuild> {
        PreviousBuild::of(source, self.nixpkgs.as_deref(), &folder("last").ok()?)
    }

    async fn build_now(&self, source: &Source, events: &Events) -> Result<BuiltVm> {
        let vm = match source {
            Source::Built(path) => BuiltVm::open(path)?,
            Source::Configuration(file) => {
                let file = Source::checked_configuration(file)?;
                let nixpkgs = Nixpkgs::choose(self.nixpkgs.as_deref(), events).await?;
                host::check_build(source, Some(&nixpkgs))?;
                let place = self.place(&[
                    b"configuration",
                    file.as_os_str().as_encoded_bytes(),
                    &identity(&nixpkgs),
                ])?;
                let store = Store::find()?;
                let as_it_is = commands::configuration(&file, &nixpkgs, store, &place.link);
                // The stand-in mounts no folder of the host.
                if !self.clonable || nixpkgs.is_stand_in() {
                    self.run(source, file.parent(), as_it_is, &place, events).await?
                } else {
                    let command = commands::clonable(&file, &nixpkgs, store, &place.link);
                    match self.run(source, file.parent(), command, &place, events).await {
                        Ok(vm) => vm,
                        Err(error) if commands::is_about_clones(&error.to_string()) => {
                            let vm = self.run(source, file.parent(), as_it_is, &place, events).await?;
                            let why = error.summary();
                            events
                                .note(format!("machines boot cold, the VM can't be built for clones: {why}"));
                            vm
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            Source::Flake(reference) => {
                let flake: FlakeVm = reference.parse()?;
                host::check_build(source, None)?;
                if flake.own_host {
                    events.note(format!(
                        "no host is named, so this machine's own is taken: {}",
                        flake.installable
                    ));
                }
                let here = std::env::current_dir().unwrap_or_default();
                let place = self.place(&[
                    b"flake",
                    here.as_os_str().as_encoded_bytes(),
                    flake.installable.as_bytes(),
                ])?;
                let command = commands::flake(&flake, Store::find()?, &place.link);
                self.run(source, None, command, &place, events).await?
            }
        };
        host::check_run(&vm)?;
        Ok(vm)
    }

    /// The names of a build that is told from others by `identity`.
    fn place(&self, identity: &[&[u8]]) -> Result<BuildFiles> {
        let id = digest::of_parts(identity);
        let (roots, logs) = (folder("roots")?, folder("logs")?);
        for folder in [&roots, &logs, &folder("last")?] {
            remove_unused(folder, SystemTime::now());
        }
        let link = match &self.out_link {
            Some(link) => std::path::absolute(link)
                .map_err(|source| Error::io(format_args!("find {}", link.display()), &source))?,
            None => roots.join(&id),
        };
        Ok(BuildFiles { link, log: logs.join(format!("{id}.log")) })
    }

    async fn run(
        &self,
        source: &Source,
        home: Option<&Path>,
        command: std::process::Command,
        place: &BuildFiles,
        events: &Events,
    ) -> Result<BuiltVm> {
        let what = source.to_string();
        tracing::debug!(?command, "build");
        events.send(Event::BuildStarted { what: what.clone() });
        let started = Instant::now();
        let mut log = Log::create(&place.log)?;
        let (mut tail, mut shown) = (Tail::default(), LineFilter::default());
        let show = |line: &str| {
            if !line.trim().is_empty() {
                events.send(Event::BuildLine { text: cut(line, LINE) });
            }
        };
        let ended = process::run(command, self.limit, |line| {
            log.line(line);
            tail.push(line);
            shown.line(line, show);
        })
        .await;
        let failed = match ended {
            Ok(ended) if ended.status.success() => {
                shown.go_on(show);
                log.discard();
                let vm = BuiltVm::open(commands::out_path(&ended.stdout, &place.link))?;
                let result = vm.script().ancestors().nth(2).unwrap_or(&place.link).to_path_buf();
                if let Some(last) = self.last(source) {
                    last.write(&result);
                }
                events.send(Event::BuildFinished { what, result, took: started.elapsed() });
                return Ok(vm);
            }
            Ok(ended) => {
                tracing::debug!(status = %ended.status, took = ?ended.took, "nix failed");
                diagnosis::explain("building", &what, home, ended.status, &tail)
            }
            Err(Stopped::Limit) => diagnosis::too_long("building", &what, self.limit, &tail),
            Err(Stopped::Io(source)) => return Err(Error::io("run nix", &source)),
        };
        Err(match log.keep() {
            Some(path) => failed.section("the whole output", path.display().to_string()),
            None => failed,
        })
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

/// What tells two nixpkgs apart in the name of a link.
fn identity(nixpkgs: &Nixpkgs) -> Vec<u8> {
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

/// Nix makes a link anew at every build, so its age tells when it was last used; a log's, when it
/// was written.
fn remove_unused(folder: &Path, now: SystemTime) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let used = entry.metadata().and_then(|link| link.modified());
        let old = used.is_ok_and(|used| now.duration_since(used).is_ok_and(|age| age > UNUSED));
        if old {
            // Somebody else may have removed it first.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The whole output of a build, kept when it fails. Trouble with writing it never fails a build.
struct Log {
    temporary: Option<tempfile::NamedTempFile>,
    kept: PathBuf,
    written: u64,
}

impl Log {
    fn create(kept: &Path) -> Result<Self> {
        let folder = kept.parent().unwrap_or(Path::new("."));
        let temporary = tempfile::Builder::new()
            .prefix(".build-")
            .tempfile_in(folder)
            .map_err(|source| Error::io(format_args!("write a log in {}", folder.display()), &source))?;
        Ok(Self { temporary: Some(temporary), kept: kept.to_path_buf(), written: 0 })
    }

    fn line(&mut self, line: &str) {
        self.written = self.written.saturating_add(line.len() as u64 + 1);
        if self.written <= LOG
            && let Some(file) = &mut self.temporary
        {
            let _ = writeln!(file, "{line}");
        }
    }

    fn discard(mut self) {
        self.temporary = None;
    }

    fn keep(mut self) -> Option<PathBuf> {
        self.temporary.take()?.persist(&self.kept).ok()?;
        Some(self.kept)
    }
}
