//! Tests of the end of a channel: every caller gets the reason, at once.

use super::guest::{
    Guest, LIMIT, NONCE, opened, opened_with, options, request, soon, started, started_with_stdin,
};
use crate::channel::{Channel, Handshake, Progress, Request};
use crate::{Error, ErrorKind};

fn assert_lost(error: &Error, why: &str) {
    assert_eq!(error.kind(), ErrorKind::ChannelLost, "{error}");
    assert!(error.to_string().starts_with("server: the control channel is lost: "), "{error}");
    assert!(error.to_string().contains(why), "{error}");
}

#[tokio::test]
async fn everything_pending_and_later_fails_by_name() {
    let (channel, mut guest) = opened().await;
    let (mut reading, _) = started(&channel, &mut guest, "sleep 1000").await;
    let (mut writing, _) = started_with_stdin(&channel, &mut guest).await;
    let reading = tokio::spawn(async move { reading.next().await.unwrap_err() });
    let mut input = writing.take_input().unwrap();
    let writing = tokio::spawn(async move { input.write(&vec![0; 1 << 20]).await.unwrap_err() });
    let pinging = tokio::spawn({
        let channel = channel.clone();
        async move { channel.ping(LIMIT).await.unwrap_err() }
    });
    while guest.hears_any().await.unwrap().kind != 'P' {}
    drop(guest);
    for pending in [reading, writing, pinging] {
        assert_lost(&soon(pending).await.unwrap(), "the guest closed it");
    }
    assert_eq!(channel.lost().as_deref(), Some("the guest closed it"));
    assert_lost(&channel.run(request("true")).await.err().unwrap(), "the guest closed it");
    assert_lost(&channel.ping(LIMIT).await.unwrap_err(), "the guest closed it");
}

#[tokio::test]
async fn what_the_guest_can_not_mean_ends_the_channel() {
    for said in ["nonsense\n", "X 1 9\nstatus -\n", "X 1 10\nstatus 256\n", "X 1 0\n", "A 1 1\nx", "A 1 0\n"]
    {
        let (channel, mut guest) = opened().await;
        let (mut running, id) = started(&channel, &mut guest, "true").await;
        assert_eq!(id, 1);
        guest.says(said).await;
        assert_lost(&soon(running.next()).await.unwrap_err(), "the guest sent");
        assert_eq!(guest.hears_any().await, None, "the stream is closed");
        assert!(channel.lost().is_some());
    }
}

#[tokio::test]
async fn what_came_before_the_end_is_still_given() {
    let (channel, mut guest) = opened().await;
    let (mut ended, ended_id) = started(&channel, &mut guest, "echo done").await;
    let (mut cut, cut_id) = started(&channel, &mut guest, "echo half; sleep 10").await;
    guest.sends('O', ended_id, "done").await;
    guest.exits(ended_id, 0).await;
    guest.sends('O', cut_id, "half").await;
    drop(guest);
    while channel.lost().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(soon(ended.next()).await.unwrap(), Progress::Stdout(b"done".to_vec()));
    assert_eq!(soon(ended.next()).await.unwrap(), Progress::Exit(0));
    assert_eq!(soon(cut.next()).await.unwrap(), Progress::Stdout(b"half".to_vec()));
    assert_lost(&soon(cut.next()).await.unwrap_err(), "the guest closed it");
    assert_lost(&cut.kill(9).await.unwrap_err(), "the guest closed it");
}

#[tokio::test]
async fn a_guest_that_does_not_read_makes_new_commands_wait_until_it_is_gone() {
    let (channel, guest) = opened_with(1000).await;
    let long = "x".repeat(2 << 20);
    let first = soon(channel.run(request(&long))).await.unwrap();
    let waiting = tokio::spawn({
        let channel = channel.clone();
        async move { channel.run(request("true")).await.err().unwrap() }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(guest);
    assert_lost(&soon(waiting).await.unwrap(), "");
    drop(first);
}

#[tokio::test]
async fn a_guest_that_reads_again_gets_what_waited() {
    let (channel, mut guest) = opened_with(1000).await;
    let long = "x".repeat(2 << 20);
    let _first = soon(channel.run(request(&long))).await.unwrap();
    let waiting = tokio::spawn({
        let channel = channel.clone();
        async move { channel.run(request("true")).await }
    });
    assert_eq!(guest.hears_request().await.1, long);
    assert_eq!(guest.hears_request().await.1, "true");
    drop(soon(waiting).await.unwrap().unwrap());
}

#[tokio::test]
async fn closing_it_fails_what_is_pending() {
    let (channel, mut guest) = opened().await;
    let (mut running, _) = started(&channel, &mut guest, "sleep 1000").await;
    channel.close("the machine is switched off");
    assert_lost(&soon(running.next()).await.unwrap_err(), "the machine is switched off");
    drop(running);
    assert_eq!(guest.hears_any().await, None);
}

#[tokio::test]
async fn it_stays_open_while_a_command_runs() {
    let (channel, mut guest) = opened().await;
    let (mut running, id) = started(&channel, &mut guest, "sleep 1").await;
    drop(channel);
    guest.exits(id, 0).await;
    assert_eq!(soon(running.next()).await.unwrap(), Progress::Exit(0));
    drop(running);
    assert_eq!(guest.hears_any().await, None);
}

#[test]
fn it_is_lost_with_the_runtime_that_read_it() {
    let build = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = build();
    let (mut running, mut input, _guest) = first.block_on(async {
        let (ours, theirs) = tokio::io::duplex(1000);
        let mut guest = Guest::new(theirs);
        guest.says(format!("nixvm-channel {NONCE}\nH 0 21\nversion 1\nway helper\n")).await;
        let channel = Channel::open(ours, options(Handshake::Direct)).await.unwrap();
        let mut running = channel.run(Request { stdin: true, ..request("cat") }).await.unwrap();
        let input = running.take_input().unwrap();
        (running, input, guest)
    });
    drop(first);
    build().block_on(async {
        assert_lost(&soon(running.next()).await.unwrap_err(), "runtime");
        assert_lost(&soon(input.write(b"x")).await.unwrap_err(), "runtime");
    });
}
