//! A machine that is kept as it stood, and what goes on from there.
//!
//! Unlike a template ([`super::saved`]) such a moment is taken of any machine, whatever it is doing, and is for a person
//! to look at: it can be taken to another host, and holds neither passwords nor what a scenario would need to go on.
//! (The machine's RAM and disk are in it, so whatever the guest knows is.)

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::answers::{Answers, Book};
use super::boot::{Origin, Plan};
use super::control::Control;
use super::raw_console::{RawConsole, Standing};
use super::{Life, Line, Machine, MachineOptions};
use crate::build::BuiltVm;
use crate::console::Watch;
use crate::qemu::{Disk, Qemu, Resume, RunDirectory, Saved, unfit};
use crate::{Error, ErrorKind, Event, Result, Speed};

/// What the host knows of the machine, in the moment's folder.
const ABOUT_FILE: &str = "moment.json";
const TRANSCRIPT_FILE: &str = "transcript";
/// Another number for each change that an older version can't read.
const FORMAT: u32 = 1;
/// For somebody who starts or ends the machine at this moment.
const CHANGING: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize, Deserialize)]
struct About {
    format: u32,
    machine: String,
    /// The built VM's script.
    vm: PathBuf,
    speed: f64,
    console: Standing,
}

/// A machine as it stood when [`Machine::keep`] was called, in a folder. The folder stays as it is, whatever becomes of the
/// machines that go on from it.
///
/// ```no_run
/// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
/// use nixvm_test::machine::{Kept, MachineOptions};
/// machine.keep("run/login/machine.moment".as_ref()).await?;
/// let kept = Kept::open("run/login/machine.moment")?;
/// let (machine, mut console) = kept.resume(MachineOptions::new(kept.machine())).await?;
/// console.send(b"journalctl -b\r").await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Kept {
    folder: PathBuf,
    about: About,
}

impl Machine {
    /// Keeps the machine as it stands in `folder`, which is made: RAM, devices, disks, what its console said. It takes about
    /// a second for each 200 MiB that the guest has used, whatever the guest is doing: nothing is waited for. **The
    /// machine is off then.**
    ///
    /// Everything that [`Kept::resume`] needs is in the folder, but QEMU and what is in the Nix store.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] when it can't be kept (it is off, it shares folders with the host), with why in one line;
    /// [`ErrorKind::Io`], [`ErrorKind::Qmp`] and [`ErrorKind::Timeout`] when it could not be written. Nothing is left in
    /// `folder` then.
    pub async fn keep(&self, folder: &Path) -> Result {
        let Ok(_changing) = tokio::time::timeout(CHANGING, self.shared.changing.lock()).await else {
            return Err(self.not_kept("it is being started or ended"));
        };
        let life = self.life();
        let Origin::Vm(vm) = &self.shared.plan.origin else {
            return Err(self.not_kept("it is a record"));
        };
        let part = Part::make(folder)?;
        let about = About {
            format: FORMAT,
            machine: life.name.clone(),
            vm: vm.script().to_owned(),
            speed: life.speed.factor(),
            console: life.standing(false).await,
        };
        let started = Instant::now();
        match life.qemu.keep(&self.shared.run_dir, &part.0).await? {
            Saved::Done => {}
            Saved::Impossible(why) => return Err(self.not_kept(&why)),
        }
        life.console.flush();
        let text =
            serde_json::to_vec(&about).map_err(|error| Error::new(ErrorKind::Other, error.to_string()))?;
        fs::write(part.0.join(ABOUT_FILE), text)
            .and_then(|()| match life.console.transcript() {
                Some(transcript) => fs::copy(transcript, part.0.join(TRANSCRIPT_FILE)).map(drop),
                None => fs::write(part.0.join(TRANSCRIPT_FILE), ""),
            })
            .and_then(|()| fs::rename(&part.0, folder))
            .map_err(|error| Error::io(format_args!("write to {}", folder.display()), &error))?;
        let machine = life.name.clone();
        life.events.send(Event::Phase { machine, phase: "kept".to_owned(), at: started.elapsed() });
        Ok(())
    }

    fn not_kept(&self, why: &str) -> Error {
        Error::new(ErrorKind::Host, format!("{} is not kept as it stands: {why}", self.name()))
    }
}

/// A folder in the making; gone unless it was renamed.
struct Part(PathBuf);

