//! The control channel: a second way into a machine, beside its console.

mod guest;
