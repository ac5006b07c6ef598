//! The scenarios as a suite: `cargo test`, or one of them by name: `cargo test -- login`.

#[path = "../scenarios/login.rs"]
mod login;

nixvm_test::main!();
