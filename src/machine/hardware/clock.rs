//! The machine's time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nixvm_test_macros::tracked;

use crate::machine::Machine;
use crate::{Error, ErrorKind, Result};

/// # Clock
///
/// As root.
impl Machine {
    /// Sets the machine's clock.
    ///
    /// A time service (systemd-timesyncd, chrony) may change it again.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a time before 1970, and those of [`crate::machine::User::succeed`].
    #[tracked]
    pub async fn set_time(&self, time: SystemTime) -> Result {
        let since = time
            .duration_since(UNIX_EPOCH)
            .map_err(|_| Error::new(ErrorKind::Usage, "a clock can't be set to a time before 1970"))?;
        let command = format!("date -s @{}.{:09}", since.as_secs(), since.subsec_nanos());
        self.succeed(command).await.map(drop)
    }

    /// Waits until this much time has passed in the machine. The time is not scaled.
    ///
    /// # Errors
    /// Those of [`crate::machine::User::succeed`].
    #[tracked]
    pub async fn sleep(&self, time: Duration) -> Result {
        let limit = time + Duration::from_secs(60);
        self.root().within(limit).succeed(format!("sleep {}", time.as_secs_f64())).await.map(drop)
    }
}
