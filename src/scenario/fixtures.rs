//! The arguments of a scenario's body: its machines, and sessions on them.

use crate::machine::{Machine, Session};
use crate::{Error, ErrorKind, Result};

/// The machines of one run of a scenario, by name.
#[derive(Default)]
pub struct Fixtures {
    machines: Vec<Fixture>,
}

/// A machine that is up, and the session on it that the scenario takes.
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

/// A parameter of a scenario: a [`Machine`], or a [`Session`] of the user with the parameter's name.
#[diagnostic::on_unimplemented(
    message = "a scenario can't take `{Self}`",
    label = "a parameter is a `Machine`, or a `Session` of the user with its name"
)]
pub trait Argument: Sized {
    /// Whether a user has to be logged in.
    const IS_SESSION: bool;

    /// Takes what was prepared under that name.
    ///
    /// # Errors
    /// If there is none, or if it was taken already. That does not happen in code that `#[scenario]`
    /// generates.
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
        session.ok_or_else(|| Error::new(ErrorKind::Usage, format!("the user `{name}` is not logged in")))
    }
}
