//! Units of systemd: their states, and waiting for them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::stopped::Instant;

use nixvm_test_macros::tracked;

use crate::machine::bus::{Bus, Unit};
use crate::machine::command_text::quoted;
use crate::machine::limit::StandsStill;
use crate::machine::output::Output;
use crate::machine::services::inactive::{Hopeless, meaning};
use crate::machine::{Life, Machine, User, WAIT};
use crate::{Error, ErrorKind, Result};

/// Asks again after this time, because a signal may get lost when a bus is restarted.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Polling interval without a bus that sends signals.
const LOOK_BY_PROGRAMS: Duration = Duration::from_millis(250);
/// The wait fails when nothing has been about to start the unit for this long, on a fast host.
const HOPELESS: Duration = Duration::from_secs(2);
/// The limit for `systemctl status` and the end of the journal, on a fast host.
const STATUS: Duration = Duration::from_secs(10);

/// # Units of systemd
impl User {
    /// Waits until a unit is active. For root it is a unit of the system's service manager, otherwise of the user's
    /// own. A name without a suffix is the name of a service.
    ///
    /// The wait ends as soon as systemd reports it, and fails at once when the unit fails. It also fails when the unit
    /// is inactive (or unknown, or masked) and nothing is about to start it: for two seconds (on a fast host), the
    /// service manager had no jobs, and nothing that is up triggers the unit: a timer, path or socket unit, or a unit that
    /// names it in `OnSuccess=` or `OnFailure=`. Where a program starts the unit later,
    /// `wait_until_succeeds("systemctl is-active UNIT")` waits for it.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for an empty name; [`ErrorKind::UnitFailed`] with the reason, the unit's status and the end of its journal; [`ErrorKind::Timeout`]
    /// after the limit ([`User::within`]; 5 minutes on a fast host when not given); and those of
    /// [`User::execute`].
    #[tracked]
    pub async fn wait_for_unit(&self, unit: &str) -> Result {
        let unit = full_name(unit)?;
        let life = self.life();
        let _step = life.step(format!("wait for unit {unit}"));
        let question = format!("{}: wait for unit {unit}", self.name);
        life.answer(&question, self.wait_for_full_name(&life, &unit)).await
    }

    async fn wait_for_full_name(&self, life: &Life, unit: &str) -> Result {
        let limit = life.limit(self.limit.unwrap_or(WAIT));
        let started = Instant::now();
        let mut known = None;
        let waiting = async {
            // Opening the channel has its own limits and is not part of the wait.
            life.channel(&self.name).await?;
            let waiting = async {
                let bus = life.bus(&self.name).await?;
                self.watch_unit(bus.as_ref(), unit, life.limit(HOPELESS), &mut known).await
            };
            crate::stopped::timeout(limit, waiting).await.unwrap_or(Ok(false))
        };
        if life.held_to(limit, waiting).await.unwrap_or(Ok(false))? {
            return Ok(());
        }
        let is = known.map_or_else(|| "systemd does not answer".to_owned(), |state| format!("it is {state}"));
        let summary = format!("{}: {unit} did not become active: {is}", life.name);
        let error = Error::new(ErrorKind::Timeout, summary).took(started.elapsed(), limit);
        Err(self.with_status(error, unit, STATUS.min(self.limit.unwrap_or(WAIT))).await)
    }

    /// Returns `true` once the unit is active. Meanwhile `known` has its state.
    async fn watch_unit(
        &self,
        bus: Option<&Bus>,
        unit: &str,
        patience: Duration,
        known: &mut Option<Unit>,
    ) -> Result<bool> {
        // Subscribed before the first question, so that no signal after it is missed.
        let mut happenings = bus.map(Bus::happenings);
        let mut hopeless = Hopeless::default();
        loop {
            let look = self.look_at(bus, unit).await?;
            let state = known.insert(look.unit.clone());
            match state.active.as_str() {
                // A reloading unit stays active.
                "active" | "reloading" | "refreshing" => return Ok(true),
                "failed" => return Err(self.has_failed(unit).await),
                _ => {}
            }
            if hopeless.after(&look, Instant::now()) >= patience {
                return Err(self.never_active(unit, &look, STATUS).await);
            }
            match &mut happenings {
                Some(happenings) => happenings.about(unit, LOOK_AGAIN).await,
                None => tokio::time::sleep(LOOK_BY_PROGRAMS).await,
            }
        }
    }

