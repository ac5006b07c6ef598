//! Commands of root and of users through the control channel. Each is a separate process.

pub(crate) mod channels;
pub(crate) mod invocation;
pub(crate) mod launch;
pub(crate) mod user;
