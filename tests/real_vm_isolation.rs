//! A scenario that wrecks its machine touches no other, whatever the order and whoever runs beside it: the same
//! suite in order, shuffled, one by one in processes of their own (as cargo-nextest does), and in parallel.
//!
//! This binary is the suite too, when it is started with the variable below.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test, though with a `main` of its own

#[path = "../scenarios/wrecks.rs"]
mod wrecks;

use std::process::{Command, ExitCode, Output};

use libtest_mimic::{Arguments, Failed, Trial};

const AS_SUITE: &str = "WRECKS";

fn main() -> ExitCode {
    if std::env::var_os(AS_SUITE).is_some() {
        return nixvm_test::scenario::main();
    }
    let trial =
        Trial::test("a_wrecked_machine_is_nobody_elses_in_any_order_and_beside_others", whatever_the_order);
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

fn whatever_the_order() -> Result<(), Failed> {
    let in_order = results(&["--test-threads", "1"], None);
    assert_eq!(in_order.len(), 5, "{in_order:?}");
    assert!(in_order.iter().all(|line| line.ends_with("ok")), "{in_order:?}");
    assert_eq!(in_order, results(&["--test-threads", "1"], Some(7)), "shuffled by 7");
    assert_eq!(in_order, results(&["--test-threads", "1"], Some(8)), "shuffled by 8");
    assert_eq!(in_order, results(&["--test-threads", "4"], None), "in parallel");
    let mut alone = Vec::new();
    for line in &in_order {
        let name = line.split_whitespace().nth(1).unwrap();
        alone.extend(results(&["--exact", name, "--nocapture"], None));
    }
    assert_eq!(in_order, alone, "one by one");
    Ok(())
}

/// What became of each scenario, by name.
fn results(arguments: &[&str], seed: Option<u64>) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments).env(AS_SUITE, "1").env("NIXVM_HOST_CORES", "4");
    command.envs(seed.map(|seed| ("NIXVM_SHUFFLE", seed.to_string())));
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    eprintln!("{arguments:?} {seed:?}\n{out}{err}");
    assert!(status.success(), "{arguments:?} {seed:?}: {status}\n{out}{err}");
    let mut results: Vec<String> = out
        .lines()
        .filter(|line| line.starts_with("test ") && line.contains(" ... "))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    results.sort();
    results
}
