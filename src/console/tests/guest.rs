//! A console with a guest at its other end that does what a test tells it.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::console::{Console, ConsoleOptions};

pub(super) use crate::hang::HANG as SOON;

pub(super) struct Guest(pub(super) DuplexStream);

pub(super) fn console() -> (Console, Guest) {
    with(ConsoleOptions::default())
}

pub(super) fn with(options: ConsoleOptions) -> (Console, Guest) {
    let (host, guest) = duplex(1 << 16);
    (Console::attach(host, options).unwrap(), Guest(guest))
}

pub(super) fn with_transcript(path: &Path) -> (Console, Guest) {
    with(ConsoleOptions { transcript: Some(path.to_owned()), ..ConsoleOptions::default() })
}

impl Guest {
    pub(super) async fn says(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(super) async fn hears(&mut self, bytes: impl AsRef<[u8]>) {
        let mut heard = vec![0; bytes.as_ref().len()];
        tokio::time::timeout(SOON, self.0.read_exact(&mut heard)).await.unwrap().unwrap();
        assert_eq!(heard.escape_ascii().to_string(), bytes.as_ref().escape_ascii().to_string());
    }
}
