//! Compares two runs: outcomes, times, and the output of commands.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::path::Path;

use similar::TextDiff;

use crate::record::History;
use crate::record::history::{Attempt, Machine, Scenario, Step};

/// Smaller differences between times are noise: in seconds, and as a share of the longer one.
const NOISE: (f64, f64) = (0.5, 0.2);

/// Longer differences of one output are truncated, in lines.
const LINES: usize = 60;

/// Only the end of a longer output is compared, in lines, and only this number of differing outputs is shown.
/// Otherwise hostile records could keep the comparison busy forever.
const COMPARED: usize = 1_000;
const OUTPUTS: usize = 1_000;

/// The differences between two runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// All differences, as text without escape sequences.
    pub text: String,
    /// Whether a scenario has another outcome, or is in only one of the runs.
    pub outcomes_differ: bool,
}

/// Compares the run `old` with the run `new`. For scenarios that were tried several times, the last try
/// counts.
pub fn compare(old: &History, new: &History) -> Comparison {
    let mut found = Comparison::default();
    let (mut outcomes, mut times, mut outputs) = (String::new(), String::new(), Outputs::default());
    // Writing to a String can't fail.
    let (before, after) = (Index::of(old), Index::of(new));
    for scenario in &old.scenarios {
        let name = line(&scenario.title());
        let Some(other) = after.same(scenario, &before) else {
            let _ = writeln!(outcomes, "  {name}: removed (it {})", was(scenario));
            continue;
        };
        if scenario.outcome() != other.outcome() {
            let _ = write!(outcomes, "  {name}: {} → {}", scenario.outcome().name(), other.outcome().name());
            let why = other.failure().map(|failure| format!(" ({})", line(&failure.summary)));
            let _ = writeln!(outcomes, "{}", why.unwrap_or_default());
        }
        if let (Some(old), Some(new)) = (scenario.attempts.last(), other.attempts.last()) {
            attempts(&name, old, new, &mut times, &mut outputs);
        }
    }
    for scenario in new.scenarios.iter().filter(|scenario| before.same(scenario, &after).is_none()) {
        let _ = writeln!(outcomes, "  {}: added (it {})", line(&scenario.title()), was(scenario));
    }
    found.outcomes_differ = !outcomes.is_empty();
    for (title, part) in [("outcomes", outcomes), ("times", times), ("output", outputs.told())] {
        if !part.is_empty() {
            let _ = writeln!(found.text, "{title}:\n{}", part.trim_end());
        }
    }
    if found.text.is_empty() {
        found.text.push_str("no differences except for noise\n");
    }
    found
}

/// The outputs that differ.
#[derive(Default)]
struct Outputs {
    text: String,
    count: usize,
}

impl Outputs {
    fn add(&mut self, what: &str, before: &str, after: &str) {
        self.count += 1;
        if self.count <= OUTPUTS {
            // Writing to a String can't fail.
            let _ = write!(self.text, "  {what}\n{}", unified(end(before), end(after)));
        }
    }

    fn told(mut self) -> String {
        if self.count > OUTPUTS {
            let _ = writeln!(self.text, "  … (+{} outputs)", self.count - OUTPUTS);
        }
        self.text
    }
}

/// Returns the last lines of a text.
fn end(text: &str) -> &str {
    let mut breaks = memchr::memrchr_iter(b'\n', text.as_bytes());
    breaks.nth(COMPARED).map_or(text, |at| &text[at + 1..])
}

/// The scenarios of a run in maps for lookup, because a record may have thousands.
struct Index<'a> {
    exact: HashMap<(&'a str, &'a str, &'a Path), &'a Scenario>,
    apart: HashMap<(&'a str, &'a str), &'a Scenario>,
    named: HashMap<&'a str, Vec<&'a Scenario>>,
}

impl<'a> Index<'a> {
    fn of(run: &'a History) -> Self {
        let (mut exact, mut apart, mut named) = (HashMap::new(), HashMap::new(), HashMap::new());
        for scenario in &run.scenarios {
            let name = scenario.name.as_str();
            exact.entry((name, scenario.suite.as_str(), scenario.file.as_path())).or_insert(scenario);
            if let Some(what) = &scenario.apart {
                apart.entry((name, what.as_str())).or_insert(scenario);
            }
            named.entry(name).or_insert_with(Vec::new).push(scenario);
        }
        Self { exact, apart, named }
    }

