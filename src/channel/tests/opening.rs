//! Tests of the beginning of a channel.

use super::guest::{Guest, LIMIT, NONCE, opened, options};
use crate::channel::{Channel, Handshake, Way};
use crate::{Error, ErrorKind};
use std::time::Duration;

const HELPER: &[u8] = b"\x7fELF a program\n";
const SERVER: &str = "serve() { :; }\n";

fn helper(machine: &str) -> Option<&'static [u8]> {
    match machine {
        "x86_64" => Some(HELPER),
        "empty" => Some(b""),
        _ => None,
    }
}

fn load() -> Handshake {
    Handshake::Load { helper, server: SERVER }
}

/// Opens a channel to a guest that behaves like `guest`.
async fn open<F: Future<Output = Guest>>(
    handshake: Handshake,
    guest: impl FnOnce(Guest) -> F,
) -> Result<Channel, Error> {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (channel, _guest) = tokio::join!(Channel::open(ours, options(handshake)), guest(Guest::new(theirs)));
    channel
}

async fn hello(guest: &mut Guest, way: &str) {
    guest.sends('H', 0, format!("version 1\nway {way}\nbash /run/sw/bin/bash\nlater 1\n")).await;
}

#[tokio::test]
async fn the_helper_is_given_to_a_machine_that_has_one() {
    let channel = open(load(), |mut guest| async {
        guest.says(format!("login: nixvm-channel other x86_64\n\nnixvm-channel {NONCE} x86_64\n")).await;
        guest.hears_bytes(b"\nhelper 15 4f2a\n").await;
        guest.hears_bytes(HELPER).await;
        hello(&mut guest, "helper").await;
        guest
    });
    let channel = channel.await.unwrap();
    assert_eq!(channel.way(), Way::Helper);
}

#[tokio::test]
async fn a_machine_that_refuses_the_helper_gets_the_shell_server() {
    let channel = open(load(), |mut guest| async {
        guest.says(format!("\nnixvm-channel {NONCE} x86_64\n")).await;
        guest.hears_bytes(b"\nhelper 15 4f2a\n").await;
        guest.hears_bytes(HELPER).await;
        guest.says("refu").await;
        tokio::task::yield_now().await;
        guest.says("sed\n").await;
        guest.hears_bytes(b"\nshell 15 4f2a\n").await;
        guest.hears_bytes(SERVER.as_bytes()).await;
        hello(&mut guest, "shell").await;
        guest
    });
    assert_eq!(channel.await.unwrap().way(), Way::Shell);
}

#[tokio::test]
async fn a_machine_without_a_helper_gets_the_shell_server() {
    for machine in ["riscv64", "empty", ""] {
        let channel = open(load(), |mut guest| async {
            guest.says(format!("\nnixvm-channel {NONCE} {machine}\n")).await;
            guest.hears_bytes(b"\nshell 15 4f2a\n").await;
            guest.hears_bytes(SERVER.as_bytes()).await;
            hello(&mut guest, "shell").await;
            guest
        });
        assert_eq!(channel.await.unwrap().way(), Way::Shell, "{machine}");
    }
}

#[tokio::test]
async fn noise_before_the_first_word_is_passed_over_however_much_it_is() {
    let channel = open(Handshake::Direct, |mut guest| async {
        for _ in 0..100 {
            guest.says(vec![b'x'; 50_000]).await;
            guest.says("\n\n\0\x1b[31mnixvm-channel\n").await;
        }
        guest.says(vec![b'O'; 5_000]).await;
        guest.says(format!("\nnixvm-channel {NONCE}\n")).await;
        hello(&mut guest, "helper").await;
        guest
    });
    assert!(channel.await.unwrap().lost().is_none());
}

#[tokio::test]
async fn frames_that_follow_the_hello_at_once_are_not_lost() {
    let channel = open(Handshake::Direct, |mut guest| async {
        let hello = "H 0 21\nversion 1\nway helper\n";
        guest.says(format!("nixvm-channel {NONCE}\n{hello}P 9 0\nnonsense")).await;
        guest
    });
    let channel = channel.await.unwrap();
    while channel.lost().is_none() {
        tokio::task::yield_now().await;
    }
    assert!(channel.lost().unwrap().contains("nonsense"), "{:?}", channel.lost());
}

