//! The arguments of a scenario's body: its machines, sessions on them, systems, and its network.

use super::registry::Kind;
use crate::machine::{Machine, Network, Session, System};
use crate::{Error, ErrorKind, Result};

/// What one run of a scenario takes, by name.
#[derive(Default)]
pub struct Fixtures {
    machines: Vec<Fixture>,
    systems: Vec<System>,
    network: Option<Network>,
}

/// A machine that is up, and the session on it that the scenario takes.
#[derive(Debug)]
pub(super) struct Fixture {
    pub(super) name: &'static str,
    pub(super) machine: Machine,
    pub(super) session: Option<Session>,
}

impl Fixtures {
    /// Returns fixtures without machines.
    pub(super) fn new(systems: Vec<System>, network: Option<Network>) -> Self {
        Self { machines: Vec::new(), systems, network }
    }

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

/// A parameter of a scenario: a [`Machine`], a [`Session`] of the user with the parameter's name, a [`System`], or the
/// [`Network`] of its machines.
#[diagnostic::on_unimplemented(
    message = "a scenario can't take `{Self}`",
    label = "a parameter is a `Machine`, a `Session` of the user with its name, a `System`, or the `Network` of its machines"
)]
pub trait Argument: Sized {
    /// What has to be prepared.
    const KIND: Kind;

    /// Takes what was prepared under that name.
    ///
    /// # Errors
    /// If there is none, or if it was taken already. That does not happen in code that `#[scenario]`
    /// generates.
    fn take(fixtures: &mut Fixtures, name: &str) -> Result<Self>;
}

impl Argument for Machine {
    const KIND: Kind = Kind::Machine;

    fn take(fixtures: &mut Fixtures, name: &str) -> Result<Self> {
        Ok(fixtures.take(name)?.machine)
    }
}

impl Argument for Session {
    const KIND: Kind = Kind::Session;

    fn take(fixtures: &mut Fixtures, name: &str) -> Result<Self> {
        let session = fixtures.take(name)?.session;
        session.ok_or_else(|| Error::new(ErrorKind::Usage, format!("the user `{name}` is not logged in")))
    }
}

impl Argument for System {
    const KIND: Kind = Kind::System;

    fn take(fixtures: &mut Fixtures, name: &str) -> Result<Self> {
        let found = fixtures.systems.iter().find(|system| system.name() == name).cloned();
        found.ok_or_else(|| Error::new(ErrorKind::Usage, format!("this run has no system `{name}`")))
    }
}

impl Argument for Network {
    const KIND: Kind = Kind::Network;

    fn take(fixtures: &mut Fixtures, _: &str) -> Result<Self> {
        let network = fixtures.network.clone();
        network.ok_or_else(|| Error::new(ErrorKind::Usage, "this run has no network"))
    }
}