    /// Returns the only scenario with this name.
    fn only(&self, name: &str) -> Option<&'a Scenario> {
        self.named.get(name).filter(|all| all.len() == 1).map(|all| all[0])
    }

    /// Returns the counterpart of `scenario` from the run `other`. It may have moved to another file since
    /// then. If several scenarios have the name, `apart` decides.
    fn same(&self, scenario: &Scenario, other: &Self) -> Option<&'a Scenario> {
        let name = scenario.name.as_str();
        let exact = self.exact.get(&(name, scenario.suite.as_str(), scenario.file.as_path())).copied();
        let apart = || self.apart.get(&(name, scenario.apart.as_deref()?)).copied();
        let only = || other.only(name).and_then(|_| self.only(name));
        exact.or_else(apart).or_else(only)
    }
}

fn was(scenario: &Scenario) -> String {
    format!("was {}", scenario.outcome().name())
}

fn attempts(name: &str, before: &Attempt, after: &Attempt, times: &mut String, outputs: &mut Outputs) {
    if let (Some(old), Some(new)) = (before.took, after.took) {
        differs(times, name, old, new);
    }
    for machine in &before.machines {
        let Some(other) = after.machines.iter().find(|other| other.name == machine.name) else { continue };
        let name = format!("{name}, {}", line(&machine.name));
        // A clone has other phases than a machine that booted.
        for phase in &machine.phases {
            if let Some(also) = other.phases.iter().find(|also| also.name == phase.name) {
                differs(times, &format!("{name}: {}", line(&phase.name)), phase.at, also.at);
            }
        }
        for (step, also) in pairs(machine, other) {
            let what = format!("{name}: {}", line(&step.text));
            if let (Some(old), Some(new)) = (step.took, also.took) {
                differs(times, &what, old, new);
            }
            let (before, after) = (given(step), given(also));
            if before != after {
                outputs.add(&what, &before, &after);
            }
        }
    }
}

/// Pairs the steps with the same text in their order: the first with the first, the second with the second.
fn pairs<'a>(old: &'a Machine, new: &'a Machine) -> impl Iterator<Item = (&'a Step, &'a Step)> {
    let mut others: HashMap<&str, VecDeque<&Step>> = HashMap::new();
    for step in own(new) {
        others.entry(&step.text).or_default().push_back(step);
    }
    own(old).filter_map(move |step| others.get_mut(&*step.text)?.pop_front().map(|also| (step, also)))
}

/// Returns the steps of the scenario itself. Journals differ each time.
fn own(machine: &Machine) -> impl Iterator<Item = &Step> {
    machine.steps.iter().filter(|step| !step.afterwards)
}

fn differs(times: &mut String, what: &str, old: f64, new: f64) {
    let noise = NOISE.0.max(NOISE.1 * old.max(new));
    if (old - new).abs() > noise {
        let _ = writeln!(times, "  {what}: {old:.1} s → {new:.1} s ({:+.1} s)", new - old);
    }
}

/// Returns the output of a step as lines.
fn given(step: &Step) -> String {
    let Some(output) = &step.output else { return String::new() };
    let mut text: String =
        output.stdout.lines().chain(output.stderr.lines()).map(|text| line(text) + "\n").collect();
    if let Some(status) = output.status.filter(|status| *status != 0) {
        let _ = writeln!(text, "[status {status}]");
    }
    text
}

fn unified(old: &str, new: &str) -> String {
    let diff = TextDiff::from_lines(old, new).unified_diff().context_radius(2).to_string();
    let lines: Vec<&str> = diff.lines().collect();
    let mut text: String = lines.iter().take(LINES).map(|line| format!("    {line}\n")).collect();
    if lines.len() > LINES {
        let _ = writeln!(text, "    … (+{} lines)", lines.len() - LINES);
    }
    text
}

fn line(text: &str) -> String {
    super::wording::printable(text)
}
