//! Checks that fail a scenario that passed: its console, the kernel's log or a failed unit shows trouble that
//! no command noticed.

use std::fmt::Write;

use super::registry::Scenario;
use crate::machine::{Finding, Gap, Machine, console_checks};
use crate::{Error, ErrorKind, Result};

/// The check that reports units that fail without a message on the console.
const FAILED_UNIT: &str = "failed unit";

/// How many lines the report of a machine shows.
const SHOWN: usize = 10;

/// Checks that each name in `allow` is the name of a check.
pub(super) fn check_allowed(scenario: &Scenario) -> Result {
    let known: Vec<&str> = console_checks().iter().map(|check| check.name()).collect();
    match scenario.allow.iter().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(unknown) => {
            Err(Error::new(ErrorKind::Usage, format!("there is no console check {unknown:?} to allow"))
                .next_step(format!("there are: {}", known.join(", "))))
        }
    }
}

/// Looks for trouble in the machines of a scenario that passed.
pub(super) async fn pass(scenario: &Scenario, machines: &[Machine]) -> Result {
    for machine in machines {
        let trouble = machine.trouble().await?;
        let forbidden = |found: Vec<Finding>| {
            found.into_iter().filter(|finding| !scenario.allow.contains(&finding.check)).collect()
        };
        let on_console: Vec<Finding> = forbidden(trouble.on_console);
        let in_kernel_log: Vec<Finding> = forbidden(trouble.in_kernel_log);
        let name = machine.name();
        if let Some(first) = on_console.first().or(in_kernel_log.first()) {
            let shown = match on_console.is_empty() {
                true => format!("the kernel of {name} logged"),
                false => format!("{name}'s console shows"),
            };
            let mut lines = String::new();
            for finding in on_console.iter().chain(&in_kernel_log).take(SHOWN) {
                // Writing to a String can't fail.
                let _ = writeln!(lines, "{}: {}", finding.check, finding.line);
            }
            let summary = format!("the scenario passed, but {shown}: {}", first.meaning);
            return Err(Error::new(ErrorKind::ConsoleCheck, summary)
                .section("its lines", lines)
                .next_step(format!("if that is expected: `#[scenario(allow({:?}))]`", first.check)));
        }
        if let Some(first) = trouble.failed_units.first()
            && !scenario.allow.contains(&FAILED_UNIT)
        {
            let summary = format!("the scenario passed, but {first} failed in {name}");
            return Err(Error::new(ErrorKind::ConsoleCheck, summary)
                .section("failed units", trouble.failed_units.join("\n"))
                .next_step(format!("if that is expected: `#[scenario(allow({FAILED_UNIT:?}))]`")));
        }
        // Reported last: a finding says more than a check that could not be made.
        let forbidden = |gap: &&Gap| !scenario.allow.contains(&gap.check);
        if let Some(first) = trouble.gaps.iter().find(forbidden) {
            let meaning = console_checks()
                .iter()
                .find(|check| check.name() == first.check)
                .map_or("", |check| check.meaning());
            let summary = format!("the scenario passed, but {name} could not be checked: {meaning}");
            let mut reasons = String::new();
            for gap in trouble.gaps.iter().filter(forbidden).take(SHOWN) {
                // Writing to a String can't fail.
                let _ = writeln!(reasons, "{}: {}", gap.check, gap.why);
            }
            return Err(Error::new(ErrorKind::ConsoleCheck, summary)
                .section("why", reasons)
                .next_step(format!("if that is expected: `#[scenario(allow({:?}))]`", first.check)));
        }
    }
    Ok(())
}
