//! Budgets of boots, which hold under one accelerator. A scenario that passed fails if its machines took
//! longer to boot, in calibrated time (see [`crate::machine::BootTimes::calibration`]).

use std::time::Duration;

use super::registry::Scenario;
use crate::machine::{BootTimes, Machine};
use crate::qemu::Accelerator;
use crate::{Error, ErrorKind, Result};

/// Whether to time the boots of `scenario`'s machines.
pub(super) fn has_one(scenario: &Scenario) -> bool {
    scenario.budget.boot.is_some() || scenario.budget.userspace.is_some()
}

/// Checks that the machines of a scenario kept within its budget, if it has one.
pub(super) async fn check(scenario: &Scenario, machines: &[Machine]) -> Result {
    if !has_one(scenario) {
        return Ok(());
    }
    let holds = match scenario.budget.under_tcg {
        true => Accelerator::Tcg,
        false => Accelerator::Kvm,
    };
    for machine in machines {
        // Boot times under the two accelerators can't be compared: under KVM disks and timers dominate, under
        // TCG the processor.
        if let Some(other) = machine.accelerator().filter(|its| *its != holds) {
            machine.note(format!(
                "the budget of its boot is not checked: it is for {holds}, and this machine runs under {other}"
            ));
            continue;
        }
        let times = machine.boot_times().await.map_err(|error| {
            let why = "the scenario has a budget for the boot: `#[scenario(budget(…))]`";
            error.section("why it was asked", why)
        })?;
        let parts = [
            ("boot", times.boot(), scenario.budget.boot),
            ("userspace", times.userspace, scenario.budget.userspace),
        ];
        for (part, took, limit) in parts {
            let calibrated = took.div_f64(times.calibration());
            if let Some(limit) = limit.filter(|limit| calibrated > *limit) {
                return Err(over(machine.name(), part, calibrated, limit, &times));
            }
        }
    }
    Ok(())
}

fn over(name: &str, part: &str, calibrated: Duration, limit: Duration, times: &BootTimes) -> Error {
    let seconds = |time: Duration| time.as_secs_f64();
    let summary = format!(
        "{name}: the {part} took {:.1} s of calibrated time, its budget is {:.1} s",
        seconds(calibrated),
        seconds(limit)
    );
    let line = |part: &str, time: Duration| {
        format!("{part:<18} {:>6.2} s  {:>6.2} s\n", seconds(time), seconds(time) / times.calibration())
    };
    let mut table = vec![format!("{:<18} {:>8}  {:>8}\n", "", "here", "calibrated")];
    match times.initrd.is_zero() {
        true => table.push(line("kernel and stage 1", times.kernel)),
        false => table.extend([line("kernel", times.kernel), line("initial ramdisk", times.initrd)]),
    }
    table.push(line("userspace", times.userspace));
    Error::new(ErrorKind::Timeout, summary)
        .section("the boot", table.concat())
        .section("what took longest", crate::console::shown(times.slowest.as_bytes(), 10))
        .next_step(
            "calibrated time is that of a host whose kernel takes one second: look at what took longest",
        )
}
