//! Builds a VM from a configuration. All code that knows Nix is here.
//!
//! A [`Source`] names what to build. A [`Builder`] builds it with `nix-build` (or `nix build` for a flake) and returns
//! the [`BuiltVm`](crate::BuiltVm). [`Settings`](crate::settings::Settings) holds the user's flags and environment
//! variables.

mod additions;
mod advice;
mod ask;
mod builder;
mod closure;
mod commands;
mod culprit;
#[cfg(feature = "cli")]
mod derivation;
mod diagnosis;
mod ending;
mod error_text;
mod evaluation;
mod flake;
pub(crate) mod git;
pub(crate) mod host;
mod line;
mod line_filter;
mod network;
mod nixpkgs;
mod passwords;
mod previous_build;
mod process;
mod profile;
mod refused;
pub(crate) mod relative;
mod run;
mod source;
mod staging;
mod store;
mod written;

pub use builder::Builder;
pub(crate) use closure::closure;
pub(crate) use ending::end_all;
pub use evaluation::ConfiguredUser;
pub use nixpkgs::Nixpkgs;
pub(crate) use passwords::first_admin;
pub use passwords::first_user;
pub use passwords::password_of;
#[cfg(feature = "cli")]
pub(crate) use refused::{Fault, Refused};
pub use source::Source;
pub(crate) use staging::{registration, stage, store_image};
pub(crate) use store::Store;
pub(crate) use written::Written;
