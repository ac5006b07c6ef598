//! The scenarios of this binary. `#[scenario]` registers each before `main` begins, so registration must do
//! next to nothing: no output, no I/O, no locks that other code holds.

use std::sync::Mutex;
use std::time::Duration;

use super::fixtures::Fixtures;
use super::outcome::Body;
use super::rehearsal::Rehearsed;
use crate::mutex::lock;
use crate::template::{Step, StepTogether};

/// A test that `#[scenario]` registered.
#[derive(Debug)]
pub struct Scenario {
    /// The function's name.
    pub function: &'static str,
    /// The function's module path, which begins with the crate's name.
    pub module: &'static str,
    /// The function's file, as the compiler named it: absolute, or relative to its workspace.
    pub file: &'static str,
    /// The line of the function.
    pub line: u32,
    /// The last line of its body.
    pub last_line: u32,
    /// The folder of the package in which it was compiled.
    pub manifest_dir: &'static str,
    /// The doc comment; empty if there is none.
    pub description: &'static str,
    /// Why it runs only on request; empty if no reason was given.
    pub ignore: Option<&'static str>,
    /// Its time limit on a fast host; `None` for the default.
    pub timeout: Option<Duration>,
    /// How often a failure is retried; `None` for the run's setting.
    pub retries: Option<u32>,
    /// What a console may show without failing the scenario: names of [`crate::machine::console_checks`].
    pub allow: &'static [&'static str],
    /// How long the boot of its machines may take.
    pub budget: Budget,
    /// Where its machines begin.
    pub from: Start,
    /// The memory of each of its machines, in MiB; `None` for the configuration's.
    pub memory: Option<u64>,
    /// The number of processors of each of its machines; `None` for the configuration's.
    pub cores: Option<u64>,
    /// The passphrase for the encrypted disks of its machines.
    pub passphrase: Option<&'static str>,
    /// The VLANs of machines by their names; `None` for those of the configurations.
    pub vlans: Option<&'static [(&'static str, &'static [u8])]>,
    /// On which VLANs machines get their addresses from a DHCP server of the network.
    pub dhcp: Dhcp,
    /// The machines and systems that it takes, in the order of the function's parameters.
    pub parameters: &'static [Parameter],
    /// Runs the function on machines that are up.
    pub body: fn(Fixtures) -> Body,
}

/// How long parts of a boot may take, in calibrated time: as on a host whose kernel takes one second.
#[derive(Debug, Clone, Copy, Default)]
pub struct Budget {
    /// From the start of the kernel until everything is up.
    pub boot: Option<Duration>,
    /// The part of it that systemd takes.
    pub userspace: Option<Duration>,
    /// Whether it holds for machines under TCG, where boot times have another composition, instead of those
    /// under KVM.
    pub under_tcg: bool,
}

/// On which VLANs a DHCP server of the network answers machines that were built without the network module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dhcp {
    /// On all of them.
    #[default]
    On,
    /// On none.
    Off,
    /// On all but these.
    OffOn(&'static [u8]),
}

impl Dhcp {
    /// Whether there is a server on this VLAN.
    pub(super) fn is_on(self, vlan: u8) -> bool {
        match self {
            Self::On => true,
            Self::Off => false,
            Self::OffOn(numbers) => !numbers.contains(&vlan),
        }
    }
}

/// A machine or a system that a scenario takes.
#[derive(Debug)]
pub struct Parameter {
    /// Its name, which is that of the function's parameter.
    pub name: &'static str,
    /// What the scenario takes.
    pub kind: Kind,
    /// What it is built from, as written in the attribute; `None` to search for a configuration.
    pub source: Option<&'static str>,
    /// The nixpkgs that it is built with, as written in the attribute; `None` for the run's.
    pub nixpkgs: Option<&'static str>,
}

/// What a scenario takes as a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A machine that is booted.
    Machine,
    /// A session of the user with the parameter's name, on a booted machine of their own.
    Session,
    /// A system that is built and not booted.
    System,
    /// The network of its machines.
    Network,
}

