//! The machines and systems that a scenario takes: finds their configurations, builds each once per run, and
//! takes the machines to the moment at which the scenario begins.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::admission::{Demand, Permit, admit, has_room};
use super::begin::{Begin, together};
use super::capacity::{BESIDE, Need, USUAL};
use super::captures::Captures;
use super::exit::Exit;
use super::failure::Failure;
use super::fixtures::Fixture;
use super::registry::{Parameter, Scenario};
use super::rehearsal;
use super::suite::{Origin, Suite};
use super::topology::Topology;
use crate::BuiltVm;
use crate::machine::{Alone, MachineOptions, Network, Networks, System};
use crate::qemu::{foreseen_reach, memory_size};
use crate::record::Keeper;
use crate::template::{self, IN_CHECKPOINT, Member, Together};
use crate::{Error, ErrorKind, Events, Result};

/// Builds every system that `scenario` takes, and makes every machine ready, all at once, as soon as this host
/// has room for them. Returns them in the requested order, with the right to run the machines. If one fails, the
/// others are ended.
///
/// Nix needs time to find that a configuration is already built. If everything for clones of the last built
/// VM is at hand, they are started in the meantime. The scenario gets them only after Nix has confirmed that
/// the VM is the same. Otherwise they are discarded.
pub(super) async fn all(
    scenario: &'static Scenario,
    suite: &Arc<Suite>,
    events: &Events,
    keeper: Option<&Keeper>,
    captures: &Captures,
) -> Result<Ready, Failure> {
    let together = together(scenario).map_err(at(Exit::Usage))?;
    if let Some(record) = suite.against() {
        let replayed = super::replayed::all(scenario, suite, record, events).await;
        return replayed.map_err(at(Exit::Failed));
    }
    let origins = |requests: &mut dyn Iterator<Item = &'static Parameter>| {
        let origin = |request| Ok((request, suite.origin(scenario, request)?));
        requests.map(origin).collect::<Result<Vec<_>>>().map_err(at(Exit::Usage))
    };
    let (machines, systems) = (origins(&mut scenario.machines())?, origins(&mut scenario.systems())?);
    let run = Run { scenario, suite, events, keeper, captures, machines, systems, together };
    // Systems do not count: a change of one leaves the clones as they are.
    let expected: Option<Vec<BuiltVm>> =
        run.machines.iter().map(|(_, origin)| suite.expected(scenario, origin)).collect();
    let Some(expected) = expected.filter(|expected| !expected.is_empty()) else {
        let (vms, systems) = Box::pin(run.built()).await?;
        return run.ready(vms).await.map(|ready| ready.with(systems));
    };
    let mut built = Box::pin(run.built());
    let mut ahead = Box::pin(run.ready_if_at_hand(expected.clone()));
    let mut begun = None;
    let built = loop {
        tokio::select! {
            // The slower part is polled first, because it runs in processes of its own.
            biased;
            built = &mut built => break built,
            done = &mut ahead, if begun.is_none() => begun = Some(done),
        }
    };
    if let Ok((vms, systems)) = &built
        && *vms == expected
    {
        let begun = match begun {
            Some(begun) => begun,
            None => ahead.await,
        };
        let ready = match begun {
            Some(ready) => ready,
            None => run.ready(expected).await,
        };
        return ready.map(|ready| ready.with(systems.clone()));
    }
    // This also gives back the right to run machines, which the others need.
    drop(ahead);
    if let Some(Some(Ok(ready))) = begun {
        if built.is_ok() {
            events.note("the build differs from the last one: the clones of the last one are discarded");
        }
        for place in ready.machines {
            place.machine.stop().await;
        }
        drop(ready.permit);
    }
    let (vms, systems) = built?;
    run.ready(vms).await.map(|ready| ready.with(systems))
}

/// What a scenario takes.
pub(super) struct Ready {
    /// In the requested order.
    pub(super) machines: Vec<Fixture>,
    pub(super) systems: Vec<System>,
    /// The network of the machines, if they have one.
    pub(super) network: Option<Network>,
    /// The right to run the machines.
    pub(super) permit: Option<Permit>,
}

