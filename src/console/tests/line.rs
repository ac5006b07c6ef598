//! Tests of the console on a line: waits, failures, what is sent, and the transcript.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::guest::{SOON, console, with, with_transcript};
use crate::console::{Console, ConsoleOptions, Pattern, Watch};
use crate::{ErrorKind, Event, Events, Speed};

const SHORT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_wait_finds_what_came_before_it_began_and_what_comes_later() {
    let (console, mut guest) = console();
    guest.says(b"\x1b[1mnixos\x1b[0m login: ").await;
    let found = console.expect("login: ", SOON).await.unwrap();
    assert_eq!((&*found.before(), &*found.text()), ("nixos ", "login: "));
    console.send_line("alice").await.unwrap();
    guest.hears("alice\r").await;
    let pattern = Pattern::regex(r"(?P<user>\w+)'s password: $").unwrap();
    let answer = async {
        guest.says("alice\r\nalice's pass").await;
        tokio::time::sleep(SHORT).await;
        guest.says("word: ").await;
    };
    let (found, ()) = tokio::join!(console.expect(&pattern, SOON), answer);
    let found = found.unwrap();
    assert_eq!(found.name("user").unwrap(), "alice");
    assert_eq!(found.name("other"), None);
    assert_eq!(found.before(), "alice\n");
}

