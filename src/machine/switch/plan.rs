//! The forecast of a switch.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::known::KnownUnits;
use super::words::Words;
use crate::Events;
use crate::machine::services::units::with_suffix;

/// What a forecast does not know.
const FORECAST: &str = "a forecast: units that systemd stops or starts with these are not named";

/// What a switch would do, from `switch-to-configuration dry-activate`. Made by
/// [`Machine::plan`](crate::machine::Machine::plan).
///
/// It is a forecast: the program compares the files of units and does not ask systemd. It names neither units that
/// systemd stops because another one stops (`PartOf=`, `Requires=`, `BindsTo=`) nor inactive units that start again
/// because a target wants them. [`Outcome::disturbed`](super::outcome::Outcome::disturbed) tells what a switch did.
///
/// ```no_run
/// # async fn example(machine: nixvm_test::machine::Machine, next: nixvm_test::machine::System) -> nixvm_test::Result {
/// let plan = machine.plan(&next).await?;
/// assert!(!plan.disturbs("postgresql.service"), "{}", plan.why("postgresql.service"));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    stops: Vec<String>,
    restarts: Vec<String>,
    reloads: Vec<String>,
    starts: Vec<String>,
    skipped: Vec<String>,
    restarts_systemd: bool,
    refused_by: Vec<String>,
    text: String,
    /// The two systems on this host, if they are built here.
    #[serde(skip)]
    systems: Option<(PathBuf, PathBuf)>,
    /// The units of the machine.
    #[serde(skip)]
    known: KnownUnits,
    #[serde(skip)]
    machine: String,
    #[serde(skip)]
    events: Events,
}

impl Plan {
    /// Reads what the program printed on the machine, which knows `known`.
    pub(crate) fn of(
        (stdout, stderr): (&str, &str),
        systems: Option<(PathBuf, PathBuf)>,
        known: KnownUnits,
        (machine, events): (String, Events),
    ) -> Self {
        let Words { stopped, restarted, reloaded, started, skipped, restarts_systemd, .. } =
            Words::of(stdout, stderr);
        // The program also prints messages of activation scripts.
        let text = crate::text::lines(format!("{stdout}{stderr}").trim());
        Self {
            stops: stopped,
            restarts: restarted,
            reloads: reloaded,
            starts: started,
            skipped,
            restarts_systemd,
            refused_by: Vec::new(),
            text,
            systems,
            known,
            machine,
            events,
        }
    }

    /// Returns the units that would be stopped, sorted. A unit whose file changed is stopped before the activation and
    /// started after it, so it is here and in [`Plan::starts`].
    pub fn stops(&self) -> &[String] {
        &self.stops
    }

    /// Returns the units that would be restarted in one step, sorted.
    pub fn restarts(&self) -> &[String] {
        &self.restarts
    }

    /// Returns the units that would be reloaded, sorted.
    pub fn reloads(&self) -> &[String] {
        &self.reloads
    }

    /// Returns the units that would be started, sorted.
    pub fn starts(&self) -> &[String] {
        &self.starts
    }

    /// Returns the units that changed and would be left alone, sorted (`restartIfChanged = false`).
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// Adds what refuses the switch.
    pub(crate) fn refused(self, refused_by: Vec<String>) -> Self {
        Self { refused_by, ..self }
    }

    /// Returns what would refuse the switch before anything is done: components of the system that can't be exchanged
    /// while it runs, and checks. The rest of the forecast is for a switch without checks, or for a reboot.
    pub fn refused_by(&self) -> &[String] {
        &self.refused_by
    }

    /// Whether systemd itself would be executed again.
    pub fn restarts_systemd(&self) -> bool {
        self.restarts_systemd
    }

    /// Whether a running unit would be stopped or restarted. A name without a suffix is the name of a service.
    ///
    /// A unit that the machine does not know counts as disturbed, and a note says so: an assertion on a misspelt name
    /// must not pass.
    pub fn disturbs(&self, unit: &str) -> bool {
        let unit = with_suffix(unit);
        if !self.known.has(&unit) {
            let unknown = self.known.unknown(&unit);
            self.events.note(format!("{}: {unknown}, so it counts as disturbed", self.machine));
            return true;
        }
        let unit = self.known.id_of(&unit).to_owned();
        let has = |list: &[String]| list.contains(&unit);
        has(&self.restarts) || has(&self.stops)
    }

    /// Returns what the program printed, without control characters.
    pub fn output(&self) -> &str {
        &self.text
    }

    /// Whether no unit would be touched, as far as the program says.
    pub fn is_empty(&self) -> bool {
        [&self.stops, &self.restarts, &self.reloads, &self.starts, &self.skipped]
            .iter()
            .all(|list| list.is_empty())
            && !self.restarts_systemd
            && self.refused_by.is_empty()
    }

    /// Returns why a unit would be touched: the keys of its file that differ, with both values. The text is for a
    /// person.
    pub fn why(&self, unit: &str) -> String {
        let unit = with_suffix(unit);
        super::why::of(self.systems.as_ref(), &unit)
    }
}

/// Shows one list a line, and says that it is a forecast.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return write!(f, "no unit would be touched\n{FORECAST}");
        }
        let lists = [
            ("be refused", &self.refused_by),
            ("stop", &self.stops),
            ("restart", &self.restarts),
            ("reload", &self.reloads),
            ("start", &self.starts),
            ("leave alone although changed", &self.skipped),
        ];
        let mut lines: Vec<String> = lists
            .iter()
            .filter(|(_, units)| !units.is_empty())
            .map(|(what, units)| format!("would {what}: {}", units.join(", ")))
            .collect();
        if self.restarts_systemd {
            lines.push("would execute systemd again".to_owned());
        }
        lines.push(FORECAST.to_owned());
        f.write_str(&crate::text::lines(&lines.join("\n")))
    }
}