impl Part {
    fn make(folder: &Path) -> Result<Self> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let part = folder.with_file_name(format!(".{name}.part"));
        let make = || {
            fs::create_dir_all(folder.parent().unwrap_or(Path::new(".")))?;
            // QEMU's paths start at a folder of its own.
            let part = std::path::absolute(&part)?;
            let _ = fs::remove_dir_all(&part);
            fs::DirBuilder::new().mode(0o700).create(&part)?;
            Ok(Self(part))
        };
        make().map_err(|error| Error::io(format_args!("make {}", part.display()), &error))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Kept {
    /// Opens the moment in `folder`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when there is none, [`ErrorKind::Io`] when it is damaged.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let given = folder.as_ref();
        let file = given.join(ABOUT_FILE);
        let text = fs::read(&file).map_err(|error| {
            Error::new(ErrorKind::Usage, format!("{} holds no kept machine: {error}", given.display()))
        })?;
        let about: About = serde_json::from_slice(&text)
            .map_err(|error| Error::new(ErrorKind::Io, format!("{} is damaged: {error}", file.display())))?;
        if about.format != FORMAT {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("{} was written by another version of nixvm-test", given.display()),
            ));
        }
        let folder = given
            .canonicalize()
            .map_err(|error| Error::io(format_args!("find {}", given.display()), &error))?;
        Ok(Self { folder, about })
    }

    /// The machine's name.
    pub fn machine(&self) -> &str {
        &self.about.machine
    }

    /// The VM that the machine is made of.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] when it is not in this host's Nix store, with how to get it.
    pub fn vm(&self) -> Result<BuiltVm> {
        let script = &self.about.vm;
        if script.exists() {
            return BuiltVm::open(script);
        }
        let built = script.ancestors().nth(2).unwrap_or(script).display().to_string();
        Err(Error::new(ErrorKind::Host, format!("{} needs {built}, which is not here", self.machine()))
            .next_step(format!(
                "get it from the host where it ran: `nix copy --from ssh://THAT-HOST {built}` (or `nix-copy-closure --from \
                 THAT-HOST {built}`), or build the same configuration with the same nixpkgs here: `nixvm-test build`"
            )))
    }

    /// Why the machine can't go on on this host, as far as that can be told before it is tried.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the moment's files can't be read.
    pub fn obstacle(&self) -> Result<Option<String>> {
        unfit(&self.folder)
    }

    /// A machine that goes on from the moment, with its console. Its clock goes on from then, too. What its console said
    /// is in [`crate::console::Console::tail`].
    ///
    /// Nothing is known of who is logged in on the console: a session can't be had of it.
    ///
    /// # Errors
    /// Those of [`Kept::vm`], and whatever keeps QEMU from going on.
    pub async fn resume(&self, options: MachineOptions) -> Result<(Machine, RawConsole)> {
        let vm = self.vm()?;
        let plan = Plan { disk: Disk::Fresh, ..Plan::of(&vm, options) };
        let run_dir = Arc::new(RunDirectory::create()?);
        let life = self.life(&plan, &run_dir).await?;
        let machine = Machine::living(plan, run_dir, life, None);
        let life = machine.life();
        life.qemu.go_on().await?;
        let console = RawConsole::open(life.console.clone(), self.about.console).await;
        Ok((machine, console))
    }

    async fn life(&self, plan: &Plan, run_dir: &Arc<RunDirectory>) -> Result<Life> {
        let transcript = self.folder.join(TRANSCRIPT_FILE);
        let past = fs::read(&transcript)
            .map_err(|error| Error::io(format_args!("read {}", transcript.display()), &error))?;
        let pair = std::os::unix::net::UnixStream::pair();
        let (ours, theirs) = pair.map_err(|error| Error::io("make a socket pair", &error))?;
        let (name, events) = (plan.name.clone(), plan.events.clone());
        let (folder, channel) = (self.folder.as_path(), theirs.into());
        let resume =
            Resume { folder, to_save: None, machine: &name, run_dir, channel, events: events.clone() };
        let (qemu, stream) = Qemu::resume(resume).await?;
        let control = Control::new(ours, plan.shell_control)?;
        let speed = Speed::new(self.about.speed);
        let console = plan.attach(&qemu, stream, run_dir.transcript(), speed, past)?;
        console.set_watch(Watch::Off);
        let line = Mutex::new(Line::Lost("it goes on from a kept moment".to_owned()));
        Ok(Life {
            name,
            console,
            qemu: Arc::new(qemu),
            events,
            speed,
            control,
            line,
            answers: Answers::Written(Book::open(&run_dir.answers())),
            _run_dir: Arc::clone(run_dir),
        })
    }
}
