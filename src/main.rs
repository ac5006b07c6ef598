//! The `nixvm-test` command.

fn main() -> std::process::ExitCode {
    nixvm_test::__program()
}
