//! Looks at all that a host needs, and says what it found and what mends it.

mod accelerator;
mod kvm;
mod nix;
mod programs;
mod space;

use std::io::IsTerminal as _;

use serde::Serialize;

use crate::Events;
use crate::environment::{is_set, text};
use crate::settings::Settings;

pub use kvm::{Kvm, Tried, try_kvm};

/// How it stands with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// It is there.
    Ok,
    /// Something works less well without it, or it is needed by some scenarios alone.
    Warning,
    /// Nothing can be tested without it.
    Missing,
}

impl State {
    /// "ok", "warning" or "missing".
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Missing => "missing",
        }
    }
}

/// What was found of one thing that a host needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The thing, such as "QEMU".
    pub name: &'static str,
    /// How it stands with it.
    pub state: State,
    /// What was found: a version, how much of it there is, why it is of no use.
    pub found: String,
    /// The command that mends it, or what to do in words; `None` where nothing is to be done.
    pub mend: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), mend: None }
    }

    fn new(name: &'static str, state: State, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, state, found: found.into(), mend: Some(mend.into()) }
    }
}

/// Looks at everything, for runs with these settings. Takes a second or so: each program is asked for its version. Nothing
/// is built, booted or downloaded.
pub async fn examine(settings: &Settings) -> Vec<Finding> {
    let nixpkgs = nix::nixpkgs(settings, &Events::none()).await;
    // What real NixOS is booted with comes from its own store.
    let standin = nixpkgs.uses_the_stand_in;
    let mut findings = vec![programs::nix(settings).await, nix::store(), nixpkgs.finding];
    findings.push(programs::qemu(standin).await);
    findings.push(accelerator::finding().await);
    if standin {
        findings.push(programs::stand_in());
    }
    findings.extend([programs::cargo().await, programs::rustc().await, programs::linker().await]);
    findings.extend(space::disks());
    findings.push(space::memory());
    findings.push(programs::tesseract().await);
    findings.push(terminal());
    findings
}

/// Where what is shown goes.
fn terminal() -> Finding {
    let term = text("TERM").unwrap_or_default();
    let found = match () {
        () if !std::io::stderr().is_terminal() => "none: a run is shown as plain lines".to_owned(),
        () if is_set("CI") => "one, but CI is set: a run is shown as plain lines".to_owned(),
        () if is_set("NO_COLOR") => "one, but NO_COLOR is set: a run is shown as plain lines".to_owned(),
        () if term.is_empty() || term == "dumb" => {
            let mend = "set TERM to what the terminal is, such as xterm-256color";
            return Finding::new("terminal", State::Warning, format!("TERM is {term:?}: plain lines"), mend);
        }
        () => match rustix::termios::tcgetwinsize(std::io::stderr()) {
            Ok(size) => format!("{term}, {} columns and {} rows", size.ws_col, size.ws_row),
            Err(_) => term,
        },
    };
    Finding::ok("terminal", found)
}
