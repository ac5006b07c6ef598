//! The console on a line, with a guest at the other end that does what it is told.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::ErrorKind;
use crate::console::{Console, ConsoleOptions, Pattern};

const SOON: Duration = Duration::from_secs(5);

fn console() -> (Console, DuplexStream) {
    let (host, guest) = duplex(1 << 16);
    (Console::attach(host, ConsoleOptions::default()).unwrap(), guest)
}

#[tokio::test]
async fn a_wait_finds_what_comes_later_and_what_came_before_it_began() {
    let (console, mut guest) = console();
    guest.write_all(b"\x1b[1mnixos\x1b[0m login: ").await.unwrap();
    let found = console.expect("login: ", SOON).await.unwrap();
    assert_eq!((&*found.before(), &*found.text()), ("nixos ", "login: "));
    let pattern = Pattern::regex(r"(?P<user>\w+)'s password: $").unwrap();
    let (found, ()) = tokio::join!(
        console.expect(pattern, SOON),
        async {
            assert_eq!(read(&mut guest, 6).await, b"alice\r");
            guest.write_all(b"alice\r\nalice's pass").await.unwrap();
            guest.write_all(b"word: ").await.unwrap();
        },
        async { console.send_line("alice").await.unwrap() }
    )
    .into_pair();
    assert_eq!(found.unwrap().name("user").unwrap(), "alice");
}

async fn read(guest: &mut DuplexStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    guest.read_exact(&mut bytes).await.unwrap();
    bytes
}

trait Pair<A> {
    fn into_pair(self) -> (A, ());
}

impl<A> Pair<A> for (A, (), ()) {
    fn into_pair(self) -> (A, ()) {
        (self.0, ())
    }
}

#[tokio::test]
async fn a_line_that_closes_fails_the_wait_at_once() {
    let (console, guest) = console();
    drop(guest);
    let error = console.expect("login: ", SOON).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QemuGone);
}
