//! Starts clones.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::stopped::Instant;

use serde_json::json;
use tokio::net::UnixStream;

use super::command_line::{CLOSED, OwnImage, Ram, layer};
use super::layers::lies_over_its_neighbour;
use super::outside::Made;
use super::overlay::Format;
use super::save::Description;
use super::{MACHINE_FILE, RAM_FILE, STATE_FILE, program};
use crate::beneath::Beneath;
use crate::qemu::cards::backends;
use crate::qemu::launch;
use crate::qemu::line_end::LineEnd;
use crate::qemu::{QMP_LIMIT, Qemu, RunDirectory, port_holder, supervise};
use crate::sparse_copy::copy;
use crate::{Error, ErrorKind, Event, Events, Result, shared_file, text, threads};

/// The limit for QEMU to start and to load the state.
const STARTED: Duration = Duration::from_secs(30);

/// The first version of QEMU that can map a read-only file privately (`readonly=on,rom=off`).
const READONLY: (u64, u64) = (8, 2);

/// How the message of an error about the state begins.
pub(super) const LOADING: &str = "loading the state";

/// The limit for a machine's description, in bytes.
const DESCRIPTION: u64 = 1 << 20;

/// The parameters for starting a clone.
#[derive(Debug)]
pub(crate) struct Resume<'a> {
    /// The template's folder, which must exist as long as the clone runs.
    pub(crate) folder: &'a Path,
    /// The folder that the clone is to be saved to, if any. The clone then gets copies of RAM and disks,
    /// except for disks that are shared.
    pub(crate) to_save: Option<&'a Path>,
    /// Whether its command is not trusted. QEMU is then told to open nothing by default.
    pub(crate) foreign: bool,
    /// The machine's name in events and errors.
    pub(crate) machine: &'a str,
    /// The scenario that the machine belongs to.
    pub(crate) scenario: Option<&'a str>,
    /// The directory for its files.
    pub(crate) run_dir: &'a RunDirectory,
    /// QEMU's end of a socket pair, which is the guest's port for the control channel.
    pub(crate) channel: OwnedFd,
    /// QEMU's ends of the sockets of its cards, in their order.
    pub(crate) cards: Vec<OwnedFd>,
    /// Where events are sent.
    pub(crate) events: Events,
}

impl Qemu {
    /// Starts a clone that is stopped until [`Qemu::go_on`], and returns it with its console.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the template's files can't be read or the clone's can't be made,
    /// [`ErrorKind::Host`] when its QEMU is not installed, [`ErrorKind::QemuGone`] and [`ErrorKind::Qmp`]
    /// with QEMU's message when it refuses the state.
    pub(crate) async fn resume(resume: Resume<'_>) -> Result<(Self, UnixStream)> {
        let started = Instant::now();
        let Resume { folder, to_save, foreign, machine, scenario, run_dir, channel, cards, events } = resume;
        launch::has_memory(machine)?;
        let description = read(&folder.join(MACHINE_FILE))?;
        // A descriptor of another process must not stay in the command.
        let its = description.command.backends();
        if !its.iter().eq(backends(&cards).iter().map(|(id, _)| id)) {
            let (its, ours) = (its.len(), cards.len());
            let what = format!(
                "{machine} was saved with {its} cards on networks of its scenario, and has {ours} now"
            );
            return Err(Error::new(ErrorKind::Usage, what));
        }
        let (console, line) = LineEnd::pair()?;
        let (control, control_theirs) = launch::pair()?;
        let control = launch::ours(control)?;
        let mut descriptors: Vec<OwnedFd> = vec![line.descriptor()?, control_theirs.into(), channel];
        let sockets = launch::sockets_of(&descriptors, &cards);
        descriptors.extend(cards);
        let mut images = Vec::new();
        for image in &description.images {
            let own = run_dir.path().join(&image.own);
            let below = folder.join(&image.saved);
            let format = description.format_of(image);
            let format = match to_save {
                Some(_) if is_its_own(&below, format)? => {
                    copied(below, own.clone()).await?;
                    format
                }
                _ => {
                    layer(&own, &below, format)?;
                    Format::Qcow2
                }
            };
            images.push(OwnImage { at: image.at, path: own, format });
        }
        let ram = folder.join(RAM_FILE);
        let ram = match to_save {
            _ if description.whole => Ram::InState,
            Some(to) => {
                copied(ram, to.join(RAM_FILE)).await?;
                Ram::Shared(to.join(RAM_FILE))
            }
            None => Ram::Private { file: ram, sealed: description.version >= READONLY },
        };
        let (state, state_file) = state(&folder.join(STATE_FILE), description.version)?;
        descriptors.extend(state_file);
        // A kept machine may come from another host, and runs on this host's QEMU.
        let named = &description.command.program;
        let program = match description.whole {
            true => program::resolved(named),
            false => Some(named.clone()),
        };
        let Some(program) = program else {
            let what = format!("{} is not installed on this host", text::line(&named.to_string_lossy()));
            return Err(Error::new(ErrorKind::Host, what));
        };
        let made = match to_save {
            Some(_) => Some(Made::of_template(description.outside.clone(), run_dir)),
            None => None,
        };
        let made = made.transpose().map_err(|error| Error::io("write to the run directory", &error))?;
        let mut command = Command::new(&program);
        command
            .args(description.command.of_clone(&ram, &images, &sockets))
            .arg0("qemu")
            .env("TMPDIR", run_dir.tmp())
            .env(port_holder::LABEL, port_holder::label(machine, scenario))
            .current_dir(run_dir.tmp());
        if foreign {
            // QEMU before 8.2 reads this variable instead of the option.
            command.args(CLOSED).env("QEMU_AUDIO_DRV", "none");
        }
        let supervised = supervise::start(command, descriptors, line, run_dir)
            .await
            .map_err(|error| Error::host(format_args!("run {}", program.display()), &error))?;
        events.send(Event::MachineStarted { machine: machine.to_owned(), pid: supervised.pid() });
        let not_begun = || events.send(launch::not_begun(machine));
        let qmp = launch::wait_for_qmp(machine, control, &supervised, started, STARTED).await;
        let qmp = qmp.inspect_err(|_| not_begun())?;
        let mut qemu = Self::new(supervised, qmp, description.accelerator, None, machine, &events);
        qemu.made = made.map(Arc::new);
        match qemu.load(&state, description.whole, started).await {
            Ok(()) => Ok((qemu, console)),
            Err(error) => {
                not_begun();
                Err(qemu.with_last_words(error).await)
            }
        }
    }

