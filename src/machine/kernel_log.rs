//! What the kernel of a machine logs, looked at as it comes.
//!
//! The kernel logs more than it prints on a console: NixOS boots with `loglevel=4`, and that a program crashed is no
//! error of the kernel's (`KERN_INFO`). Its log goes with the machine, so it is not asked for at the end: while the
//! control channel is open, the helper in the guest tells each record as it is written, and what a command brought
//! about is known when the command's exit is. Records are numbered, so a gap is seen.
//!
//! The form of a record is that of /dev/kmsg (Documentation/ABI/testing/dev-kmsg): `PRIORITY,NUMBER,TIME,FLAGS;TEXT`, then
//! lines ` KEY=VALUE`. The guest may say anything, so what is kept is bounded.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::console_checks::{Finding, check_called, check_of};
use crate::control::{Channel, KernelWord};
use crate::mutex::lock;
use crate::secrets::bytes::part_without_words;

/// So many lines of one check are kept; more tell nothing new.
const KEPT: usize = 50;
/// As much of a line is kept, in bytes.
const LONGEST: usize = 2048;
/// The helper's last word.
const ENDED: &[u8] = b"ended";
/// So many reasons are kept for which the log is incomplete.
const REASONS: usize = 10;

/// What is known of the log of a machine's kernel. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct KernelLog(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Rings when nobody tells anything any more.
    over: Notify,
}

#[derive(Debug, Default)]
struct State {
    noted: Noted,
    /// Counts the kernels that have run in this life of the machine.
    boot: u64,
    /// The number of the next record of this kernel.
    next: u64,
    /// How the telling stands in this boot.
    telling: Telling,
    /// So many channels may still tell something.
    open: usize,
    /// The machine ran on after the telling broke off: what this kernel logged since is not known.
    cut_off: bool,
}

/// Whether a helper tells what the kernel logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Telling {
    /// None has yet, in this boot of the machine.
    #[default]
    NotBegun,
    /// One does.
    UnderWay,
    /// It was asked to end, as when the machine goes down, and told everything before.
    Ended,
    /// It ended without a word.
    BrokenOff,
    /// Only a shell serves the channel: the log is read when it is asked for.
    OnRequest,
    /// It was read on request just before the machine goes down.
    Read,
}

/// Trouble in the log, and why the log is not all there is, as it is written down in records and templates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Noted {
    /// The check's name, and the line.
    found: Vec<(String, String)>,
    incomplete: Vec<String>,
}

/// What a template or a snapshot has to hold of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct SavedLog {
    next: u64,
    noted: Noted,
}

impl Noted {
    /// The lines, as a check finds them on a console.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let known = self.found.iter().enumerate().filter_map(|(at, (name, line))| {
            let check = check_called(name)?;
            let (line, number) = (line.clone(), at + 1);
            Some(Finding { check: check.name(), meaning: check.meaning(), line, number })
        });
        known.collect()
    }

    /// Why the log is not all that the kernel logged.
    pub(super) fn incomplete(&self) -> &[String] {
        &self.incomplete
    }

    /// Looks at a line of the log, in the form of the console.
    fn look_at(&mut self, line: String) {
        let Some(check) = check_of(&line, &[]) else { return };
        let mut same = self.found.iter().filter(|(name, _)| name == check.name());
        if same.clone().count() < KEPT && same.all(|(_, known)| *known != line) {
            self.found.push((check.name().to_owned(), line));
        }
    }

    fn lacks(&mut self, why: String) {
        if self.incomplete.len() < REASONS && !self.incomplete.contains(&why) {
            self.incomplete.push(why);
        }
    }
}

impl KernelLog {
    /// The machine goes on from a saved moment. What was noted since stays noted.
    pub(super) fn goes_on(&self, saved: &SavedLog) {
        let mut state = lock(&self.0.state);
        state.boot += 1;
        state.next = saved.next;
        state.telling = Telling::NotBegun;
        state.cut_off = false;
        for (name, line) in &saved.noted.found {
            if !state.noted.found.iter().any(|(_, known)| known == line) {
                state.noted.found.push((name.clone(), line.clone()));
            }
        }
        saved.noted.incomplete.iter().for_each(|why| state.noted.lacks(why.clone()));
    }

    /// What to save of it.
    pub(super) fn saved(&self) -> SavedLog {
        let state = lock(&self.0.state);
        SavedLog { next: state.next, noted: state.noted.clone() }
    }

