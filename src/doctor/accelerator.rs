//! Checks whether guests run on the host's processor, and why not.

use std::path::Path;

use tokio::time::Instant;

use super::kvm::sector::{self, FIRST_CPU, Runs};
use super::{Finding, State};
use crate::environment;
use crate::packages::QEMU;
use crate::qemu::accelerator::{self, Accelerator, VARIABLE, standing};
use crate::qemu::kvm_device;

const DEVICE: &str = "/dev/kvm";
const LOOK_CLOSER: &str =
    "nixvm-test doctor --kvm VM shows how far a VM gets; nixvm-test doctor --retry forgets the findings";

pub(super) async fn finding() -> Finding {
    if let Err(error) = accelerator::check_environment() {
        return Finding::new(
            "KVM",
            State::Missing,
            error.summary(),
            format!("set {VARIABLE} to kvm or tcg, or unset it"),
        );
    }
    let asked_for = environment::is_set(VARIABLE);
    let (standing, reason) = standing();
    match (standing, kvm_device::refusal(Path::new(DEVICE))) {
        (Some(Accelerator::Tcg), _) if asked_for => emulated(&reason, format!("unset {VARIABLE}")),
        (_, Some(refusal)) => no_kvm(asked_for, &refusal.why, &refusal.fix),
        (Some(Accelerator::Tcg), None) => emulated(&reason, LOOK_CLOSER),
        // If even this guest does not run, findings about other VMs' kernels don't matter.
        (_, None) => trial(&reason, asked_for).await,
    }
}

/// Returns the finding of a host on which KVM does not run guests. They are emulated, unless only KVM is
/// allowed.
fn no_kvm(asked_for: bool, why: &str, fix: &str) -> Finding {
    if !asked_for {
        return emulated(why, fix);
    }
    let found = format!("no machine starts, because {VARIABLE} is kvm: {why}");
    Finding::new("KVM", State::Missing, found, format!("{fix}; or unset {VARIABLE}"))
}

fn emulated(why: &str, fix: impl Into<String>) -> Finding {
    let found = format!("machines are emulated, about ten times slower: {why}");
    Finding::new("KVM", State::Warning, found, fix)
}

/// Runs the smallest guest, with fewer and fewer processor features until it runs.
async fn trial(reason: &str, asked_for: bool) -> Finding {
    let here = std::env::consts::ARCH;
    if here != "x86_64" {
        let found = format!("{reason}; guests for x86_64 are emulated on {here}, about ten times slower");
        return Finding::new("KVM", State::Warning, found, format!("build VMs for {here}-linux"));
    }
    let end = Instant::now() + sector::LIMIT;
    match sector::with_less_and_less(Path::new(QEMU.name), end, |_| ()).await {
        Runs::With(FIRST_CPU) => Finding::ok("KVM", reason),
        Runs::With(cpu) => Finding::ok("KVM", format!("{reason}, with -cpu {cpu}")),
        Runs::No(why) => no_kvm(asked_for, &why.unwrap_or_default(), LOOK_CLOSER),
        Runs::NoQemu => {
            let found = format!("not tried: there is no {} on PATH; {reason}", QEMU.name);
            let fix = "nixvm-test doctor --kvm VM tries it with the VM's own QEMU";
            Finding::new("KVM", State::Warning, found, fix)
        }
    }
}
