//! Rehearses a deploy: switches a running machine to another system, and back.

pub(crate) mod system;