    /// Has the helper that serves `channel` tell the log: all of it, or, where it `goes_on` from a saved moment, what
    /// was logged since.
    pub(super) fn follow(&self, channel: &Channel, goes_on: bool) {
        let from = goes_on.then(|| lock(&self.0.state).next);
        let mut teller = self.teller(from.map_or(Expected::Oldest, Expected::Next));
        channel.follow_kernel(from, move |word| teller.hear(word));
    }

    fn teller(&self, expected: Expected) -> Teller {
        let mut state = lock(&self.0.state);
        state.telling = Telling::UnderWay;
        state.open += 1;
        // All that the kernel still has is told anew.
        state.cut_off = false;
        Teller { log: self.clone(), boot: state.boot, expected }
    }

    /// Another kernel boots in the same QEMU: its records are numbered from 0 again. What the earlier one logged can't be
    /// read any more.
    pub(super) fn boots_anew(&self) {
        let mut state = lock(&self.0.state);
        state.boot += 1;
        state.next = 0;
        state.telling = Telling::NotBegun;
        if std::mem::take(&mut state.cut_off) {
            state.noted.lacks(
                "the control channel was lost, and what the kernel logged from then until the machine was rebooted was \
                 not read"
                    .to_owned(),
            );
        }
    }

    /// Only a shell serves the channel.
    pub(super) fn only_on_request(&self) {
        lock(&self.0.state).telling = Telling::OnRequest;
    }

    /// All records up to now were read at once.
    pub(super) fn was_read(&self, records: &[u8]) {
        let mut teller = self.teller(Expected::Oldest);
        teller.hear(KernelWord::Records(records));
        teller.stands(&mut lock(&self.0.state), Telling::Read);
    }

    /// The machine runs, and no channel is open: what it logs from now on is not known, if the helper went without a
    /// word. A machine that goes down in good order has the helper say so before.
    pub(super) fn runs_untold(&self) {
        let mut state = lock(&self.0.state);
        state.cut_off |= state.telling == Telling::BrokenOff;
    }

    /// The machine runs on after its log was read: that was not the end of the log.
    pub(super) fn runs_on(&self) {
        let mut state = lock(&self.0.state);
        if state.telling == Telling::Read {
            state.telling = Telling::OnRequest;
        }
    }

    /// As a helper that is killed leaves it.
    #[cfg(test)]
    pub(super) fn broken_off(&self) {
        drop(self.teller(Expected::Oldest));
    }

    /// Whether the machine ran on after the telling broke off.
    pub(super) fn is_cut_off(&self) -> bool {
        lock(&self.0.state).cut_off
    }

    /// How the telling stands.
    pub(super) fn telling(&self) -> Telling {
        lock(&self.0.state).telling
    }

    /// Waits until all that channels still had to tell is told, which is so when they are lost; whether it was, within
    /// `limit`.
    pub(super) async fn is_over(&self, limit: Duration) -> bool {
        let over = async {
            loop {
                let rung = self.0.over.notified();
                tokio::pin!(rung);
                // From here on no ring is missed.
                rung.as_mut().enable();
                if lock(&self.0.state).open == 0 {
                    return;
                }
                rung.await;
            }
        };
        tokio::time::timeout(limit, over).await.is_ok()
    }

    /// All that was noted up to now.
    pub(super) fn noted(&self) -> Noted {
        lock(&self.0.state).noted.clone()
    }
}

/// The number of the next record that a channel tells.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// The oldest that the kernel has: 0, or one that was told before, or records were overwritten.
    Oldest,
    Next(u64),
}

/// Takes what one channel tells.
struct Teller {
    log: KernelLog,
    boot: u64,
    expected: Expected,
}

