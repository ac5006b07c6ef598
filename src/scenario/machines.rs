//! The machines a scenario takes: found, built (each configuration once a run) and brought to the moment at which
//! it begins.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::admission::{Demand, Permit, admit, has_room};
use super::capacity::{BESIDE, Need, USUAL};
use super::exit::Exit;
use super::given::Place;
use super::registry::{From, MachineRequest, Scenario};
use super::run::Failure;
use super::suite::Suite;
use crate::build::{BuiltVm, Source, password_of};
use crate::machine::{Machine, MachineOptions, Session};
use crate::qemu::memory_size;
use crate::template::{self, Moment};
use crate::{Error, ErrorKind, Events, Result};

/// Makes every machine ready that `scenario` takes, all at once, as soon as this host has room for them; returns
/// them in the order asked for, with the right to run them. If one fails, the others are ended.
pub(super) async fn all(
    scenario: &'static Scenario,
    suite: &Arc<Suite>,
    events: &Events,
) -> Result<(Vec<Place>, Option<Permit>), Failure> {
    let at = |exit| move |error| Failure { exit: Exit::before_the_body(&error, exit), error };
    let mut all = Vec::new();
    let mut built = Vec::new();
    let mut need = Need { memory: 0, cores: 0 };
    for (number, request) in scenario.machines.iter().enumerate() {
        let source = suite.source(scenario, request).map_err(at(Exit::Usage))?;
        let vm = suite.build(&source, events).await.map_err(at(Exit::Build))?;
        let options = suite.options(scenario, request, &source, &vm, events);
        let begin = Begin::of(scenario, request, &vm, suite.templates()).map_err(at(Exit::Usage))?;
        let memory = scenario.memory.or_else(|| memory_size(&vm).map(|bytes| bytes >> 20));
        need.memory = need.memory.saturating_add(memory.unwrap_or(USUAL)).saturating_add(BESIDE);
        need.cores = need.cores.saturating_add(scenario.cores.unwrap_or(1));
        built.push((source, vm.clone()));
        all.push((number, request.name, begin, vm, options));
    }
    let demand = Demand { need, machines: all.len() as u64, run: Some(suite.run().clone()) };
    let permit = match all.is_empty() {
        true => None,
        false => Some(admit(demand, suite.capacity(), events).await.map_err(at(Exit::Host))?),
    };
    let mut getting_ready = JoinSet::new();
    for (number, name, begin, vm, options) in all {
        let (events, suite) = (events.clone(), Arc::clone(suite));
        let ready = async move { (number, name, begin.machine(&vm, options, &suite, &events).await) };
        getting_ready.spawn(ready);
    }
    let mut up = Vec::new();
    while let Some(ready) = getting_ready.join_next().await {
        let (number, name, ready) = ready
            .map_err(|error| Error::new(ErrorKind::Other, format!("a boot ended by itself: {error}")))
            .map_err(at(Exit::Boot))?;
        let (machine, session) = ready.map_err(at(Exit::Boot))?;
        up.push((number, Place { name, machine, session }));
    }
    up.sort_by_key(|(number, _)| *number);
    prepare_next(suite, &built);
    Ok((up.into_iter().map(|(_, place)| place).collect(), permit))
}

/// Has clones wait for the scenario that comes next, of machines that are built.
fn prepare_next(suite: &Suite, built: &[(Source, BuiltVm)]) {
    // A clone that waits has touched little of its memory.
    let need = Need { memory: BESIDE, cores: 0 };
    let Some(pool) = suite.ahead().pool().filter(|_| has_room(need, suite.capacity())) else { return };
    let Some(next) = suite.ahead().next() else { return };
    for request in next.machines {
        let Ok(source) = suite.source(next, request) else { continue };
        let Some((_, vm)) = built.iter().find(|(its, _)| *its == source) else { continue };
        let events = suite.events(&next.name());
        let options = suite.options(next, request, &source, vm, &events);
        // What is wrong with it is said when it begins.
        if let Ok(Begin { cloned: true, moment, .. }) = Begin::of(next, request, vm, suite.templates()) {
            pool.prepare(vm, options, &moment, &events);
        }
    }
}

/// How a machine begins.
struct Begin {
    moment: Moment,
    /// Whether it may be a clone.
    cloned: bool,
    /// Who is to be logged in then, with what password.
    user: Option<(String, String)>,
}

impl Begin {
    fn of(scenario: &Scenario, request: &MachineRequest, vm: &BuiltVm, templates: bool) -> Result<Self> {
        let cloned = templates && !matches!(scenario.from, From::Cold);
        if !request.session {
            return Ok(Self { moment: moment(scenario.from), cloned, user: None });
        }
        let user = request.name;
        let password = match scenario.from {
            From::LoggedIn { user: its, password } if its == user => password.to_owned(),
            _ => password_of(vm, user)?,
        };
        let moment = match scenario.from {
            From::Cold | From::Booted | From::LoggedIn { .. } => {
                Moment::LoggedIn { user: user.to_owned(), password: password.clone() }
            }
            From::Checkpoint(_) => moment(scenario.from),
        };
        Ok(Self { moment, cloned, user: Some((user.to_owned(), password)) })
    }

    async fn machine(
        self,
        vm: &BuiltVm,
        options: MachineOptions,
        suite: &Suite,
        events: &Events,
    ) -> Result<(Machine, Option<Session>)> {
        let machine = match (self.cloned, suite.ahead().pool()) {
            (true, Some(pool)) => pool.machine(vm, options, &self.moment, events).await?,
            (true, None) => template::machine(vm, options, &self.moment, events).await?,
            (false, _) => self.moment.boot_cold(vm, options).await?,
        };
        let Some((user, password)) = self.user else { return Ok((machine, None)) };
        let session = match machine.session().await.filter(|session| session.user() == user) {
            Some(session) => session,
            None => machine.login(&user, &password).await?,
        };
        Ok((machine, Some(session)))
    }
}

fn moment(from: From) -> Moment {
    match from {
        From::Cold | From::Booted => Moment::Booted,
        From::LoggedIn { user, password } => {
            Moment::LoggedIn { user: user.to_owned(), password: password.to_owned() }
        }
        From::Checkpoint(checkpoint) => Moment::After {
            from: Box::new(moment(checkpoint.from)),
            name: format!("{}::{} {}", checkpoint.module, checkpoint.function, this_program()),
            step: checkpoint.step,
        },
    }
}

/// Tells the code of this program from that of another build of it: a checkpoint may call any of it.
fn this_program() -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let found = program.metadata().ok();
    let changed = found.as_ref().and_then(|found| found.modified().ok());
    format!("{} {:?} {changed:?}", program.display(), found.map(|found| found.len()))
}
