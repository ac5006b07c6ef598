//! The machines a scenario takes: found, built (each configuration once a run) and booted.

use tokio::task::JoinSet;

use super::exit::Exit;
use super::registry::Scenario;
use super::run::Failure;
use super::suite::Suite;
use crate::machine::Machine;
use crate::{Error, ErrorKind, Events};

/// Boots every machine that `scenario` takes, all at once; returns them in the order asked for.
/// If one fails, the others are ended.
pub(super) async fn all(
    scenario: &'static Scenario,
    suite: &Suite,
    events: &Events,
) -> Result<Vec<(&'static str, Machine)>, Failure> {
    let at = |exit| move |error| Failure { exit: Exit::before_the_body(&error, exit), error };
    let mut booting = JoinSet::new();
    for (place, request) in scenario.machines.iter().enumerate() {
        let source = suite.source(scenario, request).map_err(at(Exit::Usage))?;
        let vm = suite.build(&source, events).await.map_err(at(Exit::Build))?;
        let options = suite.options(request, &source, &vm, events);
        booting.spawn(async move { (place, request.name, Machine::boot(&vm, options).await) });
    }
    let mut up = Vec::new();
    while let Some(booted) = booting.join_next().await {
        let (place, name, machine) = booted
            .map_err(|error| Error::new(ErrorKind::Other, format!("a boot ended by itself: {error}")))
            .map_err(at(Exit::Boot))?;
        up.push((place, name, machine.map_err(at(Exit::Boot))?));
    }
    up.sort_by_key(|(place, ..)| *place);
    Ok(up.into_iter().map(|(_, name, machine)| (name, machine)).collect())
}
