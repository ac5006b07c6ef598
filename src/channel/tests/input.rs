//! Tests of stdin: how much may be in flight, and what becomes of it.

use super::guest::{opened, soon, started, started_with_stdin};
use crate::ErrorKind;
use crate::channel::Progress;

const WINDOW: usize = 262_144;

/// Receives input until `count` bytes have arrived, or until its end.
async fn takes(guest: &mut super::guest::Guest, id: u32, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        let input = guest.hears('I').await;
        assert_eq!(input.id, id);
        if input.payload.is_empty() {
            break;
        }
        bytes.extend(input.payload);
    }
    bytes
}

#[tokio::test]
async fn input_waits_for_the_guest_to_take_it() {
    let (channel, mut guest) = opened().await;
    let (mut running, id) = started_with_stdin(&channel, &mut guest).await;
    let all: Vec<u8> = (0..WINDOW * 3).map(|at| (at % 251) as u8).collect();
    let mut input = running.take_input().unwrap();
    let sent = all.clone();
    let writing = tokio::spawn(async move {
        input.write(&sent).await.unwrap();
        input.end().await.unwrap();
    });
    let mut came = takes(&mut guest, id, WINDOW).await;
    assert_eq!(came.len(), WINDOW);
    // No more input is in flight: a request comes next.
    let (mut other, other_id) = started(&channel, &mut guest, "true").await;
    guest.exits(other_id, 0).await;
    soon(other.next()).await.unwrap();
    assert!(!writing.is_finished());
    guest.sends('A', id, "100").await;
    came.extend(takes(&mut guest, id, 100).await);
    assert_eq!(came.len(), WINDOW + 100);
    while came.len() < all.len() {
        guest.sends('A', id, "65536").await;
        let next = (all.len() - came.len()).min(65536);
        came.extend(takes(&mut guest, id, next).await);
    }
    assert_eq!(guest.hears('I').await.payload, b"");
    soon(writing).await.unwrap();
    assert!(came == all);
}

#[tokio::test]
async fn output_is_read_while_input_is_written() {
    let (channel, mut guest) = opened().await;
    let (mut running, id) = started_with_stdin(&channel, &mut guest).await;
    let echo = tokio::spawn(async move {
        let mut total = 0;
        loop {
            let input = guest.hears('I').await;
            if input.payload.is_empty() {
                guest.exits(id, 0).await;
                return (guest, total);
            }
            total += input.payload.len();
            guest.sends('O', id, &input.payload).await;
            guest.sends('A', id, input.payload.len().to_string()).await;
        }
    });
    let mut input = running.take_input().unwrap();
    let writing = tokio::spawn(async move { input.write(&vec![1; 10 << 20]).await });
    let mut read = 0;
    while let Progress::Stdout(piece) = soon(running.next()).await.unwrap() {
        read += piece.len();
    }
    soon(writing).await.unwrap().unwrap();
    assert_eq!((read, soon(echo).await.unwrap().1), (10 << 20, 10 << 20));
}

#[tokio::test]
async fn a_command_that_ends_early_does_not_hold_its_writer() {
    let (channel, mut guest) = opened().await;
    let (mut running, id) = started_with_stdin(&channel, &mut guest).await;
    let mut input = running.take_input().unwrap();
    let writing = tokio::spawn(async move {
        input.write(&vec![0; WINDOW * 2]).await.unwrap();
        input.write(b"more").await.unwrap();
        input.end().await
    });
    takes(&mut guest, id, WINDOW).await;
    guest.exits(id, 0).await;
    soon(writing).await.unwrap().unwrap();
    assert_eq!(soon(running.next()).await.unwrap(), Progress::Exit(0));
    drop((running, channel));
    assert_eq!(guest.hears_any().await, None, "nothing more was sent for it");
}

#[tokio::test]
async fn input_that_is_dropped_ends() {
    let (channel, mut guest) = opened().await;
    let (mut running, id) = started_with_stdin(&channel, &mut guest).await;
    let mut input = running.take_input().unwrap();
    input.write(b"half").await.unwrap();
    drop(input);
    assert_eq!(takes(&mut guest, id, usize::MAX).await, b"half");
    assert!(running.take_input().is_none());
}

#[tokio::test]
async fn the_end_of_input_is_said_once() {
    let (channel, mut guest) = opened().await;
    let (mut running, id) = started_with_stdin(&channel, &mut guest).await;
    let mut input = running.take_input().unwrap();
    input.write(b"ab").await.unwrap();
    input.write(b"").await.unwrap();
    input.end().await.unwrap();
    input.end().await.unwrap();
    assert_eq!(input.write(b"x").await.unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(takes(&mut guest, id, usize::MAX).await, b"ab");
    guest.exits(id, 0).await;
    assert_eq!(soon(running.next()).await.unwrap(), Progress::Exit(0));
    drop((input, running, channel));
    assert_eq!(guest.hears_any().await, None);
}

#[tokio::test]
async fn a_command_without_stdin_takes_none() {
    let (channel, mut guest) = opened().await;
    let (mut running, _) = started(&channel, &mut guest, "true").await;
    assert!(running.take_input().is_none());
}

#[tokio::test]
async fn a_guest_that_acknowledges_too_much_gains_nothing() {
    let (channel, mut guest) = opened().await;
    let (mut running, id) = started_with_stdin(&channel, &mut guest).await;
    guest.sends('A', id, "999999999").await;
    let mut input = running.take_input().unwrap();
    let writing = tokio::spawn(async move { input.write(&vec![0; WINDOW * 2]).await });
    takes(&mut guest, id, WINDOW).await;
    let (_other, _) = started(&channel, &mut guest, "true").await;
    assert!(!writing.is_finished());
    writing.abort();
}
