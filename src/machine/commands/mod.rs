//! Commands of root and of users, each a process of its own, through the control channel.

pub(crate) mod channels;
pub(crate) mod invocation;
pub(crate) mod launch;
pub(crate) mod user;
