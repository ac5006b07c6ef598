//! Feeds the messages of a helper in memory, and checks what is noted.

use super::record::LONGEST;
use super::*;

const CRASH: &str = "crash[77]: segfault at 0 ip 0000000000401136 sp 00007ffe error 4 in crash[401000+1000]";

/// Returns a record with this number, logged that many seconds after the boot.
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
    told(&mut teller, &[record(0, "Linux version 6"), record(1, "all is well"), record(2, CRASH)].concat());
    assert_eq!(lines(&log), [("segfault", format!("[    2.000001] {CRASH}"))]);
    assert_eq!(log.noted().incomplete(), &[] as &[String]);
    assert_eq!(log.saved().next, 3);
}

#[test]
fn a_stall_while_the_host_slept_is_the_hosts_and_is_spoken_of_once() {
    const STALL: &str = "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [sh:9]";
    let log = KernelLog::default();
    let mut teller = log.teller(Expected::Next(0));
    told(&mut teller, &record(0, STALL));
    assert_eq!(lines(&log), [("hung task", format!("[    0.000001] {STALL}"))]);
    log.host().pretend_suspended(Duration::ZERO);
    told(&mut teller, &[record(1, STALL), record(2, CRASH)].concat());
    let found: Vec<_> = lines(&log).into_iter().map(|(check, _)| check).collect();
    assert_eq!(found, ["hung task", "segfault"], "only a stall is excused");
    let noted = log.noted();
    let [(line, why)] = noted.excused() else { panic!("{noted:?}") };
    assert_eq!(*line, format!("[    1.000001] {STALL}"));
    assert!(why.contains("this host was suspended for 3600 s"), "{why}");
    assert!(noted.is_excused(&format!("alice@nixos:~]$ [    1.000001][  T77] {STALL}")));
    assert!(!noted.is_excused(&format!("[   11.000001] {STALL}")));
    // A clone of the machine does not report it again.
    let clone = KernelLog::default();
    clone.resume(&log.saved(), false);
    assert_eq!(clone.noted().excused(), []);
    assert!(clone.noted().is_excused(line));
}

/// A helper first sends what was logged before the channel was open.
#[test]
fn a_stall_is_judged_by_what_the_host_did_when_it_was_logged() {
    const STALL: &str = "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [sh:9]";
    let log = KernelLog::default();
    log.host().pretend_suspended(Duration::from_secs(300));
    let mut teller = log.teller(Expected::Oldest);
    told(&mut teller, &[record(100, STALL), record(390, STALL), record(400, "x")].concat());
    assert_eq!(lines(&log), [("hung task", format!("[  390.000001] {STALL}"))]);
    let excused: Vec<_> = log.noted().excused().iter().map(|(line, _)| line.clone()).collect();
    assert_eq!(excused, [format!("[  100.000001] {STALL}")]);
    // Another channel sends them again; they are not judged again.
    drop(teller);
    log.host().pretend_suspended(Duration::ZERO);
    told(&mut log.teller(Expected::Oldest), &[record(100, STALL), record(390, STALL)].concat());
    assert_eq!((lines(&log).len(), log.noted().excused().len()), (1, 1));
    // A guest that hangs now, on a host that was busy earlier.
    let log = KernelLog::default();
    log.host().pretend_suspended(Duration::from_secs(300));
    told(&mut log.teller(Expected::Next(0)), &record(0, STALL));
    assert_eq!(lines(&log).len(), 1);
}

#[test]
fn the_host_is_looked_at_once_for_any_number_of_stalls_and_only_when_they_are_asked_for() {
    let log = KernelLog::default();
    log.host().pretend_suspended(Duration::ZERO);
    log.host().forget();
    let mut teller = log.teller(Expected::Next(0));
    for number in 0..(10 * WAITING as u64) {
        told(&mut teller, &record(number, &format!("BUG: soft lockup - CPU#{number} stuck for 22s! [sh:9]")));
    }
    assert_eq!(log.host().looks(), 0);
    assert_eq!(lines(&log).len(), KEPT);
    assert_eq!(log.host().looks(), 1);
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
    // The channel's first record, and the next one of the log; the following numbers that are sent; how many are lost.
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
    log.begin_boot();
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
    log.resume(&saved, false);
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
    clone.resume(&saved, false);
    assert_eq!((lines(&clone), clone.noted()), (lines(&template), template.noted()));
    assert_eq!(clone.saved().next, 6);
}

