//! Checks the kernel log of a machine as it is written.
//!
//! The kernel logs more than it prints on a console: NixOS boots with `loglevel=4`, and the crash of a program is not
//! an error of the kernel (`KERN_INFO`). The log is lost with the machine, so it is not read at the end. While the
//! control channel is open, the helper in the guest sends each record as it is written. So the effects of a command are
//! known when its exit is known. Records are numbered, which makes a gap visible.
//!
//! A record has the form of /dev/kmsg, followed by lines ` KEY=VALUE`. The guest may send anything, so what is kept has
//! a limit.

mod record;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use self::record::Record;
use crate::channel::{Channel, KernelWord};
use crate::machine::checks::console_checks::{ConsoleCheck, Finding, check_called, check_of, same_record};
use crate::machine::checks::host_trouble::HostTrouble;
use crate::machine::checks::kernel_clock::KernelClock;
use crate::machine::checks::stall;
use crate::mutex::lock;
use crate::qemu::Qemu;
use crate::secrets::bytes::part_without_words;

/// Maximum number of lines kept per check. More lines add no information.
const KEPT: usize = 50;
/// The helper's last message.
const ENDED: &[u8] = b"ended";
/// How long a helper may take to send what was logged before it was asked.
const CATCHES_UP: Duration = Duration::from_secs(5);
/// Maximum number of stalls that wait to be judged.
const WAITING: usize = 50;
/// Maximum number of reasons kept for an incomplete log.
const REASONS: usize = 10;

/// What is known about the log of a machine's kernel. Clones share the state.
#[derive(Debug, Clone, Default)]
pub(crate) struct KernelLog(Arc<LogState>);

#[derive(Debug, Default)]
struct LogState {
    state: Mutex<State>,
    /// Notified when no channel delivers the log any more.
    over: Notify,
}

#[derive(Debug, Default)]
struct State {
    noted: Noted,
    /// Counts the kernels that have run since QEMU started.
    boot: u64,
    /// The number of the next record of this kernel.
    next: u64,
    /// Records of this kernel before this number were already judged for a template.
    judged_to: u64,
    /// The state of the delivery in this boot.
    telling: Telling,
    /// Number of channels that may still deliver log lines.
    open: usize,
    /// The machine continued to run after the delivery ended unexpectedly: what this kernel logged since then is
    /// unknown.
    cut_off: bool,
    /// The host that the machine runs on.
    host: HostTrouble,
    /// Lines that report that something took too long. They are judged on demand; until then the host is sampled.
    stalls: Vec<Stall>,
    /// How this kernel's clock differs from the uptime.
    clock: KernelClock,
    /// The time of the newest record of this boot, and when it was received.
    newest: Option<(Duration, Instant)>,
}

/// A line that reports that something took too long.
#[derive(Debug)]
struct Stall {
    check: &'static ConsoleCheck,
    line: String,
    heard: Instant,
    /// Set if it was logged before the delivery began: its time since the boot, and the number of that boot.
    logged: Option<(Duration, u64)>,
}

/// Whether a helper delivers the kernel's log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Telling {
    /// No helper has begun yet in this boot of the machine.
    #[default]
    NotBegun,
    /// A helper delivers it.
    UnderWay,
    /// The helper was asked to end, as when the machine shuts down, and delivered everything before.
    Ended,
    /// The helper ended without a last message.
    BrokenOff,
    /// Only a shell serves the channel: the log is read on request.
    OnRequest,
    /// It was read on request just before the machine shut down.
    Read,
}

/// Findings in the log, and reasons why the log is incomplete, as stored in records and templates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Noted {
    /// The check's name, and the line.
    found: Vec<(String, String)>,
    incomplete: Vec<String>,
    /// Lines that report that something took too long, and how the host caused it.
    #[serde(default)]
    excused: Vec<(String, String)>,
    /// Excused lines from before the machine was saved. They are reported once.
    #[serde(default)]
    judged: Vec<String>,
}

/// The part of it that a template or a snapshot stores.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct SavedLog {
    next: u64,
    #[serde(default)]
    judged_to: u64,
    #[serde(default)]
    clock: KernelClock,
    noted: Noted,
}

