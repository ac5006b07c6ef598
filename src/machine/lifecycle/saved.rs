//! Saves a machine to a template, and resumes machines from it.
//!
//! QEMU stores the guest's state (see [`crate::qemu`]). This module stores what the host knows about it: the user on
//! the console, the state of the control channel, the console's output so far. With both, a clone equals the saved
//! machine, for the scenario and for the guest.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::stopped::Instant;

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard};

use crate::BuiltVm;
use crate::console::{Console, Watch};
use crate::machine::commands::channels::{Channels, HeldLog, Open, SavedChannels};
use crate::machine::lifecycle::boot::Plan;
use crate::machine::lifecycle::turn::Turn;
use crate::machine::replay::answers::{Answers, Standing, Start, Writer};
use crate::machine::session::phases::login_prompt;
use crate::machine::session::shell_line::{Ended, SavedShell, ShellLine};
use crate::machine::session::waiting::is_at_prompt;
use crate::machine::step::Step;
use crate::machine::{Life, Line, Machine, MachineOptions};
use crate::mutex::lock;
use crate::network::Port;
use crate::qemu::accelerator::Trial;
use crate::qemu::{Disk, Qemu, Resume, RunDirectory, Saved, ToSave};
use crate::{Error, ErrorKind, Event, Events, Result, Speed};

/// The host's knowledge, in a template's folder. It contains the password for sudo.
const KNOWN_FILE: &str = "known.json";
const TRANSCRIPT_FILE: &str = "transcript";
/// The processor share below which a guest counts as idle, also under TCG.
const IDLE: f64 = 0.2;
/// How long the guest must be idle.
const IDLE_FOR: Duration = Duration::from_millis(400);
/// A guest that is never idle is saved after this time, on a fast host.
const RESTLESS: Duration = Duration::from_secs(5);
/// The limit for root's channel to answer, on a fast host.
const ANSWER: Duration = Duration::from_secs(5);
/// The minimum for a clone's first answer, on any host: other clones may start at the same time.
const FIRST_ANSWER: Duration = Duration::from_secs(20);
/// Maximum number of trouble lines kept for one note.
const TROUBLE: usize = 10;
/// Number of times a clone is asked on its console: a byte may be lost while it wakes up.
const PRESSES: u32 = 2;

/// A template for clones. Its folder is not deleted while this lives.
#[derive(Debug)]
pub struct TemplateLease {
    /// The template's folder.
    pub folder: PathBuf,
    /// The lock, which is released when the last clone is gone.
    pub lock: File,
    /// The template was made for this caller. Only this caller gets its findings.
    pub is_new: bool,
}

/// A machine at rest, which is about to be saved.
pub(super) struct AtRest<'a> {
    life: &'a Life,
    run_dir: &'a RunDirectory,
    folder: &'a Path,
    store: &'a Path,
    known: Known,
    ready: ToSave,
    held: HeldLog<'a>,
    line: MutexGuard<'a, Line>,
    _busy: (MutexGuard<'a, Open>, Step),
}

impl AtRest<'_> {
    /// Writes the state of the machine, which has been stopped. Afterwards it is off, unless writing fails.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] and [`ErrorKind::Qmp`] when it can't be written.
    pub(super) async fn write(self) -> Result<Saved> {
        let Self { life, run_dir, folder, store, known, ready, held, mut line, .. } = self;
        let started = Instant::now();
        match life.qemu.save(ready, run_dir, folder, store).await? {
            Saved::Done => {}
            impossible => return Ok(impossible),
        }
        held.keep_held();
        *line = Line::Lost("the machine was saved".to_owned());
        life.write_known(&known, folder)?;
        let machine = life.name.clone();
        life.events.send(Event::Phase { machine, phase: "saved".to_owned(), at: started.elapsed() });
        Ok(Saved::Done)
    }
}

/// A clone whose state is loaded. It does not run until [`Loaded::go_on`].
#[derive(Debug)]
pub(crate) struct Loaded {
    plan: Plan,
    started: Instant,
    speed: Speed,
    qemu: Qemu,
    console: Console,
    channels: Channels,
    line: Line,
    ports: Vec<Port>,
    template: TemplateLease,
    /// Must be last: dropping it deletes the files of the fields above.
    run_dir: Arc<RunDirectory>,
}

