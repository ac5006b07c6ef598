//! From a built VM to a login prompt, or to the shell of an automatic login.

use std::fs::File;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use nixvm_test_macros::tracked;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use crate::BuiltVm;
use crate::console::{Console, ConsoleOptions, Mark, Pattern, Watch};
use crate::error::Doubt;
use crate::machine::commands::channels::Channels;
use crate::machine::lifecycle::boot_times::speed_of_boot;
use crate::machine::lifecycle::options::MachineOptions;
use crate::machine::replay::answers::{Answers, Replay, Standing, Start, Writer};
use crate::machine::session::phases::{Phase, WORDS, has_a_beginning, login_prompt, look_whether_up};
use crate::machine::session::waiting::ends_at_a_shell;
use crate::machine::{Alone, Life, Line, Machine, Shared};
use crate::mutex::lock;
use crate::qemu::accelerator::{self, Choice, Trial};
use crate::qemu::{Disk, Exit, Launch, Memory, Qemu, RunDirectory, Standstill, foreseen_reach};
use crate::{Error, ErrorKind, Event, Events, FileKind, Result, Speed};

/// The whole boot, on a fast host. NixOS boots in 5–10 s there.
pub(crate) const BOOT: Duration = Duration::from_secs(120);
/// Longest limit for a boot, however slow the host.
const BOOT_AT_MOST: Duration = Duration::from_secs(15 * 60);
/// A guest that prints nothing for so long (on a fast host) is asked by a press of Enter.
const SILENCE: Duration = Duration::from_secs(6);
/// Bounds of the scaled [`SILENCE`]. A boot waits for the clock as well: for a menu, a passphrase, a disk that is slow to come.
const SILENCE_BOUNDS: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(45));
/// For agetty to answer Enter, on a fast host.
const ANSWER: Duration = Duration::from_secs(2);
/// After so long, on a fast host, a last line that looks like a shell's prompt is asked by a press of Enter.
const SHELL: Duration = Duration::from_secs(3);
/// Where KVM is not proven, the processors of a guest that has not said a word for so long are looked at.
const FIRST_WORD: Duration = Duration::from_secs(2);
/// Where KVM hardly ever runs a guest, one that has not said a word for so long is given up.
const FIRST_WORD_AT_MOST: Duration = Duration::from_secs(8);
/// How often a wait for the next phase looks at how long the console has been quiet.
const LOOK: Duration = Duration::from_millis(500);

/// The console of a boot under KVM that does not count, in the record.
const UNDER_KVM: &str = "under-kvm.log";
/// So many lines of it are kept.
const SAID: usize = 1000;

/// What a machine is made of.
#[derive(Debug)]
pub(crate) enum Origin {
    /// It is run.
    Vm(BuiltVm),
    /// It is not: a record of one answers.
    Record(Arc<Replay>),
}

/// Everything that is needed to start a machine, the first time and again.
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
    /// The scenario that it is in.
    pub(crate) scenario: Option<String>,
    /// The right to run beside no other scenario's machines, once it is needed.
    pub(crate) alone: std::sync::Mutex<Option<Alone>>,
}

/// # Boot
impl Machine {
    /// Boots `vm` and waits for the login prompt on its serial console.
    ///
    /// Where no guest has reached its login prompt under KVM since the host was booted, a failure of KVM's is none of the
    /// machine's: the machine boots once more, under TCG, on a fresh disk, and a note says so.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when `NIXVM_ACCELERATOR` is neither kvm nor tcg,
    /// [`ErrorKind::Host`] and [`ErrorKind::Io`] when QEMU can't be started,
    /// [`ErrorKind::KernelPanic`], [`ErrorKind::EmergencyMode`] and [`ErrorKind::QemuGone`] at once
    /// when they happen, [`ErrorKind::NoLoginPrompt`] when the guest came up without a login prompt
    /// on ttyS0, [`ErrorKind::BootStalled`] when it stopped printing before, [`ErrorKind::Timeout`]
    /// when it was still printing at the limit.
    #[doc(hidden)]
    #[tracked]
    pub async fn boot(vm: &BuiltVm, options: MachineOptions) -> Result<Self> {
        let trial = Trial::begin(vm, &options.events)?;
        Box::pin(Self::tried(vm, options, trial)).await
    }

