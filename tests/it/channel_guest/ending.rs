//! Commands that are killed, and channels that end: nothing survives.

use crate::channel_guest::each_way;
use crate::channel_guest::guest::{Guest, Way, numbers, runs, until};
use std::path::Path;

/// A command that starts two processes, writes the three numbers to a file and never ends.
fn family(file: &Path) -> String {
    format!(
        "sleep 1000 & echo $! >>{0}; (sleep 1000; true) & echo $! >>{0}; echo $BASHPID >>{0}; wait",
        file.display()
    )
}

each_way! {
    fn a_signal_goes_to_the_whole_group(guest: Guest) {
        let folder = tempfile::tempdir().unwrap();
        for (signal, status) in [(9, 137), (15, 143), (9, 137)] {
            let file = folder.path().join(format!("{signal}-{status}-{}", guest.pid()));
            std::fs::remove_file(&file).ok();
            let id = guest.begin(&family(&file), "");
            let pids = numbers(&file, 3);
            assert!(pids.iter().all(|&pid| runs(pid)));
            guest.kill(id, signal);
            assert_eq!(guest.finish(id).status, Some(status));
            for pid in pids {
                until("it is gone", || !runs(pid));
            }
            assert_eq!(guest.run_with("echo still", "").text(), "still\n");
        }
    }

    fn a_signal_can_be_handled(guest: Guest) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let id = guest.begin(&format!("trap 'echo handled; exit 4' TERM; echo $BASHPID >{}; while true; do sleep 0.01 || :; done", file.display()), "");
        numbers(&file, 1);
        guest.kill(id, 15);
        let outcome = guest.finish(id);
        assert_eq!((outcome.status, outcome.text()), (Some(4), "handled\n"));
    }

    fn stopped_and_continued(guest: Guest) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let id = guest.begin(&format!("echo $BASHPID >{}; read -r line; echo \"$line\"; exit 3", file.display()), "stdin 1\n");
        let early = guest.way != Way::Helper;
        if early {
            guest.send_frame('I', id, b"on\n");
            guest.send_frame('I', id, b"");
        }
        let pid = numbers(&file, 1)[0];
        guest.kill(id, 19);
        if !early {
            until("it is stopped", || {
                std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") T "))
            });
            guest.send_frame('I', id, b"on\n");
            guest.ping();
            assert!(guest.unexpected().iter().all(|frame| frame.kind == 'A'));
        }
        guest.kill(id, 18);
        let outcome = guest.finish(id);
        assert_eq!((outcome.status, outcome.text()), (Some(3), "on\n"));
    }

    fn killed_at_once(guest: Guest) {
        let long = format!("sleep 1000 # {}", "x".repeat(200_000));
        for text in ["sleep 1000", &long, "env sleep 1000"] {
            for _ in 0..5 {
                let id = guest.begin(text, "");
                guest.kill(id, 9);
                assert_eq!(guest.finish(id).status, Some(137));
                assert_eq!(guest.run("echo next").text(), "next\n");
            }
        }
    }

    fn killed_while_its_input_is_open(guest: Guest) {
        let id = guest.begin("cat", "stdin 1\n");
        guest.send_frame('I', id, b"some");
        guest.kill(id, 9);
        assert_eq!(guest.finish(id).status, Some(137));
        assert_eq!(guest.run("echo next").text(), "next\n");
    }

    fn a_signal_for_nobody(guest: Guest) {
        guest.kill(77, 9);
        let id = guest.begin("true", "");
        guest.finish(id);
        guest.kill(id, 9);
        guest.ping();
        assert_eq!(guest.run("echo next").text(), "next\n");
    }

    fn nothing_is_left_when_the_port_closes(guest: Guest) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pids");
        for _ in 0..3 {
            guest.begin(&family(&file), "");
        }
        let pids = numbers(&file, 9);
        guest.close();
        for pid in pids {
            until("it is gone", || !runs(pid));
        }
    }

    fn garbage_ends_the_channel(guest: Guest) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pids");
        guest.begin(&family(&file), "");
        let pids = numbers(&file, 3);
        guest.send(b"this is no header at all\n");
        guest.wait();
        assert!(guest.ended());
        for pid in pids {
            until("it is gone", || !runs(pid));
        }
    }

    fn a_service_that_is_stopped_takes_all_with_it(guest: Guest) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pids");
        guest.begin(&family(&file), "");
        let pids = numbers(&file, 3);
        let pid = rustix::process::Pid::from_raw(guest.pid()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        if guest.way == Way::Helper {
            guest.wait();
        } else {
            // A shell can miss a signal just before it waits for input; the port's end it can't miss.
            guest.close();
        }
        for pid in pids {
            until("it is gone", || !runs(pid));
        }
    }
}

#[test]
fn every_kind_of_garbage_ends_it() {
    let table: &[&[u8]] = &[
        b"\n",
        b"P\n",
        b"P 1\n",
        b"P 1 2 3\n",
        b"P 1 65537\n",
        b"P 1 -1\n",
        b"P 99999999999 0\n",
        b"P 4294967296 0\n",
        b"PP 1 0\n",
        b"7 1 0\n",
        b"P  1 0\n",
        b"\xff\xfe\xfd\xfc\n",
        &[b'P'; 100],
        b"K 1 2\n-9",
        b"K 1 2\n65",
    ];
    for garbage in table {
        let mut guest = Guest::start(Way::Helper);
        guest.send(garbage);
        let status = guest.wait();
        assert_eq!(status.code(), Some(65), "{}", garbage.escape_ascii());
    }
}

#[test]
fn too_much_input_at_once_ends_it() {
    let mut guest = Guest::start(Way::Helper);
    let id = guest.begin("sleep 1000", "stdin 1\n");
    // It may end before it has read them all.
    while guest.is_open() {
        guest.try_to_send_frame('I', id, &[0; 65536]);
    }
    assert_eq!(guest.wait().code(), Some(65));
}