impl Loaded {
    /// Lets the clone run.
    ///
    /// # Errors
    /// [`ErrorKind::Qmp`] when QEMU refuses, [`ErrorKind::QemuGone`].
    pub(crate) async fn go_on(&self) -> Result {
        self.qemu.go_on().await
    }

    /// Ends the clone.
    pub(crate) async fn kill(&self) {
        self.qemu.kill().await;
    }

    /// Returns the machine, which runs, once it has shown that it does.
    ///
    /// # Errors
    /// Every error of a guest that does not answer.
    pub(crate) async fn up(self) -> Result<Machine> {
        let Self { plan, started, speed, qemu, console, channels, line, ports, template, run_dir } = self;
        let (name, events) = (plan.name.clone(), plan.events.clone());
        let limit = plan.first_answer(speed);
        channels.awaken(limit).await?;
        plan.check_alive(&qemu, &console, &channels, &line, limit).await?;
        if channels.is_asleep() && matches!(line, Line::Shell(_)) {
            events.note(clock_stands(&name, "no user is logged in who can become root"));
        }
        events.send(Event::Phase {
            machine: name.clone(),
            phase: "cloned".to_owned(),
            at: started.elapsed(),
        });
        let writer = Writer::open(&run_dir.answers());
        if let Some(keeper) = &plan.keeper {
            writer.keep(&name, &run_dir.answers(), keeper);
        }
        let (factor, secrets, judged) = (speed.factor(), console.secrets(), console.judged());
        writer.started(
            Ok(Start { speed: factor, secrets, judged, console: line.standing(&console) }),
            &console,
        );
        let answers = Answers::Written(writer);
        let (qemu, line, _run_dir) = (Arc::new(qemu), Mutex::new(line), Arc::clone(&run_dir));
        let life = Life { name, console, qemu, events, speed, channels, line, answers, ports, _run_dir };
        life.shell_answers(limit).await?;
        Ok(Machine::living(plan, run_dir, life, Some(template.lock)))
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Known {
    speed: f64,
    line: KnownLine,
    #[serde(alias = "control")]
    pub(crate) channels: SavedChannels,
    /// Number of console lines that had been judged when this machine began.
    #[serde(default)]
    judged: usize,
    /// Trouble in its kernel's messages since then. It is reported to the caller for whom the template is made.
    #[serde(default)]
    trouble: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
enum KnownLine {
    AtLogin,
    Shell(SavedShell),
}

impl Machine {
    /// Boots a machine once, to be saved to `folder`. Its networks are those of no scenario.
    ///
    /// # Errors
    /// Those of [`Machine::boot`]. The error tells whether this host's KVM may be the cause.
    pub(crate) async fn boot_to_save(
        vm: &BuiltVm,
        options: MachineOptions,
        trial: &Trial,
        folder: &Path,
    ) -> Result<Self> {
        Self::begun(vm, options, trial, Some(folder)).await
    }

    /// Saves the machine at rest, to the folder that it was booted for. Afterwards it is off, unless saving fails.
    ///
    /// # Errors
    /// [`ErrorKind::SessionEnded`] when the state of its console is unknown, [`ErrorKind::Io`] and [`ErrorKind::Qmp`]
    /// when it can't be written.
    pub(crate) async fn save(&self, folder: &Path, store: &Path) -> Result<Saved> {
        let turn = self.turn().await;
        match turn.come_to_rest(folder, store).await? {
            Ok(resting) => {
                turn.life.stop().await?;
                resting.write().await
            }
            Err(why) => Ok(Saved::Impossible(why)),
        }
    }

    /// Resumes a clone from the template.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when something in the folder is missing or damaged, and every error that keeps QEMU from
    /// resuming.
    pub(crate) async fn resume(
        vm: &BuiltVm,
        options: MachineOptions,
        template: TemplateLease,
    ) -> Result<Self> {
        Self::resumed(vm, options, template, None).await
    }

    /// Like [`Machine::resume`], for a machine that is to be saved to another folder. Its networks are those of no
    /// scenario.
    ///
    /// # Errors
    /// Those of [`Machine::resume`].
    pub(crate) async fn resume_to_save(
        vm: &BuiltVm,
        options: MachineOptions,
        template: TemplateLease,
        folder: &Path,
    ) -> Result<Self> {
        Self::resumed(vm, options, template, Some(folder)).await
    }

    async fn resumed(
        vm: &BuiltVm,
        options: MachineOptions,
        template: TemplateLease,
        to_save: Option<&Path>,
    ) -> Result<Self> {
        // Boxed: it is part of larger futures.
        Box::pin(async {
            let loaded = Self::load(vm, options, template, to_save).await?;
            loaded.go_on().await?;
            loaded.up().await
        })
        .await
    }

    /// Loads the state of a clone, which does not run yet. If it is to be saved again, `to_save` is its folder.
    ///
    /// # Errors
    /// Those of [`Machine::resume`], as far as they show before it runs.
    pub(crate) async fn load(
        vm: &BuiltVm,
        options: MachineOptions,
        template: TemplateLease,
        to_save: Option<&Path>,
    ) -> Result<Loaded> {
        let plan = Plan { disk: Disk::Fresh, ..Plan::of(vm, options) };
        plan.load(template, to_save).await
    }

    /// Makes the scenario begin here: earlier steps are not part of it, as in a clone.
    pub(crate) async fn begin_here(&self) {
        let life = self.life();
        let line = life.line.lock().await;
        if let Answers::Written(writer) = &life.answers {
            let console = &life.console;
            let (speed, secrets, judged) = (life.speed.factor(), console.secrets(), console.judged());
            writer.moment(Start { speed, secrets, judged, console: line.standing(console) }, console);
        }
    }
}

impl Turn {
    /// Brings the machine to rest, to be saved to `folder` in `store`. Nothing else happens on its console and its
    /// channels until the result is dropped. Returns the reason in a few words if it can't be saved.
    ///
    /// # Errors
    /// [`ErrorKind::SessionEnded`] when the state of its console is unknown; [`ErrorKind::Host`] when its kernel
    /// stalled.
    pub(super) async fn come_to_rest<'a>(
        &'a self,
        folder: &'a Path,
        store: &'a Path,
    ) -> Result<Result<AtRest<'a>, String>> {
        let Self { machine, life, .. } = self;
        let run_dir = &machine.shared.run_dir;
        // A clone would boot the system of before, and its store may be on a disk that was plugged in.
        if lock(&machine.shared.history).has_changed() {
            return Ok(Err("it was switched to another system".to_owned()));
        }
        let mut open = life.channels.channels().await;
        let mut line = life.line.lock().await;
        line.settle().await;
        let step = life.step("save the machine");
        let (mut channels, held) = life.while_it_runs(life.save_channels(&mut open)).await?;
        // Judged once: clones do not report it.
        let said = life.look_before_save().await?;
        if let Some(line) = said.stalls.first() {
            let summary =
                format!("{}: no template is made of a machine whose kernel stalled: {line}", life.name);
            return Err(Error::new(ErrorKind::Host, summary));
        }
        channels.kernel = life.channels.kernel().saved();
        life.settle().await;
        let mut known = life.known(&line, channels)?;
        known.trouble = said.others.into_iter().take(TROUBLE).collect();
        let ready = match life.qemu.ready_to_save(run_dir, folder, store).await? {
            Ok(ready) => ready,
            Err(why) => return Ok(Err(why)),
        };
        let busy = (open, step);
        Ok(Ok(AtRest { life, run_dir, folder, store, known, ready, held, line, _busy: busy }))
    }
}

impl Known {
    /// Returns the host's speed.
    pub(crate) fn speed(&self) -> Speed {
        Speed::new(self.speed)
    }

