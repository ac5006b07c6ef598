//! Describes the scenarios of a suite without running one, for `nixvm-test list`.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::configuration::source_file;
use super::registry::{self, Kind, Parameter, Scenario, Start};
use super::run::DEFAULT_TIMEOUT;
use super::suite::Suite;

/// If this variable is set, a suite prints one JSON object per scenario, one a line, and runs nothing.
pub const TELL_SCENARIOS: &str = "NIXVM_TELL_SCENARIOS";

/// If this variable is set, a suite prints one line with this name and the [`places`] of its scenarios, and
/// runs nothing.
pub(super) const TELL_PLACES: &str = "NIXVM_TELL_PLACES";

/// Where a scenario is: its file, the line of its function, the function's name.
pub(super) type Place = (PathBuf, usize, String);

/// Returns the places of all scenarios of this binary, as JSON.
pub(super) fn places() -> Value {
    let place = |scenario: &&Scenario| json!([source_file(scenario), scenario.line, scenario.function]);
    registry::all().iter().map(place).collect()
}

/// Returns everything that is known about `scenario` before it runs, except passwords.
pub(super) fn describe(scenario: &Scenario, suite: &Suite) -> Value {
    let built = |request: &Parameter| {
        let mut its = json!({ "name": request.name, "source": null });
        match suite.origin(scenario, request) {
            Ok(origin) => {
                its["source"] = origin.source.to_string().into();
                if let Some(nixpkgs) = origin.nixpkgs {
                    its["nixpkgs"] = nixpkgs.into();
                }
            }
            Err(error) => its["error"] = error.summary().into(),
        }
        its
    };
    let machine = |request: &'static Parameter| {
        let mut its = built(request);
        its["session"] = (request.kind == Kind::Session).into();
        its
    };
    json!({
        "name": scenario.name(),
        "file": source_file(scenario),
        "line": scenario.line,
        "description": scenario.description,
        "ignore": scenario.ignore,
        "machines": scenario.machines().map(machine).collect::<Vec<_>>(),
        "systems": scenario.systems().map(built).collect::<Vec<_>>(),
        "network": scenario.has_network(),
        "from": from(scenario.from),
        "timeout_seconds": scenario.timeout.unwrap_or(DEFAULT_TIMEOUT).as_secs_f64(),
        "budget_boot_seconds": scenario.budget.boot.map(|limit| limit.as_secs_f64()),
        "budget_userspace_seconds": scenario.budget.userspace.map(|limit| limit.as_secs_f64()),
        "retries": suite.tries(scenario) - 1,
        "memory_mib": scenario.memory,
        "cores": scenario.cores,
        "allow": scenario.allow,
    })
}

/// Describes where machines begin.
fn from(from: Start) -> String {
    match from {
        Start::Cold => "cold".to_owned(),
        Start::Booted => "booted".to_owned(),
        Start::LoggedIn { user, .. } => format!("logged in as {user}"),
        Start::Checkpoint(checkpoint) => checkpoint.function.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_without_its_password() {
        assert_eq!(from(Start::LoggedIn { user: "alice", password: "secret" }), "logged in as alice");
        assert_eq!(from(Start::Cold), "cold");
    }
}
