//! Boots a built VM to a login prompt, or to the shell of an automatic login.

mod last_line;
mod prompt;
mod questions;
mod reasons;

use std::fs::File;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use crate::stopped::Instant;

use nixvm_test_macros::tracked;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use crate::BuiltVm;
use crate::console::{Console, ConsoleOptions, Watch};
use crate::machine::commands::channels::Channels;
use crate::machine::lifecycle::options::MachineOptions;
use crate::machine::replay::answers::{Answers, Replay, Standing, Start, Writer};
use crate::machine::session::phases::look_whether_up;
use crate::machine::session::shell_line::Secret;
use crate::machine::system::System;
use crate::machine::system::history::History;
use crate::machine::{Alone, Life, Line, Machine, Networks, Shared};
use crate::mutex::lock;
use crate::network::Port;
use crate::qemu::accelerator::{self, Choice, Trial};
use crate::qemu::{Cards, Disk, Exit, Launch, Memory, Qemu, RunDirectory, foreseen_reach};
use crate::record::{Keeper, LONGEST_TRANSCRIPT, incomplete};
use crate::{Error, Event, Events, FileKind, Result, Speed};

pub(crate) use prompt::Boot;

/// The limit for the whole boot, on a fast host, where NixOS boots in 5–10 s.
pub(crate) const BOOT: Duration = Duration::from_secs(120);
/// The name in the record for the console of a boot under KVM that does not count.
const UNDER_KVM: &str = "under-kvm.log";
/// Maximum number of lines of it that are kept.
const SAID: usize = 1000;

/// The origin of a machine.
#[derive(Debug)]
pub(crate) enum Origin {
    /// A built VM, which is run.
    Vm(BuiltVm),
    /// A record, which answers instead.
    Record(Arc<Replay>),
}

/// Everything that is needed to start a machine, including later starts.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) origin: Origin,
    pub(crate) disk: Disk,
    pub(crate) events: Events,
    pub(crate) boot_limit: Duration,
    pub(crate) hardware: Vec<String>,
    pub(crate) shell_channel: bool,
    pub(crate) show_console: bool,
    pub(crate) boot_times: bool,
    /// The passphrase for its disks.
    pub(crate) passphrase: Option<Secret>,
    /// Its scenario.
    pub(crate) scenario: Option<String>,
    /// The right to run machines that reach others, once it is needed.
    pub(crate) alone: std::sync::Mutex<Option<Alone>>,
    /// Stores the transcripts in the record as they come.
    pub(crate) keeper: Option<Keeper>,
    /// Its cards on the networks of its scenario.
    pub(crate) networks: Option<Networks>,
}

/// # Boot
impl Machine {
    /// Boots `vm` and waits for the login prompt on its serial console.
    ///
    /// While no guest has reached its login prompt under KVM since the host was booted, a failure of KVM is not blamed
    /// on the machine: the machine boots again under TCG, on a fresh disk, and a note says so.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] when `NIXVM_ACCELERATOR` is neither kvm nor tcg,
    /// [`crate::ErrorKind::Host`] and [`crate::ErrorKind::Io`] when QEMU can't be started,
    /// [`crate::ErrorKind::KernelPanic`], [`crate::ErrorKind::EmergencyMode`] and [`crate::ErrorKind::QemuGone`] at
    /// once when they happen, [`crate::ErrorKind::BootQuestion`] when the boot asks for something that it was not
    /// given, [`crate::ErrorKind::NoLoginPrompt`] when the guest came up without a login prompt on ttyS0,
    /// [`crate::ErrorKind::BootStalled`] when it stopped printing before, [`crate::ErrorKind::Timeout`] when it was
    /// still printing at the limit.
    #[doc(hidden)]
    #[tracked]
    pub async fn boot(vm: &BuiltVm, options: MachineOptions) -> Result<Self> {
        let trial = Trial::begin(vm, &options.events)?;
        Box::pin(Self::tried(vm, options, trial)).await
    }

    /// Boots, and boots again if the first boot does not count.
    async fn tried(vm: &BuiltVm, options: MachineOptions, trial: Trial) -> Result<Self> {
        let mut trial = trial.keeping_state(options.keeps_state());
        loop {
            match Self::begun(vm, options.clone(), &trial, None).await {
                Ok(machine) => return Ok(machine),
                Err(error) => trial.failed(error)?,
            }
        }
    }

    /// Boots once, whether the boot counts or not. If `memory` is given, the RAM is in a file of it, so that the
    /// machine can be saved there.
    pub(crate) async fn begun(
        vm: &BuiltVm,
        options: MachineOptions,
        trial: &Trial,
        memory: Option<&Path>,
    ) -> Result<Self> {
        let plan = Plan::of(vm, options);
        let run_dir = Arc::new(RunDirectory::create()?);
        let life = plan.boot(vm, trial.choice(), &run_dir, run_dir.transcript(), memory).await?;
        trial.succeeded(life.speed);
        Ok(Self::living(plan, run_dir, life, None))
    }

