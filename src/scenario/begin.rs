//! The moments at which the machines of a scenario begin.

use super::registry::{Checkpoint, Kind, Parameter, Scenario, Start, Steps};
use super::suite::Suite;
use crate::BuiltVm;
use crate::machine::{Machine, MachineOptions, Session};
use crate::nix::password_of;
use crate::template::{self, Before, Moment, StepTogether, Together};
use crate::{Error, ErrorKind, Events, Result};

/// How a machine begins.
pub(super) struct Begin {
    pub(super) moment: Moment,
    /// Whether it may be a clone.
    pub(super) cloned: bool,
    /// The user who is to be logged in, and their password.
    user: Option<(String, String)>,
}

impl Begin {
    /// For a machine that begins together with others.
    pub(super) fn together(templates: bool) -> Self {
        Self { moment: Moment::Booted, cloned: templates, user: None }
    }

    pub(super) fn of(
        scenario: &Scenario,
        request: &Parameter,
        vm: &BuiltVm,
        templates: bool,
    ) -> Result<Self> {
        let cloned = templates && !matches!(scenario.from, Start::Cold);
        if request.kind != Kind::Session {
            return Ok(Self { moment: moment(scenario.from)?, cloned, user: None });
        }
        let user = request.name;
        let password = match scenario.from {
            Start::LoggedIn { user: its, password } if its == user => password.to_owned(),
            _ => password_of(vm, user)?,
        };
        let moment = match scenario.from {
            Start::Cold | Start::Booted | Start::LoggedIn { .. } => {
                Moment::LoggedIn { user: user.to_owned(), password: password.clone() }
            }
            Start::Checkpoint(_) => moment(scenario.from)?,
        };
        Ok(Self { moment, cloned, user: Some((user.to_owned(), password)) })
    }

    pub(super) async fn machine(
        self,
        vm: &BuiltVm,
        options: MachineOptions,
        suite: &Suite,
        events: &Events,
    ) -> Result<(Machine, Option<Session>)> {
        let machine = match (self.cloned, suite.upcoming().pool()) {
            (true, Some(pool)) => pool.machine(vm, options, &self.moment, events).await?,
            (true, None) => template::machine(vm, options, &self.moment, events).await?,
            (false, _) => self.moment.boot_cold(vm, options).await?,
        };
        let Some((user, password)) = self.user else { return Ok((machine, None)) };
        let session = match machine.session().await.filter(|session| session.user() == user) {
            Some(session) => session,
            None => machine.login(&user, &password).await?,
        };
        Ok((machine, Some(session)))
    }
}

/// Returns the moment at which one machine begins.
///
/// # Errors
/// [`ErrorKind::Usage`] for a checkpoint of several machines.
fn moment(from: Start) -> Result<Moment> {
    check_that_it_begins(from)?;
    Ok(match from {
        Start::Cold | Start::Booted => Moment::Booted,
        Start::LoggedIn { user, password } => {
            Moment::LoggedIn { user: user.to_owned(), password: password.to_owned() }
        }
        Start::Checkpoint(checkpoint) => match checkpoint.step {
            Steps::One(step) => {
                Moment::After { from: Box::new(moment(checkpoint.from)?), name: name(checkpoint), step }
            }
            Steps::Together { machines, .. } => {
                let (function, machines) = (checkpoint.function, machines.join(", "));
                let summary = format!(
                    "the checkpoint `{function}` is one of several machines ({machines}): a checkpoint of one machine \
                     can't begin there"
                );
                return Err(Error::new(ErrorKind::Usage, summary)
                    .next_step("give the checkpoint the same machines as parameters"));
            }
        },
    })
}

