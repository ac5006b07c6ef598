//! Runs one scenario from start to end: builds and boots its machines, and runs its function on a tokio
//! runtime and a thread of its own. However the function ends (by passing, failing, a panic, a hang or an
//! interrupt), its machines are gone afterwards.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::admission::Permit;
use super::body::{Body, timed_out};
use super::captures::Captures;
use super::exit::Exit;
use super::failure::{Evidence, Failure, from_here};
use super::fixtures::Fixtures;
use super::panics::Panics;
use super::progress::{self, Progress, Waited};
use super::registry::{Scenario, Start};
use super::suite::Suite;
use super::{budget, checks, configuration, kept, machines};
use crate::machine::{Machine, Network, has_terminal, pause_at};
use crate::mutex::lock;
use crate::pause::Deadline;
use crate::record::Keeper;
use crate::{Error, ErrorKind, Event, Events, Speed, place, secrets, threads};

/// The stack of a scenario, in bytes: as much as a program's main thread has. Futures are large in a debug
/// build.
const STACK: usize = 8 << 20;

/// The number of threads of a scenario's runtime. A scenario that blocks one of them does not block its limits.
pub(super) const WORKERS: usize = 2;

/// The default time limit of a scenario on a fast host.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// How long after its limit a scenario may still end by itself, before its thread is given up.
pub(super) const GRACE: Duration = Duration::from_secs(3);

/// The limit for the cleanup after a scenario's function on a fast host: checks of its machines, their
/// journals, keeping and ending them. Each part has its own limit.
const AFTERWARDS: Duration = Duration::from_secs(5 * 60);

/// The additional time for each machine, because checks and journals of several machines are done one after
/// another.
const EACH_MACHINE: Duration = Duration::from_secs(60);

/// How long the runtime may run nothing during the cleanup, on any host. A scenario's tasks may block the
/// threads that its limits need.
const SILENCE: Duration = Duration::from_secs(30);

/// How long tasks that a scenario left behind have to end.
pub(super) const SHUTDOWN: Duration = Duration::from_secs(5);

/// How many lines of the console are shown with a failure that does not mention the console.
const CONSOLE_LINES: usize = 15;

/// Every machine of a run, for whichever thread has to end them.
type Machines = Arc<Mutex<Vec<Machine>>>;

/// The right to run them. It is given back when they are gone.
type Right = Arc<Mutex<Option<Permit>>>;

/// Runs `scenario` and waits for its end. `attempt` is the number of the try and the most tries.
pub(super) fn run(
    scenario: &'static Scenario,
    suite: &Arc<Suite>,
    attempt: (u32, u32),
) -> Result<(), (Failure, String)> {
    let name = scenario.name();
    let (number, most) = attempt;
    know_its_passwords(scenario);
    let keeper = suite.keeper(&name, number);
    let events = keeper.as_ref().map_or_else(|| suite.events(&name), Keeper::taking_in);
    let started = Instant::now();
    events.send(Event::ScenarioStarted {
        scenario: name.clone(),
        about: scenario.description.to_owned(),
        file: configuration::source_file(scenario),
        line: scenario.line,
        attempt: number,
    });
    let outcome = on_its_own_thread(scenario, suite, &events, &keeper);
    let (took, scenario_name) = (started.elapsed(), name);
    let Err(failure) = outcome else {
        let (failure, retried) = (None, false);
        events.send(Event::ScenarioFinished { scenario: scenario_name, took, failure, retried });
        return Ok(());
    };
    // A signal kills the machines and so makes the scenario fail: that failure is not a result.
    crate::signals::hold_if_ending();
    if let Some(keeper) = &keeper {
        for (machine, transcript) in failure.error.transcripts() {
            keeper.transcript(
                machine,
                transcript,
                &format!("{}.transcript", crate::record::in_a_path(machine)),
                false,
            );
        }
    }
    let kept =
        keeper.map_or_else(Evidence::default, |keeper| Evidence::of(&keeper, scenario, &failure.error));
    let report = failure.report(scenario, &kept);
    let (file, line) = failure.place(scenario);
    // A retry can't fix a command line or a configuration.
    let retried = number < most && matches!(failure.exit, Exit::Failed | Exit::Boot) && !suite.is_over();
    let told = crate::Failure {
        summary: failure.summary(),
        kind: failure.error.kind().into(),
        report: report.clone(),
        file,
        line,
    };
    events.send(Event::ScenarioFinished { scenario: scenario_name, took, failure: Some(told), retried });
    Err((Failure { retried, ..failure }, report))
}

