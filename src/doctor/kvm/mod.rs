//! Tries KVM with one VM: from the device to a clone of a clone, in a minute at most.
//!
//! Each step says what was tried, how long it took, QEMU's own words and what to do. What there is no time for is said
//! to be not tried. Nothing of it stays but a file for a bug report.

mod attachment;
mod boot;
mod clones;
mod host;
mod load;
mod ram;
pub(super) mod sector;
mod steps;
mod verdict;
mod words;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::State;
use crate::BuiltVm;
use crate::Result;

/// All of it takes so long, at most.
const WHOLE: Duration = Duration::from_secs(60);
/// Kept for what is written at the end.
const REST: Duration = Duration::from_secs(1);

/// A step, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Tried {
    /// What it is about, such as "device".
    pub name: &'static str,
    /// How it stands with it; none where it was not tried.
    pub state: Option<State>,
    /// What was tried.
    pub tried: String,
    /// How long it took.
    pub took: Duration,
    /// What was found, with QEMU's words.
    pub found: String,
    /// What to do, where something is to be done.
    pub mend: Option<String>,
}

/// What trying KVM gave.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Kvm {
    /// Every step, in order. The last one is the verdict.
    pub steps: Vec<Tried>,
    /// Machines of this VM run under KVM here.
    pub usable: bool,
    /// The file for a bug report: these steps, QEMU's events and words, what the kernels said.
    pub attachment: Option<PathBuf>,
}

/// Tries KVM with `vm`, for a minute at most, and tells each step as it is done. What runs is ended when this future is
/// dropped. The file for a bug report is written to the current folder, or where that can't be written, to a temporary one.
///
/// # Errors
/// [`crate::ErrorKind::Host`] when there is no folder for the cache. What does not work is no error but a step.
pub async fn try_kvm(vm: &BuiltVm, each: &mut dyn FnMut(&Tried)) -> Result<Kvm> {
    let mut run = Run {
        vm,
        deadline: Instant::now() + WHOLE - REST,
        steps: Vec::new(),
        log: String::new(),
        facts: verdict::Facts::default(),
        each,
    };
    run.all().await?;
    let usable = run.facts.is_usable();
    let Run { steps, log, .. } = run;
    let attachment = attachment::write(&steps, &log);
    Ok(Kvm { steps, usable, attachment })
}

/// The steps under way.
struct Run<'a> {
    vm: &'a BuiltVm,
    deadline: Instant,
    steps: Vec<Tried>,
    /// What goes into the file beside the steps.
    log: String,
    facts: verdict::Facts,
    each: &'a mut dyn FnMut(&Tried),
}

/// What a step has found.
struct Found {
    state: State,
    found: String,
    mend: Option<String>,
}

impl Found {
    fn ok(found: impl Into<String>) -> Self {
        Self { state: State::Ok, found: found.into(), mend: None }
    }

    fn bad(state: State, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { state, found: found.into(), mend: Some(mend.into()) }
    }
}

impl Run<'_> {
    fn note(&mut self, name: &'static str, tried: impl Into<String>, begun: Instant, found: Found) {
        let Found { state, found, mend } = found;
        self.add(Tried { name, state: Some(state), tried: tried.into(), took: begun.elapsed(), found, mend });
    }

    fn not_tried(&mut self, name: &'static str, tried: impl Into<String>, why: &str) {
        let found = format!("not tried: {why}");
        let took = Duration::ZERO;
        self.add(Tried { name, state: None, tried: tried.into(), took, found, mend: None });
    }

    fn add(&mut self, step: Tried) {
        (self.each)(&step);
        self.steps.push(step);
    }

    /// What is left of the time, `most` at most.
    fn left(&self, most: Duration) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).min(most)
    }

    /// The end of a step that may take `most`.
    fn end(&self, most: Duration) -> Instant {
        Instant::now() + self.left(most)
    }

    /// Whether a step that takes this long at least can be tried; else says that it can't.
    fn has_time(&mut self, least: Duration, name: &'static str, tried: &str) -> bool {
        let has = self.left(least) >= least;
        if !has {
            self.not_tried(name, tried, "the minute is over");
        }
        has
    }
}