/// Returns the moment at which the machines of a scenario begin together. `None` if each begins by itself.
///
/// # Errors
/// [`ErrorKind::Usage`] when the scenario does not take exactly the machines of the checkpoint.
pub(super) fn together(scenario: &Scenario) -> Result<Option<Together>> {
    let Start::Checkpoint(checkpoint) = scenario.from else { return Ok(None) };
    let Steps::Together { machines, step } = checkpoint.step else { return Ok(None) };
    let taken: Vec<&str> = scenario.machines().map(|machine| machine.name).collect();
    if !are_same(&taken, machines) {
        return Err(differ(scenario.function, &taken, checkpoint.function, machines));
    }
    if let Some(session) = scenario.machines().find(|machine| machine.kind == Kind::Session) {
        let (name, function) = (session.name, checkpoint.function);
        let summary = format!(
            "`{name}` is a session, and the checkpoint `{function}` is one of several machines: take `{name}: Machine`"
        );
        return Err(Error::new(ErrorKind::Usage, summary)
            .next_step("`login` and `session` of the machine give its sessions"));
    }
    moment_together(checkpoint, machines, step).map(Some)
}

fn moment_together(
    checkpoint: &Checkpoint,
    machines: &[&'static str],
    step: StepTogether,
) -> Result<Together> {
    check_that_it_begins(checkpoint.from)?;
    let from = match checkpoint.from {
        Start::Cold => Before::Off,
        Start::Checkpoint(before) => match before.step {
            Steps::One(_) => Before::Each(moment(checkpoint.from)?),
            Steps::Together { machines: its, step } if are_same(its, machines) => {
                Before::Together(Box::new(moment_together(before, its, step)?))
            }
            Steps::Together { machines: its, .. } => {
                return Err(differ(checkpoint.function, machines, before.function, its));
            }
        },
        from => Before::Each(moment(from)?),
    };
    Ok(Together { from, name: name(checkpoint), machines: machines.to_vec(), step })
}

/// Checks that a moment does not begin at itself, by way of others.
///
/// # Errors
/// [`ErrorKind::Usage`] with the checkpoints of such a cycle.
fn check_that_it_begins(mut from: Start) -> Result {
    let mut way: Vec<&'static Checkpoint> = Vec::new();
    while let Start::Checkpoint(checkpoint) = from {
        if let Some(at) = way.iter().position(|other| std::ptr::eq(*other, checkpoint)) {
            let names = way.iter().skip(at).chain([&checkpoint]).map(|its| format!("`{}`", its.function));
            let names = names.collect::<Vec<_>>().join(" from ");
            let summary = format!("these checkpoints have no beginning: {names}");
            return Err(Error::new(ErrorKind::Usage, summary)
                .next_step("let one of them begin at `cold`, `booted` or `logged_in(…)`"));
        }
        way.push(checkpoint);
        from = checkpoint.from;
    }
    Ok(())
}

fn are_same(some: &[&str], others: &[&str]) -> bool {
    let sorted = |names: &[&str]| {
        let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        names.sort_unstable();
        names
    };
    sorted(some) == sorted(others)
}

fn differ(function: &str, taken: &[&str], checkpoint: &str, machines: &[&str]) -> Error {
    let (taken, machines) = (taken.join(", "), machines.join(", "));
    let summary = format!(
        "`{function}` takes the machines {taken}, and its checkpoint `{checkpoint}` is one of {machines}"
    );
    Error::new(ErrorKind::Usage, summary)
        .next_step("take exactly the machines of the checkpoint, in any order, with the same names")
}

/// Returns the result of a checkpoint's function that got other machines than it takes. That does not happen in code
/// that `#[checkpoint]` generates.
pub fn other_machines() -> Result {
    Err(Error::new(ErrorKind::Usage, "the checkpoint takes other machines"))
}

/// Returns the name of a checkpoint, with a text that distinguishes its code from other code.
fn name(checkpoint: &Checkpoint) -> String {
    format!("{}::{} {}", checkpoint.module, checkpoint.function, this_program())
}

/// Returns a text that differs between builds of this program. A checkpoint may call any of its code.
fn this_program() -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let found = program.metadata().ok();
    let changed = found.as_ref().and_then(|found| found.modified().ok());
    format!("{} {:?} {changed:?}", program.display(), found.map(|found| found.len()))
}