/// Masks the passwords in a scenario's file from here on, not only once they are typed.
fn know_its_passwords(scenario: &Scenario) {
    if let Start::LoggedIn { password, .. } = scenario.from {
        secrets::know(password);
    }
    let file = configuration::source_file(scenario);
    // Without the file, nothing of it is shown either.
    let source = std::fs::read_to_string(file).unwrap_or_default();
    secrets::source::literals(&source).iter().for_each(|password| secrets::know(password));
}

fn on_its_own_thread(
    scenario: &'static Scenario,
    suite: &Arc<Suite>,
    events: &Events,
    keeper: &Option<Keeper>,
) -> Result<(), Failure> {
    let (tell, hear) = mpsc::channel();
    let (machines, right, captures) = (Machines::default(), Right::default(), Captures::default());
    let life = ScenarioThread {
        scenario,
        suite: suite.clone(),
        events: events.clone(),
        machines: machines.clone(),
        panics: Panics::default(),
        right: right.clone(),
        network: Mutex::default(),
        captures: captures.clone(),
        keeper: keeper.clone(),
        tell: tell.clone(),
    };
    let thread =
        std::thread::Builder::new().name(scenario.function.to_owned()).stack_size(STACK).spawn(move || {
            let _ = tell.send(Progress::Ended(life.live()));
        });
    if let Err(error) = thread {
        return Err(Failure::new(Exit::Host, threads::refused_thread(&error)));
    }

    let begun = Instant::now();
    let end_of_run = suite.ends().map(|end| Deadline::at(end + GRACE));
    let mut failed = None;
    let error = match progress::until_ended(&hear, end_of_run, GRACE, &mut failed) {
        Waited::Ended(outcome) => return outcome,
        Waited::Stuck(error) => error,
        Waited::RunOver => suite.ended(begun.elapsed()),
        Waited::Gone => Error::new(ErrorKind::Other, "the scenario's thread ended without an outcome"),
    };
    kill_all(&machines);
    captures.keep(keeper.as_ref());
    // The thread may hold the right forever, and others wait for it.
    drop(lock(&right).take());
    Err(match failed {
        Some(failure) => failure.and_then(&error),
        None => Failure::new(Exit::Failed, error),
    })
}

/// What the scenario's own thread holds.
struct ScenarioThread {
    scenario: &'static Scenario,
    suite: Arc<Suite>,
    events: Events,
    machines: Machines,
    panics: Panics,
    right: Right,
    /// The network of its machines, once they are up.
    network: Mutex<Option<Network>>,
    captures: Captures,
    keeper: Option<Keeper>,
    tell: mpsc::Sender<Progress>,
}

impl ScenarioThread {
    fn live(self) -> Result<(), Failure> {
        self.panics.collect_here();
        let panics = self.panics.clone();
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder
            .worker_threads(WORKERS)
            .thread_name(format!("{} (runtime)", self.scenario.function))
            .on_thread_start(move || panics.collect_here())
            .enable_all();
        let runtime = threads::runtime(builder, WORKERS).map_err(|error| Failure::new(Exit::Host, error))?;
        let outcome = runtime.block_on(async {
            let outcome = self.in_time().await.map_err(|failure| self.with_context(failure));
            if let Err(failure) = &outcome {
                let _ = self.tell.send(Progress::Failed(failure.clone()));
                self.pause(failure).await;
                // Before the machines are kept, which ends them.
                self.keep_journals().await;
                self.keep_machines().await;
            }
            // They stay in the list, so that they can be ended if this hangs.
            let machines = lock(&self.machines).clone();
            for machine in machines {
                machine.stop().await;
                if let Some(keeper) = &self.keeper {
                    machine.console().flush();
                    keeper.answers(machine.name(), &machine.answers());
                    keeper.transcripts(machine.name(), machine.run_directory(), outcome.is_ok());
                }
            }
            lock(&self.machines).clear();
            if let Some(network) = lock(&self.network).take() {
                network.tell_counts();
            }
            self.captures.keep(self.keeper.as_ref());
            outcome
        });
        runtime.shutdown_timeout(SHUTDOWN);
        outcome
    }

