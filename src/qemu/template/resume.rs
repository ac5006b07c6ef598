//! Starting a clone.

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
use crate::qemu::launch::{self, CHANNEL, CONSOLE, CONTROL};
use crate::qemu::line_end::LineEnd;
use crate::qemu::{QMP_LIMIT, Qemu, RunDirectory, port_holder, supervise};
use crate::sparse_copy::copy;
use crate::{Error, ErrorKind, Event, Events, Result, shared_file, text, threads};

/// For QEMU to start and to load the state.
const STARTED: Duration = Duration::from_secs(30);

/// Since this version QEMU maps a file privately that it may only read (`readonly=on,rom=off`).
const READONLY: (u64, u64) = (8, 2);

/// How an error begins that is about the state.
pub(super) const LOADING: &str = "loading the state";

/// More than the description of any machine takes, in bytes.
const DESCRIPTION: u64 = 1 << 20;

/// Everything that starting a clone takes.
#[derive(Debug)]
pub(crate) struct Resume<'a> {
    /// The template's folder, which has to stay as long as the clone lives.
    pub(crate) folder: &'a Path,
    /// Where it is to be saved again, if it is: it gets copies of RAM and disks then, but for disks that are shared.
    pub(crate) to_save: Option<&'a Path>,
    /// Its command is not trusted: QEMU is told to open nothing of its own accord.
    pub(crate) foreign: bool,
    /// The machine's name in events and errors.
    pub(crate) machine: &'a str,
    /// The scenario that it is in.
    pub(crate) scenario: Option<&'a str>,
    /// Where its files go.
    pub(crate) run_dir: &'a RunDirectory,
    /// QEMU's end of a socket pair: what the guest has as a port for the control channel.
    pub(crate) channel: OwnedFd,
    /// Who is told.
    pub(crate) events: Events,
}

impl Qemu {
    /// Starts a clone, which stands still until [`Qemu::go_on`]; returns it with its console.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the template's files can't be read or the clone's not be made,
    /// [`ErrorKind::Host`] when its QEMU is gone, [`ErrorKind::QemuGone`] and [`ErrorKind::Qmp`] with QEMU's
    /// words when it does not take the state.
    pub(crate) async fn resume(resume: Resume<'_>) -> Result<(Self, UnixStream)> {
        let started = Instant::now();
        let Resume { folder, to_save, foreign, machine, scenario, run_dir, channel, events } = resume;
        let description = read(&folder.join(MACHINE_FILE))?;
        let (console, line) = LineEnd::pair()?;
        let (control, control_theirs) = launch::pair()?;
        let control = launch::ours(control)?;
        let mut descriptors: Vec<OwnedFd> = vec![line.descriptor()?, control_theirs.into(), channel];
        let sockets: Vec<(&str, i32)> =
            [CONSOLE, CONTROL, CHANNEL].into_iter().zip(descriptors.iter().map(AsRawFd::as_raw_fd)).collect();
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
        // What is kept may come from elsewhere, and runs on this host's QEMU.
        let named = &description.command.program;
        let program = match description.whole {
            true => program::resolved(named),
            false => Some(named.clone()),
        };
        let Some(program) = program else {
            let what = format!("{} is not installed here", text::line(&named.to_string_lossy()));
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
            // The variable is what QEMU before 8.2 goes by.
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

    /// A QEMU that does not take a state ends, and says why on its standard error alone.
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

    /// Sees to it that QEMU has the guest running.
    ///
    /// # Errors
    /// [`ErrorKind::Qmp`] when it stands still, [`ErrorKind::QemuGone`].
    pub(crate) async fn check_running(&self) -> Result {
        let status = self.qmp().execute("query-status", None, QMP_LIMIT).await?;
        if status["running"] == true {
            return Ok(());
        }
        let state = text::line(status["status"].as_str().unwrap_or("not known"));
        Err(Error::new(ErrorKind::Qmp, format!("QEMU does not run the guest: its state is {state}"))
            .section("QEMU's stderr", self.stderr_tail()))
    }

    /// Lets a machine that stands still go on.
    ///
    /// # Errors
    /// [`ErrorKind::Qmp`] when QEMU refuses, [`ErrorKind::QemuGone`].
    pub(crate) async fn go_on(&self) -> Result {
        self.qmp().execute("cont", None, QMP_LIMIT).await.map(drop)
    }
}

/// Whether an image of a template can be copied alone, and has to be: it is not shared, and lies over no other there.
fn is_its_own(image: &Path, format: Format) -> Result<bool> {
    let is = || {
        let shared = shared_file::is_shared(&std::fs::symlink_metadata(image)?);
        Ok(!shared && !lies_over_its_neighbour(image, format)?)
    };
    is().map_err(|error: std::io::Error| Error::io(format_args!("read {}", image.display()), &error))
}

/// Copies what may be hundreds of MiB.
async fn copied(from: PathBuf, to: PathBuf) -> Result {
    let what = format!("copy {} to {}", from.display(), to.display());
    let copied = threads::aside(move || copy(&from, &to)).await;
    copied.flatten().map_err(|error| Error::io(what, &error))
}

/// Reads what a folder says of its machine.
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

/// A file as the source of a migration. QEMU has a way of its own for it since 8.2; before, it has to inherit it.
fn state(path: &Path, version: (u64, u64)) -> Result<(String, Option<OwnedFd>)> {
    if version >= (8, 2) {
        return Ok((format!("file:{}", path.display()), None));
    }
    let file = File::open(path);
    let file = file.map_err(|error| Error::io(format_args!("read {}", path.display()), &error))?;
    Ok((format!("fd:{}", file.as_raw_fd()), Some(file.into())))
}