    async fn load(&self, state: &str, whole: bool, started: Instant) -> Result {
        self.set_migration(!whole).await?;
        self.qmp().execute("migrate-incoming", Some(json!({ "uri": state })), QMP_LIMIT).await?;
        self.migrated(LOADING, started).await
    }

    /// Adds QEMU's last words to an error. A QEMU that refuses a state ends, and gives the reason on its
    /// stderr only.
    async fn with_last_words(&self, error: Error) -> Error {
        let mut exit = self.exit();
        if error.kind() == ErrorKind::QemuGone
            && let Ok(Ok(exit)) = crate::stopped::timeout(QMP_LIMIT, exit.wait_for(Option::is_some)).await
            && let Some(exit) = &*exit
        {
            return exit.error(format_args!("{LOADING} failed: QEMU ended"));
        }
        error
    }

    /// Checks that QEMU runs the guest.
    ///
    /// # Errors
    /// [`ErrorKind::Qmp`] when the guest is stopped, [`ErrorKind::QemuGone`].
    pub(crate) async fn check_running(&self) -> Result {
        let status = self.qmp().execute("query-status", None, QMP_LIMIT).await?;
        if status["running"] == true {
            return Ok(());
        }
        let state = text::line(status["status"].as_str().unwrap_or("unknown"));
        Err(Error::new(ErrorKind::Qmp, format!("QEMU does not run the guest: its state is {state}"))
            .section("QEMU's stderr", self.stderr_tail()))
    }

    /// Lets a stopped machine continue.
    ///
    /// # Errors
    /// [`ErrorKind::Qmp`] when QEMU refuses, [`ErrorKind::QemuGone`].
    pub(crate) async fn go_on(&self) -> Result {
        self.qmp().execute("cont", None, QMP_LIMIT).await.map(drop)
    }
}

/// Whether an image of a template has to be copied: it is not shared, and has no backing image in the
/// template.
fn is_its_own(image: &Path, format: Format) -> Result<bool> {
    let is = || {
        let shared = shared_file::is_shared(&std::fs::symlink_metadata(image)?);
        Ok(!shared && !lies_over_its_neighbour(image, format)?)
    };
    is().map_err(|error: std::io::Error| Error::io(format_args!("read {}", image.display()), &error))
}

/// Copies a file on a blocking thread, since it may have hundreds of MiB.
async fn copied(from: PathBuf, to: PathBuf) -> Result {
    let what = format!("copy {} to {}", from.display(), to.display());
    let copied = threads::aside(move || copy(&from, &to)).await;
    copied.flatten().map_err(|error| Error::io(what, &error))
}

/// Reads the machine's description from a folder.
pub(super) fn read(path: &Path) -> Result<Description> {
    let name = path.file_name().unwrap_or_default();
    let folder = Beneath::open(path.parent().unwrap_or(Path::new("/")));
    let bytes = folder.and_then(|folder| folder.read(name, DESCRIPTION));
    let bytes = bytes.map_err(|error| Error::io(format_args!("read {}", path.display()), &error))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Error::new(
            ErrorKind::Io,
            format!("{} is damaged: {}", path.display(), text::line(&error.to_string())),
        )
        .caused_by(error)
    })
}

/// Returns a file as the source of a migration. QEMU has a scheme for files since 8.2; older versions have to
/// inherit the open file.
fn state(path: &Path, version: (u64, u64)) -> Result<(String, Option<OwnedFd>)> {
    if version >= (8, 2) {
        return Ok((format!("file:{}", path.display()), None));
    }
    let file = File::open(path);
    let file = file.map_err(|error| Error::io(format_args!("read {}", path.display()), &error))?;
    Ok((format!("fd:{}", file.as_raw_fd()), Some(file.into())))
}
