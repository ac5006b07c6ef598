//! Keeps a machine's state on disk, and resumes machines from it.
//!
//! Unlike a template ([`crate::machine::lifecycle::saved`]), such a moment can be taken at any time in any state of the
//! machine. It is for a person to look at: it can be moved to another host, and it holds neither passwords nor what a
//! scenario needs to continue. (It contains the machine's RAM and disk, and so everything that the guest knows.)

mod own;
mod place;

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::stopped::Instant;

use nixvm_test_macros::tracked;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::BuiltVm;
use crate::beneath::Beneath;
use crate::console::Watch;
use crate::machine::commands::channels::Channels;
use crate::machine::lifecycle::boot::{Origin, Plan};
use crate::machine::replay::answers::{Answers, Writer};
use crate::machine::session::raw_console::{RawConsole, Standing};
use crate::machine::{Card, Life, Line, Machine, MachineOptions, Networks};
use crate::mutex::lock;
use crate::network::Switch;
use crate::presence::is_known_absent;
use crate::qemu::{Disk, Qemu, Resume, RunDirectory, Saved, is_script_in_store, suspicious, unfit};
use crate::{Error, ErrorKind, Event, Result, Speed, text, threads};

/// The host's knowledge of the machine, in the moment's folder.
const ABOUT_FILE: &str = "moment.json";
const TRANSCRIPT_FILE: &str = "transcript";
/// Increased for each change that an older version can't read.
const FORMAT: u32 = 1;
/// Maximum size in bytes; no machine's description needs more.
const ABOUT: u64 = 64 << 10;
/// Maximum number of bytes read from the end of the console's output.
const TRANSCRIPT: u64 = 64 << 20;
/// Maximum number of characters of a machine's name that are shown.
const NAME: usize = 100;
/// Maximum number of a moment's wishes that are shown.
const SHOWN: usize = 20;
/// The limit for another task that starts or ends the machine.
const CHANGING: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize, Deserialize)]
struct About {
    format: u32,
    machine: String,
    /// The built VM's script.
    vm: PathBuf,
    speed: f64,
    console: Standing,
    /// Its cards on the networks of its scenario.
    #[serde(default)]
    cards: Vec<Card>,
    /// What its guest was told of its name and addresses.
    #[serde(default)]
    told: Option<String>,
}

/// A machine's state at the time of [`Machine::keep`], in a folder. Machines that resume from it do not change the
/// folder.
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
    trusted: bool,
    own: bool,
}

/// # Kept machines
impl Machine {
    /// Saves the machine's current state to `folder`, which is created: RAM, devices, disks and console output. It
    /// takes about a second for each 200 MiB that the guest has used. It does not wait for the guest, which may be
    /// busy. **The machine is off afterwards.**
    ///
    /// The folder has everything that is needed to resume, except QEMU and files in the Nix store.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] when it can't be kept (it is off, it shares folders with the host), with the reason in one
    /// line; [`ErrorKind::Io`], [`ErrorKind::Qmp`] and [`ErrorKind::Timeout`] when it could not be written. After an
    /// error, nothing is left in `folder`.
    #[tracked]
    pub async fn keep(&self, folder: &Path) -> Result {
        let Ok(_changing) = crate::stopped::timeout(CHANGING, self.shared.changing.lock()).await else {
            return Err(self.not_kept("it is being started or ended"));
        };
        let life = self.life();
        let Origin::Vm(vm) = &self.shared.plan.origin else {
            return Err(self.not_kept("it is replayed from a record"));
        };
        // It may have been switched to another system.
        let vm = lock(&self.shared.history).starts().unwrap_or(vm).script().to_owned();
        let networks = self.shared.plan.networks.as_ref();
        let part = Part::make(folder)?;
        let about = About {
            format: FORMAT,
            machine: life.name.clone(),
            vm,
            speed: life.speed.factor(),
            console: life.standing(false).await,
            cards: networks.map_or_else(Vec::new, |its| its.cards.to_vec()),
            told: networks.and_then(|its| its.told.as_deref().map(str::to_owned)),
        };
        let started = Instant::now();
        match life.qemu.keep(&self.shared.run_dir, &part.0).await? {
            Saved::Done => {}
            Saved::Impossible(why) => return Err(self.not_kept(&why)),
        }
        life.console.flush();
        let text = serde_json::to_vec(&about)
            .map_err(|error| Error::new(ErrorKind::Other, error.to_string()).caused_by(error))?;
        // Without the mark, only booting from the moment needs `--trust`.
        if let Ok(mark) = own::mark(&text) {
            fs::write(part.0.join(own::MARK_FILE), mark)
                .map_err(|error| Error::io(format_args!("write to {}", folder.display()), &error))?;
        }
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
        Error::new(ErrorKind::Host, format!("the state of {} can't be kept: {why}", self.name()))
    }
}