impl Teller {
    fn hear(&mut self, word: KernelWord<'_>) {
        let log = self.log.clone();
        let mut state = lock(&log.0.state);
        match word {
            KernelWord::Records(records) => {
                // A line that begins with a blank belongs to the record before it.
                for line in
                    records.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && line[0] != b' ')
                {
                    self.take(&mut state, line);
                }
            }
            KernelWord::NoMore(ENDED) => self.stands(&mut state, Telling::Ended),
            KernelWord::NoMore(why) => {
                let why = crate::console::shown(&part_without_words(why, 0..why.len().min(100)), 1);
                state.noted.lacks(format!("the helper in the machine can't read /dev/kmsg: {}", why.trim()));
            }
        }
    }

    fn take(&mut self, state: &mut State, line: &[u8]) {
        let Some(record) = Record::parse(line) else {
            return state
                .noted
                .lacks("a record was told that has another form than those of /dev/kmsg".to_owned());
        };
        let its_kernel_runs = self.boot == state.boot;
        let missing = match self.expected {
            Expected::Next(next) => record.number.saturating_sub(next),
            Expected::Oldest if its_kernel_runs => record.number.saturating_sub(state.next),
            Expected::Oldest => record.number,
        };
        if missing > 0 {
            state.noted.lacks(format!(
                "{missing} records before number {} were overwritten in the kernel's buffer before they were read",
                record.number
            ));
        }
        let next = record.number.saturating_add(1);
        self.expected = Expected::Next(next);
        if its_kernel_runs {
            state.next = state.next.max(next);
        }
        record.lines().for_each(|line| state.noted.look_at(line));
    }

    fn stands(&self, state: &mut State, telling: Telling) {
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

/// A record of the kernel's log.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    number: u64,
    /// Since the boot, in microseconds.
    time: u64,
    text: String,
}

impl Record {
    fn parse(line: &[u8]) -> Option<Self> {
        let at = memchr::memchr(b';', line)?;
        let mut fields = std::str::from_utf8(&line[..at]).ok()?.split(',');
        let _priority: u32 = fields.next()?.parse().ok()?;
        let number = fields.next()?.parse().ok()?;
        let time = fields.next()?.parse().ok()?;
        Some(Self { number, time, text: unescaped(&line[at + 1..]) })
    }

    /// As a console shows them: with the time in front of each.
    fn lines(&self) -> impl Iterator<Item = String> {
        let stamp = format!("[{:5}.{:06}] ", self.time / 1_000_000, self.time % 1_000_000);
        self.text.lines().map(move |line| format!("{stamp}{}", cut(line)))
    }
}