    /// Creates the handle of a running machine. It holds `template` while it lives.
    pub(in crate::machine) fn living(
        plan: Plan,
        run_dir: Arc<RunDirectory>,
        life: Life,
        template: Option<File>,
    ) -> Self {
        let own = match &plan.origin {
            Origin::Vm(vm) => System::of(vm.clone(), &plan.name, "as it was first booted".to_owned()),
            Origin::Record(_) => System::recorded(&plan.name, "as it was first booted".to_owned()),
        };
        let shared = Shared {
            history: std::sync::Mutex::new(History::of(own)),
            plan,
            run_dir,
            life: std::sync::Mutex::new(Arc::new(life)),
            begun: AtomicUsize::new(1),
            trouble: Default::default(),
            boot_times: Default::default(),
            snapshots: AtomicUsize::new(0),
            changing: Arc::default(),
            _template: template,
        };
        Self { shared: Arc::new(shared), limit: None }
    }
}

impl Plan {
    pub(crate) fn of(vm: &BuiltVm, options: MachineOptions) -> Self {
        Self::made_of(Origin::Vm(vm.clone()), options)
    }

    pub(crate) fn made_of(origin: Origin, options: MachineOptions) -> Self {
        let MachineOptions {
            name,
            disk,
            events,
            boot_limit,
            hardware,
            scenario,
            alone,
            keeper,
            networks,
            ..
        } = options;
        let boot_limit = boot_limit.unwrap_or(BOOT);
        let (shell_channel, show_console) = (options.shell_channel, options.show_console);
        let (boot_times, passphrase) = (options.boot_times, options.passphrase);
        let alone = std::sync::Mutex::new(alone);
        Self {
            name,
            origin,
            disk,
            events,
            boot_limit,
            hardware,
            shell_channel,
            show_console,
            boot_times,
            passphrase,
            scenario,
            alone,
            keeper,
            networks,
        }
    }

    /// Plugs the machine into its networks: what QEMU gets, and the ports.
    pub(in crate::machine) fn plug(&self) -> Result<(Cards, Vec<Port>)> {
        match &self.networks {
            Some(networks) => networks.plug(&self.name),
            None => Ok(Default::default()),
        }
    }

    /// Boots the machine again, with its disk and settings. `vm` is the VM whose run script starts it, if that is not
    /// its own any more.
    pub(in crate::machine) async fn begin(
        &self,
        before: &Qemu,
        run_dir: &Arc<RunDirectory>,
        transcript: PathBuf,
        vm: Option<&BuiltVm>,
    ) -> Result<Life> {
        match &self.origin {
            Origin::Vm(own) => {
                let vm = vm.unwrap_or(own);
                let choice = Choice::as_before(vm, before.accelerator(), before.cpu())?;
                let life = self.boot(vm, &choice, run_dir, transcript, None).await?;
                if let Err(error) = accelerator::record_speed(vm, choice.accelerator, life.speed) {
                    tracing::debug!(%error, "could not save the host's speed");
                }
                Ok(life)
            }
            Origin::Record(replay) => self.begin_replay(replay, run_dir, transcript, None).await,
        }
    }

    /// Starts QEMU and waits for the login prompt. The error tells whether this host's KVM may be the cause.
    async fn boot(
        &self,
        vm: &BuiltVm,
        choice: &Choice,
        run_dir: &Arc<RunDirectory>,
        transcript: PathBuf,
        memory: Option<&Path>,
    ) -> Result<Life> {
        let Self { name, events, .. } = self;
        events.send(Event::HostSpeed {
            machine: name.clone(),
            accelerator: choice.accelerator.to_string(),
            factor: choice.speed.factor(),
        });
        if let Some(why) = foreseen_reach(vm, &self.hardware)
            && lock(&self.alone).is_none()
        {
            let alone = Alone::of_process(&why, events).await?;
            *lock(&self.alone) = Some(alone);
        }
        let mut launch = Launch::new(vm, name, run_dir, events.clone());
        launch.scenario.clone_from(&self.scenario);
        launch.disk = self.disk.clone();
        if let Origin::Vm(own) = &self.origin {
            launch.disk_of = Some(own);
        }
        launch.accelerator = choice.accelerator;
        launch.cpu = choice.cpu;
        launch.tried = choice.is_tried();
        launch.options.clone_from(&self.hardware);
        if let Some(folder) = memory {
            launch.memory = Memory::create(folder, vm, &launch.options)?;
        }
        let (ours, theirs) = StdStream::pair().map_err(|error| Error::io("make a socket pair", &error))?;
        launch.channel = Some(theirs.into());
        let (cards, ports) = self.plug()?;
        launch.cards = cards;
        let (qemu, stream) = Qemu::launch(launch).await?;
        // QEMU has sent its greeting. The time that the run script took before says nothing about the speed of guests.
        let started = Instant::now();
        self.stay_alone(&qemu)?;
        let channels = Channels::new(ours, self.shell_channel)?;
        channels.follow(&qemu, choice.speed);
        let console = self.attach(&qemu, stream, transcript.clone(), choice.speed, Vec::new())?;
        let boot = Boot {
            name,
            console: &console,
            qemu: &qemu,
            events,
            started,
            speed: choice.speed,
            asked_at: None,
            tried: choice.is_tried().then(|| choice.is_hasty()),
            passphrase: self.passphrase.as_ref(),
        };
        let booted = boot.to_login_prompt(self.limit(choice.speed)).await;
        let answers = Writer::open(&run_dir.answers());
        if let Some(keeper) = &self.keeper {
            answers.keep(&self.name, &run_dir.answers(), keeper);
        }
        let start = booted.as_ref().map(|speed| Start {
            speed: speed.factor(),
            secrets: console.secrets(),
            judged: console.judged(),
            console: Standing::AtLogin,
        });
        answers.started(start, &console);
        let speed = match booted {
            Ok(speed) => {
                qemu.came_up();
                speed
            }
            Err(error) => {
                console.flush();
                run_dir.keep()?;
                let error = qemu.doubted(error).transcript(name, transcript);
                if !choice.is_tried() || error.doubt().is_none() {
                    return Err(error);
                }
                self.keep_apart(&console, run_dir);
                // Without the original disk, another boot is not possible.
                return Err(if qemu.undo().await { error } else { error.doubted(None) });
            }
        };
        qemu.confirm_boot();
        Ok(Life {
            name: name.clone(),
            console,
            qemu: Arc::new(qemu),
            events: events.clone(),
            speed,
            channels,
            line: Mutex::new(Line::AtLogin),
            answers: Answers::Written(answers),
            ports,
            _run_dir: Arc::clone(run_dir),
        })
    }

