//! The scenarios as a suite: `cargo test`, or one of them by name: `cargo test -- login`.

nixvm_test::scenarios!("../scenarios");