    /// Boots until a boot counts.
    async fn tried(vm: &BuiltVm, options: MachineOptions, trial: Trial) -> Result<Self> {
        let mut trial = trial.keeping_state(options.keeps_state());
        loop {
            match Self::begun(vm, options.clone(), &trial, None).await {
                Ok(machine) => return Ok(machine),
                Err(error) => trial.failed(error)?,
            }
        }
    }

    /// One boot, whether it counts or not. With its RAM in a file of `memory`, if that is given: it can be saved there.
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

    /// A machine that runs. `template` is held as long as it does.
    pub(in crate::machine) fn living(
        plan: Plan,
        run_dir: Arc<RunDirectory>,
        life: Life,
        template: Option<File>,
    ) -> Self {
        let shared = Shared {
            plan,
            run_dir,
            life: std::sync::Mutex::new(Arc::new(life)),
            begun: AtomicUsize::new(1),
            trouble: Default::default(),
            boot_times: Default::default(),
            snapshots: AtomicUsize::new(0),
            changing: Mutex::default(),
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
        let MachineOptions { name, disk, events, boot_limit, hardware, scenario, alone, .. } = options;
        let boot_limit = boot_limit.unwrap_or(BOOT);
        let (shell_channel, show_console) = (options.shell_channel, options.show_console);
        let boot_times = options.boot_times;
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
            scenario,
            alone,
        }
    }

    /// Boots the machine once more, with what it ran on before.
    pub(in crate::machine) async fn begin(
        &self,
        before: &Qemu,
        run_dir: &Arc<RunDirectory>,
        transcript: PathBuf,
    ) -> Result<Life> {
        match &self.origin {
            Origin::Vm(vm) => {
                let choice = Choice::as_before(vm, before.accelerator(), before.cpu())?;
                let life = self.boot(vm, &choice, run_dir, transcript, None).await?;
                if let Err(error) = accelerator::record_speed(vm, choice.accelerator, life.speed) {
                    tracing::debug!(%error, "the host's speed is not remembered");
                }
                Ok(life)
            }
            Origin::Record(replay) => self.begin_replay(replay, run_dir, transcript, None).await,
        }
    }

    /// Starts QEMU and waits for the login prompt. The error says whether KVM of this host may be the cause.
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
        launch.accelerator = choice.accelerator;
        launch.cpu = choice.cpu;
        launch.tried = choice.is_tried();
        launch.options.clone_from(&self.hardware);
        if let Some(folder) = memory {
            launch.memory = Memory::create(folder, vm, &launch.options)?;
        }
        let (ours, theirs) = StdStream::pair().map_err(|error| Error::io("make a socket pair", &error))?;
        launch.channel = Some(theirs.into());
        let (qemu, stream) = Qemu::launch(launch).await?;
        // QEMU has greeted. What the run script did before says nothing about the speed of guests.
        let started = Instant::now();
        self.stay_alone(&qemu)?;
        let channels = Channels::new(ours, self.shell_channel)?;
        channels.follow(&qemu, choice.speed);
        let console = self.attach(&qemu, stream, transcript.clone(), choice.speed, Vec::new())?;
        let tried = choice.is_tried().then_some((&qemu, choice.is_hasty()));
        let boot =
            Boot { name, console: &console, events, started, speed: choice.speed, asked_at: None, tried };
        let booted = boot.to_login_prompt(self.limit(choice.speed)).await;
        let answers = Writer::open(&run_dir.answers());
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
                // Without the disk of before there is no other boot.
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
            _run_dir: Arc::clone(run_dir),
        })
    }

    /// Puts what the console of a boot under KVM said into the record: the transcript there is that of the boot that counts.
    fn keep_apart(&self, console: &Console, run_dir: &RunDirectory) {
        let Self { name, events, .. } = self;
        let path = run_dir.path().join(UNDER_KVM);
        match std::fs::write(&path, console.tail(SAID) + "\n") {
            Ok(()) => events.send(Event::FileKept { machine: name.clone(), kind: FileKind::Log, path }),
            Err(error) => tracing::debug!(%error, "what the console said under KVM is not kept apart"),
        }
        let (machine, how) = (name.clone(), "given up, since KVM may not run it".to_owned());
        events.send(Event::MachineStopped { machine, how });
    }

    /// Reads the console from the first byte on: before anybody waits. `past` is what it said before.
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
                    Err(_) => "QEMU was let go".to_owned(),
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
        if self.show_console {
            console.tell_lines(&self.name, &self.events);
        }
        Ok(console)
    }
}

