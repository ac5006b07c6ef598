//! The scenarios of `scenarios/` as a suite: `cargo test --test scenarios`, or one of them by name:
//! `cargo test --test scenarios -- login`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a scenario is a test

nixvm_test::scenarios!("../scenarios");