impl Noted {
    /// Returns the lines in the form of a check's findings on a console.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let known = self.found.iter().enumerate().filter_map(|(at, (name, line))| {
            let check = check_called(name)?;
            let (line, number) = (line.clone(), at + 1);
            Some(Finding { check: check.name(), meaning: check.meaning(), line, number })
        });
        known.collect()
    }

    /// Returns the reasons why the log is incomplete.
    pub(crate) fn incomplete(&self) -> &[String] {
        &self.incomplete
    }

    /// Returns the lines that the host caused, with the reasons.
    pub(crate) fn excused(&self) -> &[(String, String)] {
        &self.excused
    }

    /// Returns whether a console line has the time of a line that the host caused.
    pub(crate) fn is_excused(&self, line: &str) -> bool {
        let excused = self.excused.iter().map(|(line, _)| line).chain(&self.judged);
        excused.into_iter().any(|known| same_record(known, line))
    }

    /// Returns whether it contains this log line.
    fn has(&self, line: &str) -> bool {
        self.found.iter().any(|(_, known)| known == line) || self.is_excused(line)
    }

    fn add_finding(&mut self, check: &ConsoleCheck, line: String) {
        let mut same = self.found.iter().filter(|(name, _)| name == check.name());
        if same.clone().count() < KEPT && same.all(|(_, known)| *known != line) {
            self.found.push((check.name().to_owned(), line));
        }
    }

    fn add_excuse(&mut self, line: String, why: String) {
        if self.excused.len() < KEPT && !self.is_excused(&line) {
            self.excused.push((line, why));
        }
    }

    fn note_gap(&mut self, why: String) {
        if self.incomplete.len() < REASONS && !self.incomplete.contains(&why) {
            self.incomplete.push(why);
        }
    }
}

impl State {
    /// Checks a line of the log, in the form of the console.
    fn look_at(&mut self, line: String, heard: Instant, logged: Option<(Duration, u64)>) {
        let Some(check) = check_of(&line, &[]) else { return };
        if !check.is_of_time() {
            return self.noted.add_finding(check, line);
        }
        // Another channel sends the same records again.
        let is_known = self.noted.has(&line) || self.stalls.iter().any(|stall| stall.line == line);
        if is_known {
            return;
        }
        if self.stalls.len() >= WAITING {
            // Judged without another sample of the host, so that no stall is dropped.
            self.judge();
        }
        self.stalls.push(Stall { check, line, heard, logged });
    }

    /// Returns when a line was logged, as far as that is known.
    fn time_of(&self, stall: &Stall) -> Instant {
        match (stall.logged, self.newest) {
            (Some((logged, boot)), Some((newest, heard))) if boot == self.boot => {
                heard.checked_sub(newest.saturating_sub(logged)).unwrap_or(stall.heard)
            }
            _ => stall.heard,
        }
    }

    /// Decides for each stall whether the host caused it.
    fn judge(&mut self) {
        for stall in std::mem::take(&mut self.stalls) {
            match self.host.during(stall::span(&stall.line), self.time_of(&stall)) {
                Some(why) => self.noted.add_excuse(stall.line, why),
                None => self.noted.add_finding(stall.check, stall.line),
            }
        }
    }
}

impl KernelLog {
    /// Restores the log when the machine resumes from a saved moment. Later notes are kept. `is_judged` tells that the
    /// log of the moment was already reported when it was saved.
    pub(crate) fn resume(&self, saved: &SavedLog, is_judged: bool) {
        let mut state = lock(&self.0.state);
        state.boot += 1;
        state.next = saved.next;
        state.newest = None;
        state.clock = saved.clock;
        state.judged_to = if is_judged { saved.next } else { saved.judged_to };
        state.telling = Telling::NotBegun;
        state.cut_off = false;
        let found: &[_] = if is_judged { &[] } else { &saved.noted.found };
        for (name, line) in found {
            if !state.noted.found.iter().any(|(_, known)| known == line) {
                state.noted.found.push((name.clone(), line.clone()));
            }
        }
        let excused = saved.noted.excused.iter().map(|(line, _)| line);
        for line in excused.chain(&saved.noted.judged) {
            if !state.noted.judged.contains(line) {
                state.noted.judged.push(line.clone());
            }
        }
        if !is_judged {
            saved.noted.incomplete.iter().for_each(|why| state.noted.note_gap(why.clone()));
        }
    }

