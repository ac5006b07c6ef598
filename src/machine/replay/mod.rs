//! Records a machine's answers, and replays them in later runs.

pub(crate) mod answers;
pub(crate) mod transcript;
