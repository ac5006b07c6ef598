//! The `#[scenario]` attribute of nixvm-test. Use it through the `nixvm_test` crate.
