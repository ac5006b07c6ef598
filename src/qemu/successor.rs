//! Replaces a QEMU by another one that continues at an earlier moment of the machine.
//!
//! A moment can't be loaded into the process that kept it: QEMU's time never goes back within a process, so
//! the guest would see its clocks jump. The new QEMU has the command and the files of the one that kept the
//! moment. The console's line stays open, and the control channel gets a new one.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::stopped::Instant;

use super::disk::Claim;
use super::launch;
use super::line_end::LineEnd;
use super::network::Forward;
use super::snapshot::Moment;
use super::template::{CommandLine, Made};
use super::{CLEARED, QMP_LIMIT, Qemu, RunDirectory, set_aside, supervise};
use crate::mutex::lock;
use crate::{Error, ErrorKind, Events, Result, sparse_copy, threads};

/// The limit for QEMU to start.
const STARTED: Duration = Duration::from_secs(30);
/// The limit for a QEMU that is about to end to write its disk caches.
const WRITTEN: Duration = Duration::from_secs(60);

/// How a QEMU was started.
pub(super) struct Start {
    command: CommandLine,
    environment: Vec<(OsString, OsString)>,
    folder: PathBuf,
}

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The environment may hold secrets, so it is not shown.
        f.debug_struct("Start").field("command", &self.command).finish_non_exhaustive()
    }
}

impl Start {
    /// Returns how the running `qemu` was started.
    pub(super) async fn of(qemu: &Qemu) -> Result<Self> {
        let pid = qemu.pid();
        let failed = |error| Error::io("look at the QEMU that runs", &error);
        let environment = std::fs::read(format!("/proc/{pid}/environ")).map_err(failed)?;
        let variable = |entry: &[u8]| {
            let at = entry.iter().position(|byte| *byte == b'=')?;
            Some((OsStr::from_bytes(&entry[..at]).to_owned(), OsStr::from_bytes(&entry[at + 1..]).to_owned()))
        };
        let environment = environment.split(|byte| *byte == 0).filter_map(variable).collect();
        let folder = std::fs::read_link(format!("/proc/{pid}/cwd")).map_err(failed)?;
        // Most machines have no such device.
        let identity = qemu.qmp().execute("query-vm-generation-id", None, QMP_LIMIT).await;
        let identity = identity.ok().and_then(|its| its["guid"].as_str().map(str::to_owned));
        let command = CommandLine::of(pid)?.repeatable(pid, identity.as_deref());
        Ok(Self { command, environment, folder })
    }

    /// Returns why no other QEMU could replace this one, or `None` if one can.
    pub(super) fn obstacle(&self) -> Option<String> {
        self.command.helper()
    }

    /// Returns QEMU's working directory. Paths in its command may be relative to it.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn command(&self, sockets: &[(String, i32)]) -> Command {
        let mut command = Command::new(&self.command.program);
        command.args(self.command.again(sockets)).arg0("qemu");
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.folder);
        command
    }
}

/// What a QEMU leaves to the one that replaces it.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) line: LineEnd,
    pub(super) claim: Option<Claim>,
    pub(super) forwards: Vec<Forward>,
    /// Set for a machine that is to be saved.
    pub(super) made: Option<Arc<Made>>,
}

impl Left {
    /// For a QEMU that had ended before: the console's line is a new one.
    pub(super) fn by_none(line: LineEnd, claim: Option<Claim>) -> Self {
        Self { line, claim, forwards: Vec::new(), made: None }
    }
}

/// The parameters for going back to a moment.
#[derive(Debug)]
pub(crate) struct GoBack<'a> {
    pub(crate) moment: &'a Moment,
    /// The machine's name in events and errors.
    pub(crate) machine: &'a str,
    /// The directory of its files.
    pub(crate) run_dir: &'a RunDirectory,
    pub(crate) left: Left,
    /// QEMU's end of a socket pair, which is the guest's port for the control channel.
    pub(crate) channel: OwnedFd,
    /// QEMU's ends of the sockets of its cards, in their order.
    pub(crate) cards: Vec<OwnedFd>,
    /// Where events are sent.
    pub(crate) events: Events,
}

