//! A suite's `main`. libtest-mimic gives it the command line, the filters and the output of a usual Rust
//! test, so that `cargo test`, cargo-nextest and editors can use it.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, ColorSetting, Completion, Failed, Trial};

use super::complete::Folder as Files;
use super::describe::{TELL_PLACES, TELL_SCENARIOS, describe, places};
use super::ended::{Running, UnderWay};
use super::exit::Exit;
use super::order;
use super::panics::Panics;
use super::registry::{self, Scenario};
use super::run;
use super::suite::Suite;
use super::turns::Turns;
use crate::event::Reporter;
use crate::mutex::lock;
use crate::record::{Folder, History, Writer};
use crate::report::{self, Github, Relay, Rendering};
use crate::settings::Settings;
use crate::{
    Error, ErrorKind, Event, Events, RequestedReports, Result, cache, environment, host_limits, qemu,
    signals, threads,
};

/// Time limit for completing the record when a signal ends the run.
const COMPLETING: Duration = Duration::from_secs(10);

/// Minimum number of files that a run has open at once.
const FILES: usize = 16;

/// If this variable is set, a suite prints the files that its machines are built from, one path a line, and
/// runs nothing. For `nixvm-test --watch`.
pub const TELL_SOURCES: &str = "NIXVM_TELL_SOURCES";

/// Runs the scenarios of this binary according to its command line. [`main!`](crate::main!) calls this.
pub fn main() -> ExitCode {
    run_suite(None)
}

/// Does the same as [`main`] for a suite that was made of a folder. [`scenarios!`](crate::scenarios!) calls
/// this.
#[doc(hidden)]
pub fn main_of(folder: &Files) -> ExitCode {
    run_suite(Some(folder))
}

fn run_suite(folder: Option<&Files>) -> ExitCode {
    super::panics::watch();
    let arguments = match <Arguments as clap::Parser>::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return report::usage(&error),
    };
    die_with_parent();
    report::log::start();
    if environment::is_set(TELL_PLACES) {
        report::answer(format!("{}{}\n", TELL_PLACES, places()));
        return Exit::Passed.into();
    }
    match folder.map_or(Ok(()), Files::check_complete).and_then(|()| suite(arguments)) {
        _ if report::has_no_reader() => report::NO_READER.into(),
        Ok(code) if report::lost_output().is_none() => code,
        failed => {
            let error = failed.err().or_else(report::lost_output);
            error.iter().for_each(report::error);
            error.map_or(Exit::Failed, |error| Exit::before_the_body(&error, Exit::Failed)).into()
        }
    }
}

