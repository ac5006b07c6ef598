//! How long tests wait for something that is certain to come.

use std::time::Duration;

/// Only a hang takes this long, even on a busy host. The limit decides no verdict of a test that works.
pub const HANG: Duration = Duration::from_secs(300);
