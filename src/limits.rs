//! How fast this host runs a guest, and the time limits that follow from it.

use std::time::Duration;

/// How many times slower guests run here than under hardware virtualization (1.0 = as fast).
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
    /// A factor, held between 1 (hardware virtualization) and 60.
    pub fn new(factor: f64) -> Self {
        Self(if factor.is_finite() { factor.clamp(1.0, 60.0) } else { 60.0 })
    }

    /// How many times slower than hardware virtualization.
    pub fn factor(self) -> f64 {
        self.0
    }

    /// A limit for something that waits for the clock as well (a delay, a service that does not stop): `limit`, which is
    /// written for a fast host, but no less than `floor`, on any host.
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

    /// A limit written for a fast host, as it holds on this one.
    pub fn scale(self, limit: Duration) -> Duration {
        limit.mul_f64(self.0)
    }
}