/// A folder in progress. It is deleted unless it was renamed.
struct Part(PathBuf);

impl Part {
    fn make(folder: &Path) -> Result<Self> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let part = folder.with_file_name(format!(".{name}.part"));
        let make = || {
            fs::create_dir_all(folder.parent().unwrap_or(Path::new(".")))?;
            // QEMU runs in its own folder, so the path must be absolute.
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
        let read =
            |folder: Beneath| folder.read(ABOUT_FILE, ABOUT).map(|text| (own::is_own(&folder, &text), text));
        let (own, text) = Beneath::open(given).and_then(read).map_err(|error| {
            Error::new(ErrorKind::Usage, format!("{} holds no kept machine: {error}", given.display()))
                .caused_by(error)
        })?;
        let mut about: About = serde_json::from_slice(&text).map_err(|error| {
            let what = text::line(&error.to_string());
            Error::new(ErrorKind::Io, format!("{} is damaged: {what}", given.join(ABOUT_FILE).display()))
                .caused_by(error)
        })?;
        about.machine = text::line(&about.machine).chars().take(NAME).collect();
        if about.format != FORMAT {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("{} was written by another version of nixvm-test", given.display()),
            ));
        }
        let folder = given
            .canonicalize()
            .map_err(|error| Error::io(format_args!("find {}", given.display()), &error))?;
        Ok(Self { folder, about, trusted: false, own })
    }

    /// Accepts everything that the moment names: options of QEMU that can run commands and reach files, disks elsewhere
    /// on this host, a run script outside of the Nix store. Use it only for a moment of known origin. QEMU itself is
    /// still one of this host's.
    #[must_use]
    pub fn trust(mut self) -> Self {
        self.trusted = true;
        self
    }

    /// Returns the machine's name.
    pub fn machine(&self) -> &str {
        &self.about.machine
    }

    /// Returns whether the machine has cards on networks of its scenario.
    pub(crate) fn is_networked(&self) -> bool {
        !self.about.cards.is_empty()
    }

    /// Returns the machine's cards on the networks of its scenario, plugged into `switch`; `None` if it has none.
    pub(crate) fn networks(&self, switch: &Arc<Switch>) -> Option<Networks> {
        let cards = self.about.cards.clone();
        (!cards.is_empty()).then(|| Networks {
            switch: Some(Arc::clone(switch)),
            cards: cards.into(),
            told: self.about.told.as_deref().map(Arc::from),
            leases: Arc::default(),
        })
    }

    /// Returns the VM that the machine was made from.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] when it is not in this host's Nix store, with how to get it; [`ErrorKind::Usage`] when it is
    /// a script elsewhere, unless the moment is trusted ([`Kept::trust`]).
    pub fn vm(&self) -> Result<BuiltVm> {
        let script = &self.about.vm;
        if let Some(found) = self.foreign_script().filter(|_| !self.trusted) {
            return Err(self.refused(&[found]));
        }
        if !is_known_absent(script) {
            return BuiltVm::open(script);
        }
        let built = text::line(&script.ancestors().nth(2).unwrap_or(script).to_string_lossy());
        Err(Error::new(ErrorKind::Host, format!("{} needs {built}, which is not here", self.machine()))
            .next_step(format!(
                "get it from the host where it ran: `nix copy --from ssh://THAT-HOST {built}` (or `nix-copy-closure --from \
                 THAT-HOST {built}`), or build the same configuration with the same nixpkgs here: `nixvm-test build`"
            )))
    }

    /// Returns the VM, to boot it when the moment can't be resumed: its run script is executed.
    ///
    /// # Errors
    /// Those of [`Kept::vm`], and [`ErrorKind::Usage`] unless this user kept the moment or it is trusted
    /// ([`Kept::trust`]): every user of the host may add a script to its Nix store.
    pub fn vm_to_boot(&self) -> Result<BuiltVm> {
        let vm = self.vm()?;
        if self.trusted || self.own {
            return Ok(vm);
        }
        let script = text::line(&self.about.vm.to_string_lossy());
        Err(Error::new(
            ErrorKind::Usage,
            format!("{} is not booted from a kept moment of another user", self.machine()),
        )
        .section("refused", format!("the run script {script}"))
        .likely_cause(
            "another user or host made it, or the cache folder no longer has the key of \
                your own moments",
        )
        .next_step(
            "attach with the version of QEMU that it ran on, which needs no script; or, if you know \
                 who made it, \
                 give --trust: then its run script runs as you",
        ))
    }

    /// Returns why the machine can't resume on this host, as far as that is known without trying.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the moment's files can't be read, [`ErrorKind::Usage`] when it needs something that only
    /// a trusted moment may have ([`Kept::trust`]).
    pub fn obstacle(&self) -> Result<Option<String>> {
        self.check(&self.folder)?;
        unfit(&self.folder)
    }

    /// Rejects what only a trusted moment may have.
    fn check(&self, folder: &Path) -> Result {
        if self.trusted {
            return Ok(());
        }
        let mut found = suspicious(folder)?;
        found.extend(self.foreign_script());
        if found.is_empty() { Ok(()) } else { Err(self.refused(&found)) }
    }

    /// Returns the run script, if it is outside of the Nix store.
    fn foreign_script(&self) -> Option<String> {
        let script = &self.about.vm;
        (!is_script_in_store(script))
            .then(|| format!("the run script {}", text::line(&script.to_string_lossy())))
    }

    fn refused(&self, found: &[String]) -> Error {
        let mut list: Vec<&str> = found.iter().take(SHOWN).map(String::as_str).collect();
        let more = format!("… and {} more", found.len().saturating_sub(SHOWN));
        if found.len() > SHOWN {
            list.push(&more);
        }
        let what =
            format!("{} has options that are not allowed in a moment of unknown origin", self.machine());
        Error::new(ErrorKind::Usage, what)
            .section("refused", list.join("\n"))
            .likely_cause("it was changed, or its VM has options that reach this host")
            .next_step(format!(
                "if you know who made {}, give --trust: then QEMU may run commands and use files of this \
                 host as these \
                 options say",
                self.folder.display()
            ))
    }

    /// Resumes a machine from the moment, and returns it with its console. Its clock continues from the moment, too.
    /// The earlier console output is in [`crate::console::Console::tail`].
    ///
    /// The user who is logged in on the console is unknown, so the machine offers no session.
    ///
    /// # Errors
    /// Those of [`Kept::vm`] and [`Kept::obstacle`], and every error that keeps QEMU from resuming.
    pub async fn resume(&self, options: MachineOptions) -> Result<(Machine, RawConsole)> {
        let machine = self.resume_stopped(options).await?;
        let console = self.go_on(&machine).await?;
        Ok((machine, console))
    }

    /// Resumes a machine from the moment, in which the guest does not run yet.
    ///
    /// # Errors
    /// Those of [`Kept::resume`].
    pub(crate) async fn resume_stopped(&self, options: MachineOptions) -> Result<Machine> {
        let vm = self.vm()?;
        let options = match options.networks {
            // It is on its networks alone.
            None if !self.about.cards.is_empty() => {
                let networks = self.networks(&Arc::new(Switch::start()?));
                options.networks(networks)
            }
            _ => options,
        };
        let plan = Plan { disk: Disk::Fresh, ..Plan::of(&vm, options) };
        let run_dir = Arc::new(RunDirectory::create()?);
        let (folder, place) = (self.folder.clone(), run_dir.path().to_owned());
        let safe = threads::aside(move || place::safe(&folder, &place)).await;
        let folder = safe
            .flatten()
            .map_err(|error| Error::io(format_args!("use {}", self.folder.display()), &error))?;
        // Checks the files that are used from now on.
        self.check(&folder)?;
        let life = self.life(&folder, &plan, &run_dir).await?;
        Ok(Machine::living(plan, run_dir, life, None))
    }

    /// Lets a machine's guest run that was [resumed](Kept::resume_stopped), and returns its console.
    ///
    /// # Errors
    /// Those of QEMU.
    pub(crate) async fn go_on(&self, machine: &Machine) -> Result<RawConsole> {
        let life = machine.life();
        match life.qemu.look_whether_halted().await? {
            // It was kept in this state, and QEMU would not let it resume.
            Some(why) => {
                life.events.note(format!(
                    "{} is halted, as it was when it was kept: {}",
                    life.name,
                    why.summary()
                ));
            }
            None => life.qemu.go_on().await?,
        }
        Ok(RawConsole::open(life.console.clone(), self.about.console).await)
    }

    async fn life(&self, folder: &Path, plan: &Plan, run_dir: &Arc<RunDirectory>) -> Result<Life> {
        let past = end_of_transcript(folder).map_err(|error| {
            Error::io(format_args!("read what the console of {} said", self.machine()), &error)
        })?;
        let pair = std::os::unix::net::UnixStream::pair();
        let (ours, theirs) = pair.map_err(|error| Error::io("make a socket pair", &error))?;
        let (name, events) = (plan.name.clone(), plan.events.clone());
        let channel = theirs.into();
        let (cards, ports) = plan.plug()?;
        let cards = cards.into_sockets();
        let resume = Resume {
            folder,
            to_save: None,
            foreign: !self.trusted,
            machine: &name,
            scenario: plan.scenario.as_deref(),
            run_dir,
            channel,
            cards,
            events: events.clone(),
        };
        let (qemu, stream) = Qemu::resume(resume).await?;
        // A trusted moment may reach others. The machine is still paused here.
        plan.stay_alone(&qemu)?;
        let channels = Channels::new(ours, plan.shell_channel)?;
        let speed = Speed::new(self.about.speed);
        let console = plan.attach(&qemu, stream, run_dir.transcript(), speed, past)?;
        console.set_watch(Watch::Off);
        qemu.came_up();
        let line = Mutex::new(Line::Lost("it continues from a kept moment".to_owned()));
        Ok(Life {
            name,
            console,
            qemu: Arc::new(qemu),
            events,
            speed,
            channels,
            line,
            answers: Answers::Written(Writer::open(&run_dir.answers())),
            ports,
            _run_dir: Arc::clone(run_dir),
        })
    }
}

fn end_of_transcript(folder: &Path) -> std::io::Result<Vec<u8>> {
    let (mut file, size) = Beneath::open(folder)?.file(TRANSCRIPT_FILE)?;
    file.seek(SeekFrom::Start(size.saturating_sub(TRANSCRIPT)))?;
    let mut end = Vec::new();
    file.take(TRANSCRIPT).read_to_end(&mut end)?;
    Ok(end)
}
