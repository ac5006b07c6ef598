//! What a machine answered in an earlier run, written down and given again.

pub(crate) mod answers;
pub(crate) mod transcript;