/// Where the machines of a scenario begin.
#[derive(Debug, Clone, Copy)]
pub enum Start {
    /// Booted for this scenario alone.
    Cold,
    /// At the login prompt.
    Booted,
    /// A user is logged in.
    LoggedIn {
        /// The user's name.
        user: &'static str,
        /// Their password.
        password: &'static str,
    },
    /// After a function of the user's.
    Checkpoint(&'static Checkpoint),
}

/// A moment that the user defined with `#[checkpoint]`.
#[derive(Debug)]
pub struct Checkpoint {
    /// The function's name.
    pub function: &'static str,
    /// The function's module path.
    pub module: &'static str,
    /// The previous moment.
    pub from: Start,
    /// The function that goes from there to this moment.
    pub step: Steps,
}

/// The function of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub enum Steps {
    /// It takes one machine.
    One(Step),
    /// It takes several machines, which are saved at one moment.
    Together {
        /// Their names, in its order.
        machines: &'static [&'static str],
        /// The function.
        step: StepTogether,
    },
}

impl Scenario {
    /// Returns the name that filters match and reports show: the module path and the function, without the
    /// crate.
    ///
    /// It is `login` in a file of its own, and `login::login` in a suite that has the file as a module. At a stage of a
    /// rehearsal it has the stage in its name: the same scenario runs at each of them, in one record.
    pub fn name(&self) -> String {
        let name = match self.module.split_once("::") {
            Some((_, modules)) => format!("{modules}::{}", self.function),
            None => self.function.to_owned(),
        };
        match Rehearsed::of_environment() {
            Ok(Some(stage)) => format!("{name} ({})", stage.title()),
            // An unknown stage is an error of each scenario.
            Ok(None) | Err(_) => name,
        }
    }

    /// Returns the parameters for which a machine is booted.
    pub(super) fn machines(&self) -> impl Iterator<Item = &'static Parameter> + use<> {
        let is_machine = |parameter: &&Parameter| matches!(parameter.kind, Kind::Machine | Kind::Session);
        self.parameters.iter().filter(is_machine)
    }

    /// Returns whether its machines are on a network: if there are several, or if it asks for a network.
    pub(super) fn has_network(&self) -> bool {
        self.vlans.is_some()
            || self.machines().count() > 1
            || self.parameters.iter().any(|parameter| parameter.kind == Kind::Network)
    }

    /// Returns the parameters that are built and not booted.
    pub(super) fn systems(&self) -> impl Iterator<Item = &'static Parameter> + use<> {
        self.parameters.iter().filter(|parameter| parameter.kind == Kind::System)
    }
}

static SCENARIOS: Mutex<Vec<&'static Scenario>> = Mutex::new(Vec::new());

/// Adds a scenario. Code that `#[scenario]` generates calls it before `main`.
pub fn register(scenario: &'static Scenario) {
    lock(&SCENARIOS).push(scenario);
}

/// Returns every scenario of this binary in the order of the source: by file and line.
pub fn all() -> Vec<&'static Scenario> {
    let mut all = lock(&SCENARIOS).clone();
    all.sort_by_key(|scenario| (scenario.module, scenario.file, scenario.line));
    all
}

#[cfg(test)]
impl Scenario {
    /// Returns a scenario that passes. Tests change what they need.
    pub(super) fn sample() -> Self {
        Self {
            function: "login",
            module: "login",
            file: "scenarios/login.rs",
            line: 5,
            last_line: 9,
            manifest_dir: "/project",
            description: "",
            ignore: None,
            timeout: None,
            allow: &[],
            budget: Default::default(),
            from: Start::Booted,
            retries: None,
            memory: None,
            cores: None,
            passphrase: None,
            vlans: None,
            dhcp: Dhcp::On,
            parameters: &[],
            body: |_| Box::pin(async { Ok(()) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(module: &'static str) -> Scenario {
        Scenario { module, ..Scenario::sample() }
    }

    #[test]
    fn a_name_leaves_out_the_crate() {
        assert_eq!(scenario("login_4f2a").name(), "login");
        assert_eq!(scenario("scenarios::login").name(), "login::login");
        assert_eq!(scenario("scenarios::web::login").name(), "web::login::login");
    }
}
