//! Rehearses a deploy: switches a running machine to another system, and back.
//!
//! The program of the new system does it, started as `nixos-rebuild` starts it. What it did is judged by two looks at
//! the machine ([`survey`]), not by what it printed.

mod boots;
pub(crate) mod difference;
mod findings;
mod known;
mod obstacles;
pub(crate) mod outcome;
pub(crate) mod plan;
pub(crate) mod reach;
mod report;
mod state;
mod store;
pub(crate) mod survey;
mod usual;
mod why;
mod words;

use std::panic::Location;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use nixvm_test_macros::tracked;
use serde::{Deserialize, Serialize};

use self::known::KnownUnits;
use self::outcome::Outcome;
use self::plan::Plan;
use self::survey::Survey;
use self::words::Words;
use crate::call::Call;
use crate::machine::command_text::quoted;
use crate::machine::system::System;
use crate::machine::{Life, Machine, Output};
use crate::stopped::Instant;
use crate::{Error, ErrorKind, Result};

/// The limit for a switch, on a fast host. The program in the guest has none.
const SWITCH: Duration = Duration::from_secs(10 * 60);
/// The limit for a forecast, and for a look at the machine.
const LOOK: Duration = Duration::from_secs(2 * 60);
/// How long after the program's end the machine is looked at, on a fast host: a service may fail a second later.
const SETTLE: Duration = Duration::from_secs(3);
/// The longest such pause, on any host: what a service waits for is the same time on a slow one.
const LONGEST_SETTLE: Duration = Duration::from_secs(10);
/// The unit in which `nixos-rebuild` runs the program.
const UNIT: &str = "nixos-rebuild-switch-to-configuration";
/// The program, below the path of a system.
const PROGRAM: &str = "bin/switch-to-configuration";

/// What a switch does with the new system; see [`Switch::action`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// Activates it and makes it the one that boots next, as `nixos-rebuild switch`.
    #[default]
    Switch,
    /// Activates it until the next reboot, as `nixos-rebuild test`.
    Test,
    /// Makes it the one that boots next, as `nixos-rebuild boot`.
    Boot,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Test => "test",
            Self::Boot => "boot",
        }
    }

    /// Whether the system is activated at once.
    pub(crate) fn activates(self) -> bool {
        !matches!(self, Self::Boot)
    }

    /// Whether the system becomes the one that boots next.
    fn sets_profile(self) -> bool {
        !matches!(self, Self::Test)
    }
}

/// How a machine boots, as its run script and its system tell.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct HowItBoots {
    /// Its kernel comes from the run script, and not from a boot loader on the disk.
    direct: bool,
    /// The installer of its boot loader does nothing.
    installs_nothing: bool,
}

/// A switch with its options. It begins when it is awaited. Made by [`Machine::switch`], [`Machine::try_switch`] and
/// [`Machine::rollback`].
///
/// ```no_run
/// # async fn example(machine: nixvm_test::machine::Machine, next: nixvm_test::machine::System) -> nixvm_test::Result {
/// use nixvm_test::machine::Action;
/// machine.switch(&next).action(Action::Test).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a switch does nothing before it is awaited"]
pub struct Switch {
    machine: Machine,
    /// `None` is the system before the current one.
    to: Option<System>,
    action: Action,
    specialisation: Option<String>,
    limit: Option<Duration>,
    checked: bool,
    /// Whether an outcome that is not clean is an error.
    strict: bool,
    place: &'static Location<'static>,
}