    /// Stores the console output of a boot under KVM separately in the record: the transcript there is that of the boot
    /// that counts.
    fn keep_apart(&self, console: &Console, run_dir: &RunDirectory) {
        let Self { name, events, .. } = self;
        let path = run_dir.path().join(UNDER_KVM);
        match std::fs::write(&path, console.tail(SAID) + "\n") {
            Ok(()) => events.send(Event::FileKept { machine: name.clone(), kind: FileKind::Log, path }),
            Err(error) => tracing::debug!(%error, "could not keep a copy of the console's output under KVM"),
        }
        let (machine, how) = (name.clone(), "given up, because KVM may not run it".to_owned());
        events.send(Event::MachineStopped { machine, how });
    }

    /// Reads the console from the first byte on, before any wait begins. `past` is its earlier output.
    pub(crate) fn attach(
        &self,
        qemu: &Qemu,
        stream: UnixStream,
        transcript: PathBuf,
        speed: Speed,
        past: Vec<u8>,
    ) -> Result<Console> {
        let mut closed = qemu.closed();
        let connect = move || stream.into_std().and_then(UnixStream::from_std);
        let options = ConsoleOptions {
            name: self.name.clone(),
            transcript: Some(transcript),
            closed: Some(Box::pin(async move {
                match closed.wait_for(Option::is_some).await {
                    Ok(exit) => exit.as_ref().map_or_else(String::new, farewell),
                    Err(_) => "QEMU was released".to_owned(),
                }
            })),
            halted: Some(qemu.halted()),
            speed,
            events: self.events.clone(),
            watch: Watch::Boot,
            past,
            ..ConsoleOptions::default()
        };
        let console = Console::attach_on_a_thread(connect, options)?;
        look_whether_up(qemu, &console);
        if let Some(keeper) = &self.keeper {
            keep_as_it_comes(&console, &self.name, keeper);
        }
        RunDirectory::tell_of_fallback(&self.events);
        if self.show_console {
            console.tell_lines(&self.name, &self.events);
        }
        Ok(console)
    }
}

/// Makes the transcript of a machine's console go to the record as it comes. If that fails, the machine runs
/// nevertheless.
pub(crate) fn keep_as_it_comes(console: &Console, machine: &str, keeper: &Keeper) {
    let kept = || {
        let Some(path) = console.transcript() else { return Ok(()) };
        console.copy_transcript(keeper.begin_transcript(machine, path)?, LONGEST_TRANSCRIPT)
    };
    if let Err(error) = kept() {
        incomplete(&format!("the transcript of {machine}"), &error);
    }
}

impl Plan {
    /// Makes sure that no other scenario has a machine that reaches this one. What it reaches may be only in QEMU's
    /// command line, and not in the run script.
    pub(crate) fn stay_alone(&self, qemu: &Qemu) -> Result {
        let mut alone = lock(&self.alone);
        if alone.is_none()
            && let Some(why) = qemu.reach()
        {
            *alone = Some(Alone::at_once(&self.name, self.scenario.as_deref(), &why)?);
        }
        Ok(())
    }

    /// Returns the limit of a boot on a host of this speed.
    pub(crate) fn limit(&self, speed: Speed) -> Duration {
        speed.scale(self.boot_limit)
    }
}

/// Returns the message about QEMU's end for tasks that wait on the console.
fn farewell(exit: &Exit) -> String {
    match exit.stderr.trim() {
        "" => format!("QEMU ended: {}", exit.describe()),
        stderr => format!("QEMU ended: {}\n{stderr}", exit.describe()),
    }
}

#[cfg(test)]
mod tests;
