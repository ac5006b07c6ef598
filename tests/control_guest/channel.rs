//! Many commands on one channel.

use crate::each_way;
use crate::guest::{Guest, Way};

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
        stream.extend(format!("T {id} {}\n{text}R {id} 9\nsimple 1\n", text.len()).bytes());
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
