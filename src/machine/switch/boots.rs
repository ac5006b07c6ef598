//! Boots a machine into another system, and keeps account of which one runs and which one boots next.

use std::path::PathBuf;

use nixvm_test_macros::tracked;

use super::outcome::Outcome;
use super::{Action, reach};
use crate::machine::system::System;
use crate::machine::system::history::History;
use crate::machine::{Life, Machine};
use crate::mutex::lock;
use crate::{BuiltVm, Error, ErrorKind, Result};

/// # Reboots into another system
impl Machine {
    /// Makes `system` the one that boots next, and reboots into it: kernel, initial ramdisk and kernel parameters are
    /// its own. State on the disk stays. A machine without a boot loader is powered off, and the run script of `system`
    /// starts it again on the same disk.
    ///
    /// ```no_run
    /// # async fn example(machine: nixvm_test::machine::Machine, next: nixvm_test::machine::System) -> nixvm_test::Result {
    /// machine.reboot_into(&next).await?;
    /// assert_eq!(machine.booted_system().await?, next.path()?.display().to_string());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the two systems mount `/` or the store differently, or the machine has no disk that
    /// stays; those of [`Machine::switch`] where a boot loader is installed; and those of [`Machine::reboot`].
    #[tracked]
    pub async fn reboot_into(&self, system: &System) -> Result {
        let life = self.life();
        if !self.how_it_boots(&life, system, "").await?.direct {
            self.switch(system).action(Action::Boot).await?;
            return self.reboot().await;
        }
        if life.replay().is_none() {
            let vm = system.vm()?;
            if !reach::has_disk(vm)? {
                let summary =
                    format!("{system} keeps its root in memory: nothing of the machine would be left");
                return Err(Error::new(ErrorKind::Usage, summary)
                    .next_step("give the VM a disk: leave virtualisation.diskImage at its default"));
            }
            if let Some(current) = self.current_path() {
                reach::same_mounts(&current, system.path()?)?;
            }
        }
        self.set_profile(system, false).await?;
        self.history(|history| history.boots_next(system, true));
        self.reboot().await
    }

    /// Whether the machine's next start is by the run script of `vm`.
    pub(crate) fn starts_from(&self, vm: &BuiltVm) -> bool {
        self.history(|history| history.starts() == Some(vm))
    }

    /// Returns the path on this host of the system that runs now.
    pub(super) fn current_path(&self) -> Option<PathBuf> {
        self.history(|history| history.running().path().ok().map(Into::into))
    }

    /// Returns the system to roll back to.
    pub(super) fn system_before(&self, life: &Life) -> Result<System> {
        self.history(|history| history.before().cloned()).ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("{}: there is nothing to roll back", life.name))
                .likely_cause("the machine was not switched to another system")
        })
    }

    /// Keeps account of a switch that has ended. `before` is the account before its system was set to boot next.
    pub(super) fn switched(&self, next: &System, action: Action, outcome: &Outcome, before: History) {
        let has_begun = outcome.switched() || outcome.half_switched();
        // A check or the lock refused it before the boot loader was installed.
        if action.sets_profile() && matches!(outcome.status(), 1 | 11) && !has_begun {
            self.history(|history| history.go_back_to(before));
        }
        if outcome.switched() {
            self.history(|history| history.activated(next, !action.sets_profile()));
        }
    }

    /// Keeps account of the system that boots next.
    pub(super) fn set_to_boot(&self, next: &System, back: bool, direct: bool) {
        self.history(|history| match back {
            true => history.went_back(direct),
            false => history.boots_next(next, direct),
        });
    }

    pub(super) fn history<T>(&self, act: impl FnOnce(&mut History) -> T) -> T {
        act(&mut lock(&self.shared.history))
    }
}
