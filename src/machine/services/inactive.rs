//! Finds out whether an inactive unit may still be started, and why it was not.
//!
//! The rule is that of the NixOS test driver: nothing will start the unit if the manager has no jobs. Other units can
//! start it later, and the unit names them: timers, paths and sockets, and those that have it in `OnSuccess=` or
//! `OnFailure=`. One that is inactive may itself be started by others.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::machine::bus::{Bus, Unit};
use crate::machine::command_text::quoted;
use crate::machine::{User, bus};
use crate::stopped::Instant;
use crate::{Error, ErrorKind, Result};

/// The maximum time that counts between two samples: a paused guest had no time to start anything.
const BETWEEN: Duration = Duration::from_secs(2);

/// One sample of a unit's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) unit: Unit,
    /// The number of the manager's jobs; `None` if the manager does not say.
    jobs: Option<u32>,
    /// The units that trigger this one, and those that trigger an inactive one of them.
    triggers: Vec<Trigger>,
}

/// A unit that starts another one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trigger {
    /// The property of the other unit that names it.
    property: String,
    /// The other unit.
    of: String,
    name: String,
    state: String,
}

/// The properties that name triggers. [`Trigger::is_up`] treats the first one differently.
const TRIGGERS: [&str; 3] = [TRIGGERED_BY, "OnSuccessOf", "OnFailureOf"];
const TRIGGERED_BY: &str = "TriggeredBy";
/// Maximum number of triggers that are examined.
const MOST: usize = 64;

impl Look {
    /// Returns whether nothing is about to start the unit.
    fn is_hopeless(&self) -> bool {
        self.unit.active == "inactive" && self.jobs == Some(0) && !self.triggers.iter().any(Trigger::is_up)
    }
}

/// The states of a timer that will not fire again, and of a service that runs no more.
const AT_REST: [&str; 2] = ["elapsed", "exited"];

impl Trigger {
    /// Returns whether it can start the other unit now.
    fn is_up(&self) -> bool {
        match self.state.as_str() {
            "active" | "activating" | "reloading" | "refreshing" => true,
            // Its end is what starts the other one.
            "deactivating" => self.property != TRIGGERED_BY,
            _ => false,
        }
    }

    /// Returns whether it may be started by its own triggers.
    fn is_down(&self) -> bool {
        matches!(self.state.as_str(), "inactive" | "failed")
    }
}

/// Returns a unit's state for [`Trigger`].
fn state_of(active: &str, sub: &str) -> String {
    if active == "active" && AT_REST.contains(&sub) { format!("active ({sub})") } else { active.to_owned() }
}

/// Whether a unit becomes active without a job: systemd hears of a device from udev, and of what is mounted from the kernel.
fn appears_by_itself(unit: &str) -> bool {
    unit.starts_with('/') || [".device", ".mount", ".swap"].iter().any(|kind| unit.ends_with(kind))
}

/// How long nothing has been about to start a unit, over consecutive samples.
#[derive(Debug, Default)]
pub(super) struct Hopeless {
    last: Option<Instant>,
    held: Duration,
}

impl Hopeless {
    /// Adds a sample taken `now`. Returns how long the unit has been hopeless.
    pub(super) fn after(&mut self, look: &Look, now: Instant) -> Duration {
        if !look.is_hopeless() {
            *self = Self::default();
            return Duration::ZERO;
        }
        if let Some(last) = self.last.replace(now) {
            self.held += now.saturating_duration_since(last).min(BETWEEN);
        }
        self.held
    }
}

impl User {
    /// Samples a unit's state, over the bus if there is one. Some questions are asked only for an inactive unit.
    pub(super) async fn look_at(&self, bus: Option<&Bus>, unit: &str) -> Result<Look> {
        let mut look = match bus {
            Some(bus) => look_by_bus(bus, unit).await?,
            None => self.look_by_programs(unit).await?,
        };
        if appears_by_itself(unit) {
            look.jobs = None;
        }
        Ok(look)
    }

