//! Takes machines to a stage of a rehearsed deploy before a scenario's function begins. `nixvm-test rehearse FILE.rs`
//! runs the same scenarios once for each stage.

use super::fixtures::Fixture;
use super::registry::{Scenario, Start};
use crate::machine::{Machine, Outcome, System};
use crate::nix::{first_admin, password_of};
use crate::{BuiltVm, Error, ErrorKind, Events, Result, environment};

/// The variable with the stage.
pub(crate) const REHEARSED: &str = "NIXVM_REHEARSED";
/// The variable with the built VM that the machine is switched to.
pub(crate) const REHEARSED_NEXT: &str = "NIXVM_REHEARSED_NEXT";

/// A stage of a rehearsed deploy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rehearsed {
    /// Today's system runs.
    Before,
    /// The machine was switched.
    Switched,
    /// It was booted into the new system as well.
    Rebooted,
    /// It was switched back.
    RolledBack,
}

impl Rehearsed {
    /// All stages in their order.
    pub(crate) const ALL: [Self; 4] = [Self::Before, Self::Switched, Self::Rebooted, Self::RolledBack];

    /// Returns the stage in the environment, if there is one.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for an unknown stage.
    pub(super) fn of_environment() -> Result<Option<Self>> {
        let Some(name) = environment::text(REHEARSED) else { return Ok(None) };
        let stage = Self::ALL.into_iter().find(|stage| stage.name() == name);
        stage.map(Some).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::new(
                ErrorKind::Usage,
                format!("{REHEARSED}={name} is no stage of a rehearsal: it takes {names}"),
            )
        })
    }

    /// Returns the value of the variable.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Switched => "switched",
            Self::Rebooted => "rebooted",
            Self::RolledBack => "rolled-back",
        }
    }

    /// Returns its name for a person.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Before => "before the switch",
            Self::Switched => "after the switch",
            Self::Rebooted => "after the reboot",
            Self::RolledBack => "after the rollback",
        }
    }
}

/// Takes a machine to the stage in the environment, if there is one.
///
/// # Errors
/// [`ErrorKind::Usage`] for an unknown stage, and those of the switch, the reboot and the rollback.
pub(super) async fn take_to_stage(fixture: &mut Fixture, scenario: &Scenario, events: &Events) -> Result {
    let Some(stage) = Rehearsed::of_environment()? else { return Ok(()) };
    if stage == Rehearsed::Before {
        return Ok(());
    }
    let next = environment::path(REHEARSED_NEXT).ok_or_else(|| {
        Error::new(
            ErrorKind::Usage,
            format!("{REHEARSED} needs {REHEARSED_NEXT}, the built VM of the new system"),
        )
    })?;
    let next = System::of(BuiltVm::open(&next)?, "next", next.display().to_string());
    let machine = &fixture.machine;
    // A machine with a configuration of its own is not the one whose deploy is rehearsed.
    let today = environment::path("NIXVM_VM").map(BuiltVm::open).transpose()?;
    if today.as_ref().is_some_and(|today| !machine.starts_from(today)) {
        let name = machine.name();
        events.note(format!("{name}: it is not switched, because the scenario names its configuration"));
        return Ok(());
    }
    if let Some(today) = &today {
        reach_root(machine, today).await?;
    }
    let outcome = machine.try_switch(&next).await?;
    if stage == Rehearsed::Switched {
        return is_there(&outcome);
    }
    let user = machine.session().await.map(|session| session.user().to_owned());
    // A switch may be refused where a reboot is not.
    match outcome.switched() {
        true => machine.reboot().await?,
        false => machine.reboot_into(&next).await?,
    }
    if stage == Rehearsed::RolledBack {
        is_there(&machine.try_rollback().await?)?;
    }
    // Sessions end with a reboot.
    if let Some(user) = user {
        let password = match scenario.from {
            Start::LoggedIn { user: its, password } if its == user => password.to_owned(),
            _ => password_of(next.vm()?, &user)?,
        };
        let session = machine.login(&user, &password).await?;
        fixture.session = fixture.session.take().map(|_| session);
    }
    Ok(())
}

/// Makes sure that root can be reached: the first user of the configuration logs in and out again if there was no login
/// yet.
async fn reach_root(machine: &Machine, today: &BuiltVm) -> Result {
    if machine.session().await.is_some() {
        return Ok(());
    }
    let refused = match machine.succeed("true").await {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    let Some((user, password)) = first_admin(today).filter(|_| refused.kind() == ErrorKind::NoRoot) else {
        return Err(refused);
    };
    let session = machine.login(&user, &password).await?;
    // The channel stays open.
    machine.succeed("true").await?;
    session.log_out().await
}

/// Returns an error if the machine does not run the system that it was switched to: the scenario would test another one.
fn is_there(outcome: &Outcome) -> Result {
    if outcome.switched() {
        return Ok(());
    }
    let summary =
        format!("the machine could not be taken to this stage of the rehearsal: {}", outcome.summary());
    Err(Error::new(ErrorKind::SwitchFailed, summary).section("what the switch printed", outcome.output()))
}
