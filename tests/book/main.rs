//! The book (`docs/`): its reference says what the code says, its links lead somewhere, and its examples are run.
//!
//! The pages of the reference that are made from the code are written by `SNAPSHOTS=overwrite cargo test --test book`.

#![allow(clippy::unwrap_used)] // tests

mod blocks;
#[path = "../cli/folder.rs"]
#[allow(dead_code)] // of the user's folder this needs its part
mod folder;
mod links;
mod pages;
mod reference;
mod shell;
mod source;