    /// Reports the kernel's messages in the template. The same message is reported once per process, for any number of
    /// clones.
    fn tell_once(&self, machine: &str, events: &Events) {
        static TOLD: std::sync::Mutex<BTreeSet<String>> = std::sync::Mutex::new(BTreeSet::new());
        let Some(first) = self.trouble.first() else { return };
        if !lock(&TOLD).insert(format!("{machine} {first}")) {
            return;
        }
        let more = match self.trouble.len() {
            1 => String::new(),
            // Some may be left out.
            TROUBLE => " (and others)".to_owned(),
            all => format!(" (and {} more)", all - 1),
        };
        events.note(format!(
            "{machine} continues from a template; these messages of its kernel were reported when the \
             template was made: {first}{more}"
        ));
    }

    /// Returns the password of the user who is logged in on the console.
    pub(crate) fn password(&self) -> Option<&str> {
        match &self.line {
            KnownLine::AtLogin => None,
            KnownLine::Shell(saved) => Some(saved.password()),
        }
    }

    /// Returns the console's state in a guest that resumes now.
    pub(crate) fn line(&self) -> Line {
        match &self.line {
            KnownLine::AtLogin => Line::AtLogin,
            KnownLine::Shell(saved) => Line::Shell(ShellLine::resume(saved.clone())),
        }
    }
}

impl Line {
    /// Returns the state that a replay begins with.
    pub(crate) fn standing(&self, console: &Console) -> Standing {
        match self {
            Self::Shell(shell) => Standing::Shell {
                user: shell.user().to_owned(),
                language: shell.language(),
                secret: console.number_of(shell.password()),
            },
            Self::AtLogin | Self::Lost(_) => Standing::AtLogin,
        }
    }
}

impl Plan {
    /// Loads a machine's state from a template; it may be saved again. Earlier trouble in the kernel's messages belongs
    /// only to the machine for which the template was made.
    async fn load(self, template: TemplateLease, to_save: Option<&Path>) -> Result<Loaded> {
        let started = Instant::now();
        let run_dir = Arc::new(RunDirectory::create()?);
        let TemplateLease { folder, is_new, .. } = &template;
        let read = |file: &str| {
            let path = folder.join(file);
            fs::read(&path).map_err(|error| Error::io(format_args!("read {}", path.display()), &error))
        };
        let known: Known = serde_json::from_slice(&read(KNOWN_FILE)?).map_err(|error| {
            Error::new(ErrorKind::Io, format!("{}/{KNOWN_FILE} is damaged: {error}", folder.display()))
                .caused_by(error)
        })?;
        let past = read(TRANSCRIPT_FILE)?;
        let (ours, theirs) = StdStream::pair().map_err(|error| Error::io("make a socket pair", &error))?;
        let (name, events) = (&self.name, &self.events);
        let channel = theirs.into();
        let (cards, ports) = self.plug()?;
        let cards = cards.into_sockets();
        let scenario = self.scenario.as_deref();
        let resume = Resume {
            folder,
            to_save,
            foreign: false,
            machine: name,
            scenario,
            run_dir: &run_dir,
            channel,
            cards,
            events: events.clone(),
        };
        let (qemu, stream) = Qemu::resume(resume).await?;
        let channels = Channels::resume(ours, self.shell_channel, name, &known.channels, !is_new).await?;
        let speed = known.speed();
        channels.follow(&qemu, speed);
        events.send(Event::HostSpeed {
            machine: name.clone(),
            accelerator: qemu.accelerator().to_string(),
            factor: speed.factor(),
        });
        let console = self.attach(&qemu, stream, run_dir.transcript(), speed, past)?;
        console.set_watch(Watch::Session);
        qemu.came_up();
        if *is_new {
            console.set_judged(known.judged);
        } else {
            let (said, _) = console.log_that_is_left()?;
            console.set_judged(said.matches('\n').count());
            known.tell_once(name, events);
        }
        if let Some(password) = known.password() {
            console.mask(password);
        }
        let line = known.line();
        Ok(Loaded { plan: self, started, speed, qemu, console, channels, line, ports, template, run_dir })
    }

