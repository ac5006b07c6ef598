//! Templates: moments that are booted once and kept, so that a scenario gets a machine in that state in a
//! fraction of a second.
//!
//! A template is a folder `TEMPLATES/KEY`, where KEY is a hash over everything that could change the state
//! ([`Key`]). It is made under another name and renamed when it is complete, and its content is sealed
//! (`seal`). A template that was changed, or that is older than the last boot of the host, is made again. A
//! lock file beside it is locked by its users (shared) and by its maker (exclusively). The kernel releases
//! the locks of a process that dies, so nothing has to be repaired afterwards.
//!
//! A moment of several machines has one template, with a folder for each of them (`together`).
//!
//! An image that the guest only read, such as that of the Nix store, is one file. Each template of the VM has
//! a hard link to it (`crate::shared_file`), and the file system frees it with the last link.

// These items are public for the command line; see `crate::cache`.
mod clones;
mod key;
mod moment;
mod pool;
mod prune;
mod room;
mod seal;
mod store;
mod together;

pub use key::Key;
pub(crate) use moment::{IN_CHECKPOINT, is_at_hand};
pub use moment::{Moment, Step, machine};
pub use pool::Pool;
pub use prune::prune;
pub use prune::{Entry, list, total};
pub use store::{Made, Store};
pub(crate) use together::are_at_hand;
pub use together::{Before, Member, StepTogether, Together, machines};

#[cfg(test)]
mod tests;
