//! The guest's side, byte by byte, over a stream in memory.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::channel::frame::{Decoder, encode};
use crate::channel::{Channel, ChannelOptions, Handshake, Request, Running, Shell};

pub(super) use crate::hang::HANG as LIMIT;
pub(super) const NONCE: &str = "4f2a";

/// A frame that the host sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) kind: char,
    pub(super) id: u32,
    pub(super) payload: Vec<u8>,
}

/// A guest that sends and receives what a test wants.
pub(super) struct Guest {
    stream: DuplexStream,
    decoder: Decoder,
}

impl Guest {
    pub(super) fn new(stream: DuplexStream) -> Self {
        Self { stream, decoder: Decoder::new() }
    }

    pub(super) async fn says(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(super) async fn sends(&mut self, kind: char, id: u32, payload: impl AsRef<[u8]>) {
        let mut bytes = Vec::new();
        encode(&mut bytes, kind as u8, id, payload.as_ref());
        self.says(bytes).await;
    }

    pub(super) async fn exits(&mut self, id: u32, status: i32) {
        self.sends('X', id, format!("status {status}\n")).await;
    }

    /// Receives the next frame of the host; `None` at the end of the stream.
    pub(super) async fn hears_any(&mut self) -> Option<Heard> {
        let hear = async {
            loop {
                if let Some(frame) = self.decoder.next().unwrap() {
                    let (kind, id) = (char::from(frame.kind), frame.id);
                    return Some(Heard { kind, id, payload: frame.payload.to_vec() });
                }
                match self.stream.read(self.decoder.room()).await.unwrap() {
                    0 => return None,
                    count => self.decoder.filled(count),
                }
            }
        };
        tokio::time::timeout(LIMIT, hear).await.expect("the host says something")
    }

    pub(super) async fn hears(&mut self, kind: char) -> Heard {
        let heard = self.hears_any().await.expect("the host has not closed");
        assert_eq!(heard.kind, kind, "{heard:?}");
        heard
    }

    /// Receives a whole request: its number, its text, and how to run it.
    pub(super) async fn hears_request(&mut self) -> (u32, String, String) {
        let mut text = Vec::new();
        loop {
            let heard = self.hears_any().await.expect("the host has not closed");
            match heard.kind {
                'T' => text.extend_from_slice(&heard.payload),
                'R' => {
                    let how = String::from_utf8(heard.payload).unwrap();
                    return (heard.id, String::from_utf8(text).unwrap(), how);
                }
                kind => panic!("a {kind} frame within a request"),
            }
        }
    }

    /// Checks that exactly these bytes arrive next.
    pub(super) async fn hears_bytes(&mut self, bytes: &[u8]) {
        let mut came = vec![0; bytes.len()];
        tokio::time::timeout(LIMIT, self.stream.read_exact(&mut came)).await.expect("they come").unwrap();
        assert_eq!(came, bytes, "{}", came.escape_ascii());
    }
}

pub(super) fn options(handshake: Handshake) -> ChannelOptions {
    ChannelOptions { name: "server".to_owned(), nonce: NONCE.to_owned(), handshake, limit: LIMIT }
}

/// Returns an open channel, and the guest at its other end.
pub(super) async fn opened() -> (Channel, Guest) {
    opened_with(64 << 10).await
}

/// Does the same on a stream that holds `capacity` unread bytes.
pub(super) async fn opened_with(capacity: usize) -> (Channel, Guest) {
    let (ours, theirs) = tokio::io::duplex(capacity);
    let mut guest = Guest::new(theirs);
    let greeting = async {
        guest.says(format!("\nnixvm-channel {NONCE}\n")).await;
        guest.sends('H', 0, "version 1\nway helper\nbash /bin/bash\n").await;
    };
    let (channel, ()) = tokio::join!(Channel::open(ours, options(Handshake::Direct)), greeting);
    (channel.unwrap(), guest)
}

pub(super) fn request(text: &str) -> Request {
    Request { text: text.to_owned(), shell: Shell::Bash, stdin: false, sum: false }
}

/// Starts `text`, and receives the request on the guest's side.
pub(super) async fn started(channel: &Channel, guest: &mut Guest, text: &str) -> (Running, u32) {
    let running = channel.run(request(text)).await.unwrap();
    let (id, came, _) = guest.hears_request().await;
    assert_eq!(came, text);
    (running, id)
}

/// Does the same with stdin.
pub(super) async fn started_with_stdin(channel: &Channel, guest: &mut Guest) -> (Running, u32) {
    let running = channel.run(Request { stdin: true, ..request("cat") }).await.unwrap();
    let (id, _, how) = guest.hears_request().await;
    assert_eq!(how, "shell bash\nstdin 1\n");
    (running, id)
}

/// Waits for what must come to an end, or fails. It does not poll once more at the limit, because that would
/// hide a missing wake-up.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        () = tokio::time::sleep(LIMIT) => panic!("it does not come to an end"),
        value = future => value,
    }
}
