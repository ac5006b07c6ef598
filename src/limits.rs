//! How fast this host runs a guest, and the time limits that follow from it.

use std::time::Duration;

/// How many times slower guests run on this host than under hardware virtualization (1.0 = equally fast).
/// Time limits are written for a fast host and multiplied by this.
///
/// ```
/// use nixvm_test::Speed;
/// use std::time::Duration;
/// assert_eq!(Speed::new(4.0).scale(Duration::from_secs(5)), Duration::from_secs(20));
/// assert_eq!(Speed::new(0.1).factor(), 1.0); // never shortens a limit
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed(f64);

impl Speed {
    /// Makes a speed from a factor, which is clamped between 1 (hardware virtualization) and 60.
    pub fn new(factor: f64) -> Self {
        Self(if factor.is_finite() { factor.clamp(1.0, 60.0) } else { 60.0 })
    }

    /// Returns how many times slower it is than hardware virtualization.
    pub fn factor(self) -> f64 {
        self.0
    }

    /// Scales a limit for something that also depends on the clock (a delay, a service that does not stop).
    /// `limit` is written for a fast host. The result is at least `floor` on any host.
    ///
    /// ```
    /// use nixvm_test::Speed;
    /// use std::time::Duration;
    /// let (limit, floor) = (Duration::from_secs(6), Duration::from_secs(30));
    /// assert_eq!(Speed::new(1.0).scale_to_at_least(limit, floor), Duration::from_secs(30));
    /// assert_eq!(Speed::new(8.0).scale_to_at_least(limit, floor), Duration::from_secs(48));
    /// ```
    pub fn scale_to_at_least(self, limit: Duration, floor: Duration) -> Duration {
        self.scale(limit).max(floor)
    }

    /// Scales a limit that is written for a fast host to this host.
    pub fn scale(self, limit: Duration) -> Duration {
        limit.mul_f64(self.0)
    }
}