    /// Runs everything, but no longer than the time limit of the whole run.
    async fn in_time(&self) -> Result<(), Failure> {
        let Some(end) = self.suite.ends() else { return self.prepare_and_run().await };
        let begun = Instant::now();
        match Deadline::at(end).within(self.prepare_and_run()).await {
            Some(outcome) => outcome,
            None => Err(Failure::new(Exit::Failed, self.suite.ended(begun.elapsed()))),
        }
    }

    async fn prepare_and_run(&self) -> Result<(), Failure> {
        checks::check_allowed(self.scenario).map_err(|error| Failure::new(Exit::Usage, error))?;
        // Held until the scenario is over.
        let keeper = self.keeper.as_ref();
        let given = machines::all(self.scenario, &self.suite, &self.events, keeper, &self.captures).await?;
        *lock(&self.right) = given.permit;
        lock(&self.network).clone_from(&given.network);
        // A replay is as fast as this host, regardless of the machine's speed.
        let machines = given.machines.iter().filter(|_| self.suite.against().is_none());
        let speed = machines.map(|place| place.machine.speed().factor()).fold(1.0, f64::max);
        let limit = Speed::new(speed).scale(self.scenario.timeout.unwrap_or(DEFAULT_TIMEOUT));
        let number = u32::try_from(given.machines.len()).unwrap_or(u32::MAX);
        let afterwards = Speed::new(speed).scale(AFTERWARDS + EACH_MACHINE.saturating_mul(number));
        let network = given.network.map(|network| network.at(Speed::new(speed)));
        let mut bodys = Fixtures::new(given.systems, network);
        for place in given.machines {
            lock(&self.machines).push(place.machine.clone());
            bodys.add(place);
        }
        let _ = self.tell.send(Progress::Body { limit });
        let body = Body::begin(self.scenario, &self.events, limit);
        let failed = |error| Failure::new(Exit::Failed, error);
        let outcome = match Deadline::after(limit).within(self.body(bodys)).await {
            Some(Ok(())) => Ok(()),
            Some(Err(failure)) => Err(Failure { line: failure.line.or_else(place::last_line), ..failure }),
            None => {
                let failure = failed(timed_out(body.begun.elapsed(), limit));
                Err(Failure { line: place::last_line(), ..failure })
            }
        };
        drop(body);
        let _ = self.tell.send(Progress::BodyEnded { afterwards, silence: SILENCE });
        tokio::spawn(progress::beat(self.tell.clone()));
        outcome?;
        let machines = lock(&self.machines).clone();
        checks::pass(self.scenario, &machines).await.map_err(failed)?;
        budget::check(self.scenario, &machines).await.map_err(failed)
    }

    /// Runs the scenario's own function. A panic becomes a failure.
    async fn body(&self, given: Fixtures) -> Result<(), Failure> {
        let call = AssertUnwindSafe(|| (self.scenario.body)(given));
        let Ok(mut body) = std::panic::catch_unwind(call) else { return Err(self.panicked()) };
        std::future::poll_fn(move |context| {
            let poll = AssertUnwindSafe(|| body.as_mut().poll(context));
            match std::panic::catch_unwind(poll) {
                Ok(poll) => poll.map_err(|error| Failure::new(Exit::Failed, error)),
                Err(_) => std::task::Poll::Ready(Err(self.panicked())),
            }
        })
        .await
    }