fn suite(mut arguments: Arguments) -> Result<ExitCode> {
    let scenarios = registry::all();
    if scenarios.is_empty() {
        return Err(no_scenarios());
    }
    let settings = Settings::from_env()?;
    host_limits::check_files(FILES).map_err(|error| Error::io("begin", &error))?;
    if let Some(limit) = host_limits::lacks_memory(host_limits::FOR_ITSELF) {
        return Err(Error::limited("begin", limit));
    }
    if arguments.list {
        // In the order of the source, but only this share, because cargo-nextest runs what is listed.
        let mine = order::share(scenarios, &settings);
        let trials = mine.iter().map(|scenario| {
            Trial::test(scenario.name(), || Ok(())).with_ignored_flag(scenario.ignore.is_some())
        });
        let _ = tested(&arguments, trials.collect())?;
        return Ok(Exit::Passed.into());
    }

    let reporter: Arc<dyn Reporter> = report::choose(&settings);
    if environment::is_set(TELL_SOURCES) {
        let suite = Suite::new(settings, reporter)?;
        suite
            .source_files(&scenarios)
            .iter()
            .for_each(|file| report::answer(format!("{}\n", file.display())));
        return Ok(Exit::Passed.into());
    }
    if environment::is_set(TELL_SCENARIOS) {
        let mine = order::share(scenarios, &settings);
        let suite = Suite::new(settings, reporter)?;
        mine.iter().for_each(|scenario| report::answer(format!("{}\n", describe(scenario, &suite))));
        return Ok(Exit::Passed.into());
    }
    // A replay boots nothing.
    if settings.against.is_none() {
        qemu::accelerator::check_environment()?;
    }
    let record = match settings.against {
        Some(_) if settings.report != RequestedReports::default() => return Err(no_reports()),
        // A replay makes no record, so that `last` stays the same.
        Some(_) => None,
        None => record(&reporter),
    };
    crate::record::tell(Events::to(&reporter));
    if settings.against.is_none()
        && let Ok(_) = cache::dir()
        && let Some(why) = cache::is_read_only()
    {
        Events::to(&reporter).note(why);
    }
    let rendering = record.as_ref().map(|record| Rendering::start(record.path(), settings.report.clone()));
    let rendering = rendering.map(Arc::new);
    let suite = Suite::new(settings, reporter.clone())?.recorded(record.clone(), rendering.clone());
    let scenarios = suite.ordered(scenarios);
    let is_chosen = |scenario: &&Scenario| is_chosen(scenario, &arguments);
    let chosen: Vec<&'static Scenario> = scenarios.iter().copied().filter(is_chosen).collect();
    let events = suite.events("");
    let begun = Instant::now();
    let names: BTreeSet<String> = chosen.iter().map(|scenario| scenario.name()).collect();
    let own = names.clone();
    let (on_the_terminal, at_the_end) = (reporter.clone(), events.clone());
    let (last, written) = (rendering.clone(), record.clone());
    let under_way = UnderWay::begin();
    signals::install(move |signal| {
        on_the_terminal.finish();
        if let Some(record) = &written {
            complete(record, &own);
        }
        at_the_end.send(Event::RunFinished { took: begun.elapsed(), interrupted: Some(signal.to_owned()) });
        if let Some(rendering) = &last {
            rendering.finish();
        }
    })?;
    events.send(Event::RunStarted {
        arguments: std::env::args().skip(1).collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        scenarios: chosen.len(),
        record: record.as_ref().map(|record| record.path().to_owned()),
    });
    let suite = Arc::new(suite.expecting(chosen.iter().copied())?);
    let exits = Exits::default();
    let turns = one_at_a_time(&mut arguments, suite.machines_at_once()).then(|| Arc::new(Turns::of(chosen)));
    let trials: Vec<Trial> = scenarios
        .into_iter()
        .map(|scenario| trial(scenario, &arguments, &suite, &exits, turns.clone()))
        .collect();

    // libtest-mimic starts all of them, also without a scenario for each. Not one, see `one_at_a_time`.
    let workers = arguments.test_threads.unwrap_or(2).min(trials.len()).max(2);
    arguments.test_threads = Some(workers);
    // All threads that a scenario needs: the workers, the two of the relay and of the scenario, and a runtime.
    threads::check_room(workers + 2 + 1 + run::WORKERS)?;
    let relay = Relay::start(&reporter, &mut arguments)?;
    let conclusion = tested(&arguments, trials);
    signals::hold_if_ending();
    threads::finish(run::SHUTDOWN);
    drop(under_way);
    suite.upcoming().end();
    if let Some(relay) = relay {
        relay.finish();
    }
    reporter.finish();
    events.send(Event::RunFinished { took: begun.elapsed(), interrupted: None });
    if let Some(rendering) = rendering {
        rendering.finish();
    }
    tell_github(&reporter, record.as_deref(), &names);
    let exit = Exit::of_all(lock(&exits).iter().copied());
    let conclusion = conclusion?;
    // Any other failure counts, too.
    let exit = if exit == Exit::Passed && conclusion.has_failed() { Exit::Failed } else { exit };
    Ok(exit.into())
}

