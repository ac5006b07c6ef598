//! The scenarios of `scenarios/` as a suite: `cargo test --test scenarios`, or one of them by name:
//! `cargo test --test scenarios -- login`.

#[path = "../scenarios/login.rs"]
mod login;
#[path = "../scenarios/screen.rs"]
mod screen;
#[path = "../scenarios/services.rs"]
mod services;
#[path = "../scenarios/state.rs"]
mod state;
#[path = "../scenarios/wrong_password.rs"]
mod wrong_password;

nixvm_test::main!();