/// # Rehearsed deploys
impl Machine {
    /// Asks what a switch to `next` would do (`dry-activate`), and changes nothing. It is a forecast; see [`Plan`].
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the systems can't be switched between, see [`Machine::switch`];
    /// [`ErrorKind::CommandFailed`] when the program fails, other than by a check of the new system
    /// ([`Plan::refused_by`]); and those of [`User::execute`](crate::machine::User::execute).
    #[tracked]
    pub async fn plan(&self, next: &System) -> Result<Plan> {
        let life = self.life();
        let _step = life.step(format!("plan the switch to {next}"));
        let path = self.prepared(&life, next, None).await?;
        let program = quoted(&format!("{path}/{PROGRAM}"));
        let asked = format!("plan the switch to {}", next.name());
        let first = self.dry_run(&format!("{program} dry-activate"), &asked).await?;
        let refused_by = match first.success() {
            true => Vec::new(),
            false => Words::of(&text_of(first.bytes()), &text_of(first.stderr())).refusals,
        };
        // The checks of a switch refuse the forecast, too.
        let output = match refused_by.is_empty() {
            true => first,
            false => {
                let unchecked = format!("NIXOS_NO_CHECK=1 {program} dry-activate");
                self.dry_run(&unchecked, &format!("{asked} without its checks")).await?
            }
        };
        if !output.success() {
            let summary = format!("{}: the plan failed with status {}", life.name, output.status());
            return Err(life.with_outputs(Error::new(ErrorKind::CommandFailed, summary), &output));
        }
        let (stdout, stderr) = (text_of(output.bytes()), text_of(output.stderr()));
        let listed = self.root().command(KnownUnits::script()).within(LOOK).named("list the machine's units");
        let known = listed.output().await?;
        let systems = self.current_path().zip(next.path().ok().map(Into::into));
        let asker = (life.name.clone(), life.events.clone());
        let plan = Plan::of((&stdout, &stderr), systems, KnownUnits::parse(known.text()), asker);
        Ok(plan.refused(refused_by))
    }

    async fn dry_run(&self, text: &str, asked: &str) -> Result<Output> {
        let limit = self.limit.unwrap_or(LOOK);
        let command = self.root().command(text).within(limit).named("switch-to-configuration dry-activate");
        command.asked_as(asked.to_owned()).output().await
    }

    /// Switches the machine to `next`, as `nixos-rebuild switch` does: `next` becomes the system that boots next, and is
    /// activated. The switch begins when the returned value is awaited; its methods set options.
    ///
    /// A machine without a boot loader (`virtualisation.useBootLoader`, off in most VMs) installs none: the next
    /// [`Machine::reboot`] starts the run script of `next` on the machine's disk.
    ///
    /// # Errors
    /// [`ErrorKind::SwitchFailed`] when the outcome is not clean ([`Outcome::is_clean`]), with the units that failed and
    /// the ends of their journals; [`ErrorKind::Timeout`] after the limit ([`Switch::within`]; 10 minutes on a fast host
    /// when not given), with the jobs of systemd, while the switch goes on in the machine; [`ErrorKind::Usage`] when the
    /// two systems mount `/` or the store differently, or `next` has no `switch-to-configuration`; and those of
    /// [`User::execute`](crate::machine::User::execute).
    #[track_caller]
    pub fn switch(&self, next: &System) -> Switch {
        Switch::new(self, Some(next.clone()), true)
    }

    /// Switches like [`Machine::switch`] and returns the outcome, whether it is clean or not.
    ///
    /// # Errors
    /// Those of [`Machine::switch`], without [`ErrorKind::SwitchFailed`].
    #[track_caller]
    pub fn try_switch(&self, next: &System) -> Switch {
        Switch::new(self, Some(next.clone()), false)
    }

    /// Switches back to the system before the last switch, as `nixos-rebuild switch --rollback` does: its own program
    /// runs, and it boots next again. Files, databases and other state stay as they are, which is what a rehearsal
    /// tests.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the machine was not switched, and those of [`Machine::switch`].
    #[track_caller]
    pub fn rollback(&self) -> Switch {
        Switch::new(self, None, true)
    }

    /// Switches back like [`Machine::rollback`] and returns the outcome, whether it is clean or not.
    ///
    /// # Errors
    /// Those of [`Machine::rollback`], without [`ErrorKind::SwitchFailed`].
    #[track_caller]
    pub fn try_rollback(&self) -> Switch {
        Switch::new(self, None, false)
    }

    /// Returns the path of the system that runs now: the target of `/run/current-system`.
    ///
    /// # Errors
    /// Those of [`User::succeed`](crate::machine::User::succeed).
    #[tracked]
    pub async fn current_system(&self) -> Result<String> {
        self.link("/run/current-system").await
    }

    /// Returns the path of the system that was booted: the target of `/run/booted-system`.
    ///
    /// # Errors
    /// Those of [`User::succeed`](crate::machine::User::succeed).
    #[tracked]
    pub async fn booted_system(&self) -> Result<String> {
        self.link("/run/booted-system").await
    }