#[test]
fn what_a_template_was_judged_by_is_not_told_in_its_clones() {
    let template = KernelLog::default();
    told(&mut template.teller(Expected::Oldest), &[record(0, CRASH), record(5, "x")].concat());
    assert_eq!((lines(&template).len(), template.noted().incomplete().len()), (1, 1));
    let clone = KernelLog::default();
    clone.resume(&template.saved(), true);
    assert_eq!((lines(&clone), clone.noted().incomplete()), (Vec::new(), &[] as &[String]));
    let again = format!("{CRASH} again");
    told(&mut clone.teller(Expected::Next(6)), &record(6, &again));
    assert_eq!(lines(&clone), [("segfault", format!("[    6.000001] {again}"))]);
    assert_eq!(clone.saved().next, 7);
    // Another channel sends everything in the kernel's buffer. A template that is made of the clone has one line to be
    // judged.
    told(&mut clone.teller(Expected::Oldest), &[record(0, CRASH), record(6, &again)].concat());
    assert_eq!(lines(&clone).len(), 1);
    let next = KernelLog::default();
    next.resume(&clone.saved(), false);
    told(&mut next.teller(Expected::Oldest), &[record(0, CRASH), record(6, &again)].concat());
    assert_eq!(lines(&next), lines(&clone));
    next.begin_boot();
    told(&mut next.teller(Expected::Oldest), &record(0, CRASH));
    assert_eq!(lines(&next).len(), 2, "another kernel is judged from its first record on");
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
    log.take_all([record(0, "x"), record(1, CRASH)].concat().as_bytes());
    assert_eq!((log.telling(), lines(&log).len()), (Telling::Read, 1));
    log.take_all([record(0, "x"), record(1, CRASH), record(2, "x")].concat().as_bytes());
    assert_eq!((lines(&log).len(), log.noted().incomplete()), (1, &[] as &[String]));
}

#[test]
fn what_is_read_at_once_is_not_the_end_of_the_log_of_a_machine_that_runs_on() {
    let log = KernelLog::default();
    log.only_on_request();
    log.take_all(record(0, "x").as_bytes());
    log.reopen();
    assert_eq!(log.telling(), Telling::OnRequest);
    // A kernel that boots later was not delivered yet. One that a helper delivers is delivered until its end.
    log.take_all(record(0, "x").as_bytes());
    log.begin_boot();
    log.reopen();
    assert_eq!(log.telling(), Telling::NotBegun);
    log.teller(Expected::Oldest).hear(KernelWord::NoMore(ENDED));
    log.reopen();
    assert_eq!(log.telling(), Telling::Ended);
}

#[test]
fn a_log_is_cut_off_where_the_machine_runs_on_after_a_helper_that_went_without_a_word() {
    let log = KernelLog::default();
    log.note_untold();
    assert!(!log.is_cut_off(), "no helper was ever there");
    let mut teller = log.teller(Expected::Oldest);
    log.note_untold();
    assert!(!log.is_cut_off(), "it is still told");
    teller.hear(KernelWord::NoMore(ENDED));
    drop(teller);
    log.note_untold();
    assert!(!log.is_cut_off(), "the helper said that it ends");
    drop(log.teller(Expected::Oldest));
    assert!(!log.is_cut_off(), "the machine may have ended with it");
    log.note_untold();
    assert!(log.is_cut_off());
    // Another helper sends the rest.
    let teller = log.teller(Expected::Oldest);
    assert!(!log.is_cut_off());
    drop(teller);
    log.note_untold();
    log.resume(&SavedLog::default(), false);
    assert_eq!((log.is_cut_off(), log.noted().incomplete()), (false, &[] as &[String]));
}

#[test]
fn what_a_kernel_logged_untold_before_a_reboot_is_missing_for_good() {
    let log = KernelLog::default();
    drop(log.teller(Expected::Oldest));
    log.begin_boot();
    assert_eq!(log.noted().incomplete(), &[] as &[String], "it went down with its helper");
    drop(log.teller(Expected::Oldest));
    log.note_untold();
    log.begin_boot();
    drop(log.teller(Expected::Oldest));
    assert!(!log.is_cut_off());
    assert!(log.noted().incomplete()[0].contains("until the reboot"), "{:?}", log.noted());
}