impl Ready {
    fn with(self, systems: Vec<System>) -> Self {
        Self { systems, ..self }
    }
}

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
    captures: &'a Captures,
    machines: Vec<(&'static Parameter, Origin)>,
    systems: Vec<(&'static Parameter, Origin)>,
    /// The moment at which the machines begin together. `None` if each begins by itself.
    together: Option<Together>,
}

impl Run<'_> {
    /// Builds the VM of each machine, and each system.
    async fn built(&self) -> Result<(Vec<BuiltVm>, Vec<System>), Failure> {
        let mut vms = Vec::new();
        // Machines of a scenario without systems are not switched.
        let all: Vec<&Origin> = match self.systems.is_empty() {
            true => Vec::new(),
            false => self.machines.iter().chain(&self.systems).map(|(_, origin)| origin).collect(),
        };
        for (_, origin) in &self.machines {
            let vm = self.suite.build(self.scenario, origin, &all, self.events).await;
            vms.push(vm.map_err(at(Exit::Build))?);
        }
        let mut systems = Vec::new();
        for (request, origin) in &self.systems {
            let vm = self.suite.build(self.scenario, origin, &all, self.events).await;
            let vm = vm.map_err(at(Exit::Build))?;
            systems.push(System::of(vm, request.name, self.suite.written(self.scenario, request)));
        }
        Ok((vms, systems))
    }

    /// Returns which machine is on which networks.
    fn topology(&self, vms: &[BuiltVm]) -> Result<Option<Topology>, Failure> {
        let vms: Vec<Option<&BuiltVm>> = vms.iter().map(Some).collect();
        Topology::of(self.scenario, &vms).map_err(at(Exit::Usage))
    }

    /// Decides how each machine begins and is booted. `networks` are those of each machine, if there are any.
    fn plans(
        &self,
        vms: &[BuiltVm],
        networks: Vec<Networks>,
    ) -> Result<Vec<(Begin, MachineOptions)>, Failure> {
        let mut networks = networks.into_iter();
        let plan = |((request, origin), vm): (&(&Parameter, Origin), _)| {
            let options = self.suite.options(self.scenario, request, &origin.source, vm, self.events);
            let options = options.kept_by(self.keeper.cloned()).networks(networks.next());
            let templates = self.suite.templates();
            let begin = match &self.together {
                Some(_) => Begin::together(templates),
                None => Begin::of(self.scenario, request, vm, templates)?,
            };
            Ok((begin, options))
        };
        self.machines.iter().zip(vms).map(plan).collect::<Result<_>>().map_err(at(Exit::Usage))
    }

    /// Returns clones of existing templates, or `None` if one of the machines would have to be booted.
    async fn ready_if_at_hand(&self, vms: Vec<BuiltVm>) -> Option<Result<Ready, Failure>> {
        let topology = self.topology(&vms).ok()?;
        let networks = topology.map(|topology| topology.networks(None)).unwrap_or_default();
        let plans = self.plans(&vms, networks).ok()?;
        if let Some(together) = &self.together {
            let members = members(&plans, &vms);
            if !self.suite.templates() || !template::are_at_hand(&members, together, self.events).await {
                return None;
            }
            return Some(self.ready(vms).await);
        }
        for ((begin, options), vm) in plans.iter().zip(&vms) {
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
        let topology = self.topology(&vms)?;
        let seed = self.suite.seed();
        let start = |topology: &Topology| topology.start(seed, self.events);
        let switch = topology.as_ref().map(start).transpose().map_err(at(Exit::Host))?;
        if let Some((switch, size)) = switch.as_ref().zip(self.suite.captured_bytes()) {
            self.captures.begin(switch, size);
        }
        let networks = topology.map(|topology| topology.networks(switch.as_ref())).unwrap_or_default();
        let network = switch.map(|switch| Network::of(Some(switch), seed, self.events));
        let plans = self.plans(&vms, networks)?;
        // This comes before the right to run machines, which others can use in the meantime.
        let alone = self.alone(&plans, &vms).await.map_err(at(Exit::Host))?;
        let permit = match vms.is_empty() {
            true => None,
            false => Some(self.admitted(&vms).await.map_err(at(Exit::Host))?),
        };
        let origins = self.machines.iter().map(|(_, origin)| origin.clone());
        let built: Vec<_> = origins.zip(vms.clone()).collect();
        let machines = match &self.together {
            Some(together) => self.begun_together(together, plans, vms, alone).await?,
            None => self.begun(plans, vms, alone).await?,
        };
        prepare_next(self.suite, &built);
        if let Some(network) = &network {
            machines.iter().for_each(|place| network.add(&place.machine));
            network.begin();
        }
        Ok(Ready { machines, systems: Vec::new(), network, permit })
    }

    /// Starts machines that each begin by itself.
    async fn begun(
        &self,
        plans: Vec<(Begin, MachineOptions)>,
        vms: Vec<BuiltVm>,
        alone: Option<Alone>,
    ) -> Result<Vec<Fixture>, Failure> {
        let mut getting_ready = JoinSet::new();
        let names = self.machines.iter().map(|(request, _)| request.name);
        for (number, ((name, vm), (begin, options))) in names.zip(vms).zip(plans).enumerate() {
            let (events, suite, options) =
                (self.events.clone(), Arc::clone(self.suite), options.alone(alone.clone()));
            let ready = async move { (number, name, begin.machine(&vm, options, &suite, &events).await) };
            getting_ready.spawn(ready);
        }
        let (mut up, mut is_at_stage) = (Vec::new(), false);
        while let Some(ready) = getting_ready.join_next().await {
            let (number, name, ready) = ready
                .map_err(|error| {
                    Error::new(ErrorKind::Other, format!("a boot ended by itself: {error}")).caused_by(error)
                })
                .map_err(at(Exit::Boot))?;
            let (machine, session) = ready.map_err(at(Exit::Boot))?;
            let mut fixture = Fixture { name, machine, session };
            is_at_stage |= self.taken_to_stage(&mut fixture).await?;
            up.push((number, fixture));
        }
        if !up.is_empty() && !is_at_stage {
            return Err(at(Exit::Usage)(rehearsal::none_is_switched()));
        }
        up.sort_by_key(|(number, _)| *number);
        Ok(up.into_iter().map(|(_, place)| place).collect())
    }

    /// Starts machines that begin together.
    async fn begun_together(
        &self,
        together: &Together,
        plans: Vec<(Begin, MachineOptions)>,
        vms: Vec<BuiltVm>,
        alone: Option<Alone>,
    ) -> Result<Vec<Fixture>, Failure> {
        let plans: Vec<_> =
            plans.into_iter().map(|(begin, options)| (begin, options.alone(alone.clone()))).collect();
        let members = members(&plans, &vms);
        let machines = match self.suite.templates() {
            true => Box::pin(template::machines(members, together, self.events)).await,
            false => Box::pin(together.boot_cold(members)).await,
        };
        let names = self.machines.iter().map(|(request, _)| request.name);
        let (mut up, mut is_at_stage) = (Vec::new(), false);
        for (name, machine) in names.zip(machines.map_err(at(Exit::Boot))?) {
            let mut fixture = Fixture { name, machine, session: None };
            is_at_stage |= self.taken_to_stage(&mut fixture).await?;
            up.push(fixture);
        }
        if !is_at_stage {
            return Err(at(Exit::Usage)(rehearsal::none_is_switched()));
        }
        Ok(up)
    }

    /// Takes a machine to the stage of a rehearsal, if there is one. Returns whether it is there.
    async fn taken_to_stage(&self, fixture: &mut Fixture) -> Result<bool, Failure> {
        let taken = Box::pin(rehearsal::take_to_stage(fixture, self.scenario, self.events)).await;
        taken.map_err(at(Exit::Failed))
    }
}

/// Returns machines that begin together.
fn members(plans: &[(Begin, MachineOptions)], vms: &[BuiltVm]) -> Vec<Member> {
    let both = plans.iter().zip(vms);
    both.map(|((_, options), vm)| Member { vm: vm.clone(), options: options.clone() }).collect()
}

/// Starts clones for the next scenario, of machines that are built.
fn prepare_next(suite: &Suite, built: &[(Origin, BuiltVm)]) {
    // A waiting clone has used little of its memory.
    let need = Need { memory: BESIDE, cores: 0 };
    let Some(pool) = suite.upcoming().pool().filter(|_| has_room(need, suite.capacity())) else { return };
    // A machine on a network is plugged into the switch of its scenario, which is not there yet.
    let Some(next) = suite.upcoming().next().filter(|next| !next.has_network()) else { return };
    for request in next.machines() {
        let Ok(origin) = suite.origin(next, request) else { continue };
        let Some((_, vm)) = built.iter().find(|(its, _)| *its == origin) else { continue };
        // Its events are held back for the scenario that takes it.
        let options = suite.options(next, request, &origin.source, vm, &Events::none());
        // An error is reported when the scenario begins.
        if let Ok(Begin { cloned: true, moment, .. }) = Begin::of(next, request, vm, suite.templates()) {
            pool.prepare(vm, options, &moment);
        }
    }
}
