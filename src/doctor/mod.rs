//! Checks what this host needs, and shows how to fix what is missing.

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

/// The state of one requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// It is there.
    Ok,
    /// It is missing, but only some scenarios need it, or some things work less well without it.
    Warning,
    /// It is missing, and nothing can be tested without it.
    Missing,
}

impl State {
    /// Returns "ok", "warning" or "missing".
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Missing => "missing",
        }
    }
}

/// The finding about one requirement of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The requirement, such as "QEMU".
    pub name: &'static str,
    /// Its state.
    pub state: State,
    /// What was found: a version, an amount, or why it can't be used.
    pub found: String,
    /// The command that fixes it, or what to do in words; `None` if nothing has to be done.
    pub fix: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), fix: None }
    }

    fn new(name: &'static str, state: State, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state, found: found.into(), fix: Some(fix.into()) }
    }
}

/// Checks everything for runs with these settings. It takes a second or so, because it asks each program for
/// its version. It builds, boots and downloads nothing.
pub async fn examine(settings: &Settings) -> Vec<Finding> {
    let nixpkgs = nix::nixpkgs(settings, &Events::none()).await;
    // The script of a real NixOS brings its own programs from the store.
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

/// Checks the terminal on which a run is shown.
fn terminal() -> Finding {
    let term = text("TERM").unwrap_or_default();
    let found = match () {
        () if !std::io::stderr().is_terminal() => "none: a run is shown as plain lines".to_owned(),
        () if is_set("CI") => "one, but CI is set: a run is shown as plain lines".to_owned(),
        () if is_set("NO_COLOR") => "one, but NO_COLOR is set: a run is shown as plain lines".to_owned(),
        () if term.is_empty() || term == "dumb" => {
            let fix = "set TERM to the type of the terminal, such as xterm-256color";
            return Finding::new("terminal", State::Warning, format!("TERM is {term:?}: plain lines"), fix);
        }
        () => match rustix::termios::tcgetwinsize(std::io::stderr()) {
            Ok(size) => format!("{term}, {} columns and {} rows", size.ws_col, size.ws_row),
            Err(_) => term,
        },
    };
    Finding::ok("terminal", found)
}