#[tokio::test]
async fn a_console_on_a_thread_reads_while_the_scenario_blocks() {
    let (line, mut guest) = std::os::unix::net::UnixStream::pair().unwrap();
    line.set_nonblocking(true).unwrap();
    let connect = || tokio::net::UnixStream::from_std(line);
    let console = Console::attach_on_a_thread(connect, ConsoleOptions::default()).unwrap();
    // Far more than a socket holds, written and read while this thread does not await.
    guest.set_write_timeout(Some(SOON)).unwrap();
    guest.write_all(&vec![b'x'; 4 << 20]).unwrap();
    guest.write_all(b"\nlogin: ").unwrap();
    console.expect("login: ", SOON).await.unwrap();
    console.send(b"alice").await.unwrap();
    let mut heard = [0; 5];
    guest.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"alice");
    drop(console);
    // The thread has closed the line.
    guest.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(guest.read(&mut heard).unwrap(), 0);
    let refused = || Err::<tokio::net::UnixStream, _>(std::io::ErrorKind::NotFound.into());
    let error = Console::attach_on_a_thread(refused, ConsoleOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[tokio::test]
async fn of_several_patterns_the_one_whose_match_is_known_first_wins() {
    let (console, mut guest) = console();
    guest.says("Password: incorrect").await;
    let patterns = ["incorrect".into(), "Password: ".into(), "Pass".into(), "Pas".into(), "s: ".into()];
    let (index, found) = console.expect_any(&patterns, SOON).await.unwrap();
    assert_eq!((index, &*found.text()), (3, "Pas"));
    let tie = [Pattern::from("word: "), Pattern::from("rd: ")];
    assert_eq!(console.expect_any(&tie, SOON).await.unwrap().0, 0);
    assert_eq!(console.expect_any(&[], SOON).await.unwrap_err().kind(), ErrorKind::Usage);
}

#[tokio::test]
async fn a_timeout_says_what_was_wanted_what_came_and_what_came_close() {
    let (console, mut guest) = console();
    guest.says("old\r\n").await;
    console.expect("old\n", SOON).await.unwrap();
    guest.says("\x1b[31mNixOS Login: \x1b[0m").await;
    let error = console.expect("nixos login: ", SHORT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let report = error.to_string();
    for part in [
        "console: \"nixos login: \" did not come",
        " s of 0.1 s",
        "came since the wait began:\n    | NixOS Login:",
        "nearest miss:\n    | the same except for upper and lower case: NixOS Login:",
    ] {
        assert!(report.contains(part), "{part} is not in {report}");
    }
    assert!(!report.contains("old"), "{report}");
}

#[tokio::test]
async fn a_timeout_of_a_regex_shows_how_far_a_line_matched() {
    let (console, mut guest) = console();
    guest.says("[root@nixos:~]# \r\n[alice@nixos:~]#").await;
    let pattern = Pattern::regex(r"(?m)^\[alice@\w+:~\]\$ $").unwrap();
    let report = console.expect(pattern, SHORT).await.unwrap_err().to_string();
    assert!(report.contains("matched up to \"[alice@nixos:~]\": [alice@nixos:~]#"), "{report}");
}

#[tokio::test]
async fn a_timeout_after_silence_says_that_nothing_came() {
    let (console, mut guest) = console();
    guest.says("before\n").await;
    console.expect("before\n", SOON).await.unwrap();
    let report = console.expect("x", SHORT).await.unwrap_err().to_string();
    assert!(report.contains("(nothing at all)") && report.contains("| before"), "{report}");
}

#[tokio::test]
async fn a_panic_fails_the_pending_wait_and_every_later_one_at_once_with_its_line() {
    let (console, mut guest) = console();
    let says = async {
        tokio::time::sleep(SHORT).await;
        guest.says("[    3.141592] Kernel panic - not").await;
        guest.says(" syncing: VFS: ").await;
        guest.says("no root\r\n").await;
    };
    let (error, ()) = tokio::join!(console.expect("login: ", SOON), says);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KernelPanic);
    assert!(
        error.to_string().contains("| [    3.141592] Kernel panic - not syncing: VFS: no root"),
        "{error}"
    );
    guest.says("login: ").await;
    assert_eq!(console.expect("login: ", SOON).await.unwrap_err().kind(), ErrorKind::KernelPanic);
    console.set_watch(Watch::Boot);
    console.expect("login: ", SOON).await.unwrap();
}

#[tokio::test]
async fn silence_confirms_a_panic_without_a_time_stamp_in_a_session() {
    let (console, mut guest) = console();
    console.set_watch(Watch::Session);
    guest.says("Kernel panic - not syncing: oh\r\n").await;
    let began = Instant::now();
    let error = console.expect("$ ", SOON).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KernelPanic);
    assert!(began.elapsed() > Duration::from_millis(700), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_line_that_closes_fails_waits_writes_and_taps_with_what_is_known_of_the_end() {
    let closed = Box::pin(async {
        tokio::time::sleep(SHORT).await;
        "exit status 134\nqemu: failed to set MSR 0x10a".to_owned()
    });
    let (console, mut guest) = with(ConsoleOptions { closed: Some(closed), ..ConsoleOptions::default() });
    guest.says("SeaBIOS").await;
    drop(guest);
    let error = console.expect("login: ", SOON).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QemuGone);
    let report = error.to_string();
    assert!(report.contains("| qemu: failed to set MSR") && report.contains("| SeaBIOS"), "{report}");
    assert_eq!(&*console.expect("BIOS", SOON).await.unwrap().text(), "BIOS", "what came is still there");
    let tapped = console.tap(SOON, |_| ControlFlow::Continue(())).await;
    assert_eq!(tapped.unwrap_err().kind(), ErrorKind::QemuGone);
    assert_eq!(console.send(b"x").await.unwrap_err().kind(), ErrorKind::QemuGone);
}

#[tokio::test]
async fn the_end_of_qemu_ends_waits_even_if_somebody_keeps_the_line_open() {
    let closed = Box::pin(async { "killed".to_owned() });
    let (console, guest) = with(ConsoleOptions { closed: Some(closed), ..ConsoleOptions::default() });
    let error = console.expect("login: ", SOON).await.unwrap_err();
    assert!(error.to_string().contains("| killed"), "{error}");
    drop(guest);
}

#[tokio::test]
async fn a_wait_that_is_given_up_leaves_nothing_behind() {
    let (console, mut guest) = console();
    let given_up = tokio::time::timeout(SHORT, console.expect("a", SOON)).await;
    assert!(given_up.is_err());
    guest.says("a b").await;
    tokio::time::sleep(SHORT).await;
    let found = console.expect("b", SOON).await.unwrap();
    assert_eq!(found.before(), "a ");
}

#[tokio::test]
async fn waits_on_one_console_take_turns_in_the_order_in_which_they_began() {
    let (console, mut guest) = console();
    let order = Arc::new(Mutex::new(Vec::new()));
    let waits: Vec<_> = (0..5)
        .map(|number| {
            let (console, order) = (console.clone(), order.clone());
            tokio::spawn(async move {
                console.expect("\n", SOON).await.unwrap();
                order.lock().unwrap().push(number);
            })
        })
        .collect();
    tokio::time::sleep(SHORT).await;
    guest.says("\n\n\n\n\n").await;
    for wait in waits {
        wait.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn the_limit_holds_while_another_wait_has_its_turn() {
    let (console, _guest) = console();
    let (first, second) = tokio::join!(console.expect("a", SHORT * 3), console.expect("b", SHORT));
    assert_eq!(first.unwrap_err().kind(), ErrorKind::Timeout);
    let second = second.unwrap_err().to_string();
    assert!(second.contains("another wait on the same console"), "{second}");
    assert_eq!(console.expect("c", Duration::ZERO).await.unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_tap_gets_every_raw_byte_from_the_last_match_on_and_gives_the_rest_back() {
    let (console, mut guest) = console();
    guest.says("$ cat\r\n\x1b[1mfirst ").await;
    console.expect("cat\n", SOON).await.unwrap();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let all = taken.clone();
    let tap = console.tap(SOON, move |bytes: &[u8]| {
        let mut all = all.lock().unwrap();
        let before = all.len();
        all.extend_from_slice(bytes);
        match all.windows(3).position(|end| end == b"END") {
            Some(at) => {
                all.truncate(at + 3);
                ControlFlow::Break(at + 3 - before)
            }
            None => ControlFlow::Continue(()),
        }
    });
    let says = async {
        tokio::time::sleep(SHORT).await;
        guest.says(b"\0\xff\x1b[0m").await;
        guest.says("EN").await;
        tokio::time::sleep(SHORT).await;
        guest.says("D$ ").await;
    };
    let (tapped, ()) = tokio::join!(tap, says);
    tapped.unwrap();
    assert_eq!(*taken.lock().unwrap(), b"\x1b[1mfirst \0\xff\x1b[0mEND");
    let found = console.expect("$ ", SOON).await.unwrap();
    assert_eq!(found.before(), "");
    assert!(console.tail(3).ends_with("END$"), "{}", console.tail(3));
}

#[tokio::test]
async fn a_tap_times_out_and_lets_go_of_the_line() {
    let (console, mut guest) = console();
    let tapped = console.tap(SHORT, |_| ControlFlow::Continue(())).await;
    assert_eq!(tapped.unwrap_err().kind(), ErrorKind::Timeout);
    guest.says("x").await;
    console.expect("x", SOON).await.unwrap();
}

#[tokio::test]
async fn text_since_a_mark_is_there_whether_it_was_matched_or_not() {
    let (console, mut guest) = console();
    guest.says("one ").await;
    console.expect("one ", SOON).await.unwrap();
    let mark = console.mark();
    guest.says("\x1b[1mtwo\x1b[0m three four").await;
    console.expect("three", SOON).await.unwrap();
    console.expect("four", SOON).await.unwrap();
    let since = console.text_since(mark);
    assert_eq!((since.text.as_str(), since.dropped), ("two three four", 0));
}

#[tokio::test]
async fn the_transcript_has_every_byte_and_the_time_of_each() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("console.log");
    let (console, mut guest) = with_transcript(&path);
    guest.says(b"\x1b[1mone\r\n").await;
    console.expect("one\n", SOON).await.unwrap();
    tokio::time::sleep(SHORT).await;
    guest.says(b"two\0\xff").await;
    // It is complete at a failure, before the idle time after which it is written anyway.
    console.expect("x", Duration::from_millis(10)).await.unwrap_err();
    assert_eq!(std::fs::read(&path).unwrap(), b"\x1b[1mone\r\ntwo\0\xff");
    let times = std::fs::read_to_string(folder.path().join("console.log.times")).unwrap();
    let times: Vec<Vec<u64>> =
        times.lines().map(|line| line.split(' ').map(|number| number.parse().unwrap()).collect()).collect();
    assert_eq!(times.iter().map(|entry| entry[1]).collect::<Vec<_>>(), [0, 9]);
    assert!(times[1][0] >= times[0][0] + 80_000, "{times:?}");
}

#[tokio::test]
async fn a_full_disk_is_said_once_and_the_run_goes_on() {
    let notes = Arc::new(Mutex::new(Vec::new()));
    let sink = notes.clone();
    let events = Events::new(move |event| {
        if let Event::Note { text: note } = event {
            sink.lock().unwrap().push(note.clone());
        }
    });
    // /dev/full.times can't be created, so this uses a link.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("console.log");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let options = ConsoleOptions { transcript: Some(path), events, ..ConsoleOptions::default() };
    let (console, mut guest) = with(options);
    for _ in 0..3 {
        guest.says(vec![b'x'; 100_000]).await;
        guest.says("login: ").await;
        console.expect("login: ", SOON).await.unwrap();
        // The transcript is written to its file when the guest is quiet.
        tokio::time::sleep(SHORT).await;
    }
    drop(guest);
    console.expect("end", SOON).await.unwrap_err();
    let notes = notes.lock().unwrap();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("No space left"), "{notes:?}");
}

#[tokio::test]
async fn a_secret_is_in_no_transcript_tail_or_error_however_it_is_torn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("console.log");
    let (console, mut guest) = with_transcript(&path);
    guest.says("Password: ").await;
    console.expect("Password: ", SOON).await.unwrap();
    console.send_secret("hunter2").await.unwrap();
    guest.hears("hunter2\r").await;
    for part in ["hunt", "er", "2\r\n", "h", "untwo\r\n"] {
        guest.says(part).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = console.expect("nothing of hunter2", SHORT).await.unwrap_err();
    for shown in [error.to_string(), format!("{error:?}"), console.tail(5)] {
        assert!(!shown.contains("hunter2") && shown.contains("****"), "{shown}");
    }
    drop(guest);
    console.expect("end", SOON).await.unwrap_err();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "Password: ****\r\nhuntwo\r\n");
}

#[tokio::test]
async fn what_could_have_been_a_secret_is_in_the_transcript_when_the_console_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("console.log");
    let (console, mut guest) = with_transcript(&path);
    console.send_secret("hunter2").await.unwrap();
    guest.says("the hunt").await;
    console.expect("hunt", SOON).await.unwrap();
    drop(console);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "the hunt");
}

