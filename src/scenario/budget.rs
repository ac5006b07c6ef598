//! Budgets of boots: how long the kernel and systemd took, by the machine's own clock, made comparable between hosts.
//!
//! The kernel's own part of a boot depends on the host and hardly on the configuration, so it is what the other
//! parts are measured by: calibrated time is that of a host on which the kernel takes one second. A slow or busy
//! host makes both longer; a service that blocks the boot only one of them.
//!
//! The times are systemd's (`KernelTimestampMonotonic` and the others of org.freedesktop.systemd1(5)). They are of the
//! boot itself, so they hold for clones of a machine, too. Firmware is not in them.

use std::time::Duration;

use super::registry::Scenario;
use crate::machine::Machine;
use crate::{Error, ErrorKind, Event, Events, Result};

/// `is-system-running --wait` ends when systemd has finished its boot, well or not.
const ASK: &str = "systemctl is-system-running --wait >/dev/null || :
systemctl show -p InitRDTimestampMonotonic -p UserspaceTimestampMonotonic -p FinishTimestampMonotonic";

/// What took longest, for the report.
const BLAME: &str = "systemd-analyze blame --no-pager | head -n 10";

/// A boot, by the machine's own clock.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Times {
    kernel: Duration,
    initrd: Duration,
    userspace: Duration,
}

impl Times {
    /// From what `systemctl show` says.
    fn parse(shown: &str) -> Option<Self> {
        let of = |name: &str| {
            let value = shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
            value.trim().parse().ok().map(Duration::from_micros)
        };
        let initrd = of("InitRDTimestampMonotonic").filter(|at| !at.is_zero());
        let userspace = of("UserspaceTimestampMonotonic").filter(|at| !at.is_zero())?;
        let finish = of("FinishTimestampMonotonic").filter(|at| !at.is_zero())?;
        Some(Self {
            kernel: initrd.unwrap_or(userspace),
            initrd: initrd.map_or(Duration::ZERO, |initrd| userspace.saturating_sub(initrd)),
            userspace: finish.saturating_sub(userspace),
        })
    }

    fn calibration(&self) -> f64 {
        // A kernel that takes no time at all has no clock.
        self.kernel.as_secs_f64().max(0.01)
    }

    fn boot(&self) -> Duration {
        self.kernel + self.initrd + self.userspace
    }
}

/// Whether the machines of a scenario kept within its budget, if it has one.
pub(super) async fn check(scenario: &Scenario, machines: &[Machine], events: &Events) -> Result {
    let budget = scenario.budget;
    if budget.boot.is_none() && budget.userspace.is_none() {
        return Ok(());
    }
    for machine in machines {
        let name = machine.name();
        let shown = machine.succeed(ASK).await.map_err(|error| {
            error.section(
                "why it was asked",
                "the scenario has a budget for the boot: `#[scenario(budget(…))]`",
            )
        })?;
        let times = Times::parse(shown.text()).ok_or_else(|| {
            let what = format!("{name}: systemd does not say how long the boot took");
            Error::new(ErrorKind::Other, what).section("it said", shown.text())
        })?;
        let calibration = times.calibration();
        let Times { kernel, initrd, userspace } = times;
        events.send(Event::BootTimes { machine: name.to_owned(), kernel, initrd, userspace, calibration });
        for (part, took, limit) in
            [("boot", times.boot(), budget.boot), ("userspace", userspace, budget.userspace)]
        {
            let calibrated = took.div_f64(calibration);
            if let Some(limit) = limit.filter(|limit| calibrated > *limit) {
                return Err(over(name, part, calibrated, limit, &times)
                    .section("what took longest", slowest(machine).await));
            }
        }
    }
    Ok(())
}

fn over(name: &str, part: &str, calibrated: Duration, limit: Duration, times: &Times) -> Error {
    let seconds = |time: Duration| time.as_secs_f64();
    let summary = format!(
        "{name}: the {part} took {:.1} s of calibrated time, its budget is {:.1} s",
        seconds(calibrated),
        seconds(limit)
    );
    let line = |part: &str, time: Duration| {
        format!("{part:<18} {:>6.2} s  {:>6.2} s\n", seconds(time), seconds(time) / times.calibration())
    };
    let table = [
        format!("{:<18} {:>8}  {:>8}\n", "", "here", "calibrated"),
        line("kernel", times.kernel),
        line("initial ramdisk", times.initrd),
        line("userspace", times.userspace),
    ];
    Error::new(ErrorKind::Timeout, summary).section("the boot", table.concat()).next_step(
        "calibrated time is that of a host whose kernel takes one second: look at what took longest",
    )
}

async fn slowest(machine: &Machine) -> String {
    match machine.execute(BLAME).await {
        Ok(output) => crate::console::shown(output.bytes(), 10),
        Err(error) => error.summary().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "InitRDTimestampMonotonic=2000000\nUserspaceTimestampMonotonic=3000000\nFinishTimestampMonotonic=13000000\n";

    #[test]
    fn times_are_told_apart_and_calibrated_by_the_kernels() {
        let seconds = Duration::from_secs;
        let times = Times::parse(SHOWN).unwrap();
        assert_eq!(times, Times { kernel: seconds(2), initrd: seconds(1), userspace: seconds(10) });
        assert_eq!(times.boot().div_f64(times.calibration()), Duration::from_millis(6500));
        let without =
            Times::parse(&SHOWN.replace("InitRDTimestampMonotonic=2000000", "InitRDTimestampMonotonic=0"));
        assert_eq!(
            without.unwrap(),
            Times { kernel: seconds(3), initrd: seconds(0), userspace: seconds(10) }
        );
        assert_eq!(Times::parse("FinishTimestampMonotonic=0\nUserspaceTimestampMonotonic=5\n"), None);
    }

    #[test]
    fn what_is_over_budget_says_both_times() {
        let times = Times::parse(SHOWN).unwrap();
        let error = over("web", "userspace", Duration::from_secs(5), Duration::from_secs(4), &times);
        assert_eq!(error.summary(), "web: the userspace took 5.0 s of calibrated time, its budget is 4.0 s");
        assert!(error.to_string().contains("userspace           10.00 s    5.00 s"), "{error}");
    }
}
