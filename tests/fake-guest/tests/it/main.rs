//! The fake guest by itself.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod console;
mod machine;
mod support;
mod trouble;
