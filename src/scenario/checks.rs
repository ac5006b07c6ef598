//! What fails a scenario that passed: a console, a kernel's log or a failed unit that shows trouble which no
//! command of it noticed.

use std::fmt::Write;

use super::registry::Scenario;
use crate::machine::{Finding, Machine, check_console, check_kernel_log, console_checks};
use crate::{Error, ErrorKind, Result};

/// So many lines stand in the report of a machine.
const SHOWN: usize = 10;

/// Whether everything that is allowed has a name that is known.
pub(super) fn are_known(scenario: &Scenario) -> Result {
    let known: Vec<&str> = console_checks().iter().map(|check| check.name()).collect();
    match scenario.allow.iter().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(unknown) => {
            Err(Error::new(ErrorKind::Usage, format!("there is no console check {unknown:?} to allow"))
                .next_step(format!("there are: {}", known.join(", "))))
        }
    }
}

/// Looks through the consoles of a scenario that passed, and asks the machines themselves where that is
/// possible.
pub(super) async fn pass(scenario: &Scenario, machines: &[Machine]) -> Result {
    for machine in machines {
        let on_console = check_console(&machine.get_console_log()?, scenario.allow);
        let in_log = match machine.kernel_log().await {
            Some(log) => check_kernel_log(&log, scenario.allow, &on_console),
            None => Vec::new(),
        };
        let found: Vec<&Finding> = on_console.iter().chain(&in_log).collect();
        if let Some(first) = found.first() {
            let name = machine.name();
            let shown = match on_console.is_empty() {
                true => format!("the kernel of {name} logged"),
                false => format!("{name}'s console shows"),
            };
            let mut lines = String::new();
            for finding in found.iter().take(SHOWN) {
                // Writing to a String does not fail.
                let _ = writeln!(lines, "{}: {}", finding.check, finding.line);
            }
            let summary = format!("the scenario passed, but {shown}: {}", first.meaning);
            return Err(Error::new(ErrorKind::ConsoleCheck, summary)
                .section("its lines", lines)
                .next_step(format!("if that is expected: `#[scenario(allow({:?}))]`", first.check)));
        }
        if !scenario.allow.contains(&"failed unit") {
            no_unit_failed(machine).await?;
        }
    }
    Ok(())
}

/// Units that failed after the boot print nothing on the console. Asked only where asking is possible
/// without logging anybody in.
async fn no_unit_failed(machine: &Machine) -> Result {
    let Some(failed) = machine.failed_units().await else { return Ok(()) };
    let Some(first) = failed.first() else { return Ok(()) };
    Err(Error::new(
        ErrorKind::ConsoleCheck,
        format!("the scenario passed, but {first} failed in {}", machine.name()),
    )
    .section("failed units", failed.join("\n"))
    .next_step("if that is expected: `#[scenario(allow(\"failed unit\"))]`"))
}
