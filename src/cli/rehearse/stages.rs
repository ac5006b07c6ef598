//! The stages of a rehearsal without scenarios: plan, switch, reboot, rollback.

use std::time::Instant;

use super::Systems;
use super::looks::{Differences, PASSING, WHILE_IT_STARTS, until_over};
use super::report::{Report, Stage};
use crate::machine::{CRASHES, FAILED, Machine, MachineOptions, SNIPPETS, Survey};
use crate::nix::{first_admin, password_of};
use crate::scenario::ByHand;
use crate::settings::Settings;
use crate::template::{self, Moment};
use crate::{Error, ErrorKind, Events, Result, text};

/// The kinds of differences that a look finds since the machine's boot.
const OF_A_BOOT: [&str; 2] = [SNIPPETS, CRASHES];

/// What is rehearsed, and as whom.
pub(super) struct Rehearsal {
    pub(super) systems: Systems,
    /// A user, and their password if it was given.
    pub(super) user: Option<(String, Option<String>)>,
    pub(super) settings: Settings,
    /// Whether nothing is switched.
    pub(super) plan_only: bool,
}

impl Rehearsal {
    /// Goes through all stages. A stage that fails is a part of the report.
    ///
    /// # Errors
    /// Those of the first boot and of the plan: without them there is nothing to report.
    pub(super) async fn run(self, events: &Events) -> Result<Report> {
        let Systems { today, next } = &self.systems;
        let mut report = Report::new(today, next)?;
        if today.path()? == next.path()? {
            return Ok(report);
        }
        report = report.with_difference(today.diff(next)?);
        // Suites that run at the same time leave the machine its share of the host.
        let _counted = ByHand::count(Some(today.vm()?));
        let machine = self.boot(events).await?;
        // What is still starting would count as different later.
        if let Err(error) = self.settled(&machine).await {
            events.note(format!(
                "{}: today's system does not come to rest: {}",
                machine.name(),
                error.summary()
            ));
        }
        let plan = machine.plan(next).await?;
        report.plan = Some(plan);
        if self.plan_only {
            return Ok(report);
        }
        let before = machine.survey("before", "the rehearsal", "").await?;
        let switched = self.switch(&machine, &mut report).await;
        let is_up = self.reboot(&machine, switched, &before, &mut report).await;
        // A job that hangs, or another system than the expected one, does not keep a person from rolling back.
        if is_up || machine.current_system().await.is_ok() {
            self.roll_back(&machine, &before, &mut report).await;
        } else {
            report.not_rehearsed.push("the rollback: the machine does not answer");
        }
        machine.stop().await;
        Ok(report)
    }

    async fn boot(&self, events: &Events) -> Result<Machine> {
        let vm = self.systems.today.vm()?;
        let (user, password) = match &self.user {
            Some((user, Some(password))) => (user.clone(), password.clone()),
            Some((user, None)) => (user.clone(), password_of(vm, user)?),
            None => first_admin(vm).ok_or_else(|| {
                Error::new(
                    ErrorKind::Usage,
                    "no user of today's configuration has a password as text and is in the group wheel",
                )
                .next_step(
                    "name a user who can become root: --user NAME --password PASSWORD; or give root one in the VM \
                     alone: virtualisation.vmVariant.users.users.root.password = \"…\"",
                )
            })?,
        };
        let options = MachineOptions::new(vm.name()).events(events.clone());
        let moment = Moment::LoggedIn { user: user.clone(), password: password.clone() };
        if self.settings.templates {
            template::machine(vm, options, &moment, events).await
        } else {
            moment.boot_cold(vm, options).await
        }
    }

    /// Switches, and returns whether the machine runs the new system.
    async fn switch(&self, machine: &Machine, report: &mut Report) -> bool {
        let begun = Instant::now();
        match machine.try_switch(&self.systems.next).await {
            Ok(outcome) => {
                let switched = outcome.switched();
                report.stages.push(Stage::of_outcome("switch", &outcome, begun.elapsed()));
                switched
            }
            Err(error) => {
                report.stages.push(Stage::failed("switch", &error, begun.elapsed()));
                false
            }
        }
    }

