//! Tests of a channel whose stream is a command on another channel.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::guest::{NONCE, opened, options, request, soon, started, started_with_stdin};
use crate::ErrorKind;
use crate::channel::{Channel, Handshake, Progress};

/// Writing goes to the command's stdin, and reading returns its output.
#[tokio::test]
async fn a_command_is_a_stream() {
    let (channel, mut guest) = opened().await;
    let (running, id) = started_with_stdin(&channel, &mut guest).await;
    let mut stream = running.into_stream();
    stream.write_all(b"in").await.unwrap();
    assert_eq!(guest.hears('I').await.payload, b"in");
    guest.sends('E', id, "noise").await;
    guest.sends('O', id, "out").await;
    let mut two = [0; 2];
    soon(stream.read_exact(&mut two)).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(guest.hears('I').await.payload, b"");
    guest.exits(id, 0).await;
    let mut rest = String::new();
    soon(stream.read_to_string(&mut rest)).await.unwrap();
    assert_eq!((&two, rest.as_str()), (b"ou", "t"));
}

#[tokio::test]
async fn commands_run_on_a_channel_within_a_channel() {
    let (outer, mut guest) = opened().await;
    let (carrier, id) = started_with_stdin(&outer, &mut guest).await;
    guest.sends('O', id, format!("\nnixvm-channel {NONCE}\nH 0 21\nversion 1\nway helper\n")).await;
    let inner = Channel::open(carrier.into_stream(), options(Handshake::Direct)).await.unwrap();
    let mut running = inner.run(request("id -un")).await.unwrap();
    let request = guest.hears('I').await;
    assert_eq!(request.payload, b"T 1 6\nid -unR 1 11\nshell bash\n");
    guest.sends('A', id, request.payload.len().to_string()).await;
    guest.sends('O', id, "O 1 6\nalice\nX 1 9\nsta").await;
    guest.sends('O', id, "tus 0\n").await;
    assert_eq!(soon(running.next()).await.unwrap(), Progress::Stdout(b"alice\n".to_vec()));
    assert_eq!(soon(running.next()).await.unwrap(), Progress::Exit(0));
    // It ends when the command that carries it ends.
    drop((running, inner));
    let mut kinds = String::new();
    while !kinds.contains('K') {
        kinds.push(guest.hears_any().await.unwrap().kind);
    }
    assert!(outer.lost().is_none());
}

#[tokio::test]
async fn an_inner_channel_that_ends_says_what_its_carrier_said() {
    let (outer, mut guest) = opened().await;
    let (carrier, id) = started_with_stdin(&outer, &mut guest).await;
    guest.sends('O', id, format!("nixvm-channel {NONCE}\nH 0 21\nversion 1\nway helper\n")).await;
    let inner = Channel::open(carrier.into_stream(), options(Handshake::Direct)).await.unwrap();
    let mut running = inner.run(request("true")).await.unwrap();
    guest.hears('I').await;
    guest.sends('E', id, "Failed to start transient service unit\n").await;
    guest.exits(id, 1).await;
    let error = soon(running.next()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ChannelLost);
    assert!(error.to_string().contains("status 1: Failed to start transient service unit"), "{error}");
    assert!(outer.lost().is_none());
    let (mut after, id) = started(&outer, &mut guest, "true").await;
    guest.exits(id, 0).await;
    assert_eq!(soon(after.next()).await.unwrap(), Progress::Exit(0));
}

#[tokio::test]
async fn an_inner_channel_that_can_not_begin_says_why() {
    let (outer, mut guest) = opened().await;
    let (carrier, id) = started_with_stdin(&outer, &mut guest).await;
    guest.sends('E', id, "bash: /run/nixvm: Permission denied\n").await;
    guest.exits(id, 126).await;
    let error = soon(Channel::open(carrier.into_stream(), options(Handshake::Direct))).await.err().unwrap();
    assert!(error.to_string().contains("status 126: bash: /run/nixvm: Permission denied"), "{error}");
}

#[tokio::test]
async fn an_inner_channel_is_lost_with_the_outer_one() {
    let (outer, mut guest) = opened().await;
    let (carrier, id) = started_with_stdin(&outer, &mut guest).await;
    guest.sends('O', id, format!("nixvm-channel {NONCE}\nH 0 21\nversion 1\nway helper\n")).await;
    let inner = Channel::open(carrier.into_stream(), options(Handshake::Direct)).await.unwrap();
    let mut running = inner.run(request("true")).await.unwrap();
    drop(guest);
    let error = soon(running.next()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ChannelLost);
    assert!(error.to_string().contains("the guest closed it"), "{error}");
}
