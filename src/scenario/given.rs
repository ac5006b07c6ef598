//! What a scenario's body is given: its machines, up and at the login prompt.

use crate::machine::Machine;
use crate::{Error, ErrorKind, Result};

/// The machines of one run of a scenario, by name.
#[derive(Default)]
pub struct Given {
    machines: Vec<(&'static str, Machine)>,
}

impl Given {
    /// Adds a machine that is up.
    pub(super) fn add(&mut self, name: &'static str, machine: Machine) {
        self.machines.push((name, machine));
    }

    /// Hands over the machine called `name`.
    ///
    /// # Errors
    /// If there is none, or it was handed over already: never in code that `#[scenario]` wrote.
    pub fn machine(&mut self, name: &str) -> Result<Machine> {
        let at = self.machines.iter().position(|(its, _)| *its == name);
        let at =
            at.ok_or_else(|| Error::new(ErrorKind::Usage, format!("this run has no machine `{name}`")))?;
        Ok(self.machines.remove(at).1)
    }
}
