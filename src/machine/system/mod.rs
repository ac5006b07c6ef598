//! A system that is built and not booted.

pub(crate) mod history;

use std::fmt;
use std::path::Path;

use crate::{BuiltVm, Error, ErrorKind, Result};

/// A system that is built and not booted: what a machine can switch to.
///
/// A scenario takes it as a parameter. It is built from the same sources as a machine; see
/// [`scenario`](macro@crate::scenario).
///
/// ```no_run
/// use nixvm_test::prelude::*;
///
/// #[scenario(machine = "git:HEAD")] // next is the uncommitted configuration
/// async fn the_change_is_safe(machine: Machine, next: System) -> Result {
///     machine.login("alice", "test").await?;
///     let outcome = machine.switch(&next).await?;
///     assert!(!outcome.disturbed("postgresql.service"));
///     Ok(())
/// }
///
/// nixvm_test::main!();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// `None` in a replay, which builds nothing.
    vm: Option<BuiltVm>,
    /// Its name in messages: the scenario's parameter.
    name: String,
    /// Its source, as the user wrote it.
    source: String,
}

impl System {
    /// Returns the system of a built VM. `name` and `source` are for messages.
    pub(crate) fn of(vm: BuiltVm, name: &str, source: String) -> Self {
        Self { vm: Some(vm), name: name.to_owned(), source }
    }

    /// Returns the system for a replay, where nothing is built.
    pub(crate) fn recorded(name: &str, source: String) -> Self {
        Self { vm: None, name: name.to_owned(), source }
    }

    /// Returns its name: the name of the scenario's parameter.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its source, as the user wrote it.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Returns the path of the system in the Nix store.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the built VM has no `system` link beside its `bin` folder;
    /// [`ErrorKind::NotRecorded`] in a replay, which builds nothing.
    pub fn path(&self) -> Result<&Path> {
        let vm = self.vm()?;
        vm.system().ok_or_else(|| {
            let script = vm.script().display();
            Error::new(ErrorKind::Usage, format!("{self} has no `system` link: only {script} is known"))
                .next_step("give the folder that nix-build made (`result`), not the script in it")
        })
    }

    /// Whether a machine that goes from one to the other runs the same system: a switch makes no new generation.
    pub(crate) fn is_same_system(&self, other: &Self) -> bool {
        match (self.path(), other.path()) {
            (Ok(ours), Ok(theirs)) => ours == theirs,
            _ => self == other,
        }
    }

    /// Returns the built VM.
    ///
    /// # Errors
    /// [`ErrorKind::NotRecorded`] in a replay.
    pub(crate) fn vm(&self) -> Result<&BuiltVm> {
        self.vm.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::NotRecorded, format!("{self} is not built: a replay builds nothing"))
                .next_step("run the scenario on a machine, without --against")
        })
    }
}

/// Shows the name and the source: `next (configuration.nix)`.
impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.source)
    }
}
