//! Tests of commands on an open channel.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::guest::{Guest, NONCE, opened, opened_with, options, request, soon, started};
use crate::ErrorKind;
use crate::channel::{Channel, Handshake, Progress, Request, Shell};

#[tokio::test]
async fn output_comes_exactly_and_apart_and_then_the_status() {
    let (channel, mut guest) = opened().await;
    let (mut running, id) = started(&channel, &mut guest, "cow | lolcat").await;
    let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
    guest.sends('O', id, &bytes).await;
    assert_eq!(soon(running.next()).await.unwrap(), Progress::Stdout(bytes));
    guest.sends('E', id, "O 1 3\n").await;
    assert_eq!(soon(running.next()).await.unwrap(), Progress::Stderr(b"O 1 3\n".to_vec()));
    guest.exits(id, 141).await;
    for _ in 0..2 {
        assert_eq!(soon(running.next()).await.unwrap(), Progress::Exit(141), "it is said again");
    }
}

#[tokio::test]
async fn a_request_says_how_it_is_to_be_run() {
    let (channel, mut guest) = opened().await;
    for (text, shell, stdin, expected) in [
        ("true", Shell::Bash, false, "shell bash\n"),
        ("cd /; pwd", Shell::Bash, false, "shell bash\n"),
        ("cat", Shell::Bash, true, "shell bash\nstdin 1\n"),
        ("true", Shell::HiddenBash, false, "shell bash\nhidden 1\n"),
        ("true", Shell::User, true, "shell user\nstdin 1\n"),
        ("", Shell::Bash, false, "shell bash\n"),
    ] {
        let _running =
            channel.run(Request { text: text.to_owned(), shell, stdin, sum: false }).await.unwrap();
        let (_, came, how) = guest.hears_request().await;
        assert_eq!((came.as_str(), how.as_str()), (text, expected));
        // Dropping it ends its stdin and kills it.
        drop(_running);
        while guest.hears_any().await.unwrap().kind != 'K' {}
    }
}

#[tokio::test]
async fn numbers_are_not_used_again() {
    let (channel, mut guest) = opened().await;
    let mut last = 0;
    for _ in 0..50 {
        let (mut running, id) = started(&channel, &mut guest, "true").await;
        assert!(id > last);
        last = id;
        guest.exits(id, 0).await;
        assert_eq!(soon(running.next()).await.unwrap(), Progress::Exit(0));
    }
}

#[tokio::test]
async fn commands_in_flight_get_each_their_own() {
    let (channel, mut guest) = opened().await;
    let mut all = Vec::new();
    for number in 0..20 {
        all.push(started(&channel, &mut guest, &format!("echo {number}")).await);
    }
    for (_, id) in all.iter().rev() {
        guest.sends('O', *id, id.to_string()).await;
    }
    for (_, id) in &all {
        guest.exits(*id, *id as i32).await;
    }
    for (running, id) in &mut all {
        assert_eq!(soon(running.next()).await.unwrap(), Progress::Stdout(id.to_string().into_bytes()));
        assert_eq!(soon(running.next()).await.unwrap(), Progress::Exit(*id as i32));
    }
}

#[tokio::test]
async fn long_texts_come_in_pieces() {
    // The stream takes less than the whole text, so the rest is written as the guest reads.
    let (channel, mut guest) = opened_with(1000).await;
    let text = "echo 'ü'; ".repeat(100_000);
    let (_running, _) = started(&channel, &mut guest, &text).await;
}