    /// Returns the limit for a clone's first answer: at most the limit of the boot that the clone replaces.
    fn first_answer(&self, speed: Speed) -> Duration {
        speed.scale(ANSWER).max(FIRST_ANSWER).min(self.limit(speed))
    }

    /// Checks that the guest runs, as far as possible without changing it: a state can be loaded without ever running.
    /// An answer of root's channel, which has come by now, is enough. Without one, Enter makes agetty print its prompt.
    /// Other programs on a console might take Enter for a command.
    async fn check_alive(
        &self,
        qemu: &Qemu,
        console: &Console,
        channels: &Channels,
        line: &Line,
        limit: Duration,
    ) -> Result {
        qemu.check_running().await?;
        if channels.root().is_some() || !matches!(line, Line::AtLogin) || !is_at_prompt(console) {
            return Ok(());
        }
        let mut presses = 0;
        loop {
            console.send(b"\r").await?;
            presses += 1;
            match console.expect(login_prompt()?, limit / PRESSES).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() != ErrorKind::Timeout || presses == PRESSES => return Err(error),
                Err(_) => {}
            }
        }
    }
}

impl Life {
    /// Returns what a clone has to know, for a machine at rest.
    pub(crate) fn known(&self, line: &Line, channels: SavedChannels) -> Result<Known> {
        let line = match line {
            Line::AtLogin => KnownLine::AtLogin,
            Line::Shell(shell) if !shell.is_busy() => KnownLine::Shell(shell.saved()),
            Line::Shell(_) => {
                return Err(self.session_ended("save", "a command was interrupted on the console"));
            }
            Line::Lost(why) => return Err(self.session_ended("save", why)),
        };
        let (speed, judged) = (self.speed.factor(), self.console.judged());
        Ok(Known { speed, line, channels, judged, trouble: Vec::new() })
    }

