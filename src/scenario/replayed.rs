//! The machines of a scenario that is replayed against the record of a run. None of them is built or booted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::configuration;
use super::fixtures::Fixture;
use super::machines::Ready;
use super::registry::{Kind, Parameter, Scenario, Start};
use super::suite::Suite;
use super::topology::Topology;
use crate::BuiltVm;
use crate::machine::{Machine, Network, Replay, System};
use crate::nix::{Source, password_of};
use crate::record::{Folder, History};
use crate::{Error, ErrorKind, Events, FileKind, Result, nearest};

/// The record with the answers.
pub(super) struct Record {
    folder: Folder,
    history: History,
}

impl Record {
    /// Finds the record with this name.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when there is none, [`ErrorKind::Io`] when it can't be read.
    pub(super) fn find(named: &str) -> Result<Self> {
        let folder = Folder::find(named)?;
        let history = History::of(folder.files())?;
        Ok(Self { folder, history })
    }

    /// Returns the folder of a scenario's first try. If there is a second try, the first one failed.
    fn folder_of(&self, scenario: &Scenario) -> Result<PathBuf> {
        let (name, file) = (scenario.name(), configuration::source_file(scenario));
        let named = || self.history.scenarios.iter().filter(|its| its.name == name);
        // The record may come from another host, where the file had another path.
        let Some(found) = named().find(|its| its.file == file).or_else(|| named().next()) else {
            let summary =
                format!("there is no scenario {name} in the record {}", self.folder.path().display());
            let error = Error::new(ErrorKind::NotRecorded, summary)
                .next_step("name a run that has it: `nixvm-test report RUN` shows the scenarios of a run");
            let names = self.history.scenarios.iter().map(|its| its.name.as_str());
            return Err(match nearest(&name, names) {
                Some(other) => error.likely_cause(format!("it was called {other} then, or did not run")),
                None => error.likely_cause("it did not run"),
            });
        };
        let machines = found.attempts.iter().take(1).flat_map(|attempt| &attempt.machines);
        let mut files = machines.flat_map(|machine| &machine.files);
        let transcript = files.find(|file| file.kind == FileKind::Transcript && file.is_within());
        let folder = transcript.and_then(|file| file.path.parent().map(Path::to_owned));
        Ok(folder.unwrap_or_else(|| self.folder.scenario(&name, 1)))
    }
}

/// Returns the machines that `scenario` takes, in the requested order. They answer as in the run of `record`. Its
/// systems are not built.
pub(super) async fn all(
    scenario: &'static Scenario,
    suite: &Arc<Suite>,
    record: &Record,
    events: &Events,
) -> Result<Ready> {
    let folder = record.folder_of(scenario)?;
    let shown = record.folder.path().join(&folder);
    events.note(format!("replayed against {}: no machine is booted", shown.display()));
    // Nothing is built, so VLANs that a configuration has are those of the last build.
    let built = |request| {
        let origin = suite.origin(scenario, request).ok()?;
        match &origin.source {
            Source::Built(path) => BuiltVm::open(path).ok(),
            _ => suite.expected(scenario, &origin),
        }
    };
    let built: Vec<Option<BuiltVm>> = scenario.machines().map(built).collect();
    let topology = Topology::of(scenario, &built.iter().map(Option::as_ref).collect::<Vec<_>>())?;
    let network = topology.is_some().then(|| Network::of(None, suite.seed(), events));
    let mut networks = topology.map(|topology| topology.networks(None)).unwrap_or_default().into_iter();
    let mut replayed = Vec::new();
    for request in scenario.machines() {
        let replay = Arc::new(Replay::open(record.folder.shared_files(), &folder, request.name)?);
        let options = suite.options_of_all(scenario, request, events).networks(networks.next());
        let password = password(scenario, suite, request);
        let machine = Machine::replayed(replay, options, password.as_deref()).await?;
        let session = match request.kind {
            Kind::Machine | Kind::System | Kind::Network => None,
            Kind::Session => {
                Some(match machine.session().await.filter(|session| session.user() == request.name) {
                    Some(session) => session,
                    None => machine.login(request.name, password.as_deref().unwrap_or_default()).await?,
                })
            }
        };
        if let Some(network) = &network {
            network.add(&machine);
        }
        replayed.push(Fixture { name: request.name, machine, session });
    }
    let systems =
        scenario.systems().map(|request| System::recorded(request.name, suite.written(scenario, request)));
    Ok(Ready { machines: replayed, systems: systems.collect(), network, permit: None })
}

/// Returns the password of the user who is logged in when the machine begins, if it is known without a build.
fn password(scenario: &Scenario, suite: &Suite, request: &Parameter) -> Option<String> {
    if let Start::LoggedIn { password, .. } = scenario.from {
        return Some(password.to_owned());
    }
    let built = || suite.expected(scenario, &suite.origin(scenario, request).ok()?);
    if request.kind == Kind::Session { password_of(&built()?, request.name).ok() } else { None }
}