impl Plan {
    /// Sees to it that no other scenario has a machine that reaches this one. What it reaches may stand in its command
    /// alone, and not in the run script.
    pub(crate) fn stay_alone(&self, qemu: &Qemu) -> Result {
        let mut alone = lock(&self.alone);
        if alone.is_none()
            && let Some(why) = qemu.reach()
        {
            *alone = Some(Alone::at_once(&self.name, self.scenario.as_deref(), &why)?);
        }
        Ok(())
    }

    /// How long a boot may take on a host of this speed.
    pub(crate) fn limit(&self, speed: Speed) -> Duration {
        speed.scale(self.boot_limit).min(BOOT_AT_MOST)
    }
}

/// What QEMU's end tells the one who waits on the console.
fn farewell(exit: &Exit) -> String {
    match exit.stderr.trim() {
        "" => format!("QEMU ended: {}", exit.describe()),
        stderr => format!("QEMU ended: {}\n{stderr}", exit.describe()),
    }
}

/// A boot that is under way.
pub(crate) struct Boot<'a> {
    name: &'a str,
    console: &'a Console,
    events: &'a Events,
    started: Instant,
    speed: Speed,
    /// Where the console was when a reboot was asked for.
    asked_at: Option<Mark>,
    /// The boot shows whether KVM runs this guest. And whether one that says nothing is not waited for long.
    tried: Option<(&'a Qemu, bool)>,
}

/// What the words of a phase are called in errors.
const LATER: &str = "a later phase of the boot";

impl<'a> Boot<'a> {
    /// The boot that begins now in a machine that is running. The console was at `asked_at` when the reboot was asked for.
    pub(crate) fn of(life: &'a Life, asked_at: Mark) -> Self {
        let Life { name, console, events, speed, .. } = life;
        Self {
            name,
            console,
            events,
            started: Instant::now(),
            speed: *speed,
            asked_at: Some(asked_at),
            tried: None,
        }
    }

    /// Whether the boot began before this wait did. QEMU's word of the reset comes on another line than the console, and can
    /// come late to a process that got no processor.
    fn began_before(&self) -> bool {
        let said = self.asked_at.map(|mark| self.console.text_since(mark).text);
        said.is_some_and(|said| has_a_beginning(&said))
    }

    /// Waits for the login prompt; gives the host's speed as measured by the boot.
    pub(crate) async fn to_login_prompt(&self, limit: Duration) -> Result<Speed> {
        let silence = self.speed.scale(SILENCE).clamp(SILENCE_BOUNDS.0, SILENCE_BOUNDS.1);
        let later = WORDS.iter().map(|(words, _)| Pattern::from(*words).called(LATER));
        let patterns: Vec<Pattern> = std::iter::once(login_prompt()?).chain(later).collect();
        self.phase("firmware");
        let (mut kernel, mut initrd, mut services) = (false, false, false);
        // Where the console was when Enter was pressed.
        let mut nudged: Option<(Mark, Instant)> = None;
        let mut standstill = Standstill::default();
        loop {
            let rest = limit.saturating_sub(self.started.elapsed());
            match self.console.expect_any(&patterns, LOOK.min(rest)).await {
                Ok((pattern, _)) => match pattern.checked_sub(1).map(|words| WORDS[words].1) {
                    None => break,
                    Some(Phase::Kernel) => self.reached(&mut kernel, "kernel"),
                    Some(Phase::Initrd) if services => {}
                    Some(Phase::Initrd) => self.reached(&mut initrd, "initrd"),
                    Some(Phase::Services) => self.reached(&mut services, "services"),
                },
                Err(error) if error.kind() != ErrorKind::Timeout => {
                    return Err(error.took(self.started.elapsed(), limit));
                }
                Err(_) if self.started.elapsed() >= limit => {
                    return Err(self
                        .report(
                            ErrorKind::Timeout,
                            "the login prompt did not come: the machine was still booting",
                        )
                        .took(self.started.elapsed(), limit));
                }
                Err(_) => {
                    if let Some((qemu, hasty)) = self.tried
                        && self.console.written() == 0
                        && self.started.elapsed() >= FIRST_WORD
                    {
                        if let Some((spent, place)) = standstill.look(qemu).await {
                            return Err(self.stands_still(spent, &place));
                        }
                        if hasty && self.started.elapsed() >= FIRST_WORD_AT_MOST {
                            return Err(self.no_word_yet());
                        }
                    }
                    let quiet = self.console.quiet_for();
                    let is_up = services || self.began_before();
                    let Some((mark, at)) = nudged else {
                        // A getty may log somebody in without a word.
                        let is_shell = is_up && ends_at_a_shell(&self.console.tail(1));
                        if quiet >= if is_shell { self.speed.scale(SHELL) } else { silence } {
                            // agetty and shells print their prompt again: the kernel may have torn it.
                            nudged = Some((self.console.mark(), Instant::now()));
                            self.console.send(b"\r").await?;
                        }
                        continue;
                    };
                    let answer = self.console.text_since(mark).text;
                    if quiet.min(at.elapsed()) < self.speed.scale(ANSWER) {
                        continue;
                    } else if is_up && ends_at_a_shell(&answer) {
                        break;
                    } else if answer.trim().is_empty() {
                        return Err(self.silent(kernel, services, silence));
                    }
                    nudged = None;
                }
            }
        }
        self.phase("login prompt");
        self.console.set_watch(Watch::Session);
        Ok(speed_of_boot(self.started.elapsed()))
    }

