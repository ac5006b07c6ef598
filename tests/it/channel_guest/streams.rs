//! Bytes in and out.

use crate::channel_guest::each_way;
use crate::channel_guest::guest::{Guest, Way, numbers, until};

/// So much input may be on its way, not yet taken.
const WINDOW: usize = 262_144;

/// Runs a command that reads `input`, as fast as it is taken.
fn feed(guest: &mut Guest, text: &str, input: &[u8]) -> crate::channel_guest::guest::Outcome {
    let id = guest.begin(text, "stdin 1\n");
    let mut outcome = crate::channel_guest::guest::Outcome::default();
    let mut sent = 0;
    loop {
        while sent < input.len() && sent - outcome.taken + 65536 <= WINDOW {
            let piece = &input[sent..input.len().min(sent + 65536)];
            guest.send_frame('I', id, piece);
            sent += piece.len();
            if sent == input.len() {
                guest.send_frame('I', id, b"");
            }
        }
        let frame = guest.frame_of(id);
        match frame.kind {
            'A' => outcome.taken += std::str::from_utf8(&frame.content).unwrap().parse::<usize>().unwrap(),
            'O' => outcome.stdout.extend(frame.content),
            'E' => outcome.stderr.extend(frame.content),
            'X' => {
                outcome.status = String::from_utf8(frame.content).unwrap().trim()[7..].parse().ok();
                return outcome;
            }
            other => panic!("{other}"),
        }
    }
}

/// Bytes of all values, in no simple order.
fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 29) as u8).collect()
}

each_way! {
    fn every_byte_comes_as_it_is(guest: Guest) {
        let all = r#"for n in {0..255}; do printf "\\x$(printf %02x "$n")"; done"#;
        let outcome = guest.run(&format!("{all}; echo apart >&2; {all} >&2"));
        let bytes: Vec<u8> = (0..=255).collect();
        assert!(outcome.stdout == bytes, "{outcome:?}");
        assert!(outcome.stderr == [b"apart\n", &bytes[..]].concat(), "{outcome:?}");
    }

    fn output_by_the_names_of_its_streams(guest: Guest) {
        let outcome = guest.run("echo err >/dev/stderr; echo out >/dev/stdout; echo fd >&1; echo proc >>/proc/self/fd/1");
        assert_eq!((outcome.text(), &outcome.stderr[..]), ("out\nfd\nproc\n", &b"err\n"[..]));
        // A pipe, not a file that would start anew; to the shell server it is a file.
        if guest.way == Way::Helper {
            assert_eq!(guest.run("echo a; echo b >/dev/stdout; echo c").text(), "a\nb\nc\n");
        }
    }

    fn no_input_is_an_empty_file(guest: Guest) {
        assert_eq!(guest.run("readlink /proc/self/fd/0; cat").text(), "/dev/null\n");
        assert_eq!(guest.run_with("cat", "").status, Some(0));
    }

    fn ten_megabytes_out(guest: Guest) {
        let outcome = guest.run("head -c 10485760 /dev/zero | tr '\\0' x; head -c 100000 /dev/zero >&2");
        assert_eq!(outcome.status, Some(0));
        assert!(outcome.stdout.len() == 10_485_760 && outcome.stdout.iter().all(|&byte| byte == b'x'));
        assert!(outcome.stderr == vec![0; 100_000]);
    }

    fn ten_megabytes_in_and_out_again(guest: Guest) {
        let input = noise(10 << 20);
        let outcome = feed(&mut guest, "cat", &input);
        assert_eq!(outcome.status, Some(0));
        assert!(outcome.stdout == input, "{} bytes", outcome.stdout.len());
        assert_eq!(outcome.taken, input.len());
    }

    fn input_that_nobody_reads_is_taken_all_the_same(guest: Guest) {
        let folder = tempfile::tempdir().unwrap();
        let go = folder.path().join("go");
        // It stops reading, and lives on until all is taken.
        let text = format!(
            "head -c 10; exec </dev/null; until [ -e {} ]; do sleep 0.01; done; echo end",
            go.display()
        );
        if guest.way == Way::Helper {
            let id = guest.begin(&text, "stdin 1\n");
            let (mut sent, mut taken) = (0, 0);
            let input = noise(10 << 20);
            let mut stdout = Vec::new();
            while taken < input.len() {
                while sent < input.len() && sent - taken + 65536 <= WINDOW {
                    guest.send_frame('I', id, &input[sent..sent + 65536]);
                    sent += 65536;
                }
                let frame = guest.frame_of(id);
                match frame.kind {
                    'A' => taken += std::str::from_utf8(&frame.content).unwrap().parse::<usize>().unwrap(),
                    'O' => stdout.extend(frame.content),
                    _ => panic!("{frame:?}"),
                }
            }
            std::fs::write(&go, "").unwrap();
            let outcome = guest.finish(id);
            assert_eq!(outcome.status, Some(0));
            assert_eq!([&stdout[..], &outcome.stdout].concat(), [&input[..10], b"end\n"].concat());
        } else {
            std::fs::write(&go, "").unwrap();
            let outcome = feed(&mut guest, &text, &noise(10 << 20));
            assert_eq!(outcome.stdout, [&noise(10)[..], b"end\n"].concat());
        }
        assert_eq!(guest.run("echo next").text(), "next\n");
    }

    fn an_early_end_of_the_reader(guest: Guest) {
        for _ in 0..5 {
            let id = guest.begin("head -c 3", "stdin 1\n");
            guest.send_frame('I', id, b"abcdef");
            guest.send_frame('I', id, b"");
            let outcome = guest.finish(id);
            assert_eq!((outcome.status, outcome.text()), (Some(0), "abc"));
        }
    }

    fn input_of_a_command_that_asked_for_none(guest: Guest) {
        let folder = tempfile::tempdir().unwrap();
        let go = folder.path().join("go");
        let id = guest.begin(&format!("cat; until [ -e {} ]; do sleep 0.01; done", go.display()), "");
        guest.send_frame('I', id, b"nobody reads this");
        assert_eq!(guest.frame_of(id).kind, 'A');
        std::fs::write(&go, "").unwrap();
        assert_eq!(guest.finish(id).text(), "");
    }

    fn a_process_left_behind_delays_nothing_and_lives_on(guest: Guest) {
        let folder = tempfile::tempdir().unwrap();
        let (go, done) = (folder.path().join("go"), folder.path().join("done"));
        let id = guest.begin(&format!(
            "(until [ -e {} ]; do sleep 0.01; done; echo late; echo later; head -c 1000000 /dev/zero; echo $BASHPID >{}) & echo now",
            go.display(), done.display()), "");
        let outcome = guest.finish(id);
        assert_eq!((outcome.status, outcome.text()), (Some(0), "now\n"));
        std::fs::write(&go, "").unwrap();
        // It gets to its end: no signal for what it printed.
        numbers(&done, 1);
        assert_eq!(guest.run("echo after").text(), "after\n");
        assert!(guest.unexpected().is_empty(), "{:?}", guest.unexpected());
    }
}