#[tokio::test]
async fn a_terminal_query_of_a_booting_guest_is_answered() {
    let (console, mut guest) = console();
    guest.says("\x1b[18t").await;
    guest.hears("\x1b[8;24;80t").await;
    console.set_watch(Watch::Session);
    guest.says("\x1b[6n.").await;
    console.expect(".", SOON).await.unwrap();
    console.send(b"x").await.unwrap();
    guest.hears("x").await;
}

#[tokio::test(start_paused = true)]
async fn input_that_nobody_takes_ends_in_an_error_not_in_a_hang() {
    let (console, guest) = with(ConsoleOptions { speed: Speed::new(2.0), ..ConsoleOptions::default() });
    let began = tokio::time::Instant::now();
    let error = console.send(&vec![b'x'; 1 << 20]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(began.elapsed().as_secs(), 20, "10 s for a host of speed 2");
    assert!(error.to_string().contains("read 65536 of 1048576 bytes"), "{error}");
    drop(guest);
}

#[tokio::test]
async fn a_limit_of_for_ever_is_no_panic() {
    let (console, mut guest) = console();
    guest.says("x").await;
    console.expect("x", Duration::MAX).await.unwrap();
}

#[test]
fn an_idle_wait_uses_no_processor_time() {
    // Counts how often this thread has gone to sleep: polling would wake it up in between.
    let sleeps = || {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    let clock = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (host, guest) = tokio::net::UnixStream::pair().unwrap();
        let console = Console::attach(host, ConsoleOptions::default()).unwrap();
        let limit = Duration::from_secs(2);
        let before = (clock(), sleeps());
        console.expect("login: ", limit).await.unwrap_err();
        let (used, slept) = (clock() - before.0, sleeps() - before.1);
        assert!(used < limit / 2 && slept < 100, "{used:?}, {slept} times");
        drop(guest);
    });
}