    /// Returns the generations of the system profile, the oldest first: number and path of the system.
    ///
    /// # Errors
    /// Those of [`User::succeed`](crate::machine::User::succeed).
    #[tracked]
    pub async fn generations(&self) -> Result<Vec<(u64, String)>> {
        let output = self.succeed(store::GENERATIONS).await?;
        Ok(store::generations(output.text()))
    }

    async fn link(&self, link: &str) -> Result<String> {
        Ok(self.succeed(format!("readlink -f {link}")).await?.text().trim().to_owned())
    }

    /// Returns how a machine of this system boots. `path` is that of the system whose program switches to it.
    async fn how_it_boots(&self, life: &Life, system: &System, path: &str) -> Result<HowItBoots> {
        let look = async {
            let direct = reach::is_direct(system.vm()?)?;
            Ok(HowItBoots { direct, installs_nothing: reach::installs_nothing(Path::new(path)) })
        };
        life.answer_of_qemu(&format!("how {} boots", system.name()), look).await
    }

    /// Makes sure that the machine can switch to `next`, and returns the path whose program does it.
    async fn prepared(&self, life: &Life, next: &System, specialisation: Option<&str>) -> Result<String> {
        if life.replay().is_some() {
            return Ok(String::new());
        }
        let system = next.path()?;
        let path = match specialisation {
            None => system.to_owned(),
            Some(name) => reach::specialisation(next, system, name)?,
        };
        reach::has_program(next, &path)?;
        if let Some(current) = self.current_path() {
            reach::same_mounts(&current, &path)?;
        }
        self.bring(life, next).await?;
        Ok(path.display().to_string())
    }

    /// Looks at the machine.
    pub(crate) async fn survey(&self, when: &str, next: &str, target: &str) -> Result<Survey> {
        let script = Survey::script(target);
        let command =
            self.root().command(&script).within(LOOK).named("look at units, accounts, mounts and ports");
        let output = command.asked_as(format!("look {when} the switch to {next}")).output().await?;
        Survey::parse(&text_of(output.bytes())).ok_or_else(|| {
            let summary = format!("{}: the look at the machine {when} the switch is incomplete", self.name());
            self.life().with_outputs(Error::new(ErrorKind::Incomplete, summary), &output)
        })
    }
}

impl Switch {
    #[track_caller]
    fn new(machine: &Machine, to: Option<System>, strict: bool) -> Self {
        let place = Location::caller();
        let (limit, machine) = (machine.limit, machine.clone());
        Self {
            machine,
            to,
            action: Action::default(),
            specialisation: None,
            limit,
            checked: true,
            strict,
            place,
        }
    }

    /// Sets what is done with the new system. The default is [`Action::Switch`].
    pub fn action(self, action: Action) -> Self {
        Self { action, ..self }
    }

    /// Switches to a specialisation of the system, as `nixos-rebuild --specialisation NAME`. The system itself becomes
    /// the one that boots next. Not with [`Action::Boot`].
    pub fn specialisation(self, name: &str) -> Self {
        Self { specialisation: Some(name.to_owned()), ..self }
    }

