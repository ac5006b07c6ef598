//! The stages of a rehearsal without scenarios: plan, switch, reboot, rollback.

use std::time::Instant;

use super::Systems;
use super::report::{Report, Stage};
use crate::machine::{Machine, MachineOptions, SNIPPETS, Survey};
use crate::nix::{first_admin, password_of};
use crate::scenario::ByHand;
use crate::settings::Settings;
use crate::template::{self, Moment};
use crate::{Error, ErrorKind, Events, Result, text};

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
        if self.reboot(&machine, switched, &before, &mut report).await {
            self.roll_back(&machine, &before, &mut report).await;
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

    /// Reboots into the new system, and compares the machine with what it was before the switch. Returns whether the machine came up.
    async fn reboot(&self, machine: &Machine, switched: bool, before: &Survey, report: &mut Report) -> bool {
        let begun = Instant::now();
        let reboot = async {
            match switched {
                true => machine.reboot().await?,
                false => machine.reboot_into(&self.systems.next).await?,
            }
            self.settled(machine).await?;
            let after = machine.survey("after", "the reboot", "").await?;
            let booted = machine.booted_system().await?;
            let expected = self.systems.next.path()?.display().to_string();
            if booted != expected {
                let summary = format!("the machine booted {booted}, expected {expected}");
                return Err(Error::new(ErrorKind::Other, summary));
            }
            Ok(after)
        };
        match reboot.await {
            Ok(after) => {
                let bad = [
                    "failed",
                    SNIPPETS,
                    "restarted by systemd after a failure",
                    "ran and does not run",
                    "gone from /etc",
                ];
                let stage = Stage::of_looks("reboot", after.differences(before), &bad, begun.elapsed());
                report.stages.push(stage);
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
        match machine.survey("after", "the rollback", "").await {
            Ok(after) => {
                let differences = after.differences(before);
                report.stages.push(Stage::of_looks("after the rollback", differences, &[], begun.elapsed()));
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
