//! How long a machine's boot took by its own clock, and the host's speed that follows from it.
//!
//! The times are systemd's (`UserspaceTimestampMonotonic` and the others of org.freedesktop.systemd1(5)). They describe
//! the boot itself, so they are valid for clones of a machine, too. They do not include firmware.

use std::time::Duration;

use nixvm_test_macros::tracked;

use crate::machine::Machine;
use crate::mutex::lock;
use crate::{Error, ErrorKind, Event, Result, Speed};

/// `is-system-running --wait` ends when systemd has finished its boot, successfully or not.
const ASK: &str = "systemctl is-system-running --wait >/dev/null || :
systemctl show -p InitRDTimestampMonotonic -p UserspaceTimestampMonotonic -p FinishTimestampMonotonic
systemd-analyze blame --no-pager | head -n 10 || :";

/// The time from the start to the login prompt on a host of speed 1.
const REFERENCE_BOOT: Duration = Duration::from_secs(5);

/// Returns the speed of a host on which a boot to the login prompt takes this long.
pub(crate) fn speed_of_boot(took: Duration) -> Speed {
    Speed::new(took.as_secs_f64() / REFERENCE_BOOT.as_secs_f64())
}

/// The durations of a boot's parts, by the machine's own clock. See [`Machine::boot_times`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BootTimes {
    /// The kernel's time. If systemd does not run in the initial ramdisk, this includes stage 1: nothing shows where
    /// the kernel ended and stage 1 began.
    pub kernel: Duration,
    /// The initial ramdisk's time. Zero if systemd does not run in it.
    pub initrd: Duration,
    /// The time that systemd took until everything was up.
    pub userspace: Duration,
    /// The ten slowest units, one per line.
    pub slowest: String,
}

impl BootTimes {
    /// Parses the command's output.
    fn parse(shown: &str) -> Option<Self> {
        let of = |name: &str| {
            let value = shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
            value.trim().parse().ok().map(Duration::from_micros)
        };
        let initrd = of("InitRDTimestampMonotonic").filter(|at| !at.is_zero());
        let userspace = of("UserspaceTimestampMonotonic").filter(|at| !at.is_zero())?;
        let finish = of("FinishTimestampMonotonic").filter(|at| !at.is_zero())?;
        let slowest: Vec<&str> = shown.lines().filter(|line| !line.contains("TimestampMonotonic=")).collect();
        Some(Self {
            kernel: initrd.unwrap_or(userspace),
            initrd: initrd.map_or(Duration::ZERO, |initrd| userspace.saturating_sub(initrd)),
            userspace: finish.saturating_sub(userspace),
            slowest: slowest.join("\n"),
        })
    }

    /// Returns the time from the kernel's start until everything was up.
    pub fn boot(&self) -> Duration {
        self.kernel + self.initrd + self.userspace
    }

    /// Returns the factor by which times are divided to calibrate them: calibrated times are those of a host on which
    /// the kernel takes one second. The kernel's part of a boot depends on the host and hardly on the configuration. A
    /// slow or busy host makes all parts longer; a service that blocks the boot makes only one part longer.
    pub fn calibration(&self) -> f64 {
        // A kernel time of zero means that there is no clock.
        self.kernel.as_secs_f64().max(0.01)
    }
}

/// # Boot times
impl Machine {
    /// Returns how long the last boot took, by the machine's own clock. Waits until the boot is over, which may be
    /// later than the login prompt. Asks as root. For a machine that [`Machine::power_off`] has ended, the times are
    /// known only if they were asked for before.
    ///
    /// ```no_run
    /// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
    /// machine.login("alice", "test").await?;
    /// let times = machine.boot_times().await?;
    /// println!("{:?}, of which userspace {:?}; slowest:\n{}", times.boot(), times.userspace, times.slowest);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Other`] when systemd does not say, and those of [`crate::machine::User::succeed`].
    #[tracked]
    pub async fn boot_times(&self) -> Result<BootTimes> {
        if let Some(known) = self.known_boot_times() {
            return Ok(known);
        }
        let shown = self.succeed(ASK).await?;
        let times = BootTimes::parse(shown.text()).ok_or_else(|| {
            let what = format!("{}: systemd does not say how long the boot took", self.name());
            Error::new(ErrorKind::Other, what).section("it said", shown.text())
        })?;
        let (kernel, initrd, userspace) = (times.kernel, times.initrd, times.userspace);
        let (machine, calibration) = (self.name().to_owned(), times.calibration());
        let event = Event::BootTimes { machine, kernel, initrd, userspace, calibration };
        self.life().events.send(event);
        Ok(times)
    }

    /// Asks for the boot times before a machine with a budget is powered off, because the guest can't be asked
    /// afterwards.
    pub(crate) async fn note_boot_times(&self) {
        if self.shared.plan.boot_times
            && self.known_boot_times().is_none()
            && let Ok(times) = self.boot_times().await
        {
            *lock(&self.shared.boot_times) = Some(times);
        }
    }

    fn known_boot_times(&self) -> Option<BootTimes> {
        lock(&self.shared.boot_times).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "InitRDTimestampMonotonic=2000000\nUserspaceTimestampMonotonic=3000000\n\
                         FinishTimestampMonotonic=13000000\n4s web.service\n";

    #[test]
    fn times_are_told_apart_and_calibrated_by_the_kernels() {
        let seconds = Duration::from_secs;
        let times = BootTimes::parse(SHOWN).unwrap();
        assert_eq!((times.kernel, times.initrd, times.userspace), (seconds(2), seconds(1), seconds(10)));
        assert_eq!(times.slowest, "4s web.service");
        assert_eq!(times.boot().div_f64(times.calibration()), Duration::from_millis(6500));
        let without = SHOWN.replace("InitRDTimestampMonotonic=2000000", "InitRDTimestampMonotonic=0");
        let without = BootTimes::parse(&without).unwrap();
        assert_eq!(
            (without.kernel, without.initrd, without.userspace),
            (seconds(3), seconds(0), seconds(10))
        );
        assert_eq!(BootTimes::parse("FinishTimestampMonotonic=0\nUserspaceTimestampMonotonic=5\n"), None);
    }
}
