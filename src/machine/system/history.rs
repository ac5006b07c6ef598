//! The systems of one machine: which one runs, which one boots next, and which came before.

use std::path::PathBuf;

use crate::BuiltVm;
use crate::machine::system::System;

/// The systems that a machine has had since it was made.
#[derive(Debug, Clone)]
pub(crate) struct History {
    /// The one whose run script QEMU was started with.
    started: System,
    /// The one that is active.
    running: System,
    /// The one that boots next.
    default: System,
    /// Those that would have booted next, before each change; the oldest first.
    earlier: Vec<System>,
    /// Whether the kernel comes from the run script and not from a boot loader on the disk.
    direct: bool,
    /// Whether the active system was activated only until the next boot.
    tried: bool,
    /// How many disks with store paths were plugged in.
    disks: usize,
    /// The images of those that are plugged in.
    images: Vec<PathBuf>,
}

impl History {
    /// Begins with the machine's own system.
    pub(crate) fn of(system: System) -> Self {
        let (running, default) = (system.clone(), system.clone());
        Self {
            started: system,
            running,
            default,
            earlier: Vec::new(),
            direct: false,
            tried: false,
            disks: 0,
            images: Vec::new(),
        }
    }

    /// Returns the system that is active, as far as switches of this machine's handle tell.
    pub(crate) fn running(&self) -> &System {
        &self.running
    }

    /// Returns the VM whose run script starts the machine from now on.
    pub(crate) fn starts(&self) -> Option<&BuiltVm> {
        let system = if self.direct { &self.default } else { &self.started };
        system.vm().ok()
    }

    /// Whether a reboot needs another run script than the one that QEMU was started with.
    pub(crate) fn needs_another_script(&self) -> bool {
        self.direct && self.default != self.started
    }

    /// Notes that the machine was booted again.
    pub(crate) fn booted(&mut self) {
        (self.running, self.tried) = (self.default.clone(), false);
        if self.direct {
            self.started = self.default.clone();
        }
    }

    /// Notes that `system` was activated. `tried` tells whether only until the next boot.
    pub(crate) fn activated(&mut self, system: &System, tried: bool) {
        self.running = system.clone();
        self.tried = tried && !self.running.is_same_system(&self.default);
    }

    /// Notes that `system` boots next. `direct` tells whether its kernel comes from its run script.
    pub(crate) fn boots_next(&mut self, system: &System, direct: bool) {
        (self.direct, self.tried) = (direct, false);
        // The same system may come with another run script.
        let earlier = std::mem::replace(&mut self.default, system.clone());
        if !earlier.is_same_system(system) {
            self.earlier.push(earlier);
        }
    }

    /// Notes that the system before boots next again. If another one was only tried, the same one still does.
    pub(crate) fn went_back(&mut self, direct: bool) {
        self.direct = direct;
        if !std::mem::take(&mut self.tried)
            && let Some(earlier) = self.earlier.pop()
        {
            self.default = earlier;
        }
    }

    /// Takes back everything since `before`, other than disks.
    pub(crate) fn go_back_to(&mut self, before: Self) {
        *self = Self { disks: self.disks, images: std::mem::take(&mut self.images), ..before };
    }

    /// Whether another system runs or boots next than the one that the machine was made with, or ever did.
    pub(crate) fn has_changed(&self) -> bool {
        self.disks > 0
            || self.running != self.started
            || self.default != self.started
            || !self.earlier.is_empty()
    }

    /// Returns the number of the next disk with store paths.
    pub(crate) fn next_disk(&mut self) -> usize {
        self.disks += 1;
        self.disks
    }

    /// Notes the image of a disk with store paths that was plugged in.
    pub(crate) fn plugged(&mut self, image: PathBuf) {
        self.images.push(image);
    }

