//! Many commands on one channel.

use crate::channel_guest::each_way;
use crate::channel_guest::guest::{Guest, Way};

each_way! {
    fn twenty_at_once(guest: Guest) {
        let folder = tempfile::tempdir().unwrap();
        // Each waits until all twenty run.
        let ids: Vec<u32> = (0..20)
            .map(|n| {
                let text = format!(
                    "cd {}; : >{n}; until [ -e 19 ] && [ $(ls | wc -l) = 20 ]; do sleep 0.02; done; echo {n}",
                    folder.path().display()
                );
                guest.begin(&text, "")
            })
            .collect();
        for (n, id) in ids.into_iter().enumerate().rev() {
            let outcome = guest.finish(id);
            assert_eq!((outcome.status, outcome.text()), (Some(0), &*format!("{n}\n")), "{outcome:?}");
        }
        assert!(guest.unexpected().is_empty());
    }

    fn output_of_many_does_not_mix(guest: Guest) {
        let ids: Vec<u32> = (0..8)
            .map(|n| guest.begin(&format!("head -c 300000 /dev/zero | tr '\\0' {n}"), ""))
            .collect();
        for (n, id) in ids.into_iter().enumerate() {
            let stdout = guest.finish(id).stdout;
            let digit = b'0' + u8::try_from(n).unwrap();
            assert!(stdout.len() == 300_000 && stdout.iter().all(|&byte| byte == digit), "{n}: {}", stdout.len());
        }
    }

    fn pings_and_kinds_of_a_later_version(guest: Guest) {
        guest.ping();
        guest.send_frame('Z', 7, b"a frame of a later version\n");
        guest.send_frame('z', 0, b"");
        let id = guest.begin("echo on", "later version\nshell bash\n");
        assert_eq!(guest.finish(id).text(), "on\n");
        guest.ping();
    }
}

#[test]
fn more_than_can_run_at_once() {
    let mut guest = Guest::start(Way::Helper);
    let ids: Vec<u32> = (0..150).map(|n| guest.begin(&format!("sleep 0.05; echo {n}"), "")).collect();
    for (n, id) in ids.into_iter().enumerate() {
        assert_eq!(guest.finish(id).text(), format!("{n}\n"));
    }
}

#[test]
fn one_that_waits_for_its_turn_can_be_killed() {
    let mut guest = Guest::start(Way::Helper);
    let ids: Vec<u32> = (0..70).map(|_| guest.begin("sleep 1000", "")).collect();
    for &id in ids.iter().rev() {
        guest.kill(id, 9);
        assert_eq!(guest.finish(id).status, Some(137));
    }
    assert_eq!(guest.run("echo next").text(), "next\n");
}

#[test]
fn too_many_are_refused() {
    let mut guest = Guest::start(Way::Helper);
    let ids: Vec<u32> = (0..257).map(|_| guest.begin("sleep 1000", "")).collect();
    let outcome = guest.finish(ids[256]);
    assert_eq!(outcome.status, None);
    assert!(outcome.refused.contains("256"), "{outcome:?}");
}

#[test]
fn frames_in_pieces_of_any_size() {
    let mut guest = Guest::start(Way::Helper);
    let mut stream = Vec::new();
    for id in 1..=40u32 {
        let text = format!("echo {id}");
        stream.extend(format!("T {id} {}\n{text}R {id} 0\n", text.len()).bytes());
    }
    for size in [1, 2, 3, 7, 100] {
        let (now, later) = stream.split_at(stream.len().min(size * 40));
        for piece in now.chunks(size) {
            guest.send(piece);
        }
        stream = later.to_vec();
    }
    guest.send(&stream);
    for id in 1..=40 {
        assert_eq!(guest.finish(id).text(), format!("{id}\n"));
    }
}

#[test]
fn a_channel_within_a_channel() {
    let mut guest = Guest::start(Way::Helper);
    let helper = env!("NIXVM_GUEST_HELPER");
    let id = guest
        .begin(&format!("exec {helper} serve - {} inner", crate::channel_guest::guest::bash()), "stdin 1\n");
    let mut heard = Vec::new();
    let mut hear = |guest: &mut Guest, wanted: &str| {
        while !String::from_utf8_lossy(&heard).contains(wanted) {
            let frame = guest.frame_of(id);
            match frame.kind {
                'O' => heard.extend(frame.content),
                'A' => {}
                _ => panic!("{frame:?}"),
            }
        }
    };
    hear(&mut guest, "\nnixvm-channel inner ");
    hear(&mut guest, "way helper\n");
    guest.send_frame('I', id, b"T 1 13\necho $((6*7))R 1 0\n");
    hear(&mut guest, "O 1 3\n42\nX 1 9\nstatus 0\n");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let text = format!("sleep 1000 & echo $! >{}; wait", file.display());
    guest.send_frame('I', id, format!("T 2 {}\n{text}R 2 0\n", text.len()).as_bytes());
    let pid = crate::channel_guest::guest::numbers(&file, 1)[0];
    // The end of its input ends the inner one and what it runs.
    guest.send_frame('I', id, b"");
    assert_eq!(guest.finish(id).status, Some(0));
    crate::channel_guest::guest::until("it is gone", || !crate::channel_guest::guest::runs(pid));
}