    /// Asks the program that serves `channel` for the difference between this kernel's clock and the uptime. The last
    /// known difference holds until the answer.
    pub(crate) fn compare_clocks(&self, channel: &Channel) {
        let (log, boot) = (self.clone(), lock(&self.0.state).boot);
        channel.compare_clocks(move |clocks| {
            let mut state = lock(&log.0.state);
            // A late answer may arrive while another kernel boots.
            if state.boot == boot {
                state.clock = KernelClock::of(clocks);
            }
        });
    }

    /// Returns the difference between this kernel's clock and the uptime, as far as it is known.
    pub(crate) fn clock(&self) -> KernelClock {
        lock(&self.0.state).clock
    }

    /// Starts sampling the host of this QEMU.
    pub(crate) fn follow_host(&self, qemu: &Qemu) {
        self.host().follow(qemu);
    }

    /// Returns the host that the machine runs on.
    pub(crate) fn host(&self) -> HostTrouble {
        lock(&self.0.state).host.clone()
    }

    /// Adds console lines that the host caused. They are not reported again after the machine resumes.
    pub(crate) fn add_judged(&self, lines: impl Iterator<Item = String>) {
        let mut state = lock(&self.0.state);
        for line in lines {
            if !state.noted.is_excused(&line) && state.noted.judged.len() < KEPT {
                state.noted.judged.push(line);
            }
        }
    }

    /// Returns the part that is saved.
    pub(crate) fn saved(&self) -> SavedLog {
        let state = self.judged();
        SavedLog {
            next: state.next,
            judged_to: state.judged_to,
            clock: state.clock,
            noted: state.noted.clone(),
        }
    }

    /// Makes the helper that serves `channel` send the log: all of it, or, if it `goes_on` from a saved moment, what
    /// was logged since.
    pub(crate) fn follow(&self, channel: &Channel, goes_on: bool) {
        let from = goes_on.then(|| lock(&self.0.state).next);
        let mut teller = self.teller(from.map_or(Expected::Oldest, Expected::Next));
        channel.follow_kernel(from, move |word| teller.hear(word));
    }

    fn teller(&self, expected: Expected) -> Teller {
        let mut state = lock(&self.0.state);
        state.telling = Telling::UnderWay;
        state.open += 1;
        // The kernel sends everything in its buffer again.
        state.cut_off = false;
        let from_the_start = matches!(expected, Expected::Oldest);
        Teller { log: self.clone(), boot: state.boot, expected, from_the_start, since: Instant::now() }
    }

    /// Resets the state for another kernel that boots in the same QEMU: its records are numbered from 0 again. The log
    /// of the earlier kernel can't be read any more.
    pub(crate) fn begin_boot(&self) {
        let mut state = lock(&self.0.state);
        state.boot += 1;
        state.next = 0;
        state.newest = None;
        state.clock = KernelClock::default();
        state.judged_to = 0;
        state.telling = Telling::NotBegun;
        if std::mem::take(&mut state.cut_off) {
            state.noted.note_gap(
                "the control channel was lost, and the kernel's messages from then until the reboot were not \
                 read"
                    .to_owned(),
            );
        }
    }

    /// Notes that only a shell serves the channel.
    pub(crate) fn only_on_request(&self) {
        lock(&self.0.state).telling = Telling::OnRequest;
    }

    /// Takes all records up to now, which were read at once.
    pub(crate) fn take_all(&self, records: &[u8]) {
        let mut teller = self.teller(Expected::Oldest);
        teller.hear(KernelWord::Records(records));
        teller.set_telling(&mut lock(&self.0.state), Telling::Read);
    }

    /// Notes that the machine runs without an open channel. If the helper ended without a last message, later log lines
    /// are unknown. On a clean shutdown, the helper sends its last message first.
    pub(crate) fn note_untold(&self) {
        let mut state = lock(&self.0.state);
        state.cut_off |= state.telling == Telling::BrokenOff;
    }

    /// Marks the log as not ended: the machine continued to run after its log was read.
    pub(crate) fn reopen(&self) {
        let mut state = lock(&self.0.state);
        if state.telling == Telling::Read {
            state.telling = Telling::OnRequest;
        }
    }

    /// Simulates a killed helper.
    #[cfg(test)]
    pub(crate) fn broken_off(&self) {
        drop(self.teller(Expected::Oldest));
    }

