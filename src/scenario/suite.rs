//! What all scenarios of one run share: the settings, the builder, and the reporter.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use super::admission::Run;
use super::capacity::Capacity;
use super::registry::{Parameter, Scenario};
use super::replayed::Record;
use super::upcoming::Upcoming;
use super::{budget, configuration, order};
use crate::BuiltVm;
use crate::event::Reporter;
use crate::machine::{MachineOptions, random_number};
use crate::nix::{Builder, Source};
use crate::pause;
use crate::qemu::Disk;
use crate::record::{Keeper, Writer};
use crate::report::Rendering;
use crate::settings::Settings;
use crate::{Error, ErrorKind, Events, Result};

/// What a machine or a system is built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) source: Source,
    /// The nixpkgs for it alone; `None` for the run's.
    pub(super) nixpkgs: Option<String>,
}

/// A run of a suite.
pub(super) struct Suite {
    settings: Settings,
    /// Builds each configuration once, even if several scenarios request it.
    builder: Builder,
    reporter: Arc<dyn Reporter>,
    /// The record that answers instead of machines.
    against: Option<Record>,
    /// The record of this run.
    record: Option<Arc<Writer>>,
    /// Makes reports from that record.
    rendering: Option<Arc<Rendering>>,
    run: Run,
    begun: Instant,
    over_was_said: Once,
    upcoming: Upcoming,
    /// The seed of the random faults of networks.
    seed: u64,
}

impl Suite {
    /// # Errors
    /// [`ErrorKind::Usage`] when the record that is to answer does not exist.
    pub fn new(settings: Settings, reporter: Arc<dyn Reporter>) -> Result<Self> {
        let against = settings.against.as_deref().map(Record::find).transpose()?;
        let (builder, run) = (settings.builder(), Run::new(settings.jobs));
        let (begun, over_was_said, upcoming) = (Instant::now(), Once::new(), Upcoming::default());
        let (record, rendering) = (None, None);
        let seed = settings.seed.unwrap_or_else(random_number);
        Ok(Self {
            seed,
            against,
            builder,
            run,
            settings,
            reporter,
            record,
            rendering,
            begun,
            over_was_said,
            upcoming,
        })
    }

    /// Sets the record of this run, and the maker of its reports.
    pub fn recorded(self, record: Option<Arc<Writer>>, rendering: Option<Arc<Rendering>>) -> Self {
        Self { record, rendering, ..self }
    }

    /// Returns the keeper of a scenario's files, for its try of this number.
    pub fn keeper(&self, scenario: &str, attempt: u32) -> Option<Keeper> {
        let record = self.record.as_ref()?.folder();
        Some(Keeper::new(record.shared_files(), record.scenario(scenario, attempt), self.events(scenario)))
    }

    /// Returns the record that answers instead of machines.
    pub fn against(&self) -> Option<&Record> {
        self.against.as_ref()
    }

    /// Sets the scenarios to be run, in this order.
    ///
    /// # Errors
    /// Those of [`Upcoming::of`].
    pub fn expecting(mut self, scenarios: impl Iterator<Item = &'static Scenario>) -> Result<Self> {
        self.upcoming = Upcoming::of(scenarios, self.templates())?;
        Ok(self)
    }

    /// Returns the work for later scenarios.
    pub fn upcoming(&self) -> &Upcoming {
        &self.upcoming
    }

