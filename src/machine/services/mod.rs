//! systemd in the guest: units, its bus, its journal, logind.

pub(crate) mod inactive;
pub(crate) mod journal;
pub(crate) mod logind;
pub(crate) mod units;