#[tokio::test]
async fn a_guest_that_says_something_else_is_shown() {
    let error = open(load(), |mut guest| async {
        guest.says(format!("\nnixvm-channel {NONCE} x86_64\n")).await;
        guest.hears_bytes(b"\nhelper 15 4f2a\n").await;
        guest.says("bash: head: command not found\n").await;
        guest
    });
    let error = error.await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::ChannelLost);
    assert!(error.to_string().contains("| bash: head: command not found"), "{error}");
}

#[tokio::test]
async fn a_guest_that_closes_or_speaks_otherwise_is_an_error() {
    for (said, named) in [
        ("/dev/virtio-ports/x: Permission denied\n", "Permission denied"),
        ("\nnixvm-channel 4f2a\nH 0 10\nversion 2\n", "version \"2\""),
        ("\nnixvm-channel 4f2a\nH 0 17\nversion 1\nway x\n\n", "\"x\""),
        ("\nnixvm-channel 4f2a\nH 0 0\n", "version \"\""),
        ("\nnixvm-channel 4f2a\nO 1 3\nabc", "it was closed"),
    ] {
        let error = open(Handshake::Direct, |mut guest| async {
            guest.says(said).await;
            // A new guest without a peer, so the stream is closed.
            drop(guest);
            Guest::new(tokio::io::duplex(1).0)
        });
        let error = error.await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::ChannelLost, "{error}");
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_guest_is_given_up_and_what_was_awaited_is_named() {
    for (said, awaited) in [
        ("root@server:~# \nroot@server:~# ", "the guest's first word did not come"),
        ("\nnixvm-channel 4f2a x86_64\n", "the helper's hello did not come"),
        ("\nnixvm-channel 4f2a x86_64\nrefused\n", "the guest's hello did not come"),
    ] {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let mut guest = Guest::new(theirs);
        guest.says(said).await;
        let opening = Channel::open(ours, options(load()));
        let error =
            tokio::time::timeout(LIMIT + Duration::from_secs(1), opening).await.unwrap().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(error.to_string().contains(awaited), "{error}");
    }
}

#[tokio::test]
async fn an_open_channel_answers_a_ping_and_ends_when_it_is_dropped() {
    let (channel, mut guest) = opened().await;
    let answering = async {
        let ping = guest.hears('P').await;
        guest.sends('P', ping.id, ping.payload).await;
    };
    let (took, ()) = tokio::join!(channel.ping(LIMIT), answering);
    assert!(took.unwrap() < LIMIT);
    drop(channel);
    assert_eq!(guest.hears_any().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_late_is_set_again_and_the_random_numbers_are_not() {
    let (channel, mut guest) = opened().await;
    let answering = async {
        let mut answered = 0.0;
        for (late, seed) in [(Duration::from_millis(100), "07".repeat(32)), (Duration::ZERO, String::new())] {
            let set = String::from_utf8(guest.hears('C').await.payload).unwrap();
            let (time, random) = set.split_once(' ').unwrap();
            let time: f64 = time.parse().unwrap();
            assert!(time >= answered, "{time} is the time of before, {answered} or later");
            assert_eq!(random, seed);
            let ping = guest.hears('P').await;
            tokio::time::sleep(late).await;
            answered = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
            guest.sends('P', ping.id, ping.payload).await;
        }
    };
    let (done, ()) = tokio::join!(channel.awaken(&[7; 32], LIMIT), answering);
    done.unwrap();
    drop(channel);
    assert_eq!(guest.hears_any().await, None, "twice was enough");
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_ping_is_given_up() {
    let (channel, _guest) = opened().await;
    assert_eq!(channel.ping(LIMIT).await.unwrap_err().kind(), ErrorKind::Timeout);
}