    async fn look_by_programs(&self, unit: &str) -> Result<Look> {
        let which = self.manager();
        let (unit, triggers) = (quoted(unit), TRIGGERS.join(" "));
        let script = format!(
            "systemctl {which}show -p LoadState -p ActiveState -p SubState -- {unit}
n=0; seen=' '
w() {{ local p i a; for p in {triggers}; do for i in $(systemctl {which}show -P $p -- \"$1\"); do
case $seen in *\" $p $1 $i \"*) continue ;; esac; seen=\"$seen$p $1 $i \"; n=$((n+1)); [ $n -le {MOST} ] || return
a=$(systemctl {which}show -P ActiveState -- \"$i\"); echo \"Trigger=$p $1 $i $a $(systemctl {which}show -P SubState -- \"$i\")\"
case $a in inactive|failed) w \"$i\" ;; esac; done; done; }}
a=$(systemctl {which}show -P ActiveState -- {unit}); [ \"$a\" != inactive ] || w {unit}
if j=$(systemctl {which}list-jobs --no-legend); then case $j in '' | 'No jobs'*) echo Jobs=0;; *) echo Jobs=1;; esac; fi"
        );
        let output = self.succeed(script).await?;
        let mut look = Look { unit: bus::Unit::default(), jobs: None, triggers: Vec::new() };
        for (name, value) in output.lines().filter_map(|line| line.split_once('=')) {
            match name {
                "LoadState" => value.clone_into(&mut look.unit.load),
                "ActiveState" => value.clone_into(&mut look.unit.active),
                "SubState" => value.clone_into(&mut look.unit.sub),
                "Trigger" => {
                    if let [property, of, name, active, sub] = value.split(' ').collect::<Vec<_>>()[..] {
                        look.triggers.push(Trigger {
                            property: property.to_owned(),
                            of: of.to_owned(),
                            name: name.to_owned(),
                            state: state_of(active, sub),
                        });
                    }
                }
                "Jobs" => look.jobs = value.parse().ok(),
                _ => {}
            }
        }
        Ok(look)
    }

    /// Returns the error for a unit that is inactive and stays so.
    pub(super) async fn never_active(&self, unit: &str, look: &Look, patience: Duration) -> Error {
        let machine = self.machine.name();
        let summary = match look.unit.load.as_str() {
            "loaded" => {
                format!("{machine}: {unit} is inactive ({}), and nothing will start it", look.unit.sub)
            }
            "masked" => format!("{machine}: {unit} is masked, so nothing can start it"),
            "not-found" => format!("{machine}: systemd knows no unit {unit}"),
            other => format!("{machine}: systemd can't load {unit} ({other})"),
        };
        let mut error = Error::new(ErrorKind::UnitFailed, summary);
        let info = self.within(patience).get_unit_info(unit).await.unwrap_or_default();
        if look.unit.load != "not-found" {
            error = error.section("systemd says of it", said(unit, &info, &look.triggers));
        }
        let (cause, next) = why_inactive(unit, look, &info);
        error = error.likely_cause(cause).next_step(next);
        self.with_status(error, unit, patience).await
    }
}

async fn look_by_bus(bus: &Bus, unit: &str) -> Result<Look> {
    let mut look = Look { unit: bus.unit(unit).await?, jobs: None, triggers: Vec::new() };
    if look.unit.active == "inactive" {
        let mut at = 0;
        let mut of = unit.to_owned();
        loop {
            for property in TRIGGERS {
                for name in bus.units_in(&of, property).await {
                    let is_known = |known: &Trigger| {
                        (&known.name, &known.of, known.property.as_str()) == (&name, &of, property)
                    };
                    if look.triggers.len() == MOST || look.triggers.iter().any(is_known) {
                        continue;
                    }
                    let bus::Unit { active, sub, .. } = bus.unit(&name).await?;
                    let (property, of) = (property.to_owned(), of.clone());
                    look.triggers.push(Trigger { property, of, name, state: state_of(&active, &sub) });
                }
            }
            let Some(next) = look.triggers[at..].iter().position(Trigger::is_down) else { break };
            at += next + 1;
            of.clone_from(&look.triggers[at - 1].name);
        }
        // Asked last: a trigger that fired since then shows as a job, or the unit is not inactive any more.
        look.jobs = bus.jobs().await?;
    }
    Ok(look)
}

/// The properties that tell why a unit is not active.
const TELLING: [&str; 10] = [
    "LoadError",
    "UnitFileState",
    "Result",
    "ConditionResult",
    "AssertResult",
    "ExecMainCode",
    "ExecMainStatus",
    "NRestarts",
    "Type",
    "RemainAfterExit",
];

fn said(unit: &str, info: &BTreeMap<String, String>, triggers: &[Trigger]) -> String {
    let mut lines: Vec<String> = TELLING
        .iter()
        .filter(|name| {
            // systemd says `no` of a condition that it has not looked at.
            let looked = name.strip_suffix("Result").filter(|what| !what.is_empty());
            looked.is_none_or(|what| {
                info.get(&format!("{what}TimestampMonotonic")).is_some_and(|time| time != "0")
            })
        })
        .filter_map(|name| {
            info.get(*name).filter(|value| !value.is_empty()).map(|value| format!("{name}={value}"))
        })
        .collect();
    lines.extend(triggers.iter().map(|Trigger { property, of, name, state }| {
        let of = if of == unit { String::new() } else { format!(" of {of}") };
        format!("{property}={name}{of}, which is {state}")
    }));
    crate::console::shown(lines.join("\n").as_bytes(), 30)
}

/// Returns why a unit is inactive, and what to do about it.
fn why_inactive(unit: &str, look: &Look, info: &BTreeMap<String, String>) -> (String, String) {
    let value = |name: &str| info.get(name).map_or("", String::as_str);
    let has_been = |name: &str| !matches!(value(name), "" | "0");
    let name = unit.rsplit_once('.').map_or(unit, |(name, _)| name);
    match look.unit.load.as_str() {
        "not-found" => {
            return (
                "the name is misspelled, or the configuration does not enable the service".to_owned(),
                "see `systemctl list-unit-files` in the machine".to_owned(),
            );
        }
        "masked" => {
            return (
                format!(
                    "the configuration says `systemd.services.{name}.enable = false`, or `systemctl mask` was run"
                ),
                "see `systemctl cat` in the machine".to_owned(),
            );
        }
        "loaded" => {}
        _ => {
            return (
                format!("its file has a mistake: {}", crate::text::line(value("LoadError"))),
                "`systemd-analyze verify` in the machine names the line".to_owned(),
            );
        }
    }
    if value("ConditionResult") == "no" && has_been("ConditionTimestampMonotonic") {
        return (
            "a condition of the unit does not hold (Condition…= in its file), so systemd skipped it"
                .to_owned(),
            "its status names the condition".to_owned(),
        );
    }
    if value("AssertResult") == "no" && has_been("AssertTimestampMonotonic") {
        return (
            "an assertion of the unit does not hold (Assert…= in its file)".to_owned(),
            "its status names the assertion".to_owned(),
        );
    }
    if let Some(meaning) = meaning(value("Result")) {
        return (meaning, "read its journal".to_owned());
    }
    if has_been("InactiveExitTimestampMonotonic") {
        return (
            "it was started and has ended: a oneshot service without RemainAfterExit is inactive afterwards, and \
             another service may have been stopped"
                .to_owned(),
            "wait for what it leaves behind (`wait_for_file`, `wait_until_succeeds`), or check the \
             property `Result`"
                .to_owned(),
        );
    }
    if let Some(Trigger { property, name, state, .. }) = look.triggers.first() {
        let how = match property.as_str() {
            TRIGGERED_BY => "starts it",
            "OnSuccessOf" => "starts it when it ends well (`OnSuccess=`)",
            _ => "starts it when it fails (`OnFailure=`)",
        };
        return (
            format!("{name} {how}, and is itself {state}"),
            format!("start {name}: `machine.start_job({name:?})`"),
        );
    }
    (
        "no unit that was started wants it (`wantedBy` in the configuration), or what it requires has failed"
            .to_owned(),
        format!(
            "start it: `machine.start_job({unit:?})`; where a program starts it later, wait with \
             `wait_until_succeeds(\"systemctl is-active {unit}\")`"
        ),
    )
}

/// Returns the meaning of systemd's `Result=` of a unit; `None` if it ended well.
pub(super) fn meaning(result: &str) -> Option<String> {
    let meaning = match result {
        "" | "success" => return None,
        "start-limit-hit" => {
            "it was started too often in a short time (StartLimitBurst), and systemd gave up; its journal \
             says why it ended \
             each time"
        }
        "trigger-limit-hit" => "it was triggered too often in a short time, and systemd gave up",
        "exit-code" => "a program of it ended with a status other than 0",
        "signal" => "a program of it was ended by a signal",
        "core-dump" => "a program of it crashed",
        "timeout" => "it did not start or stop within its time (TimeoutStartSec, TimeoutStopSec)",
        "watchdog" => "it did not report to systemd's watchdog in time",
        "oom-kill" => "the kernel or systemd-oomd killed it because memory ran out",
        "exec-condition" => "its ExecCondition did not hold, so systemd skipped it",
        "protocol" => {
            "it did not follow the protocol of its Type=: it ended before it was ready, or it left no main process"
        }
        "resources" => "systemd could not give it what it needs: a user, a folder, memory, a namespace",
        other => return Some(format!("systemd calls its end `{}`", crate::text::line(other))),
    };
    Some(format!("{meaning} (Result={result})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(active: &str, jobs: Option<u32>, triggers: &[(&str, &str)]) -> Look {
        let unit = Unit { load: "loaded".to_owned(), active: active.to_owned(), sub: "dead".to_owned() };
        let trigger = |(name, state): &(&str, &str)| {
            let (property, name) = name.split_once('=').unwrap_or((TRIGGERED_BY, name));
            let of = "it.service".to_owned();
            Trigger { property: property.to_owned(), of, name: name.to_owned(), state: (*state).to_owned() }
        };
        Look { unit, jobs, triggers: triggers.iter().map(trigger).collect() }
    }

    #[test]
    fn a_unit_is_waited_for_while_something_may_start_it() {
        for (look, hopeless) in [
            (look("inactive", Some(0), &[]), true),
            (look("inactive", Some(0), &[("a.timer", "inactive"), ("a.socket", "failed")]), true),
            (look("inactive", Some(0), &[("a.timer", "inactive"), ("a.socket", "active")]), false),
            (look("inactive", Some(0), &[("a.timer", "active (elapsed)")]), true),
            (look("inactive", Some(0), &[("a.timer", "deactivating")]), true),
            (look("inactive", Some(0), &[("OnSuccessOf=a.service", "active")]), false),
            (look("inactive", Some(0), &[("OnFailureOf=a.service", "activating")]), false),
            (look("inactive", Some(0), &[("OnFailureOf=a.service", "deactivating")]), false),
            (look("inactive", Some(0), &[("OnSuccessOf=a.service", "active (exited)")]), true),
            (
                look("inactive", Some(0), &[("OnSuccessOf=a.service", "inactive"), ("a.timer", "active")]),
                false,
            ),
            (look("inactive", Some(0), &[("OnSuccessOf=a.service", "failed")]), true),
            (look("inactive", Some(1), &[]), false),
            (look("inactive", None, &[]), false),
            (look("activating", Some(0), &[]), false),
            (look("deactivating", Some(0), &[]), false),
        ] {
            assert_eq!(look.is_hopeless(), hopeless, "{look:?}");
        }
    }

    #[test]
    fn devices_and_what_is_mounted_need_no_job() {
        for (unit, appears) in [
            ("dev-vdb.device", true),
            ("/dev/vdb", true),
            ("mnt.mount", true),
            ("dev-vdb.swap", true),
            ("web.service", false),
            ("device.service", false),
        ] {
            assert_eq!(appears_by_itself(unit), appears, "{unit}");
        }
    }

    #[test]
    fn only_time_counts_in_which_nothing_was_about_to_start_it() {
        let (idle, busy) = (look("inactive", Some(0), &[]), look("inactive", Some(1), &[]));
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut hopeless = Hopeless::default();
        assert_eq!(hopeless.after(&idle, at(0)), Duration::ZERO);
        assert_eq!(hopeless.after(&idle, at(1)), Duration::from_secs(1));
        assert_eq!(hopeless.after(&busy, at(2)), Duration::ZERO);
        assert_eq!(hopeless.after(&idle, at(3)), Duration::ZERO);
        assert_eq!(hopeless.after(&idle, at(4)), Duration::from_secs(1));
        // The host was suspended, or the guest was paused.
        assert_eq!(hopeless.after(&idle, at(400)), Duration::from_secs(3));
    }

    fn cause(load: &str, triggers: &[(&str, &str)], info: &[(&str, &str)]) -> String {
        let mut look = look("inactive", Some(0), triggers);
        load.clone_into(&mut look.unit.load);
        let info = info.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        why_inactive("web.service", &look, &info).0
    }

    #[test]
    fn each_reason_for_which_a_unit_is_inactive_is_named() {
        let tried = ("ConditionTimestampMonotonic", "7");
        for (load, triggers, info, words) in [
            ("not-found", &[][..], &[][..], "misspelled"),
            ("masked", &[], &[], "systemd.services.web.enable = false"),
            ("bad-setting", &[], &[("LoadError", "bad thing")], "bad thing"),
            ("loaded", &[], &[("ConditionResult", "no"), tried], "condition"),
            ("loaded", &[], &[("Result", "start-limit-hit"), tried], "start-limit-hit"),
            ("loaded", &[], &[("Result", "new-word")], "new-word"),
            ("loaded", &[], &[("Result", "success"), ("InactiveExitTimestampMonotonic", "9")], "oneshot"),
            ("loaded", &[("web.timer", "inactive")], &[], "web.timer starts it, and is itself inactive"),
            // It was never tried.
            ("loaded", &[], &[("ConditionResult", "no"), ("ConditionTimestampMonotonic", "0")], "wantedBy"),
        ] {
            let said = cause(load, triggers, info);
            assert!(said.contains(words), "{load} {info:?}: {said}");
        }
    }
}