    /// Sets the time limit. The limit is for a fast host and is scaled by [`Speed`](crate::Speed).
    pub fn within(self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// Skips the checks before a switch, as `NIXOS_NO_CHECK=1` does. By default they run.
    pub fn no_check(self) -> Self {
        Self { checked: false, ..self }
    }

    async fn run(self) -> Result<Outcome> {
        let machine = &self.machine;
        let _changing = machine.shared.changing.lock().await;
        let life = machine.life();
        let next = match &self.to {
            Some(next) => next.clone(),
            None => machine.system_before(&life)?,
        };
        if self.specialisation.is_some() && self.action == Action::Boot {
            return Err(Error::new(ErrorKind::Usage, "a specialisation can't be set to boot next")
                .next_step("use Action::Switch or Action::Test, as with nixos-rebuild"));
        }
        let what = match (&self.to, self.action) {
            (None, _) => format!("roll back to {next}"),
            (_, Action::Switch) => format!("switch to {next}"),
            (_, Action::Test) => format!("activate {next} until the next boot"),
            (_, Action::Boot) => format!("set {next} to boot next"),
        };
        let _step = life.step(&what);
        let path = machine.prepared(&life, &next, self.specialisation.as_deref()).await?;
        // The switch resets the state of units that have failed.
        machine.note_trouble_of_before().await;
        let before = machine.survey("before", next.name(), &path).await?;
        let boots = machine.how_it_boots(&life, &next, &path).await?;
        let account = machine.history(|history| history.clone());
        if self.action.sets_profile() {
            machine.set_profile(&next, self.to.is_none()).await?;
            // The program may install the boot loader and never end.
            machine.set_to_boot(&next, self.to.is_none(), boots.direct);
        }
        let today = machine.current_path().map(|today| reach::running(today, &before.current));
        let started = Instant::now();
        let output = self.run_program(&life, &next, &path, boots, started).await?;
        let took = started.elapsed();
        let (stdout, stderr) = (text_of(output.bytes()), text_of(output.stderr()));
        let mut words = Words::of(&stdout, &stderr);
        // A service that was touched may fail a moment later.
        let has_begun = words.activates || !words.stopped.is_empty();
        if has_begun || (output.success() && self.action.activates()) {
            crate::stopped::sleep(life.limit(SETTLE).min(LONGEST_SETTLE)).await;
        } else if !output.success() {
            words.refusals.extend(machine.other_switch(output.status(), &stderr).await);
        }
        let after = machine.survey("after", next.name(), &path).await?;
        let mut outcome = Outcome {
            machine: life.name.clone(),
            events: life.events.clone(),
            target: after.target.clone(),
            action: self.action,
            back: self.to.is_none(),
            status: output.status(),
            words,
            stdout,
            stderr,
            before,
            after,
            took,
            journals: Default::default(),
            holders: Default::default(),
            systems: today.map(|today| (today, PathBuf::from(&path))),
        };
        outcome.journals = machine.journals_of(&outcome.failed()).await;
        outcome.holders = machine.holders_of(&outcome.still_mounted()).await;
        for line in outcome.moved_state_lines() {
            life.events.note(format!("{}: {what}: the state of a service moved: {line}", life.name));
        }
        machine.switched(&next, self.action, &outcome, account);
        if self.strict && !outcome.is_clean() {
            return Err(report::not_clean(&outcome, &next));
        }
        Ok(outcome)
    }

    /// Runs the new system's program to its end.
    async fn run_program(
        &self,
        life: &Life,
        next: &System,
        path: &str,
        boots: HowItBoots,
        started: Instant,
    ) -> Result<Output> {
        let (machine, limit) = (&self.machine, self.limit.unwrap_or(SWITCH));
        // Without a boot loader there is nothing that the program could install, and it would fail before it compares
        // the two systems.
        let word = if boots.direct && !boots.installs_nothing {
            match self.action {
                Action::Boot => return Ok(Output::new("boot", 0, Vec::new(), Vec::new())),
                Action::Test | Action::Switch => Action::Test.word(),
            }
        } else {
            self.action.word()
        };
        let check = if self.checked { "" } else { "-E NIXOS_NO_CHECK=1 " };
        let text = format!(
            "systemd-run -E LOCALE_ARCHIVE -E NIXOS_INSTALL_BOOTLOADER {check}--collect --no-ask-password --pipe --quiet \
             --service-type=exec --unit={UNIT} {} {word}",
            quoted(&format!("{path}/{PROGRAM}"))
        );
        let asked = format!("{} to {}", self.action.word(), next.name());
        let last = report::LastLine::default();
        let command = machine.root().command(&text).within(limit).watch(last.watcher());
        let command = command.named("switch-to-configuration").asked_as(asked);
        match command.output().await {
            Err(error) if error.kind() == ErrorKind::CommandTimeout => {
                Err(machine.still_switching(life, &last, started, life.limit(limit)).await)
            }
            output => output,
        }
    }
}

impl IntoFuture for Switch {
    type Output = Result<Outcome>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Outcome>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(Call::new(self.place, self.run()))
    }
}

/// Returns an output as text, without escape codes.
fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&crate::text::strip_escapes(bytes)).into_owned()
}
