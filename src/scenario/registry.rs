//! The scenarios of this binary. `#[scenario]` adds each before `main` begins, so adding must do
//! next to nothing: no printing, no input or output, no locks that anyone else holds.

use std::sync::Mutex;
use std::time::Duration;

use super::fixtures::Fixtures;
use super::outcome::Body;
use crate::mutex::lock;
use crate::template::Step;

/// One test, as `#[scenario]` registered it.
#[derive(Debug)]
pub struct Scenario {
    /// The function's name.
    pub function: &'static str,
    /// The module it stands in, the crate's name first.
    pub module: &'static str,
    /// The file it stands in, as the compiler named it: absolute, or relative to its workspace.
    pub file: &'static str,
    /// The line of the function.
    pub line: u32,
    /// The line on which its body ends.
    pub last_line: u32,
    /// The folder of the package that it was compiled in.
    pub manifest_dir: &'static str,
    /// The doc comment; empty if there is none.
    pub description: &'static str,
    /// Why it is left out unless asked for; empty if no reason was given.
    pub ignore: Option<&'static str>,
    /// Its time limit on a fast host; `None` for the default.
    pub timeout: Option<Duration>,
    /// How often it is tried again when it failed; `None` for what was chosen for the whole run.
    pub retries: Option<u32>,
    /// What a console may say without failing it: names of [`crate::machine::console_checks`].
    pub allow: &'static [&'static str],
    /// How long the boot of its machines may take.
    pub budget: Budget,
    /// Where its machines begin.
    pub from: Start,
    /// How much memory each of its machines has, in MiB; `None` for what the configuration says.
    pub memory: Option<u64>,
    /// How many processors each of its machines has; `None` for what the configuration says.
    pub cores: Option<u64>,
    /// What opens the disks of its machines.
    pub passphrase: Option<&'static str>,
    /// The machines it takes, in the order of the parameters.
    pub machines: &'static [MachineRequest],
    /// Runs the function on machines that are up.
    pub body: fn(Fixtures) -> Body,
}

/// How long parts of a boot may take, in calibrated time: as on a host on which the kernel takes one second.
#[derive(Debug, Clone, Copy, Default)]
pub struct Budget {
    /// From the kernel's first moment until everything is up.
    pub boot: Option<Duration>,
    /// Of that, what systemd takes.
    pub userspace: Option<Duration>,
    /// It holds for machines under TCG, where a boot is made of other parts, and not for those under KVM.
    pub under_tcg: bool,
}

/// One machine that a scenario takes.
#[derive(Debug)]
pub struct MachineRequest {
    /// Its name: the parameter's.
    pub name: &'static str,
    /// Its configuration as written in the attribute; `None` to look for one.
    pub configuration: Option<&'static str>,
    /// Whether the scenario takes a session on it, of the user whose name this is.
    pub session: bool,
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

/// A moment of the user's, as `#[checkpoint]` names it.
#[derive(Debug)]
pub struct Checkpoint {
    /// The function's name.
    pub function: &'static str,
    /// The module it stands in.
    pub module: &'static str,
    /// The moment before.
    pub from: Start,
    /// Goes from there to here.
    pub step: Step,
}

impl Scenario {
    /// The name that filters match and reports show: the modules it stands in, without the crate.
    ///
    /// It is `login` in a file of its own and `login::login` in a suite that has the file as a module.
    pub fn name(&self) -> String {
        match self.module.split_once("::") {
            Some((_, modules)) => format!("{modules}::{}", self.function),
            None => self.function.to_owned(),
        }
    }
}

static SCENARIOS: Mutex<Vec<&'static Scenario>> = Mutex::new(Vec::new());

/// Adds a scenario. Called by what `#[scenario]` expands to, before `main`.
pub fn register(scenario: &'static Scenario) {
    lock(&SCENARIOS).push(scenario);
}

/// Every scenario of this binary, by file and line: in the order in which they are written.
pub fn all() -> Vec<&'static Scenario> {
    let mut all = lock(&SCENARIOS).clone();
    all.sort_by_key(|scenario| (scenario.module, scenario.file, scenario.line));
    all
}

#[cfg(test)]
impl Scenario {
    /// One that passes. Tests say what theirs has instead.
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
            machines: &[],
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