/// Bytes that are not printable are told as `\xNN`.
fn unescaped(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut left = text;
    while let [first, rest @ ..] = left {
        let digits = rest.strip_prefix(b"x").filter(|_| *first == b'\\').and_then(|rest| rest.get(..2));
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        left = if byte.is_some() { &rest[3..] } else { rest };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn cut(line: &str) -> &str {
    let end = (0..=LONGEST.min(line.len())).rev().find(|end| line.is_char_boundary(*end));
    &line[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRASH: &str =
        "crash[77]: segfault at 0 ip 0000000000401136 sp 00007ffe error 4 in crash[401000+1000]";

    /// A record with this number, logged in as many seconds after the boot.
    fn record(number: u64, text: &str) -> String {
        format!("6,{number},{number}000001,-,caller=T77;{text}\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:01.0\n")
    }

    fn told(teller: &mut Teller, records: &str) {
        teller.hear(KernelWord::Records(records.as_bytes()));
    }

    fn lines(log: &KernelLog) -> Vec<(&'static str, String)> {
        log.noted().findings().into_iter().map(|finding| (finding.check, finding.line)).collect()
    }

    #[test]
    fn a_record_that_shows_trouble_is_noted_in_the_form_of_the_console() {
        let log = KernelLog::default();
        let mut teller = log.teller(Expected::Oldest);
        told(
            &mut teller,
            &[record(0, "Linux version 6"), record(1, "all is well"), record(2, CRASH)].concat(),
        );
        assert_eq!(lines(&log), [("segfault", format!("[    2.000001] {CRASH}"))]);
        assert_eq!(log.noted().incomplete(), &[] as &[String]);
        assert_eq!(log.saved().next, 3);
    }

    #[test]
    fn lines_within_a_record_are_told_apart_and_bytes_that_are_no_text_are_read() {
        let log = KernelLog::default();
        let mut teller = log.teller(Expected::Oldest);
        told(&mut teller, &record(0, &format!("first\\x0a{CRASH}")));
        told(&mut teller, &record(1, "\\xc3\\xbc x[1]: segfault at 0 \\ \\x \\xz1 \\xff end"));
        let expected = [
            format!("[    0.000001] {CRASH}"),
            "[    1.000001] ü x[1]: segfault at 0 \\ \\x \\xz1 \u{fffd} end".to_owned(),
        ];
        assert_eq!(lines(&log).into_iter().map(|(_, line)| line).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_gap_in_the_numbers_says_how_many_records_are_lost() {
        // The channel's first record, the log's next one; the next numbers that are told; how many are lost.
        for (expected, numbers, lost) in [
            (Expected::Oldest, &[0, 1, 2][..], None),
            (Expected::Oldest, &[700, 701], Some("700 records before number 700")),
            (Expected::Oldest, &[0, 1, 5], Some("3 records before number 5")),
            (Expected::Next(0), &[0, 1], None),
            (Expected::Next(0), &[2], Some("2 records before number 2")),
        ] {
            let log = KernelLog::default();
            let mut teller = log.teller(expected);
            numbers.iter().for_each(|number| told(&mut teller, &record(*number, "x")));
            let noted = log.noted();
            assert_eq!(noted.incomplete().len(), usize::from(lost.is_some()), "{expected:?} {numbers:?}");
            assert!(lost.is_none_or(|lost| noted.incomplete()[0].starts_with(lost)), "{noted:?}");
        }
    }

    #[test]
    fn what_an_earlier_channel_has_told_is_not_lost_when_it_is_overwritten() {
        let log = KernelLog::default();
        let mut first = log.teller(Expected::Oldest);
        (0..100).for_each(|number| told(&mut first, &record(number, "x")));
        drop(first);
        let mut second = log.teller(Expected::Oldest);
        told(&mut second, &record(90, "x"));
        assert_eq!(log.noted().incomplete(), &[] as &[String]);
        drop(second);
        told(&mut log.teller(Expected::Oldest), &record(102, "x"));
        assert_eq!(log.noted().incomplete().len(), 1);
    }

    #[test]
    fn another_kernel_counts_from_0_again_and_what_the_old_one_says_late_is_no_gap() {
        let log = KernelLog::default();
        let mut old = log.teller(Expected::Oldest);
        (0..10).for_each(|number| told(&mut old, &record(number, "x")));
        log.boots_anew();
        told(&mut old, &record(10, CRASH));
        assert_eq!((log.telling(), log.saved().next), (Telling::NotBegun, 0));
        old.hear(KernelWord::NoMore(b"ended"));
        drop(old);
        assert_eq!(log.telling(), Telling::NotBegun);
        let mut new = log.teller(Expected::Oldest);
        told(&mut new, &[record(0, "x"), record(1, "x")].concat());
        assert_eq!((lines(&log).len(), log.noted().incomplete()), (1, &[] as &[String]));
    }

    #[test]
    fn a_machine_that_goes_back_goes_on_from_there_and_what_was_noted_stays() {
        let log = KernelLog::default();
        let mut teller = log.teller(Expected::Oldest);
        told(&mut teller, &record(0, "x"));
        let saved = log.saved();
        told(&mut teller, &record(1, CRASH));
        drop(teller);
        log.goes_on(&saved);
        assert_eq!(log.telling(), Telling::NotBegun, "a moment may have no channel");
        let mut teller = log.teller(Expected::Next(1));
        told(&mut teller, &record(1, "something else"));
        assert_eq!((lines(&log).len(), log.noted().incomplete()), (1, &[] as &[String]));
    }

    #[test]
    fn a_clone_has_what_was_noted_of_its_template_as_it_was_written_down() {
        let template = KernelLog::default();
        told(&mut template.teller(Expected::Oldest), &[record(0, CRASH), record(5, "x")].concat());
        let saved = serde_json::from_str(&serde_json::to_string(&template.saved()).unwrap()).unwrap();
        let clone = KernelLog::default();
        clone.goes_on(&saved);
        assert_eq!((lines(&clone), clone.noted()), (lines(&template), template.noted()));
        assert_eq!(clone.saved().next, 6);
    }

    #[tokio::test]
    async fn how_the_telling_ended_is_known() {
        let log = KernelLog::default();
        assert_eq!(log.telling(), Telling::NotBegun);
        let teller = log.teller(Expected::Oldest);
        assert_eq!(log.telling(), Telling::UnderWay);
        assert!(!log.is_over(Duration::from_millis(1)).await);
        drop(teller);
        assert!(log.is_over(crate::hang::HANG).await);
        assert_eq!(log.telling(), Telling::BrokenOff);
        let mut teller = log.teller(Expected::Oldest);
        teller.hear(KernelWord::NoMore(b"ended"));
        drop(teller);
        assert_eq!(log.telling(), Telling::Ended);
    }

    #[test]
    fn a_log_that_can_not_be_read_is_incomplete() {
        let log = KernelLog::default();
        log.teller(Expected::Oldest).hear(KernelWord::NoMore(b"unreadable 1\x1b[2J"));
        assert!(log.noted().incomplete()[0].contains("unreadable 1"), "{:?}", log.noted());
        assert!(!log.noted().incomplete()[0].contains('\x1b'));
    }

    #[test]
    fn a_hostile_guest_can_neither_fill_the_memory_nor_hide_another_kind_of_trouble() {
        let log = KernelLog::default();
        let mut teller = log.teller(Expected::Oldest);
        for number in 0..1000 {
            told(&mut teller, &record(number, &format!("{CRASH} {}", "x".repeat(5000))));
        }
        for nonsense in [
            "",
            ";",
            "\n",
            "x",
            "6,1",
            "6,1,2;",
            "6,18446744073709551615,18446744073709551615,-;x",
            "-1,0,0,-;x",
            "6,,,;",
        ] {
            told(&mut teller, nonsense);
        }
        told(&mut teller, &record(1000, "Out of memory: Killed process 812 (tail)"));
        let found = lines(&log);
        assert_eq!(found.len(), KEPT + 1);
        assert_eq!(found[KEPT].0, "OOM kill");
        assert!(found.iter().all(|(_, line)| line.len() <= LONGEST + 32));
        assert!(log.noted().incomplete().len() <= REASONS);
    }

    #[test]
    fn what_is_read_at_once_is_all_there_is() {
        let log = KernelLog::default();
        log.only_on_request();
        assert_eq!(log.telling(), Telling::OnRequest);
        log.was_read([record(0, "x"), record(1, CRASH)].concat().as_bytes());
        assert_eq!((log.telling(), lines(&log).len()), (Telling::Read, 1));
        log.was_read([record(0, "x"), record(1, CRASH), record(2, "x")].concat().as_bytes());
        assert_eq!((lines(&log).len(), log.noted().incomplete()), (1, &[] as &[String]));
    }

    #[test]
    fn what_is_read_at_once_is_not_the_end_of_the_log_of_a_machine_that_runs_on() {
        let log = KernelLog::default();
        log.only_on_request();
        log.was_read(record(0, "x").as_bytes());
        log.runs_on();
        assert_eq!(log.telling(), Telling::OnRequest);
        // A kernel that boots since has not been told of, and one that a helper tells is told until its end.
        log.was_read(record(0, "x").as_bytes());
        log.boots_anew();
        log.runs_on();
        assert_eq!(log.telling(), Telling::NotBegun);
        log.teller(Expected::Oldest).hear(KernelWord::NoMore(ENDED));
        log.runs_on();
        assert_eq!(log.telling(), Telling::Ended);
    }

    #[test]
    fn a_log_is_cut_off_where_the_machine_runs_on_after_a_helper_that_went_without_a_word() {
        let log = KernelLog::default();
        log.runs_untold();
        assert!(!log.is_cut_off(), "no helper was ever there");
        let mut teller = log.teller(Expected::Oldest);
        log.runs_untold();
        assert!(!log.is_cut_off(), "it is still told");
        teller.hear(KernelWord::NoMore(ENDED));
        drop(teller);
        log.runs_untold();
        assert!(!log.is_cut_off(), "the helper said that it ends");
        drop(log.teller(Expected::Oldest));
        assert!(!log.is_cut_off(), "the machine may have ended with it");
        log.runs_untold();
        assert!(log.is_cut_off());
        // Another helper tells the rest.
        let teller = log.teller(Expected::Oldest);
        assert!(!log.is_cut_off());
        drop(teller);
        log.runs_untold();
        log.goes_on(&SavedLog::default());
        assert_eq!((log.is_cut_off(), log.noted().incomplete()), (false, &[] as &[String]));
    }

    #[test]
    fn what_a_kernel_logged_untold_before_a_reboot_is_missing_for_good() {
        let log = KernelLog::default();
        drop(log.teller(Expected::Oldest));
        log.boots_anew();
        assert_eq!(log.noted().incomplete(), &[] as &[String], "it went down with its helper");
        drop(log.teller(Expected::Oldest));
        log.runs_untold();
        log.boots_anew();
        drop(log.teller(Expected::Oldest));
        assert!(!log.is_cut_off());
        assert!(log.noted().incomplete()[0].contains("until the machine was rebooted"), "{:?}", log.noted());
    }
}
