//! Templates: moments that are booted once and kept, so that a scenario gets a machine in that state in
//! a fraction of a second.
//!
//! A template is a folder `TEMPLATES/KEY`, where KEY is a hash over everything that could change the state
//! ([`Key`]). It is made under another name and renamed when it is whole, and what is in it is sealed
//! (`seal`): one that was changed, or left by a host that was restarted, is made again. A lock beside it says who
//! uses it (shared) and who makes it (alone); the kernel lets go of the locks of a process that dies, so
//! nothing has to be mended after it.
//!
//! An image that the guest only read, as that of the Nix store, is one file that all templates of the VM hold by a name of
//! their own (`crate::shared_file`); the file system frees it with the last of them.

// What is public here is so for the command line: see `crate::cache`.
mod clones;
mod key;
mod moment;
mod pool;
mod prune;
mod room;
mod seal;
mod store;

pub use key::Key;
pub(crate) use moment::{IN_CHECKPOINT, is_at_hand};
pub use moment::{Moment, Step, machine};
pub use pool::Pool;
pub use prune::prune;
pub use prune::{Entry, list, total};
pub use store::{Made, Store};

#[cfg(test)]
mod tests;
