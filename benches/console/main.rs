//! How fast a console gets through a flood of output, beside expectrl, rexpect and a bare read loop.
//!
//!     cargo bench --bench console              # the whole table, under 3 minutes
//!     cargo bench --bench console -- --quick   # 1 and 10 MB, fewer repetitions, for CI
//!
//! A plain `main` and no benchmark crate: each case has to be a process of its own, so that its peak memory
//! and its processor time are its own, and the cases have to run in turn, so that a machine that others use
//! too slows all of them alike. The figures to look at are the ratios to the bare read within one run.

#![allow(clippy::expect_used, reason = "a benchmark that can not go on must stop")]

mod contender;
mod flood;
mod pty;
mod table;

use std::process::{Command, ExitCode};

use contender::{Case, Contender, Measured, Pattern};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        // The guest: the other side of the PTY.
        ["guest", "flood", megabytes] => flood::flood(megabytes.parse().expect("megabytes")),
        ["guest", "echo"] => flood::echo(),
        ["guest", "silence"] => flood::silence(),
        // One measurement, in a process of its own.
        ["measure", contender, case] => {
            println!("{}", contender::measure(Contender::parse(contender), Case::parse(case)));
        }
        [] => table::print(false),
        ["--quick"] => table::print(true),
        _ => {
            eprintln!("usage: cargo bench --bench console [-- --quick]");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Measures one case in a new process.
fn in_a_process(contender: Contender, case: Case) -> Measured {
    let output = Command::new(std::env::current_exe().expect("own path"))
        .args(["measure", contender.name(), &case.to_string()])
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("measure");
    assert!(output.status.success(), "{} {case}: {}", contender.name(), output.status);
    let line = String::from_utf8(output.stdout).expect("figures");
    Measured::parse(line.trim())
}

/// This program in another role.
fn guest(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("own path"));
    command.arg("guest").args(arguments);
    command
}

/// What ends a flood: visible to all contenders alike, hence without the escape sequences that a real
/// prompt has (only this library would find it then).
const PROMPT: &str = "alice@nixos:~$ ";
/// The prompt as people would write it down.
const PROMPT_REGEX: &str = r"(?m)^\[?[\w.-]+@[\w.-]+[^\n]{0,80}[#$] $";

impl Pattern {
    const ALL: [Self; 2] = [Self::Literal, Self::Regex];
}
