//! How long a machine's boot took: by its own clock, and what that says of the host's speed.
//!
//! The times are systemd's (`UserspaceTimestampMonotonic` and the others of org.freedesktop.systemd1(5)). They are of the
//! boot itself, so they hold for clones of a machine, too. Firmware is not in them.

use std::time::Duration;

use nixvm_test_macros::tracked;

use crate::machine::Machine;
use crate::mutex::lock;
use crate::{Error, ErrorKind, Event, Result, Speed};

/// `is-system-running --wait` ends when systemd has finished its boot, well or not.
const ASK: &str = "systemctl is-system-running --wait >/dev/null || :
systemctl show -p InitRDTimestampMonotonic -p UserspaceTimestampMonotonic -p FinishTimestampMonotonic
systemd-analyze blame --no-pager | head -n 10 || :";

/// From the start to the login prompt on a host of speed 1.
const REFERENCE_BOOT: Duration = Duration::from_secs(5);

/// The speed of a host on which a boot to the login prompt takes this long.
pub(crate) fn speed_of_boot(took: Duration) -> Speed {
    Speed::new(took.as_secs_f64() / REFERENCE_BOOT.as_secs_f64())
}

/// How long the parts of a boot took, by the machine's own clock. See [`Machine::boot_times`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BootTimes {
    /// What the kernel took. Where systemd does not run in the initial ramdisk, this is the kernel and stage 1: nothing says when
    /// the one ended and the other began.
    pub kernel: Duration,
    /// What the initial ramdisk took. Zero where systemd does not run in it.
    pub initrd: Duration,
    /// What systemd took until everything was up.
    pub userspace: Duration,
    /// The ten units that took longest, one a line.
    pub slowest: String,
}

impl BootTimes {
    /// From what the command printed.
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

    /// From the kernel's first moment until everything was up.
    pub fn boot(&self) -> Duration {
        self.kernel + self.initrd + self.userspace
    }

    /// By what times are divided to be those of a host on which the kernel takes one second: calibrated time. The
    /// kernel's own part of a boot depends on the host and hardly on the configuration. A slow or busy host makes all parts
    /// longer; a service that blocks the boot only one of them.
    pub fn calibration(&self) -> f64 {
        // A kernel that takes no time at all has no clock.
        self.kernel.as_secs_f64().max(0.01)
    }
}

/// # Boot times
impl Machine {
    /// How long the last boot took, by the machine's own clock. Waits until it is over, which may be later than the login
    /// prompt. As root; of a machine that was powered off by [`Machine::power_off`], if that was asked for before.
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

    /// Called before a machine with a budget is powered off, because the guest can't be asked afterwards.
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
