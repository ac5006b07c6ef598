//! Scenarios: how they are registered, found, compiled from a single file, and run.
//!
//! A scenario is an `async fn` with [`#[scenario]`](macro@crate::scenario). In a file of its own it is run by
//! `nixvm-test FILE.rs`. As a module of a test target (`harness = false`) it is part of a suite that `cargo
//! test` and cargo-nextest run. Both end in [`main!`](crate::main!).
//!
//! Each limit ends in an event or an error with a name. A scenario's body has 5 minutes on a fast host
//! (`DEFAULT_TIMEOUT`), or the time in its attribute, multiplied by the measured [`Speed`](crate::Speed) of
//! the host. Building and booting have their own limits.

mod admission;
mod begin;
mod body;
mod budget;
mod capacity;
mod captures;
mod checks;
#[cfg(feature = "cli")]
pub(crate) mod compile;
mod complete;
mod configuration;
mod describe;
mod ended;
mod exit;
mod failure;
mod fixtures;
mod harness;
mod host;
mod kept;
mod machines;
mod order;
mod outcome;
mod panics;
mod progress;
mod registry;
mod rehearsal;
mod replayed;
mod run;
mod suite;
mod topology;
mod turns;
mod upcoming;
mod walk;

pub(crate) use admission::ByHand;
pub(crate) use describe::TELL_SCENARIOS;
pub use exit::Exit;
#[doc(hidden)]
pub use exit::TABLE as EXIT_CODES;
pub(crate) use harness::TELL_SOURCES;
pub use harness::main;
#[doc(hidden)]
pub use harness::main_of;
#[cfg(feature = "cli")]
pub(crate) use rehearsal::{REHEARSED, REHEARSED_NEXT, Rehearsed};
#[cfg(feature = "cli")]
pub(crate) use topology::Topology;

/// What `#[scenario]` and `main!` expand to. Not for use by hand.
#[doc(hidden)]
pub mod expansion {
    pub use super::begin::other_machines;
    pub use super::complete::Folder;
    pub use super::fixtures::{Argument, Fixtures};
    pub use super::outcome::{Body, ByDebug, ByDisplay, ByNothing, ReturnType, Returned, is_a_return_type};
    pub use super::registry::{Budget, Checkpoint, Dhcp, Kind, Parameter, Scenario, Start, Steps, register};
    pub use crate::place::{at, from_line};
    pub use ctor::declarative::ctor;
}
