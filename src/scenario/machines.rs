//! The machines that a scenario takes: finds their configurations, builds each once per run, and takes them
//! to the moment at which the scenario begins.

use std::pin::pin;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::admission::{Demand, Permit, admit, has_room};
use super::capacity::{BESIDE, Need, USUAL};
use super::exit::Exit;
use super::failure::Failure;
use super::fixtures::Fixture;
use super::registry::{MachineRequest, Scenario, Start};
use super::suite::Suite;
use crate::BuiltVm;
use crate::machine::{Alone, Machine, MachineOptions, Session};
use crate::nix::{Source, password_of};
use crate::qemu::{foreseen_reach, memory_size};
use crate::record::Keeper;
use crate::template::{self, IN_CHECKPOINT, Moment};
use crate::{Error, ErrorKind, Events, Result};

/// Makes every machine that `scenario` takes ready, all at once, as soon as this host has room for them.
/// Returns them in the requested order, with the right to run them. If one fails, the others are ended.
///
/// Nix needs time to find that a configuration is already built. If everything for clones of the last built
/// VM is at hand, they are started in the meantime. The scenario gets them only after Nix has confirmed that
/// the VM is the same. Otherwise they are discarded.
pub(super) async fn all(
    scenario: &'static Scenario,
    suite: &Arc<Suite>,
    events: &Events,
    keeper: Option<&Keeper>,
) -> Result<Ready, Failure> {
    if let Some(record) = suite.against() {
        let replayed = super::replayed::all(scenario, suite, record, events).await;
        return Ok((replayed.map_err(at(Exit::Failed))?, None));
    }
    let sources: Vec<Source> = scenario
        .machines
        .iter()
        .map(|request| suite.source(scenario, request))
        .collect::<Result<_>>()
        .map_err(at(Exit::Usage))?;
    let run = Run { scenario, suite, events, keeper, sources };
    let expected: Option<Vec<BuiltVm>> = run.sources.iter().map(|source| suite.expected(source)).collect();
    let Some(expected) = expected.filter(|expected| !expected.is_empty()) else {
        return run.ready(run.built().await?).await;
    };
    let mut built = pin!(run.built());
    let mut ahead = Box::pin(run.ready_if_at_hand(expected.clone()));
    let mut begun = None;
    let vms = loop {
        tokio::select! {
            // The slower part is polled first, because it runs in processes of its own.
            biased;
            vms = &mut built => break vms,
            done = &mut ahead, if begun.is_none() => begun = Some(done),
        }
    };
    if vms.as_ref().is_ok_and(|vms| *vms == expected) {
        let begun = match begun {
            Some(begun) => begun,
            None => ahead.await,
        };
        return match begun {
            Some(ready) => ready,
            None => run.ready(expected).await,
        };
    }
    // This also gives back the right to run machines, which the others need.
    drop(ahead);
    if let Some(Some(Ok((places, permit)))) = begun {
        events.note("the build differs from the last one: the clones of the last one are discarded");
        for place in places {
            place.machine.stop().await;
        }
        drop(permit);
    }
    run.ready(vms?).await
}

/// Machines in the requested order, and the right to run them.
type Ready = (Vec<Fixture>, Option<Permit>);

fn at(exit: Exit) -> impl Fn(Error) -> Failure + Copy {
    move |error| {
        // A checkpoint that fails is a failed test on a machine that is up.
        let exit =
            if error.sections().any(|(title, _)| title == IN_CHECKPOINT) { Exit::Failed } else { exit };
        Failure::new(Exit::before_the_body(&error, exit), error)
    }
}

/// What the machines of a scenario are built from and for.
struct Run<'a> {
    scenario: &'static Scenario,
    suite: &'a Arc<Suite>,
    events: &'a Events,
    keeper: Option<&'a Keeper>,
    sources: Vec<Source>,
}