    /// Writes it, and the console's output so far.
    pub(crate) fn write_known(&self, known: &Known, folder: &Path) -> Result {
        self.console.flush();
        // Clones would assume that it is complete.
        if let Some(why) = self.console.incomplete() {
            return Err(Error::new(
                ErrorKind::Incomplete,
                format!("{}: the console's transcript is incomplete: {why}", self.name),
            ));
        }
        let text = serde_json::to_vec(known)
            .map_err(|error| Error::new(ErrorKind::Other, error.to_string()).caused_by(error))?;
        let written = fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.join(KNOWN_FILE))
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| {
                fs::copy(self.console.transcript().unwrap_or(Path::new("")), folder.join(TRANSCRIPT_FILE))
            });
        written.map(drop).map_err(|error| Error::io(format_args!("write to {}", folder.display()), &error))
    }

    /// Checks the shell on the console of a clone without a user who can become root. No other check of such a clone
    /// exists.
    async fn shell_answers(&self, limit: Duration) -> Result {
        if self.channels.root().is_some() {
            return Ok(());
        }
        let mut line = self.line.lock().await;
        let Line::Shell(shell) = &mut *line else { return Ok(()) };
        match shell.run(self, ":", limit).await? {
            Ended::Done(_) => Ok(()),
            Ended::Interrupted { .. } | Ended::Asks { .. } | Ended::LoggedOut(_) => Err(self
                .failure(ErrorKind::Timeout, "the shell of a clone did not answer".to_owned())
                .took(limit, limit)),
        }
    }

    /// Waits until the guest is idle, or until the limit for one that is never idle.
    async fn settle(&self) {
        let limit = Instant::now() + self.limit(RESTLESS);
        let mut rested = Instant::now();
        let mut before = self.qemu.processor_time();
        let mut looked = Instant::now();
        while rested.elapsed() < IDLE_FOR && Instant::now() < limit {
            tokio::time::sleep(IDLE_FOR / 4).await;
            let now = self.qemu.processor_time();
            let used = now.saturating_sub(before).as_secs_f64() / looked.elapsed().as_secs_f64();
            (before, looked) = (now, Instant::now());
            if used > IDLE || self.console.quiet_for() < IDLE_FOR / 4 {
                rested = Instant::now();
            }
        }
    }

    /// Corrects the clock of a clone. That needs root, so it is done as soon as a user who can become root has logged
    /// in: their first command sees the right time.
    pub(crate) async fn awaken(self: &Arc<Self>) {
        if !self.channels.is_asleep() {
            return;
        }
        if let Err(error) = self.channel("root").await {
            self.events.note(clock_stands(&self.name, error.summary()));
        }
    }

    /// Closes what can't be resumed, and notes the rest.
    pub(crate) async fn save_channels(&self, open: &mut Open) -> Result<(SavedChannels, HeldLog<'_>)> {
        self.channels.save_at_rest(open, self.limit(ANSWER)).await
    }
}

fn clock_stands(machine: &str, why: &str) -> String {
    format!("{machine}'s clock was not corrected, and still has the time of its template: {why}")
}
