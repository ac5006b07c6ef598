//! Tries KVM with one VM, from the device to a clone of a clone, within a minute.
//!
//! Each step reports what was tried, how long it took, QEMU's message and what to do. A step for which there
//! is no time is reported as not tried. Only a file for a bug report is left.

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

/// The limit for everything together.
const WHOLE: Duration = Duration::from_secs(60);
/// The part of it that is reserved for writing the file.
const REST: Duration = Duration::from_secs(1);

/// A step and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Tried {
    /// Its subject, such as "device".
    pub name: &'static str,
    /// Its outcome; `None` if it was not tried.
    pub state: Option<State>,
    /// What was tried.
    pub tried: String,
    /// How long it took.
    pub took: Duration,
    /// What was found, with QEMU's message.
    pub found: String,
    /// What to do, if anything.
    pub fix: Option<String>,
}

/// The outcome of trying KVM.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Kvm {
    /// Every step, in order. The last one is the verdict.
    pub steps: Vec<Tried>,
    /// Whether machines of this VM run under KVM on this host.
    pub usable: bool,
    /// The file for a bug report: these steps, QEMU's events and messages, and the kernels' output.
    pub attachment: Option<PathBuf>,
}

/// Tries KVM with `vm` for at most a minute, and calls `each` for each finished step. Everything that runs is
/// ended when this future is dropped. The file for a bug report is written to the current folder, or else to
/// the temporary folder.
///
/// # Errors
/// [`crate::ErrorKind::Host`] when there is no folder for the cache. A failure of KVM is not an error, but
/// the outcome of a step.
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

/// The run of all steps.
struct Run<'a> {
    vm: &'a BuiltVm,
    deadline: Instant,
    steps: Vec<Tried>,
    /// What the file contains in addition to the steps.
    log: String,
    facts: verdict::Facts,
    each: &'a mut dyn FnMut(&Tried),
}

/// The finding of a step.
struct Found {
    state: State,
    found: String,
    fix: Option<String>,
}

impl Found {
    fn ok(found: impl Into<String>) -> Self {
        Self { state: State::Ok, found: found.into(), fix: None }
    }

    fn bad(state: State, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { state, found: found.into(), fix: Some(fix.into()) }
    }
}

impl Run<'_> {
    fn note(&mut self, name: &'static str, tried: impl Into<String>, begun: Instant, found: Found) {
        let Found { state, found, fix } = found;
        self.add(Tried { name, state: Some(state), tried: tried.into(), took: begun.elapsed(), found, fix });
    }

    fn not_tried(&mut self, name: &'static str, tried: impl Into<String>, why: &str) {
        let found = format!("not tried: {why}");
        let took = Duration::ZERO;
        self.add(Tried { name, state: None, tried: tried.into(), took, found, fix: None });
    }

    fn add(&mut self, step: Tried) {
        (self.each)(&step);
        self.steps.push(step);
    }

    /// Returns the remaining time, at most `most`.
    fn left(&self, most: Duration) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).min(most)
    }

    /// Returns the deadline of a step that may take `most`.
    fn end(&self, most: Duration) -> Instant {
        Instant::now() + self.left(most)
    }

    /// Whether there is time for a step that takes at least `least`. If not, it is reported as not tried.
    fn has_time(&mut self, least: Duration, name: &'static str, tried: &str) -> bool {
        let has = self.left(least) >= least;
        if !has {
            self.not_tried(name, tried, "the minute is over");
        }
        has
    }
}
