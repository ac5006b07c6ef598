//! A build that is under way: one or more commands of Nix, their output and their log.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::builder::BuildFiles;
use super::commands;
use super::error_text::Tail;
use super::line::cut;
use super::line_filter::LineFilter;
use super::process::{self, Ended, Stopped};
use super::refused::Refused;
use super::source::Source;
use crate::{BuiltVm, Error, Event, Events, Result};

/// Maximum length of a build's output line that is passed on, in characters.
const LINE: usize = 400;

/// Maximum size of the log of a failed build, in bytes.
const LOG: u64 = 64 * 1024 * 1024;

/// A build that is under way.
pub(super) struct Run<'a> {
    what: String,
    home: Option<&'a Path>,
    limit: Duration,
    started: Instant,
    place: &'a BuildFiles,
    events: &'a Events,
    log: Log,
    shown: LineFilter,
}

impl<'a> Run<'a> {
    /// Begins the build of `source` and sends [`Event::BuildStarted`]. Files in `home` are the user's own. All commands
    /// together take `limit` at most.
    pub(super) fn begin(
        source: &Source,
        home: Option<&'a Path>,
        limit: Duration,
        place: &'a BuildFiles,
        events: &'a Events,
    ) -> Result<Self> {
        let what = source.to_string();
        events.send(Event::BuildStarted { what: what.clone() });
        let (started, shown) = (Instant::now(), LineFilter::default());
        Ok(Self { what, home, limit, started, place, events, log: Log::create(&place.log)?, shown })
    }

    /// Runs a command of the build. Sends an [`Event::BuildLine`] for each line that it prints.
    ///
    /// # Errors
    /// Nix's message, and who is at fault.
    pub(super) async fn nix(&mut self, command: Command) -> Result<Ended, Refused> {
        tracing::debug!(?command, "build");
        let mut tail = Tail::default();
        let (events, log, shown) = (self.events, &mut self.log, &mut self.shown);
        let limit = self.limit.saturating_sub(self.started.elapsed());
        let ended = process::run(command, limit, |line| {
            log.line(line);
            tail.push(line);
            shown.line(line, |line| show(events, line));
        })
        .await;
        match ended {
            Ok(ended) if ended.status.success() => {
                shown.go_on(|line| show(events, line));
                Ok(ended)
            }
            Ok(ended) => {
                tracing::debug!(status = %ended.status, took = ?ended.took, "nix failed");
                Err(Refused::with_status("building", &self.what, self.home, ended.status, &tail))
            }
            Err(Stopped::Limit) => Err(Refused::too_long("building", &self.what, self.limit, &tail)),
            Err(Stopped::Io(source)) => Err(Error::io("run nix", &source).because_of_a_limit(&source).into()),
        }
    }

    /// Opens the VM that the last command built and sends [`Event::BuildFinished`]. Keeps the log of a failure.
    ///
    /// # Errors
    /// That of the last command, with the path of the log; that of [`BuiltVm::open`].
    pub(super) fn end(self, last: Result<Ended, Refused>) -> Result<BuiltVm, Refused> {
        let ended = match last {
            Ok(ended) => ended,
            Err(refused) => {
                return Err(match self.log.keep() {
                    Some(path) => refused.with_log(&path),
                    None => refused,
                });
            }
        };
        self.log.discard();
        let vm = BuiltVm::open(commands::out_path(&ended.stdout, &self.place.link))?;
        let (what, result, took) = (self.what, result_of(&vm), self.started.elapsed());
        self.events.send(Event::BuildFinished { what, result, took });
        Ok(vm)
    }
}

/// Returns the path of a built VM: the folder that has its `bin`.
pub(super) fn result_of(vm: &BuiltVm) -> PathBuf {
    vm.script().ancestors().nth(2).unwrap_or(vm.script()).to_path_buf()
}

fn show(events: &Events, line: &str) {
    if !line.trim().is_empty() {
        events.send(Event::BuildLine { text: cut(line, LINE) });
    }
}

/// Collects the whole output of a build and keeps it if the build fails. An error while writing it never fails a build.
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
