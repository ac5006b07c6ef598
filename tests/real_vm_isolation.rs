//! A scenario that wrecks its machine touches no other, whatever the order and whoever runs beside it: the same
//! suite in order, in the reverse order, and in parallel: on threads of one process, and in processes beside it, as
//! cargo-nextest does.
//!
//! This binary is the suite too, when it is started with the variable below: so it has a `main` of its own.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test, though with a `main` of its own
#![allow(clippy::disallowed_methods, reason = "a test reads a variable that it sets itself")]

#[path = "../scenarios/wrecks.rs"]
mod wrecks;

use std::process::{Child, Command, ExitCode, Output, Stdio};

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

/// A seed that turns five scenarios round: with the order as it is, each runs before each of the others.
const REVERSED: u64 = 126;

fn whatever_the_order() -> Result<(), Failed> {
    let one_by_one = ["--test-threads", "1"];
    let in_order = outcomes(run(&one_by_one, None));
    assert_eq!(in_order.len(), 5, "{in_order:?}");
    assert!(in_order.iter().all(|line| line.ends_with("ok")), "{in_order:?}");
    let mut reversed = outcomes(run(&one_by_one, Some(REVERSED)));
    reversed.reverse();
    assert_eq!(in_order, reversed, "the other way round");
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    // Three on threads of one process, and two as cargo-nextest runs them: each in a process of its own.
    let names: Vec<&str> = in_order.iter().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    let [apart @ .., _, _, _] = &names[..] else { unreachable!("there are five") };
    let mut together = vec!["--test-threads", "3"];
    together.extend(apart.iter().flat_map(|name| ["--skip", *name]));
    let mut processes = vec![run(&together, None)];
    processes.extend(apart.iter().map(|name| run(&["--exact", name, "--nocapture"], None)));
    let in_parallel: Vec<String> = processes.into_iter().flat_map(outcomes).collect();
    assert_eq!(sorted(in_order.clone()), sorted(in_parallel), "in parallel");
    Ok(())
}

/// Starts the suite.
fn run(arguments: &[&str], seed: Option<u64>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments).env(AS_SUITE, "1").env("NIXVM_HOST_CORES", "4");
    command.envs(seed.map(|seed| ("NIXVM_SHUFFLE", seed.to_string())));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What became of each scenario, in the order in which they ran.
fn outcomes(suite: Child) -> Vec<String> {
    let Output { status, stdout, stderr } = suite.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    eprintln!("{out}{err}");
    assert!(status.success(), "{status}\n{out}{err}");
    let results = out.lines().filter(|line| line.starts_with("test ") && line.contains(" ... "));
    results.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}