/// Runs the trials, and shows their results.
///
/// # Errors
/// [`ErrorKind::Host`] when libtest-mimic gets no thread, or the results can't be written. It panics then, after the
/// trials that it has begun.
fn tested(arguments: &Arguments, trials: Vec<Trial>) -> Result<libtest_mimic::Conclusion> {
    let panics = Panics::default();
    panics.collect_here();
    let run = std::panic::AssertUnwindSafe(|| libtest_mimic::run(arguments, trials));
    let done = std::panic::catch_unwind(run);
    Panics::print_here();
    done.map_err(|_| {
        let said = panics.last_here().map(|panic| panic.message).unwrap_or_default();
        // "Os { code: 28, kind: StorageFull, message: … }"
        let code =
            said.split_once("code: ").and_then(|(_, rest)| rest.split(',').next()?.trim().parse().ok());
        let Some(code) = code else {
            return Error::new(ErrorKind::Host, format!("the results could not be shown: {said}"));
        };
        let source = std::io::Error::from_raw_os_error(code);
        match said.contains("spawn thread") {
            true => threads::refused_thread(&source),
            false => report::not_written(&source),
        }
    })
}

/// Makes the readable files of the machines that a signal ends, within a time limit. Only for the scenarios of this
/// process: other processes may write to the record.
fn complete(record: &Arc<Writer>, own: &BTreeSet<String>) {
    qemu::kill_all(COMPLETING);
    let (tell, hear) = std::sync::mpsc::channel();
    let (record, own, suite) = (record.clone(), own.clone(), crate::record::suite());
    let made = std::thread::Builder::new().name("films".to_owned()).spawn(move || {
        let is_own = |of: &str, name: &str| of == suite && own.contains(name);
        if let Err(error) = crate::record::complete(record.folder(), is_own) {
            tracing::warn!(%error, "the record is not complete");
        }
        drop(tell);
    });
    if made.is_ok() {
        let _ = hear.recv_timeout(COMPLETING) as std::result::Result<(), _>;
    }
}

/// Returns the record of this run, if it can be made.
fn record(reporter: &Arc<dyn Reporter>) -> Option<Arc<Writer>> {
    match Folder::begin().and_then(Writer::new) {
        Ok(record) => Some(Arc::new(record)),
        Err(error) => {
            let note = format!("there will be no record of this run: {}", error.summary());
            Events::to(reporter).note(note);
            None
        }
    }
}

fn no_reports() -> Error {
    Error::new(ErrorKind::Usage, "a replay makes no reports: --report and --against can't be combined")
        .likely_cause("reports are made from the record of a run, and a replay makes none")
        .next_step("run the scenarios on machines, without --against")
}

/// Reports `scenarios` to GitHub Actions, if this runs there.
fn tell_github(reporter: &Arc<dyn Reporter>, record: Option<&Writer>, scenarios: &BTreeSet<String>) {
    let github = Github::from_env();
    if let Some(record) = record.filter(|_| github.is_asked_for())
        && let Ok(history) = History::read(record.path())
    {
        reporter.print(github.tell(&history, scenarios).as_bytes());
    }
}

/// How each failed scenario failed.
type Exits = Arc<Mutex<Vec<Exit>>>;

fn trial(
    scenario: &'static Scenario,
    arguments: &Arguments,
    suite: &Arc<Suite>,
    exits: &Exits,
    turns: Option<Arc<Turns>>,
) -> Trial {
    let (suite, exits) = (suite.clone(), exits.clone());
    let asked_for = arguments.ignored || arguments.include_ignored;
    let left_out = match scenario.ignore {
        Some(why) if !asked_for => Some(why.to_owned()),
        _ => suite.skipped().map(str::to_owned),
    };
    let coloured = match arguments.color.unwrap_or(ColorSetting::Auto) {
        ColorSetting::Always => true,
        ColorSetting::Never => false,
        // As libtest-mimic decides it.
        ColorSetting::Auto => report::in_colour(&std::io::stdout()),
    };
    Trial::ignorable_test(scenario.name(), move || {
        let _turn = turns.as_ref().and_then(|turns| turns.wait_for(scenario));
        if let Some(why) = left_out {
            return Ok(left_alone(&suite, scenario, why));
        }
        suite.upcoming().note_begun(scenario);
        if suite.fail_fast() && !lock(&exits).is_empty() {
            return Ok(left_alone(&suite, scenario, "another scenario has failed".to_owned()));
        }
        if suite.is_over() {
            lock(&exits).push(Exit::Failed);
            let why = "not run: the time limit of the whole run has passed".to_owned();
            return Ok(left_alone(&suite, scenario, why));
        }
        match tried(scenario, &suite) {
            Ok(()) => Ok(Completion::Completed),
            Err((exit, report)) => {
                lock(&exits).push(exit);
                let report = report::ci::broken_up(&report);
                Err(Failed::from(if coloured { report::paint(&report) } else { report }))
            }
        }
    })
    .with_ignored_flag(scenario.ignore.is_some() && arguments.ignored)
}

