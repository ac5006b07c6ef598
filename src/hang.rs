//! How long tests wait for something that is certain to come.

use std::time::Duration;

/// Only what hangs takes this long, however busy the host is: it decides no verdict of a test that works.
pub const HANG: Duration = Duration::from_secs(300);