    async fn has_failed(&self, unit: &str) -> Error {
        let error = Error::new(ErrorKind::UnitFailed, format!("{}: {unit} failed", self.machine.name()));
        let result = self.within(STATUS).get_unit_property(unit, "Result").await.unwrap_or_default();
        let error = match meaning(&result) {
            Some(meaning) => error.likely_cause(meaning),
            None => error,
        };
        self.with_status(error, unit, STATUS).await
    }

    /// Fails unless the unit is in `state` now: `active`, `inactive`, `failed`, …
    ///
    /// # Errors
    /// [`ErrorKind::UnitFailed`] with its status when it is in another, and those of [`User::execute`].
    #[tracked]
    pub async fn require_unit_state(&self, unit: &str, state: &str) -> Result {
        let unit = full_name(unit)?;
        let life = self.life();
        let question = format!("{}: state of unit {unit}", self.name);
        let state_of = life.answer(&question, async {
            match life.bus(&self.name).await? {
                Some(bus) => Ok(bus.unit(&unit).await?.active),
                None => self.get_unit_property(&unit, "ActiveState").await,
            }
        });
        let found = state_of.await?;
        if found == state {
            return Ok(());
        }
        let summary = format!("{}: {unit} is {found}, expected {state}", self.machine.name());
        Err(self.with_status(Error::new(ErrorKind::UnitFailed, summary), &unit, STATUS).await)
    }

    /// Returns all properties of a unit that `systemctl show` prints.
    ///
    /// # Errors
    /// Those of [`User::succeed`].
    #[tracked]
    pub async fn get_unit_info(&self, unit: &str) -> Result<BTreeMap<String, String>> {
        let output = self.systemctl_succeeds(&format!("show -- {}", quoted(&full_name(unit)?))).await?;
        let pairs = output.lines().filter_map(|line| line.split_once('='));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Returns one property of a unit as `systemctl show` prints it; empty if the unit does not have it.
    ///
    /// # Errors
    /// Those of [`User::succeed`].
    #[tracked]
    pub async fn get_unit_property(&self, unit: &str, property: &str) -> Result<String> {
        let name = quoted(&full_name(unit)?);
        let output = self.systemctl_succeeds(&format!("show -P {} -- {name}", quoted(property))).await?;
        Ok(output.text().trim_end_matches('\n').to_owned())
    }

    /// Runs `systemctl` with these words and returns its output, whether it succeeds or fails. For a user, `--user` is
    /// added.
    ///
    /// # Errors
    /// Those of [`User::execute`].
    #[tracked]
    pub async fn systemctl(&self, words: impl AsRef<str>) -> Result<Output> {
        self.execute(format!("systemctl {}{}", self.manager(), words.as_ref())).await
    }

    /// Starts a unit and waits until it is up.
    ///
    /// # Errors
    /// [`ErrorKind::CommandFailed`] when it can't be started, and those of [`User::execute`].
    #[tracked]
    pub async fn start_job(&self, unit: &str) -> Result {
        self.systemctl_succeeds(&format!("start -- {}", quoted(&full_name(unit)?))).await.map(drop)
    }

    /// Stops a unit and waits until it is down.
    ///
    /// # Errors
    /// [`ErrorKind::CommandFailed`] when it can't be stopped, and those of [`User::execute`].
    #[tracked]
    pub async fn stop_job(&self, unit: &str) -> Result {
        self.systemctl_succeeds(&format!("stop -- {}", quoted(&full_name(unit)?))).await.map(drop)
    }

    async fn systemctl_succeeds(&self, words: &str) -> Result<Output> {
        self.succeed(format!("systemctl {}{words}", self.manager())).await
    }

    pub(super) fn manager(&self) -> &'static str {
        if self.name == "root" { "--no-pager " } else { "--user --no-pager " }
    }

