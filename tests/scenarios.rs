//! The scenarios of `scenarios/` as a suite: `cargo test --test scenarios`, or one of them by name:
//! `cargo test --test scenarios -- login`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a scenario is a test
#![allow(clippy::disallowed_methods, reason = "scenarios have no `crate::environment`")]

nixvm_test::scenarios!("../scenarios");