/// Records a scenario that is not run, with the reason.
fn left_alone(suite: &Suite, scenario: &Scenario, why: String) -> Completion {
    let (file, line) = (super::configuration::source_file(scenario), scenario.line);
    let skipped = Event::ScenarioSkipped { scenario: scenario.name(), why: why.clone(), file, line };
    suite.events(&scenario.name()).send(skipped);
    // libtest-mimic's own flag has no room for the reason.
    let why = report::ci::broken_up(&report::printable(&why));
    Completion::Ignored { reason: Some(why).filter(|why| !why.is_empty()) }
}

/// Whether libtest-mimic is going to run the scenario: its filters are those of libtest.
fn is_chosen(scenario: &Scenario, arguments: &Arguments) -> bool {
    let name = scenario.name();
    let is_meant = |filter: &String| if arguments.exact { *filter == name } else { name.contains(filter) };
    let ignored = scenario.ignore.is_some();
    let kind = if ignored { arguments.ignored || arguments.include_ignored } else { !arguments.ignored };
    kind && arguments.filter.as_ref().is_none_or(is_meant) && !arguments.skip.iter().any(is_meant)
}

/// Runs a scenario until it passes, as often as it may be tried.
fn tried(scenario: &'static Scenario, suite: &Arc<Suite>) -> Result<(), (Exit, String)> {
    let _running = Running::begin(scenario.name());
    let tries = suite.tries(scenario);
    let mut number = 1;
    loop {
        match run::run(scenario, suite, (number, tries)) {
            Ok(()) => {
                if number > 1 {
                    let events = suite.events(&scenario.name());
                    events.note(format!("flaky: it passed on try {number} of {tries}"));
                }
                return Ok(());
            }
            Err((failure, _)) if failure.retried => {
                let why = failure.error.summary();
                suite.events(&scenario.name()).note(format!("try {number} of {tries} failed: {why}"));
                number += 1;
            }
            Err((failure, report)) => return Err((failure.exit, report)),
        }
    }
}

/// Gives libtest-mimic two threads if it was to have one, and returns whether scenarios have to take turns.
/// With one thread libtest-mimic prints `test NAME ...` without a line end *before* the test runs, and
/// progress would appear in the middle of that line.
fn one_at_a_time(arguments: &mut Arguments, machines: u64) -> bool {
    let threads = arguments.test_threads.unwrap_or(usize::try_from(machines).unwrap_or(usize::MAX));
    arguments.test_threads = Some(threads.max(2));
    threads <= 1
}

/// Ends this process together with the `nixvm-test` that started it, however that one ends: a run of several
/// files must not continue when it is killed. Call it on the main thread, because the signal is bound to the
/// calling thread.
fn die_with_parent() {
    let Some(parent) = environment::text("NIXVM_PARENT").and_then(|pid| pid.parse::<i32>().ok()) else {
        return;
    };
    let term = rustix::process::Signal::TERM;
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(term)) {
        tracing::debug!(%error, "could not request a signal on the parent's death");
    }
    // The parent may have ended before the request.
    if rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(parent) {
        std::process::exit(128 + term.as_raw());
    }
}

fn no_scenarios() -> Error {
    Error::new(ErrorKind::Usage, "this suite has no scenarios: nothing would be tested")
        .likely_cause(
            "it contains no `#[scenario]`, or they are in a crate that is not used here: the linker leaves \
             such a crate out, and its scenarios with it",
        )
        .next_step("name the crate in the file with `nixvm_test::main!()`: `use my_scenarios as _;`")
}