impl Run<'_> {
    /// Builds the VM of each machine.
    async fn built(&self) -> Result<Vec<BuiltVm>, Failure> {
        let mut vms = Vec::new();
        for source in &self.sources {
            vms.push(self.suite.build(source, self.events).await.map_err(at(Exit::Build))?);
        }
        Ok(vms)
    }

    /// Decides how each machine begins and is booted.
    fn plans(&self, vms: &[BuiltVm]) -> Result<Vec<(Begin, MachineOptions)>, Failure> {
        let machines = self.scenario.machines.iter().zip(&self.sources).zip(vms);
        let plan = |((request, source), vm)| {
            let options = self.suite.options(self.scenario, request, source, vm, self.events);
            let options = options.kept_by(self.keeper.cloned());
            Ok((Begin::of(self.scenario, request, vm, self.suite.templates())?, options))
        };
        machines.map(plan).collect::<Result<_>>().map_err(at(Exit::Usage))
    }

    /// Returns clones of existing templates, or `None` if one of the machines would have to be booted.
    async fn ready_if_at_hand(&self, vms: Vec<BuiltVm>) -> Option<Result<Ready, Failure>> {
        for ((begin, options), vm) in self.plans(&vms).ok()?.iter().zip(&vms) {
            if !begin.cloned || !template::is_at_hand(vm, options, &begin.moment, self.events).await {
                return None;
            }
        }
        Some(self.ready(vms).await)
    }

    /// Waits until there is room for all of them.
    async fn admitted(&self, vms: &[BuiltVm]) -> Result<Permit> {
        let mut need = Need { memory: 0, cores: 0 };
        for vm in vms {
            let memory = self.scenario.memory.or_else(|| memory_size(vm).map(|bytes| bytes >> 20));
            need.memory = need.memory.saturating_add(memory.unwrap_or(USUAL)).saturating_add(BESIDE);
            need.cores = need.cores.saturating_add(self.scenario.cores.unwrap_or(1));
        }
        let demand = Demand { need, machines: vms.len() as u64, run: Some(self.suite.run().clone()) };
        admit(demand, self.suite.capacity(), self.events).await
    }

    /// If one of these machines reaches others, waits until no other scenario has machines that do.
    async fn alone(&self, plans: &[(Begin, MachineOptions)], vms: &[BuiltVm]) -> Result<Option<Alone>> {
        let reach =
            |((_, options), vm): (&(Begin, MachineOptions), &BuiltVm)| foreseen_reach(vm, options.hardware());
        match plans.iter().zip(vms).find_map(reach) {
            Some(why) => Alone::wait(&why, self.events).await.map(Some),
            None => Ok(None),
        }
    }

    /// Starts all of them.
    async fn ready(&self, vms: Vec<BuiltVm>) -> Result<Ready, Failure> {
        let plans = self.plans(&vms)?;
        // This comes before the right to run machines, which others can use in the meantime.
        let alone = self.alone(&plans, &vms).await.map_err(at(Exit::Host))?;
        let permit = match vms.is_empty() {
            true => None,
            false => Some(self.admitted(&vms).await.map_err(at(Exit::Host))?),
        };
        let built: Vec<_> = self.sources.iter().cloned().zip(vms.clone()).collect();
        let mut getting_ready = JoinSet::new();
        let names = self.scenario.machines.iter().map(|request| request.name);
        for (number, ((name, vm), (begin, options))) in names.zip(vms).zip(plans).enumerate() {
            let (events, suite, options) =
                (self.events.clone(), Arc::clone(self.suite), options.alone(alone.clone()));
            let ready = async move { (number, name, begin.machine(&vm, options, &suite, &events).await) };
            getting_ready.spawn(ready);
        }
        let mut up = Vec::new();
        while let Some(ready) = getting_ready.join_next().await {
            let (number, name, ready) = ready
                .map_err(|error| {
                    Error::new(ErrorKind::Other, format!("a boot ended by itself: {error}")).caused_by(error)
                })
                .map_err(at(Exit::Boot))?;
            let (machine, session) = ready.map_err(at(Exit::Boot))?;
            up.push((number, Fixture { name, machine, session }));
        }
        up.sort_by_key(|(number, _)| *number);
        prepare_next(self.suite, &built);
        Ok((up.into_iter().map(|(_, place)| place).collect(), permit))
    }
}

/// Starts clones for the next scenario, of machines that are built.
fn prepare_next(suite: &Suite, built: &[(Source, BuiltVm)]) {
    // A waiting clone has used little of its memory.
    let need = Need { memory: BESIDE, cores: 0 };
    let Some(pool) = suite.upcoming().pool().filter(|_| has_room(need, suite.capacity())) else { return };
    let Some(next) = suite.upcoming().next() else { return };
    for request in next.machines {
        let Ok(source) = suite.source(next, request) else { continue };
        let Some((_, vm)) = built.iter().find(|(its, _)| *its == source) else { continue };
        // Its events are held back for the scenario that takes it.
        let options = suite.options(next, request, &source, vm, &Events::none());
        // An error is reported when the scenario begins.
        if let Ok(Begin { cloned: true, moment, .. }) = Begin::of(next, request, vm, suite.templates()) {
            pool.prepare(vm, options, &moment);
        }
    }
}

/// How a machine begins.
struct Begin {
    moment: Moment,
    /// Whether it may be a clone.
    cloned: bool,
    /// The user who is to be logged in, and their password.
    user: Option<(String, String)>,
}

impl Begin {
    fn of(scenario: &Scenario, request: &MachineRequest, vm: &BuiltVm, templates: bool) -> Result<Self> {
        let cloned = templates && !matches!(scenario.from, Start::Cold);
        if !request.session {
            return Ok(Self { moment: moment(scenario.from), cloned, user: None });
        }
        let user = request.name;
        let password = match scenario.from {
            Start::LoggedIn { user: its, password } if its == user => password.to_owned(),
            _ => password_of(vm, user)?,
        };
        let moment = match scenario.from {
            Start::Cold | Start::Booted | Start::LoggedIn { .. } => {
                Moment::LoggedIn { user: user.to_owned(), password: password.clone() }
            }
            Start::Checkpoint(_) => moment(scenario.from),
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
        let machine = match (self.cloned, suite.upcoming().pool()) {
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

fn moment(from: Start) -> Moment {
    match from {
        Start::Cold | Start::Booted => Moment::Booted,
        Start::LoggedIn { user, password } => {
            Moment::LoggedIn { user: user.to_owned(), password: password.to_owned() }
        }
        Start::Checkpoint(checkpoint) => Moment::After {
            from: Box::new(moment(checkpoint.from)),
            name: format!("{}::{} {}", checkpoint.module, checkpoint.function, this_program()),
            step: checkpoint.step,
        },
    }
}

/// Returns a text that differs between builds of this program. A checkpoint may call any of its code.
fn this_program() -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let found = program.metadata().ok();
    let changed = found.as_ref().and_then(|found| found.modified().ok());
    format!("{} {:?} {changed:?}", program.display(), found.map(|found| found.len()))
}