    /// Returns why every scenario is skipped, if they are.
    pub fn skipped(&self) -> Option<&'static str> {
        self.settings.skip.then_some("skip is set, by NIXVM_SKIP, --skip-all or nixvm.toml")
    }

    /// Returns the events of one scenario.
    pub fn events(&self, scenario: &str) -> Events {
        let (reporter, record) = (self.reporter.clone(), self.record.clone());
        let (scenario, rendering) = (scenario.to_owned(), self.rendering.clone());
        Events::new(move |event| {
            let event = &event.clone().masked();
            if let Some(record) = &record {
                record.event(&scenario, event);
            }
            if let Some(rendering) = &rendering {
                rendering.event(event);
            }
            reporter.event(&scenario, event);
        })
    }

    /// Returns the scenarios that run, in their order.
    pub fn ordered(&self, scenarios: Vec<&'static Scenario>) -> Vec<&'static Scenario> {
        let mut scenarios = order::share(scenarios, &self.settings);
        if let Some(seed) = self.settings.shuffle {
            order::shuffle(&mut scenarios, seed);
        }
        scenarios
    }

    /// Returns how often `scenario` may be tried. A record gives the same answers each time.
    pub fn tries(&self, scenario: &Scenario) -> u32 {
        if self.against.is_some() {
            return 1;
        }
        scenario.retries.unwrap_or(self.settings.retries).saturating_add(1)
    }

    /// Whether a scenario that fails waits for a person.
    pub fn pauses_on_failure(&self) -> bool {
        self.settings.pause_on_failure && self.against.is_none()
    }

    /// Whether no scenario begins after a failure.
    pub fn fail_fast(&self) -> bool {
        self.settings.fail_fast
    }

    /// Returns the seed of the random faults of networks.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns what identifies the machines of this run.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Returns the capacity for machines.
    pub fn capacity(&self) -> Capacity {
        Capacity::of_host(self.settings.host_cores, self.settings.host_memory)
    }

    /// Returns how many machines this run may have at once.
    pub fn machines_at_once(&self) -> u64 {
        self.settings.jobs.unwrap_or(u64::MAX).min(self.capacity().machines())
    }

    /// Whether machines of failed scenarios are kept.
    pub fn keeps_failed(&self) -> bool {
        self.settings.keep_failed
    }

    /// Returns how much is kept of what passes a VLAN, at its beginning and at its end, in bytes. `None` if nothing is.
    pub fn captured_bytes(&self) -> Option<usize> {
        let bytes = self.settings.capture_network_size.saturating_mul(1 << 20);
        self.settings.capture_network.then(|| usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// Returns when the time of the whole run ends, if it is limited. Each pause moves the end.
    pub fn ends(&self) -> Option<Instant> {
        self.settings.run_limit.map(|limit| self.begun + limit + pause::so_far())
    }

    /// Whether the time of the whole run is over. The first time, it sends a note.
    pub fn is_over(&self) -> bool {
        let Some(limit) =
            self.settings.run_limit.filter(|limit| self.begun.elapsed() >= *limit + pause::so_far())
        else {
            return false;
        };
        self.over_was_said.call_once(|| {
            self.events("").note(format!(
                "the time limit of the whole run, {} s, has passed: running scenarios are ended, the rest \
                 is not run",
                limit.as_secs()
            ));
        });
        true
    }

    /// Returns the error of a scenario that was under way at that time.
    pub fn ended(&self, ran: Duration) -> Error {
        self.is_over();
        let limit = self.settings.run_limit.unwrap_or_default();
        let summary = format!(
            "the scenario was ended after {:.1} s: the time limit of the whole run has passed",
            ran.as_secs_f64()
        );
        Error::new(ErrorKind::Timeout, summary).took(self.begun.elapsed(), limit).next_step(
            "give the run more time (--run-timeout, NIXVM_RUN_TIMEOUT), or fewer scenarios (--partition)",
        )
    }

    /// Whether machines may be clones of templates.
    pub fn templates(&self) -> bool {
        self.settings.templates && crate::cache::is_read_only().is_none()
    }

    /// Returns what a parameter of `scenario` is built from.
    ///
    /// # Errors
    /// Those of [`configuration::find`]; [`ErrorKind::Usage`] for a nixpkgs that the source can't be built with.
    pub fn origin(&self, scenario: &Scenario, request: &Parameter) -> Result<Origin> {
        let source = configuration::find(scenario, request.source, self.settings.source.as_ref())?;
        let nixpkgs = request.nixpkgs.map(|given| configuration::nixpkgs(scenario, given));
        if let Some(given) = request.nixpkgs.filter(|_| source.brings_its_own_nixpkgs()) {
            let name = request.name;
            let summary =
                format!("`nixpkgs({name} = {given:?})` has no use with {source}, which brings its own");
            return Err(Error::new(ErrorKind::Usage, summary)
                .next_step("remove it, or build a configuration: a file, or git:REV"));
        }
        Ok(Origin { source, nixpkgs })
    }

    /// Returns what a parameter of `scenario` is built from, in the user's words.
    pub fn written(&self, scenario: &Scenario, request: &Parameter) -> String {
        match (request.source, self.origin(scenario, request)) {
            (Some(written), _) => written.to_owned(),
            (None, Ok(origin)) => origin.source.to_string(),
            (None, Err(_)) => configuration::NAME.to_owned(),
        }
    }

    /// Returns the files that the machines and systems of `scenarios` are built from, and missing ones that would be.
    pub fn source_files(&self, scenarios: &[&Scenario]) -> BTreeSet<PathBuf> {
        let of_one = |scenario: &Scenario, request: &Parameter| match self.origin(scenario, request) {
            Ok(origin) => origin.source.file(),
            Err(_) => configuration::beside(scenario, request.source),
        };
        let all = scenarios.iter().flat_map(|scenario| {
            scenario.parameters.iter().filter_map(move |request| of_one(scenario, request))
        });
        all.collect()
    }

    /// Builds it, or waits for another scenario that builds it. `all` are the systems that its machine is switched between.
    pub async fn build(
        &self,
        scenario: &Scenario,
        origin: &Origin,
        all: &[&Origin],
        events: &Events,
    ) -> Result<BuiltVm> {
        let same_nixpkgs = all.iter().filter(|other| other.nixpkgs == origin.nixpkgs);
        let sources: Vec<Source> = same_nixpkgs.map(|other| other.source.clone()).collect();
        self.builder(scenario, origin).beside(&sources).build(&origin.source, events).await
    }

    /// Returns the last result of building it: see [`Builder::expected`].
    pub fn expected(&self, scenario: &Scenario, origin: &Origin) -> Option<BuiltVm> {
        self.builder(scenario, origin).expected(&origin.source)
    }

    fn builder(&self, scenario: &Scenario, origin: &Origin) -> Builder {
        let builder = self.builder.networked(scenario.has_network());
        match &origin.nixpkgs {
            Some(nixpkgs) => builder.nixpkgs(nixpkgs),
            None => builder,
        }
    }

    /// Returns the options of a machine that apply to a boot and to a replay.
    pub fn options_of_all(
        &self,
        scenario: &Scenario,
        machine: &Parameter,
        events: &Events,
    ) -> MachineOptions {
        let options = MachineOptions::new(machine.name).events(events.clone()).scenario(&scenario.name());
        options.show_console(self.settings.console).time_boot(budget::has_one(scenario))
    }

    /// Returns how a machine of `source` is booted.
    pub fn options(
        &self,
        scenario: &Scenario,
        machine: &Parameter,
        source: &Source,
        vm: &BuiltVm,
        events: &Events,
    ) -> MachineOptions {
        let disk = Disk::of(self.settings.keep_state, &source.home(), vm);
        let mut options = self.options_of_all(scenario, machine, events).disk(disk);
        if let Some(memory) = scenario.memory {
            options = options.memory(memory);
        }
        if let Some(cores) = scenario.cores {
            options = options.cores(cores);
        }
        if let Some(passphrase) = scenario.passphrase {
            options = options.passphrase(passphrase);
        }
        options
    }
}