    /// Reboots into the new system, and compares the machine with what it was before the switch. Returns whether the stage
    /// came to its end.
    async fn reboot(&self, machine: &Machine, switched: bool, before: &Survey, report: &mut Report) -> bool {
        let begun = Instant::now();
        let reboot = async {
            match switched {
                true => machine.reboot().await?,
                false => machine.reboot_into(&self.systems.next).await?,
            }
            self.settled(machine).await?;
            let limit = machine.speed().scale(PASSING);
            let look = async || machine.survey("after", "the reboot", "").await;
            let (_, found) = until_over(limit, |kind| WHILE_IT_STARTS.contains(&kind), before, look).await?;
            let booted = machine.booted_system().await?;
            let expected = self.systems.next.path()?.display().to_string();
            if booted != expected {
                let summary = format!("the machine booted {booted}, expected {expected}");
                return Err(Error::new(ErrorKind::Other, summary));
            }
            Ok(found)
        };
        match reboot.await {
            Ok(found) => {
                let bad = [FAILED, SNIPPETS, CRASHES, "ran and does not run", "gone from /etc"];
                report.stages.push(Stage::of_looks("reboot", found, &bad, begun.elapsed()));
                true
            }
            Err(error) => {
                report.stages.push(Stage::failed("reboot", &error, begun.elapsed()));
                false
            }
        }
    }

    /// Rolls back, and compares the machine with what it was before the switch.
    async fn roll_back(&self, machine: &Machine, before: &Survey, report: &mut Report) {
        let begun = Instant::now();
        let outcome = match machine.try_rollback().await {
            Ok(outcome) => outcome,
            Err(error) => {
                report.stages.push(Stage::failed("rollback", &error, begun.elapsed()));
                return;
            }
        };
        report.stages.push(Stage::of_outcome("rollback", &outcome, begun.elapsed()));
        let begun = Instant::now();
        let limit = machine.speed().scale(PASSING);
        let look = async || machine.survey("after", "the rollback", "").await;
        match until_over(limit, |kind| !OF_A_BOOT.contains(&kind), before, look).await {
            Ok((after, found)) => {
                let found = of_the_rollback(found, after.differences(&outcome.before));
                report.stages.push(Stage::of_looks("after the rollback", found, &[], begun.elapsed()));
            }
            Err(error) => report.stages.push(Stage::failed("after the rollback", &error, begun.elapsed())),
        }
    }

    /// Waits until systemd has no job left.
    async fn settled(&self, machine: &Machine) -> Result {
        // It ends with an error where a unit has failed, which the look finds.
        let waited = machine.execute("systemctl is-system-running --wait").await;
        let Err(error) = waited else { return Ok(()) };
        if error.kind() != ErrorKind::CommandTimeout {
            return Err(error);
        }
        let jobs = machine.execute("systemctl list-jobs --no-pager").await?;
        Err(error.section("jobs of systemd", text::lines(jobs.text().trim())))
    }
}

/// Returns what is different after a rollback: `found` since before the switch, without what the new system did since its
/// boot; and the units that systemd started again `since` the rollback began. The rollback's own snippets are in its
/// outcome.
fn of_the_rollback(found: Differences, since: Differences) -> Differences {
    let lasting = found.into_iter().filter(|(kind, _)| !OF_A_BOOT.contains(kind));
    lasting.chain(since.into_iter().filter(|(kind, _)| *kind == CRASHES)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_new_system_did_at_its_boot_is_not_held_against_the_rollback() {
        let mut before = Survey::default();
        before.ports.insert("tcp 80".to_owned());
        let mut rebooted = before.clone();
        rebooted.snippets.insert("secrets (1)".to_owned());
        for unit in ["boot.service", "back.service"] {
            rebooted.units.entry(unit.to_owned()).or_default().restarts = 3;
        }
        let mut after = rebooted.clone();
        after.ports.clear();
        after.units.entry("back.service".to_owned()).or_default().restarts = 5;
        let found = of_the_rollback(after.differences(&before), after.differences(&rebooted));
        let closed = ("closed ports", vec!["tcp 80".to_owned()]);
        assert_eq!(found, [closed, (CRASHES, vec!["back.service (2 times)".to_owned()])]);
    }
}