impl Qemu {
    /// Ends this QEMU so that another can replace it: its console's line stays open.
    ///
    /// # Errors
    /// [`ErrorKind::QemuGone`] when it has ended by itself, [`ErrorKind::Host`] when it does not end.
    pub(crate) async fn leave(&self) -> Result<Left> {
        let forwards = self.forwards().await?;
        // On `stop` QEMU writes the caches of its images. A QEMU that does not answer leaves unused space in
        // them.
        if let Err(error) = self.qmp().execute("stop", None, WRITTEN).await {
            tracing::debug!(%error, "killing a QEMU while its guest runs");
        }
        let Some(line) = self.supervised.give_line() else {
            let summary = "QEMU ended by itself before the machine could go back to a snapshot";
            return Err(match self.exit().borrow().as_ref() {
                Some(exit) => exit.error(summary),
                None => Error::new(ErrorKind::QemuGone, summary),
            });
        };
        self.kill().await;
        self.cleared_within(CLEARED).await?;
        Ok(Left { line, claim: lock(&self.disk).take(), forwards, made: self.made.clone() })
    }

    /// Returns what this QEMU, which has ended, leaves to another, and the console of the new line.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when no descriptor is left, [`ErrorKind::Host`] when a part of it still runs.
    pub(crate) async fn left(&self) -> Result<(tokio::net::UnixStream, Left)> {
        let (console, line) = LineEnd::pair()?;
        self.cleared_within(CLEARED).await?;
        let left = Left { made: self.made.clone(), ..Left::by_none(line, lock(&self.disk).take()) };
        Ok((console, left))
    }

    /// Starts a QEMU at a moment. It is stopped until [`Qemu::go_on`].
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when files of the moment can't be used, [`ErrorKind::Host`] when its QEMU is not
    /// installed or a forwarded port is taken, [`ErrorKind::QemuGone`] and [`ErrorKind::Qmp`] with QEMU's
    /// message when it refuses the moment.
    pub(crate) async fn at_moment(go_back: GoBack<'_>) -> Result<Self> {
        let started = Instant::now();
        let GoBack { moment, machine, run_dir, left, channel, cards, events } = go_back;
        let Left { line, claim, forwards, made } = left;
        line.forget_what_was_typed();
        let images = moment.images.iter().filter_map(|image| image.path.clone()).collect();
        set_aside::put_back(images, &moment.tag, run_dir).await?;
        for copy in &moment.copies {
            let (from, to) = (copy.copy.to_path_buf(), copy.image.clone());
            let copied = threads::aside(move || sparse_copy::over(&from, &to)).await;
            copied
                .flatten()
                .map_err(|error| Error::io(format_args!("restore {}", copy.image.display()), &error))?;
        }
        let (control, control_theirs) = launch::pair()?;
        let control = launch::ours(control)?;
        let mut descriptors: Vec<OwnedFd> = vec![line.descriptor()?, control_theirs.into(), channel];
        let sockets = launch::sockets_of(&descriptors, &cards);
        descriptors.extend(cards);
        let supervised = supervise::start(moment.start.command(&sockets), descriptors, line, run_dir)
            .await
            .map_err(|error| {
            let program = moment.start.command.program.display();
            Error::host(format_args!("run {program}"), &error)
        })?;
        let qmp = launch::wait_for_qmp(machine, control, &supervised, started, STARTED).await?;
        let mut qemu = Self::new(supervised, qmp, moment.accelerator, claim, machine, &events);
        qemu.made = made;
        qemu.plug_in_again(&moment.plugged).await?;
        qemu.take_up(moment).await?;
        qemu.forward_again(forwards.iter().chain(&moment.forwards)).await?;
        Ok(qemu)
    }
}