    /// Adds what systemd and the journal say about the unit. `patience` is the limit for each answer, on a fast host.
    pub(super) async fn with_status(&self, error: Error, unit: &str, patience: Duration) -> Error {
        let which = self.manager();
        let name = quoted(unit);
        let user = if self.name == "root" { "" } else { "--user " };
        let ask = |command: String| async move {
            match self.within(patience).execute(&command).await {
                Ok(output) => output.text().to_owned(),
                Err(error) => error.summary().to_owned(),
            }
        };
        let status = ask(format!("systemctl {which}status -l --lines=0 -- {name} 2>&1"));
        let journal = ask(format!("journalctl {user}--no-pager -b -n 25 -o short-monotonic -u {name} 2>&1"));
        let life = self.life();
        let both = async { tokio::join!(status, journal) };
        let Ok((status, journal)) = life.held_to(Duration::ZERO, both).await else {
            return error.likely_cause(StandsStill::CAUSE);
        };
        let shown = |text: &str| crate::console::shown(text.as_bytes(), 30);
        error.section("its status", shown(&status)).section("its journal", shown(&journal))
    }
}

impl std::fmt::Display for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.active, self.sub)?;
        if self.load == "loaded" { Ok(()) } else { write!(f, ", {}", self.load) }
    }
}

/// Returns a unit's name with its suffix. Like systemctl, it defaults to a service.
fn full_name(unit: &str) -> Result<String> {
    if unit.is_empty() || unit.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Error::new(ErrorKind::Usage, format!("{unit:?} is no name of a unit")));
    }
    Ok(with_suffix(unit))
}

/// Returns a unit's name with its suffix, for a name that is one.
pub(in crate::machine) fn with_suffix(unit: &str) -> String {
    const TYPES: [&str; 11] = [
        "service",
        "socket",
        "target",
        "timer",
        "mount",
        "automount",
        "swap",
        "path",
        "slice",
        "scope",
        "device",
    ];
    match unit.rsplit_once('.') {
        Some((_, suffix)) if TYPES.contains(&suffix) => unit.to_owned(),
        _ => format!("{unit}.service"),
    }
}

/// # Services
///
/// As root. See the methods of [`User`].
impl Machine {
    /// Waits until a unit of the system is active. See [`User::wait_for_unit`].
    ///
    /// # Errors
    /// Those of [`User::wait_for_unit`].
    #[tracked]
    pub async fn wait_for_unit(&self, unit: &str) -> Result {
        self.root().wait_for_unit(unit).await
    }

    /// Fails unless the unit is in `state` now. See [`User::require_unit_state`].
    ///
    /// # Errors
    /// Those of [`User::require_unit_state`].
    #[tracked]
    pub async fn require_unit_state(&self, unit: &str, state: &str) -> Result {
        self.root().require_unit_state(unit, state).await
    }

    /// Returns all properties of a unit that `systemctl show` prints. See [`User::get_unit_info`].
    ///
    /// # Errors
    /// Those of [`User::get_unit_info`].
    #[tracked]
    pub async fn get_unit_info(&self, unit: &str) -> Result<BTreeMap<String, String>> {
        self.root().get_unit_info(unit).await
    }

    /// Returns one property of a unit. See [`User::get_unit_property`].
    ///
    /// # Errors
    /// Those of [`User::get_unit_property`].
    #[tracked]
    pub async fn get_unit_property(&self, unit: &str, property: &str) -> Result<String> {
        self.root().get_unit_property(unit, property).await
    }

    /// Runs `systemctl` with these words. See [`User::systemctl`].
    ///
    /// # Errors
    /// Those of [`User::systemctl`].
    #[tracked]
    pub async fn systemctl(&self, words: impl AsRef<str>) -> Result<Output> {
        self.root().systemctl(words).await
    }

    /// Starts a unit. See [`User::start_job`].
    ///
    /// # Errors
    /// Those of [`User::start_job`].
    #[tracked]
    pub async fn start_job(&self, unit: &str) -> Result {
        self.root().start_job(unit).await
    }

    /// Stops a unit. See [`User::stop_job`].
    ///
    /// # Errors
    /// Those of [`User::stop_job`].
    #[tracked]
    pub async fn stop_job(&self, unit: &str) -> Result {
        self.root().stop_job(unit).await
    }
}

#[cfg(test)]
mod tests {
    use super::full_name;

    #[test]
    fn a_name_without_a_suffix_is_that_of_a_service() {
        assert_eq!(full_name("nginx").unwrap(), "nginx.service");
        assert_eq!(full_name("multi-user.target").unwrap(), "multi-user.target");
        assert_eq!(full_name("dbus-org.freedesktop.login1").unwrap(), "dbus-org.freedesktop.login1.service");
    }
}