    /// Returns whether the machine continued to run after the delivery ended unexpectedly.
    pub(crate) fn is_cut_off(&self) -> bool {
        lock(&self.0.state).cut_off
    }

    /// Returns the state of the delivery.
    pub(crate) fn telling(&self) -> Telling {
        lock(&self.0.state).telling
    }

    /// Waits until the channels have delivered everything, or are lost. Returns whether that happened within `limit`.
    pub(crate) async fn is_over(&self, limit: Duration) -> bool {
        let over = async {
            loop {
                let rung = self.0.over.notified();
                tokio::pin!(rung);
                // Notifications from here on are not missed.
                rung.as_mut().enable();
                if lock(&self.0.state).open == 0 {
                    return;
                }
                rung.await;
            }
        };
        crate::stopped::timeout(limit, over).await.is_ok()
    }

    /// Returns everything that was noted so far.
    pub(crate) fn noted(&self) -> Noted {
        self.judged().noted.clone()
    }

    /// Returns the state after judging all waiting stalls.
    fn judged(&self) -> MutexGuard<'_, State> {
        let state = lock(&self.0.state);
        if state.stalls.is_empty() {
            return state;
        }
        let host = state.host.clone();
        drop(state);
        // Done without the lock, because it reads files. The channel is read under the lock.
        host.look();
        let mut state = lock(&self.0.state);
        state.judge();
        state
    }
}

/// The number of the next record that a channel sends.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// The oldest record that the kernel has: number 0, one that was sent before, or a later one if records were
    /// overwritten.
    Oldest,
    Next(u64),
}

/// Parses what one channel sends.
struct Teller {
    log: KernelLog,
    boot: u64,
    expected: Expected,
    /// The first records were logged earlier, at any time since the machine's boot.
    from_the_start: bool,
    since: Instant,
}

impl Teller {
    fn hear(&mut self, word: KernelWord<'_>) {
        let log = self.log.clone();
        let mut state = lock(&log.0.state);
        match word {
            KernelWord::Records(records) => {
                // A line that begins with a blank belongs to the previous record.
                for line in
                    records.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && line[0] != b' ')
                {
                    self.take(&mut state, line);
                }
            }
            KernelWord::NoMore(ENDED) => self.set_telling(&mut state, Telling::Ended),
            KernelWord::NoMore(why) => {
                let why = crate::console::shown(&part_without_words(why, 0..why.len().min(100)), 1);
                state
                    .noted
                    .note_gap(format!("the helper in the machine can't read /dev/kmsg: {}", why.trim()));
            }
        }
    }

    fn take(&mut self, state: &mut State, line: &[u8]) {
        let Some(record) = Record::parse(line) else {
            return state
                .noted
                .note_gap("a record was told that has another form than those of /dev/kmsg".to_owned());
        };
        let its_kernel_runs = self.boot == state.boot;
        let missing = match self.expected {
            Expected::Next(next) => record.number.saturating_sub(next),
            Expected::Oldest if its_kernel_runs => record.number.saturating_sub(state.next),
            Expected::Oldest => record.number,
        };
        if missing > 0 {
            state.noted.note_gap(format!(
                "{missing} records before number {} were overwritten in the kernel's buffer before they were read",
                record.number
            ));
        }
        let next = record.number.saturating_add(1);
        self.expected = Expected::Next(next);
        if its_kernel_runs {
            state.next = state.next.max(next);
        }
        let heard = Instant::now();
        let is_old = self.from_the_start && self.since.elapsed() < CATCHES_UP;
        if its_kernel_runs {
            state.newest = Some((record.time(), heard));
            // A reopened channel sends everything that is in the kernel's buffer.
            if record.number < state.judged_to {
                return;
            }
        }
        let logged = is_old.then_some((record.time(), self.boot));
        record.lines().for_each(|line| state.look_at(line, heard, logged));
    }

    fn set_telling(&self, state: &mut State, telling: Telling) {
        if self.boot == state.boot {
            state.telling = telling;
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        let mut state = lock(&self.log.0.state);
        state.open = state.open.saturating_sub(1);
        if state.open == 0 && self.boot == state.boot && state.telling == Telling::UnderWay {
            state.telling = Telling::BrokenOff;
        }
        drop(state);
        self.log.0.over.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
