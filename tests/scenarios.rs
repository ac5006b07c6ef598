//! The scenarios of `scenarios/` as a suite: `cargo test --test scenarios`, or one of them by name:
//! `cargo test --test scenarios -- login`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a scenario is a test

#[path = "../scenarios/checks.rs"]
mod checks;
#[path = "../scenarios/clones.rs"]
mod clones;
#[path = "../scenarios/commands.rs"]
mod commands;
#[path = "../scenarios/database.rs"]
mod database;
#[path = "../scenarios/desktop.rs"]
mod desktop;
#[path = "../scenarios/files.rs"]
mod files;
#[path = "../scenarios/login.rs"]
mod login;
#[path = "../scenarios/power.rs"]
mod power;
#[path = "../scenarios/screen.rs"]
mod screen;
#[path = "../scenarios/services.rs"]
mod services;
#[path = "../scenarios/state.rs"]
mod state;
#[path = "../scenarios/timers.rs"]
mod timers;
#[path = "../scenarios/web.rs"]
mod web;
#[path = "../scenarios/wrecks.rs"]
mod wrecks;
#[path = "../scenarios/wrong_password.rs"]
mod wrong_password;

nixvm_test::main!();
