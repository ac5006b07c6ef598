//! The last step: whether machines of the VM run under KVM on this host, and why not.

use std::time::Duration;

use super::Found;
use crate::doctor::State;

/// What the steps have found.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Why KVM can't be used at all, and what to do.
    pub(super) refused: Option<(String, String)>,
    /// The processor with which a guest of a few bytes runs.
    pub(super) cpu: Option<String>,
    /// Why it runs with no processor, from the first try.
    pub(super) no_cpu: Option<String>,
    /// When the VM's login prompt came, or why it did not.
    pub(super) kernel: Option<Result<Duration, String>>,
    /// Why clones don't run.
    pub(super) no_clones: Option<String>,
}

impl Facts {
    /// Whether machines of the VM boot under KVM.
    pub(super) fn is_usable(&self) -> bool {
        self.refused.is_none() && matches!(self.kernel, Some(Ok(_)))
    }

    pub(super) fn verdict(&self) -> Found {
        const EMULATED: &str = "machines are emulated here, about ten times slower; NIXVM_ACCELERATOR=tcg skips the trial of KVM";
        let not = |why: &str, fix: &str| Found::bad(State::Warning, format!("not usable: {why}"), fix);
        if let Some((why, fix)) = &self.refused {
            return not(why, fix);
        }
        if let Some(why) = &self.no_cpu {
            return not(&format!("not even a guest of a few bytes runs: {why}"), EMULATED);
        }
        let cpu = self.cpu.as_deref().filter(|cpu| *cpu != super::sector::FIRST_CPU);
        let with = cpu.map_or(String::new(), |cpu| format!(" with -cpu {cpu}"));
        match &self.kernel {
            Some(Err(why)) => {
                not(&format!("a guest of a few bytes runs{with}, but not this VM: {why}"), EMULATED)
            }
            None => not("it is not known whether this VM boots", "try again when the host has less to do"),
            Some(Ok(_)) => match &self.no_clones {
                None => Found::ok(format!("usable{with}")),
                Some(why) => Found::bad(
                    State::Warning,
                    format!("usable{with}, but clones do not run: {why}"),
                    "each scenario boots its machines; look at the file below",
                ),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn says(facts: &Facts, usable: bool, words: &str) {
        let verdict = facts.verdict();
        assert_eq!(verdict.found, words);
        assert_eq!(facts.is_usable(), usable);
        assert_eq!(verdict.fix.is_some(), verdict.state != State::Ok);
    }

    #[test]
    fn the_last_line_says_whether_and_why_not() {
        let none = Facts::default;
        let cpu = |cpu: &str| Some(cpu.to_owned());
        let booted = Some(Ok(Duration::from_secs(5)));
        says(&none(), false, "not usable: it is not known whether this VM boots");
        let refused = Some(("no permission to open /dev/kvm".to_owned(), "usermod".to_owned()));
        says(&Facts { refused, ..none() }, false, "not usable: no permission to open /dev/kvm");
        let no_cpu = Some("QEMU aborted: failed to set MSR 0x10a".to_owned());
        says(
            &Facts { no_cpu, ..none() },
            false,
            "not usable: not even a guest of a few bytes runs: QEMU aborted: failed to set MSR 0x10a",
        );
        let kernel = Some(Err("KVM stopped the guest: KVM internal error. Suberror: 1".to_owned()));
        says(
            &Facts { cpu: cpu("max,arch-capabilities=off"), kernel, ..none() },
            false,
            "not usable: a guest of a few bytes runs with -cpu max,arch-capabilities=off, but not this VM: KVM stopped \
             the guest: KVM internal error. Suberror: 1",
        );
        says(&Facts { cpu: cpu("max"), kernel: booted.clone(), ..none() }, true, "usable");
        let other = Facts { cpu: cpu("max,pmu=off"), kernel: booted.clone(), ..none() };
        says(&other, true, "usable with -cpu max,pmu=off");
        let no_clones = Some("it does not answer".to_owned());
        says(
            &Facts { cpu: cpu("max"), kernel: booted, no_clones, ..none() },
            true,
            "usable, but clones do not run: it does not answer",
        );
    }
}
