//! What a scenario's body is given: its machines, and sessions on them.

use crate::machine::{Machine, Session};
use crate::{Error, ErrorKind, Result};

/// The machines of one run of a scenario, by name.
#[derive(Default)]
pub struct Fixtures {
    machines: Vec<Fixture>,
}

/// A machine that is up, and who is logged in on it for the scenario.
#[derive(Debug)]
pub(super) struct Fixture {
    pub(super) name: &'static str,
    pub(super) machine: Machine,
    pub(super) session: Option<Session>,
}

impl Fixtures {
    /// Adds a machine that is up.
    pub(super) fn add(&mut self, fixture: Fixture) {
        self.machines.push(fixture);
    }

    fn take(&mut self, name: &str) -> Result<Fixture> {
        let at = self.machines.iter().position(|fixture| fixture.name == name);
        let at =
            at.ok_or_else(|| Error::new(ErrorKind::Usage, format!("this run has no machine `{name}`")))?;
        Ok(self.machines.remove(at))
    }
}

/// What a scenario can take as a parameter: a [`Machine`], or a [`Session`] of the user whose name the
/// parameter bears.
#[diagnostic::on_unimplemented(
    message = "a scenario can't take `{Self}`",
    label = "a parameter is a `Machine`, or a `Session` of the user of its name"
)]
pub trait Argument: Sized {
    /// Whether somebody has to be logged in.
    const IS_SESSION: bool;

    /// Takes what was made ready under that name.
    ///
    /// # Errors
    /// If there is none, or it was handed over already: never in code that `#[scenario]` wrote.
    fn take(fixtures: &mut Fixtures, name: &str) -> Result<Self>;
}

impl Argument for Machine {
    const IS_SESSION: bool = false;

    fn take(fixtures: &mut Fixtures, name: &str) -> Result<Self> {
        Ok(fixtures.take(name)?.machine)
    }
}

impl Argument for Session {
    const IS_SESSION: bool = true;

    fn take(fixtures: &mut Fixtures, name: &str) -> Result<Self> {
        let session = fixtures.take(name)?.session;
        session.ok_or_else(|| Error::new(ErrorKind::Usage, format!("nobody called `{name}` is logged in")))
    }
}