    /// Returns the failure of a function that panicked on this thread.
    fn panicked(&self) -> Failure {
        let failed = |said| Failure::new(Exit::Failed, Error::new(ErrorKind::Other, said));
        let Some(panic) = self.panics.last_here() else { return failed("the scenario panicked".to_owned()) };
        let failure = failed(format!("{}: {}", from_here(&panic.place), panic.message));
        // FILE:LINE:COLUMN
        let place = panic.place.rsplit_once(':').and_then(|(place, _)| place.rsplit_once(':'));
        let place = place.and_then(|(file, line)| Some((file.to_owned(), line.parse().ok()?)));
        Failure { panic: place, line: panic.line, ..failure }
    }

    /// Waits for a person who looks at the machines, if the settings demand it.
    async fn pause(&self, failure: &Failure) {
        if !self.suite.pauses_on_failure() {
            return;
        }
        let machines = lock(&self.machines).clone();
        if machines.is_empty() {
            return;
        }
        if !has_terminal() {
            self.events.note("no pause: standard input is not a terminal, so it can't read a key");
            return;
        }
        self.events.note(format!("failed: {}", failure.error.summary()));
        if let Err(error) = pause_at(&machines, "where the scenario failed", &self.events).await {
            self.events.note(error.summary());
        }
    }

    /// Keeps the journal of each machine that still answers.
    async fn keep_journals(&self) {
        let Some(keeper) = &self.keeper else { return };
        let machines = lock(&self.machines).clone();
        for machine in machines {
            if let Some(journal) = machine.whole_journal().await {
                keeper.journal(machine.name(), &journal);
            }
        }
    }

    /// Keeps the machines in their present state, for `nixvm-test attach`.
    async fn keep_machines(&self) {
        let Some(keeper) = self.keeper.as_ref().filter(|_| self.suite.keeps_failed()) else { return };
        let machines = lock(&self.machines).clone();
        kept::keep_all(&machines, keeper, &self.events).await;
    }

    /// Adds what the failure itself can't know: the current consoles, and panics of spawned tasks.
    fn with_context(&self, failure: Failure) -> Failure {
        let mut error = failure.error;
        for panic in self.panics.elsewhere() {
            error = error.section(
                "a task of the scenario panicked",
                format!("{}: {}", from_here(&panic.place), panic.message),
            );
        }
        // The library's own errors show the console if it matters.
        let says_nothing = error.is_foreign()
            || matches!(error.kind(), ErrorKind::Other | ErrorKind::Timeout | ErrorKind::ChannelLost);
        if says_nothing && error.sections().count() == 0 {
            for machine in lock(&self.machines).iter() {
                let title = format!("last lines of {}'s console", machine.name());
                error = error.section(title, machine.console().tail(CONSOLE_LINES));
            }
        }
        if let Some(network) = &*lock(&self.network) {
            let faults = network.faults();
            if !faults.is_empty() {
                // `attach` goes back to machines on a network of their own.
                error = error.section(
                    "faults of the network at that time (attach has none of them)",
                    faults.join("\n"),
                );
            }
            if let Some(seed) = network.used_seed() {
                error = error
                    .section("the seed of the random faults", format!("{seed} (--seed {seed} repeats them)"));
            }
        }
        Failure { error, ..failure }
    }
}

/// Ends machines whose scenario does not end. It does not use the scenario's own runtime, which a blocked
/// scenario may keep from running.
fn kill_all(machines: &Machines) {
    let machines = std::mem::take(&mut *lock(machines));
    if machines.is_empty() {
        return;
    }
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(async {
            for machine in machines {
                if tokio::time::timeout(SHUTDOWN, machine.stop()).await.is_err() {
                    // It waits for something that the blocked runtime would have to do.
                    machine.kill().await;
                }
            }
        }),
        Err(error) => tracing::warn!(%error, "could not end the machines of a scenario that hangs"),
    }
}
