//! Whether guests run on the host's processor, and why not.

use std::path::Path;

use tokio::time::Instant;

use super::kvm::sector::{self, FIRST_CPU, Ran};
use super::{Finding, State};
use crate::environment;
use crate::packages::QEMU;
use crate::qemu::accelerator::{self, Accelerator, VARIABLE, standing};
use crate::qemu::kvm_device;

const LOOK_CLOSER: &str =
    "nixvm-test doctor --kvm VM shows how far a VM gets; nixvm-test doctor --retry forgets what was found";

pub(super) async fn finding() -> Finding {
    if let Err(error) = accelerator::check_environment() {
        return Finding::new(
            "KVM",
            State::Missing,
            error.summary(),
            format!("set {VARIABLE} to kvm or tcg, or unset it"),
        );
    }
    let chosen = environment::is_set(VARIABLE);
    if !chosen && let Some(refusal) = kvm_device::refusal(Path::new("/dev/kvm")) {
        return emulated(&refusal.why, refusal.fix);
    }
    match standing() {
        (Some(Accelerator::Tcg), reason) if chosen => emulated(&reason, format!("unset {VARIABLE}")),
        (Some(Accelerator::Tcg), reason) => emulated(&reason, LOOK_CLOSER),
        (_, reason) if chosen => Finding::ok("KVM", reason),
        // What some VM's kernel did says little of the next one's where not even this runs.
        (_, reason) => trial(&reason).await,
    }
}

fn emulated(why: &str, mend: impl Into<String>) -> Finding {
    let found = format!("machines are emulated, some ten times slower: {why}");
    Finding::new("KVM", State::Warning, found, mend)
}

/// Runs the smallest guest there is, with less and less of the processor until it runs.
async fn trial(reason: &str) -> Finding {
    let here = std::env::consts::ARCH;
    if here != "x86_64" {
        let found = format!("{reason}; guests for x86_64 are emulated on {here}, some ten times slower");
        return Finding::new("KVM", State::Warning, found, format!("build VMs for {here}-linux"));
    }
    let end = Instant::now() + sector::LIMIT;
    let mut first = None;
    for cpu in [FIRST_CPU].into_iter().chain(accelerator::processors()) {
        let left = end.saturating_duration_since(Instant::now());
        match sector::run(Path::new(QEMU.name), "kvm", cpu, left).await {
            Ran::Yes if cpu == FIRST_CPU => return Finding::ok("KVM", reason),
            Ran::Yes => return Finding::ok("KVM", format!("{reason}, with -cpu {cpu}")),
            Ran::NoQemu => {
                let found = format!("not tried: there is no {} on PATH; {reason}", QEMU.name);
                let mend = "nixvm-test doctor --kvm VM tries it with the VM's own QEMU";
                return Finding::new("KVM", State::Warning, found, mend);
            }
            Ran::No(why) => drop(first.get_or_insert(why)),
        }
    }
    emulated(&first.unwrap_or_default(), LOOK_CLOSER)
}