    /// Notes that the machine is off, and returns the images of the disks that were plugged in: the next start has none
    /// of them.
    pub(crate) fn unplugged(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.images)
    }

    /// Returns the system to roll back to: the one that boots next if another one is only tried, else the one before
    /// it.
    pub(crate) fn before(&self) -> Option<&System> {
        if self.tried { Some(&self.default) } else { self.earlier.last() }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn system(name: &str) -> System {
        System::recorded(name, format!("{name}.nix"))
    }

    #[test]
    fn a_switch_is_rolled_back_to_what_booted_next_before_it() {
        let [today, next, later] = ["today", "next", "later"].map(system);
        let mut history = History::of(today.clone());
        assert_eq!(history.before(), None);
        for step in [&next, &later] {
            history.boots_next(step, true);
            history.activated(step, false);
        }
        assert!(history.needs_another_script());
        history.booted();
        assert!(!history.needs_another_script());
        assert_eq!(history.before(), Some(&next));
        history.went_back(true);
        history.activated(&next, false);
        assert_eq!(history.before(), Some(&today));
        history.went_back(true);
        history.activated(&today, false);
        assert_eq!(history.before(), None);
    }

    #[test]
    fn a_trial_is_rolled_back_to_what_boots_next_and_ends_with_a_boot() {
        let [today, next] = ["today", "next"].map(system);
        let mut history = History::of(today.clone());
        history.activated(&next, true);
        assert_eq!(history.before(), Some(&today));
        assert!(!history.needs_another_script());
        history.booted();
        assert_eq!((history.running(), history.before()), (&today, None));
    }

    #[test]
    fn a_trial_of_a_system_that_booted_before_is_a_trial_too() {
        let [today, next] = ["today", "next"].map(system);
        let mut history = History::of(today.clone());
        history.boots_next(&next, true);
        history.activated(&next, false);
        history.activated(&today, true);
        assert_eq!(history.before(), Some(&next));
        history.went_back(true);
        history.activated(&next, false);
        assert_eq!(history.before(), Some(&today));
    }

    #[test]
    fn a_switch_to_the_same_system_by_another_name_leaves_nothing_to_roll_back() {
        let folder = tempfile::tempdir().unwrap();
        let built = |name: &str, toplevel: &str| {
            let result = folder.path().join(name);
            let (bin, toplevel) = (result.join("bin"), folder.path().join(toplevel));
            std::fs::create_dir_all(&bin).unwrap();
            std::fs::create_dir_all(&toplevel).unwrap();
            let script = bin.join("run-nixos-vm");
            std::fs::write(&script, format!("#!/bin/sh\n# {name}\n")).unwrap();
            std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
            std::os::unix::fs::symlink(toplevel, result.join("system")).unwrap();
            System::of(BuiltVm::open(&result).unwrap(), name, format!("{name}.nix"))
        };
        let (today, same, next) = (built("today", "a"), built("same", "a"), built("next", "b"));
        let mut history = History::of(today.clone());
        history.boots_next(&same, true);
        history.activated(&same, false);
        assert_eq!(history.before(), None);
        assert!(history.needs_another_script(), "its run script may be another");
        history.boots_next(&next, true);
        history.activated(&next, false);
        history.activated(&today, true);
        assert_eq!(history.before(), Some(&next));
        history.went_back(true);
        history.activated(&next, false);
        assert_eq!(history.before(), Some(&same));
        history.activated(&built("again", "b"), true);
        assert_eq!(history.before(), Some(&same), "what boots next was activated, and not only tried");
    }

    #[test]
    fn a_refused_switch_leaves_no_trace() {
        let [today, next] = ["today", "next"].map(system);
        let mut history = History::of(today.clone());
        let before = history.clone();
        history.boots_next(&next, true);
        history.next_disk();
        history.plugged("/run/1.img".into());
        history.go_back_to(before);
        assert!(!history.needs_another_script() && history.before().is_none());
        assert_eq!(history.next_disk(), 2, "names of disks are not used twice");
        assert_eq!(history.unplugged(), [PathBuf::from("/run/1.img")], "the disk is still plugged in");
        assert!(history.unplugged().is_empty());
    }

    #[test]
    fn a_system_that_is_only_set_to_boot_next_is_rolled_back_to_the_one_that_runs() {
        let [today, next] = ["today", "next"].map(system);
        let mut history = History::of(today.clone());
        history.boots_next(&next, true);
        assert_eq!((history.running(), history.before()), (&today, Some(&today)));
        history.went_back(true);
        assert!(!history.needs_another_script());
    }

    #[test]
    fn a_boot_loader_decides_what_boots_where_there_is_one() {
        let [today, next] = ["today", "next"].map(system);
        let mut history = History::of(today);
        history.boots_next(&next, false);
        assert!(!history.needs_another_script());
        history.booted();
        assert_eq!(history.running(), &next);
    }
}