    /// Says that a phase has begun, once.
    fn reached(&self, known: &mut bool, phase: &str) {
        if !std::mem::replace(known, true) {
            self.phase(phase);
        }
    }

    fn phase(&self, phase: &str) {
        let (machine, phase) = (self.name.to_owned(), phase.to_owned());
        self.events.send(Event::Phase { machine, phase, at: self.started.elapsed() });
    }

    fn report(&self, kind: ErrorKind, summary: &str) -> Error {
        Error::new(kind, format!("{}: {summary}", self.name))
            .section("the console's last lines", self.console.tail(20))
    }

    /// KVM does not get the guest past one instruction.
    fn stands_still(&self, spent: Duration, place: &str) -> Error {
        let what = "the machine printed nothing at all on its serial console, and its processor stands still";
        let how = format!(
            "{:.0} s of the host's processor went into one instruction: {place}",
            spent.as_secs_f64()
        );
        self.report(ErrorKind::BootStalled, what).section("standstill", how)
    }

    /// Not a word, where KVM hardly ever runs a guest.
    fn no_word_yet(&self) -> Error {
        let seconds = FIRST_WORD_AT_MOST.as_secs();
        let what = format!(
            "the machine printed nothing at all on its serial console within {seconds} s, and KVM of this host \
             (kvm_pvm) hardly ever runs a guest"
        );
        self.report(ErrorKind::BootStalled, &what).doubted(Some(Doubt::Hasty))
    }

    /// Nothing came for so long, not even after Enter was pressed: says what that means.
    fn silent(&self, kernel: bool, services: bool, silence: Duration) -> Error {
        let quiet = format!("nothing came for {:.0} s, nor after Enter was pressed", silence.as_secs_f64());
        let error = if self.console.tail(1).trim().is_empty() {
            self.report(ErrorKind::BootStalled, "the machine printed nothing at all on its serial console")
                .likely_cause("the kernel does not use ttyS0 as a console, or it hangs before its first line")
                .next_step("add console=ttyS0 to boot.kernelParams, last of the console= parameters")
        } else if services {
            self.report(ErrorKind::NoLoginPrompt, "the machine booted, but no login prompt came on its serial console")
                .likely_cause("no getty runs on ttyS0: systemd starts one for each kernel console, so console=ttyS0 is missing or serial-getty@ttyS0 is disabled or failed")
                .next_step("add console=ttyS0 to boot.kernelParams, last of the console= parameters; look for systemd.services.\"serial-getty@ttyS0\" in the configuration")
        } else if kernel {
            self.report(ErrorKind::BootStalled, "the boot stopped: the kernel started, and then the console fell silent")
                .likely_cause("the kernel or the initial ramdisk hangs, or later messages go to another console: is console=ttyS0 the last of the console= parameters?")
                .next_step("boot it by hand: QEMU_KERNEL_PARAMS=console=ttyS0 ./result/bin/run-*-vm -nographic")
        } else {
            self.report(ErrorKind::BootStalled, "the boot stopped before the kernel's first line")
                .likely_cause("the firmware found nothing to boot, or the kernel does not print to ttyS0 (console=ttyS0)")
                .next_step("boot it by hand: QEMU_KERNEL_PARAMS=console=ttyS0 ./result/bin/run-*-vm -nographic")
        };
        error.section("silence", quiet)
    }
}

#[cfg(test)]
mod tests;
