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

/// Takes a machine to the stage in the environment, if there is one. Returns whether it is at the stage: a machine with
/// a configuration of its own is not switched.
///
/// # Errors
/// [`ErrorKind::Usage`] for an unknown stage; [`ErrorKind::SwitchFailed`] if the switch, or the rollback after a clean
/// switch, is not clean at its own stage; and those of the switch, the reboot and the rollback.
pub(super) async fn take_to_stage(
    fixture: &mut Fixture,
    scenario: &Scenario,
    events: &Events,
) -> Result<bool> {
    let Some(stage) = Rehearsed::of_environment()? else { return Ok(true) };
    if stage == Rehearsed::Before {
        return Ok(true);
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
        return Ok(false);
    }
    if let Some(today) = &today {
        reach_root(machine, today).await?;
    }
    let outcome = machine.try_switch(&next).await?;
    if stage == Rehearsed::Switched {
        return has_reached(&outcome, true).map(|()| true);
    }
    let user = machine.session().await.map(|session| session.user().to_owned());
    // A switch may be refused where a reboot is not.
    match outcome.switched() {
        true => machine.reboot().await?,
        false => machine.reboot_into(&next).await?,
    }
    if stage == Rehearsed::RolledBack {
        // The switch fails at its own stage, and a rollback after it may find a broken state.
        has_reached(&machine.try_rollback().await?, outcome.is_clean())?;
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
    Ok(true)
}

/// Returns the error for a scenario whose machines are all left as they are: its stage would be the first one again.
pub(super) fn none_is_switched() -> Error {
    Error::new(ErrorKind::Usage, "no machine of this scenario is switched: each names its configuration")
        .next_step("leave out the source of `machine`, so that --from decides what it is before the switch")
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

/// Returns an error if the machine does not run the system that it was switched to, as the scenario would test another
/// one; or if `clean` is asked for, and the outcome is not.
fn has_reached(outcome: &Outcome, clean: bool) -> Result {
    if outcome.switched() && (outcome.is_clean() || !clean) {
        return Ok(());
    }
    let what = if outcome.switched() { "is not clean at" } else { "could not be taken to" };
    let summary = format!("the machine {what} this stage of the rehearsal: {}", outcome.summary());
    let mut error = Error::new(ErrorKind::SwitchFailed, summary);
    for (unit, journal) in &outcome.journals {
        error = error.section(format!("the end of the journal of {unit}"), journal.clone());
    }
    Err(error
        .section("what the switch printed", outcome.output())
        .section("what is different", outcome.to_string()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::machine::Survey;

    #[test]
    fn a_switch_with_a_failed_part_does_not_reach_the_stage_after_the_switch() {
        let next = "/nix/store/next";
        let outcome = |status| Outcome {
            machine: "web".to_owned(),
            events: Events::none(),
            target: next.to_owned(),
            action: crate::machine::Action::Switch,
            back: false,
            status,
            words: Default::default(),
            stdout: "Activation script snippet 'secrets' failed (1)".to_owned(),
            stderr: String::new(),
            before: Survey::default(),
            after: Survey { current: next.to_owned(), ..Survey::default() },
            took: Duration::ZERO,
            systems: None,
            journals: [("web.service".to_owned(), "no such port".to_owned())].into(),
            holders: Default::default(),
        };
        assert!(has_reached(&outcome(0), true).is_ok());
        let error = has_reached(&outcome(2), true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SwitchFailed);
        let shown = error.to_string();
        for words in ["is not clean at this stage", "'secrets' failed", "no such port"] {
            assert!(shown.contains(words), "{words}: {shown}");
        }
        assert!(has_reached(&outcome(2), false).is_ok(), "a later stage does not fail again");
        let elsewhere = Outcome { after: Survey::default(), ..outcome(0) };
        assert!(has_reached(&elsewhere, false).is_err());
    }
}