#[tokio::test]
async fn texts_that_can_not_be_sent_are_refused() {
    let (channel, _guest) = opened().await;
    for text in ["true\0".to_owned(), "x".repeat((16 << 20) + 1)] {
        let error = channel.run(request(&text)).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
}

#[tokio::test]
async fn what_can_not_be_started_says_why() {
    let (channel, mut guest) = opened().await;
    let (mut running, id) = started(&channel, &mut guest, "true").await;
    guest.sends('F', id, "bash: fork: \x1b[31mCannot allocate memory\n").await;
    let error = soon(running.next()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommandFailed);
    assert!(error.to_string().contains("| bash: fork: Cannot allocate memory"), "{error}");
}

#[tokio::test]
async fn what_is_unknown_is_passed_over() {
    let (channel, mut guest) = opened().await;
    let (mut running, id) = started(&channel, &mut guest, "true").await;
    guest.sends('z', id, "of a later version").await;
    guest.sends('O', id + 1000, "of no command").await;
    guest.sends('X', id + 1000, "status 0\n").await;
    guest.sends('A', id + 1000, "5").await;
    guest.sends('P', 0, "").await;
    guest.sends('X', id, "later 1\nstatus 7\n").await;
    assert_eq!(soon(running.next()).await.unwrap(), Progress::Exit(7));
    guest.sends('O', id, "after its end").await;
    guest.exits(id, 9).await;
    assert_eq!(soon(running.next()).await.unwrap(), Progress::Exit(7));
}

#[tokio::test]
async fn a_signal_goes_to_a_command_that_runs() {
    let (channel, mut guest) = opened().await;
    let (mut running, id) = started(&channel, &mut guest, "sleep 1000").await;
    running.kill(15).await.unwrap();
    let kill = guest.hears('K').await;
    assert_eq!((kill.id, kill.payload.as_slice()), (id, &b"15"[..]));
    guest.exits(id, 143).await;
    assert_eq!(soon(running.next()).await.unwrap(), Progress::Exit(143));
    running.kill(15).await.unwrap();
    drop(running);
    drop(channel);
    assert_eq!(guest.hears_any().await, None, "one that ended gets no signal");
}

#[tokio::test]
async fn a_command_that_is_dropped_is_killed_and_forgotten() {
    let (channel, mut guest) = opened().await;
    let (running, id) = started(&channel, &mut guest, "sleep 1000").await;
    drop(running);
    let kill = guest.hears('K').await;
    assert_eq!((kill.id, kill.payload.as_slice()), (id, &b"9"[..]));
    guest.sends('O', id, "late").await;
    guest.exits(id, 137).await;
    let (mut next, id) = started(&channel, &mut guest, "true").await;
    guest.exits(id, 0).await;
    assert_eq!(soon(next.next()).await.unwrap(), Progress::Exit(0));
}

#[tokio::test]
async fn a_caller_that_gives_up_waiting_loses_nothing() {
    let (channel, mut guest) = opened().await;
    let (mut running, id) = started(&channel, &mut guest, "sleep 1").await;
    {
        let mut next = std::pin::pin!(running.next());
        assert!(std::future::poll_fn(|context| Poll::Ready(next.as_mut().poll(context).is_pending())).await);
    }
    guest.sends('O', id, "a").await;
    assert_eq!(soon(running.next()).await.unwrap(), Progress::Stdout(b"a".to_vec()));
}

#[tokio::test]
async fn who_does_not_read_holds_up_nobody_and_is_killed_in_the_end() {
    let (channel, mut guest) = opened().await;
    let (mut lazy, lazy_id) = started(&channel, &mut guest, "yes").await;
    let (mut other, other_id) = started(&channel, &mut guest, "true").await;
    for _ in 0..1000 {
        guest.sends('O', lazy_id, vec![b'y'; 65536]).await;
    }
    guest.exits(other_id, 0).await;
    assert_eq!(soon(other.next()).await.unwrap(), Progress::Exit(0));
    for _ in 0..30 {
        guest.sends('O', lazy_id, vec![b'y'; 65536]).await;
    }
    assert_eq!(guest.hears('K').await.id, lazy_id);
    let error = soon(lazy.next()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("64 MiB"), "{error}");
    assert!(channel.lost().is_none());
}

#[tokio::test]
async fn tiny_pieces_count_with_what_they_cost() {
    let (channel, mut guest) = opened().await;
    let (_lazy, id) = started(&channel, &mut guest, "both").await;
    let tiny = format!("O {id} 1\nxE {id} 1\nx").repeat(10_000);
    // Each costs at least a hundred bytes here, so 64 MiB of payload would take 6 GiB.
    let flood = async {
        for _ in 0..60 {
            guest.says(&tiny).await;
        }
        guest.hears('K').await
    };
    assert_eq!(soon(flood).await.id, id);
}

#[tokio::test]
async fn small_output_that_waits_is_put_together() {
    let (channel, mut guest) = opened().await;
    let (mut running, id) = started(&channel, &mut guest, "seq 3").await;
    guest.says(format!("O {id} 1\n1O {id} 1\n2O {id} 1\n3E {id} 1\n!X {id} 9\nstatus 0\n")).await;
    assert_eq!(soon(running.next()).await.unwrap(), Progress::Stdout(b"123".to_vec()));
    assert_eq!(soon(running.next()).await.unwrap(), Progress::Stderr(b"!".to_vec()));
    assert_eq!(soon(running.next()).await.unwrap(), Progress::Exit(0));
}

/// Counts how often it is written to.
struct Counting {
    inner: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_request_is_one_write_by_its_caller() {
    let (inner, theirs) = tokio::io::duplex(64 << 10);
    let mut guest = Guest::new(theirs);
    guest.says(format!("nixvm-channel {NONCE}\nH 0 21\nversion 1\nway helper\n")).await;
    let writes = Arc::new(AtomicUsize::new(0));
    let stream = Counting { inner, writes: Arc::clone(&writes) };
    let channel = Channel::open(stream, options(Handshake::Direct)).await.unwrap();
    for number in 1..=5 {
        let running = channel.run(request("true")).await.unwrap();
        assert_eq!(writes.load(Ordering::Relaxed), number, "written before anybody else ran");
        let (id, ..) = guest.hears_request().await;
        guest.exits(id, 0).await;
        let mut running = running;
        soon(running.next()).await.unwrap();
    }
}
