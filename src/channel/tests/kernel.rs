//! Tests of the kernel's log over a channel, with a guest in memory, and with the real helper on this host's
//! log.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::guest::{opened, request, soon, started};
use super::native::Native;
use crate::channel::guest::helper_for;
use crate::channel::{Channel, KernelWord, Progress, Way};

/// Everything that was received, as text.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<String>>);

impl Heard {
    fn of(channel: &Channel, from: Option<u64>) -> Self {
        let heard = Self::default();
        let sink = heard.clone();
        channel.follow_kernel(from, move |word| {
            let mut text = sink.0.lock().unwrap();
            match word {
                KernelWord::Records(records) => text.push_str(&String::from_utf8_lossy(records)),
                KernelWord::NoMore(why) => text.push_str(&format!("<{}>", String::from_utf8_lossy(why))),
            }
        });
        heard
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    /// Returns the number of the record with this text.
    fn number_of(&self, text: &str) -> Option<u64> {
        let heard = self.text();
        let line = heard.lines().find(|line| line.contains(text))?;
        line.split(',').nth(1)?.parse().ok()
    }

    /// Whether the channel has dropped the listener, so that only this value is left.
    fn is_over(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

#[tokio::test]
async fn what_is_told_before_a_commands_exit_is_heard_before_it() {
    let (channel, mut guest) = opened().await;
    let heard = Heard::of(&channel, Some(7));
    let asked = guest.hears('M').await;
    assert_eq!((asked.id, asked.payload), (0, b"7".to_vec()));
    let (mut running, id) = started(&channel, &mut guest, "crash").await;
    guest.sends('M', 0, "6,7,1,-;crash\n").await;
    guest.exits(id, 139).await;
    assert_eq!(soon(running.next()).await.unwrap(), Progress::Exit(139));
    assert_eq!(heard.text(), "6,7,1,-;crash\n");
}

#[tokio::test]
async fn what_came_before_the_port_was_closed_is_read_before_the_channel_is_lost() {
    let (channel, mut guest) = opened().await;
    let heard = Heard::of(&channel, None);
    assert_eq!(guest.hears('M').await.payload, b"");
    guest.sends('M', 0, "6,0,1,-;last words\n").await;
    guest.sends('N', 0, "ended").await;
    channel.close_when_read("the port was closed");
    assert_eq!(channel.lost().as_deref(), Some("the port was closed"), "nothing can be started any more");
    assert!(channel.run(request("true")).await.is_err());
    soon(async {
        while !heard.is_over() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(heard.text(), "6,0,1,-;last words\n<ended>");
}

#[tokio::test]
async fn who_listens_on_a_channel_that_is_lost_is_let_go() {
    let (channel, guest) = opened().await;
    drop(guest);
    soon(async {
        while channel.lost().is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(Heard::of(&channel, None).is_over());
}

#[tokio::test]
async fn the_clocks_are_told_once_to_who_asked_and_what_is_no_answer_is_passed_over() {
    let (channel, mut guest) = opened().await;
    let (sender, mut answer) = tokio::sync::mpsc::unbounded_channel();
    let to = sender.clone();
    channel.compare_clocks(move |clocks| to.send(clocks).unwrap());
    let first = guest.hears('U').await;
    channel.compare_clocks(move |clocks| sender.send(clocks).unwrap());
    let second = guest.hears('U').await;
    assert_ne!(first.payload, second.payload, "the word can't be known beforehand");
    assert!(second.payload.len() == 16 && second.payload.iter().all(u8::is_ascii_alphanumeric));
    for nonsense in [
        "",
        "1 2 3 4",
        "1 2 3 4 x",
        "-1 2 3 4 5",
        "1 9 0 8 0",
        "1 2 3 18446744073709551615 5",
        "18446744073709551615 1 1 1 1",
        "18446744073709551616 1 1 1 1",
        "\u{ff}",
    ] {
        guest.sends('U', 0, nonsense).await;
    }
    guest.sends('U', 0, "31000001 20 500000000 21 18446744073709551615").await;
    guest.sends('U', 0, "1 1 1 1 1").await;
    let clocks = soon(answer.recv()).await.unwrap();
    assert_eq!(clocks.logged, Duration::from_micros(31_000_001));
    let most = Duration::from_nanos(21_999_999_999);
    assert_eq!(clocks.uptime, (Duration::from_millis(20_500), most));
    assert!(soon(answer.recv()).await.is_none(), "both listeners are let go");
}

/// Whether this host lets the test read and write its log. Otherwise the tests are skipped.
fn log_can_be_used() -> bool {
    let usable = std::fs::File::options().read(true).write(true).open("/dev/kmsg").is_ok();
    if !usable {
        eprintln!("/dev/kmsg of this host can't be opened: not tried");
    }
    usable
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_helper_tells_what_the_kernel_logs_before_the_exit_of_the_command_that_brought_it_about() {
    if !log_can_be_used() {
        return;
    }
    let guest = Native::open(helper_for).await;
    assert_eq!(guest.channel.way(), Way::Helper);
    let heard = Heard::of(&guest.channel, None);
    let word = format!("nixvm-test {} ", std::process::id());
    for number in 0..20 {
        assert_eq!(guest.run(&format!("echo '{word}{number}.' >/dev/kmsg")).await.status, 0);
        assert!(heard.number_of(&format!("{word}{number}.")).is_some(), "{number}");
    }
    let all: Vec<u64> = heard
        .text()
        .lines()
        .filter(|line| !line.starts_with(' '))
        .map(|line| line.split(',').nth(1).unwrap().parse().unwrap())
        .collect();
    assert!(all.is_sorted_by(|one, next| one + 1 == *next), "none twice, none left out: {all:?}");

    // As after a restore: from a given record on, whether the helper is already there or has to go back.
    let from = heard.number_of(&format!("{word}12.")).unwrap();
    let again = Heard::of(&guest.channel, Some(from));
    soon(guest.channel.ping(super::guest::LIMIT)).await.unwrap();
    let told: Vec<_> =
        (0..20).filter(|number| again.number_of(&format!("{word}{number}.")).is_some()).collect();
    assert_eq!(told, (12..20).collect::<Vec<_>>());
    let next = again
        .text()
        .lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split(',').nth(1)?.parse::<u64>().ok())
        .max()
        .unwrap()
        + 1;
    let new = Heard::of(&guest.channel, Some(next));
    assert_eq!(guest.run(&format!("echo '{word}new.' >/dev/kmsg")).await.status, 0);
    assert!(new.number_of(&format!("{word}new.")).is_some());
    assert!(new.number_of(&format!("{word}19.")).is_none(), "{}", new.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_helper_and_the_shell_compare_the_kernels_clock_with_the_uptime() {
    if !log_can_be_used() {
        return;
    }
    for helper in [helper_for, |_: &str| None] {
        let guest = Native::open(helper).await;
        let heard = Heard::of(&guest.channel, None);
        for _ in 0..2 {
            let (sender, clocks) = tokio::sync::oneshot::channel();
            guest.channel.compare_clocks(move |clocks| sender.send(clocks).unwrap());
            let clocks = soon(clocks).await.unwrap();
            assert!(clocks.uptime.0 <= clocks.uptime.1, "{clocks:?}");
            let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
            let now: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
            assert!((0.0..60.0).contains(&(now + 0.01 - clocks.uptime.0.as_secs_f64())), "{clocks:?} {now}");
            if guest.channel.way() == Way::Helper {
                let logged = clocks.logged.as_micros().to_string();
                let text = heard.text();
                let line = text.lines().find(|line| line.contains(&format!(",{logged},"))).unwrap();
                assert!(line.starts_with("15,") && line.contains(";nixvm-test: clock "), "{line}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_helper_that_is_told_to_hold_says_nothing_and_then_leaves_nothing_out() {
    if !log_can_be_used() {
        return;
    }
    let guest = Native::open(helper_for).await;
    let heard = Heard::of(&guest.channel, None);
    let word = format!("nixvm-test {} holds ", std::process::id());
    assert_eq!(guest.run(&format!("echo '{word}1.' >/dev/kmsg")).await.status, 0);
    let next = heard.number_of(&format!("{word}1.")).unwrap() + 1;
    guest.channel.hold_kernel();
    assert_eq!(guest.run(&format!("echo '{word}2.' >/dev/kmsg")).await.status, 0);
    soon(guest.channel.ping(super::guest::LIMIT)).await.unwrap();
    assert_eq!(heard.number_of(&format!("{word}2.")), None);
    let again = Heard::of(&guest.channel, Some(next));
    soon(guest.channel.ping(super::guest::LIMIT)).await.unwrap();
    assert!(again.number_of(&format!("{word}2.")).is_some());
    assert!(again.number_of(&format!("{word}1.")).is_none(), "{}", again.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_helper_that_is_asked_to_end_tells_the_rest_first() {
    if !log_can_be_used() {
        return;
    }
    let guest = Native::open(helper_for).await;
    let heard = Heard::of(&guest.channel, None);
    let word = format!("nixvm-test {} leaves", std::process::id());
    // The shell that runs this ends with the helper.
    let text = format!("echo '{word}' >/dev/kmsg; kill -TERM {}", guest.pid());
    let _running = guest.channel.run(request(&text)).await.unwrap();
    soon(async {
        while !heard.is_over() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(heard.number_of(&word).is_some());
    assert!(heard.text().ends_with("<ended>"));
}