#[test]
fn output_comes_while_the_command_runs() {
    let mut guest = Guest::start(Way::Helper);
    let id = guest.begin("echo first; read -r line; echo \"$line\"; read -r line || echo none", "stdin 1\n");
    assert_eq!(guest.frame_of(id).content, b"first\n");
    guest.send_frame('I', id, b"second\n");
    let frames = [guest.frame_of(id), guest.frame_of(id)];
    assert!(frames.iter().any(|frame| frame.kind == 'A' && frame.content == b"7"), "{frames:?}");
    assert!(frames.iter().any(|frame| frame.kind == 'O' && frame.content == b"second\n"), "{frames:?}");
    guest.send_frame('I', id, b"");
    assert_eq!(guest.finish(id).text(), "none\n");
}

#[test]
fn a_flood_of_one_that_stays_behind_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut guest = Guest::start(Way::Helper);
    let file = folder.path().join("pid");
    let outcome = guest.run(&format!("yes & echo $! >{}", file.display()));
    assert_eq!(outcome.status, Some(0));
    let pid = numbers(&file, 1)[0];
    assert_eq!(guest.run("echo next").text(), "next\n");
    guest.run(&format!("kill -9 {pid}"));
    until("it is gone", || !crate::channel_guest::guest::runs(pid));
    assert!(guest.unexpected().is_empty());
}

#[test]
fn a_host_that_does_not_read_stops_nothing_for_good() {
    let mut guest = Guest::start(Way::Helper);
    let flood = guest.begin("head -c 20000000 /dev/zero", "");
    let other = guest.begin("echo other", "");
    // Nothing was read yet; the pipe, the helper's buffer and the socket are full now.
    let outcome = guest.finish(other);
    assert_eq!(outcome.text(), "other\n");
    assert_eq!(guest.finish(flood).stdout.len(), 20_000_000);
}

/// The shell way has no checksums, and passes over the wish for them.
#[test]
fn checksums_are_of_what_the_command_was_given_and_of_what_it_printed() {
    let mut guest = Guest::start(Way::Helper);
    let id = guest.begin("tr a-z A-Z; echo not this >&2", "stdin 1\nsum 1\n");
    for piece in [&b"ab"[..], b"c", b""] {
        guest.send_frame('I', id, piece);
    }
    let exit = loop {
        let frame = guest.frame_of(id);
        if frame.kind == 'X' {
            break String::from_utf8(frame.content).unwrap();
        }
    };
    // As xxhsum(1) has it: of "abc", of "ABC".
    assert_eq!(exit, "status 0\nsum 44bc2cf5ad770999 e66ae7354fcfee98\n");
    assert_eq!(guest.run_with("true", "").status, Some(0));
}
