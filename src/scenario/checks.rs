//! What fails a scenario that passed: consoles that show trouble which no command of it noticed.

use std::fmt::Write;

use super::registry::Scenario;
use crate::machine::{Machine, check_console, console_checks};
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

/// Looks through the consoles of a scenario that passed.
pub(super) async fn pass(scenario: &Scenario, machines: &[Machine]) -> Result {
    for machine in machines {
        let log = machine.get_console_log()?;
        let found = check_console(&log, scenario.allow);
        if let Some(first) = found.first() {
            let mut lines = String::new();
            for finding in found.iter().take(SHOWN) {
                // Writing to a String does not fail.
                let _ = writeln!(lines, "{}: {}", finding.check, finding.line);
            }
            let summary =
                format!("the scenario passed, but {}'s console shows: {}", machine.name(), first.meaning);
            return Err(Error::new(ErrorKind::ConsoleCheck, summary)
                .section("what it shows", lines)
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
