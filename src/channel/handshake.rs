//! The beginning of a channel: skips noise until the guest's first line, sends the program that serves the
//! channel, and waits for its hello.

use std::time::Duration;

use crate::stopped::Instant;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::frame::Decoder;
use crate::console::shown;
use crate::{Error, ErrorKind, Result};

/// How much of a line of noise before the guest's first word is kept, in bytes.
const LONGEST_LINE: usize = 4 << 10;
/// How many lines of the noise an error shows.
const SHOWN: usize = 5;

/// The options for opening a channel.
pub(crate) struct ChannelOptions {
    /// The prefix of every error: the machine, and the user if it is not root.
    pub(crate) name: String,
    /// The word that identifies the guest's first line.
    pub(crate) nonce: String,
    /// What is at the other end.
    pub(crate) handshake: Handshake,
    /// The limit from the beginning to the hello.
    pub(crate) limit: Duration,
}

/// What is at the other end of a new channel.
pub(crate) enum Handshake {
    /// A few lines of shell that wait for the program that is to serve the channel.
    Load {
        /// Returns the helper for a machine (`uname -m`), if there is one.
        helper: fn(&str) -> Option<&'static [u8]>,
        /// The shell server, which runs everywhere.
        server: &'static str,
    },
    /// The program that serves the channel.
    Direct,
}

/// What serves a channel in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    /// The static helper: commands run concurrently, and output arrives as it is printed.
    Helper,
    /// The shell server: output arrives at a command's end, and a command with stdin starts when its stdin
    /// has ended.
    Shell,
}

/// A stream during the handshake.
struct Beginning<'a, R, W> {
    reader: &'a mut R,
    writer: &'a mut W,
    decoder: &'a mut Decoder,
    awaited: &'static str,
    /// The end of what was skipped.
    noise: Vec<u8>,
}

/// Does the handshake of a channel. Afterwards `decoder` holds the first bytes of its frames.
pub(super) async fn begin(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    decoder: &mut Decoder,
    options: &ChannelOptions,
) -> Result<Way> {
    let started = Instant::now();
    let mut beginning =
        Beginning { reader, writer, decoder, awaited: "the guest's first word", noise: Vec::new() };
    let way = crate::stopped::timeout(options.limit, beginning.run(&options.nonce, &options.handshake)).await;
    let error = match way {
        Ok(Ok(way)) => return Ok(way),
        Ok(Err(why)) => Error::new(
            ErrorKind::ChannelLost,
            format!(
                "{}: the control channel could not be opened: {why} (awaited: {})",
                options.name, beginning.awaited
            ),
        ),
        Err(_) => Error::new(
            ErrorKind::Timeout,
            format!(
                "{}: the control channel was not opened: {} did not come",
                options.name, beginning.awaited
            ),
        )
        .took(started.elapsed(), options.limit),
    };
    let rest = beginning.decoder.rest().len().min(LONGEST_LINE);
    beginning.pass_over(rest);
    Err(error.section("what the guest sent last", shown(&beginning.noise, SHOWN)))
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Beginning<'_, R, W> {
    async fn run(&mut self, nonce: &str, handshake: &Handshake) -> Result<Way, String> {
        let machine = self.preamble(nonce).await?;
        if let Handshake::Load { helper, server } = handshake {
            let helper = helper(&machine).filter(|helper| !helper.is_empty());
            if let Some(helper) = helper {
                self.send("helper", nonce, helper).await?;
                self.awaited = "the helper's hello";
                if self.runs().await? {
                    return self.hello().await;
                }
                tracing::debug!(machine, "the guest can't run the helper");
            }
            self.send("shell", nonce, server.as_bytes()).await?;
        }
        self.awaited = "the guest's hello";
        self.hello().await
    }

    /// Skips everything up to the line with `nonce`, and returns the machine that it names.
    async fn preamble(&mut self, nonce: &str) -> Result<String, String> {
        loop {
            let rest = self.decoder.rest();
            if let Some(newline) = memchr::memchr(b'\n', rest) {
                let line = String::from_utf8_lossy(&rest[..newline]);
                let mut words = line.split_ascii_whitespace();
                let found = words.next() == Some("nixvm-channel") && words.next() == Some(nonce);
                let machine = words.next().unwrap_or_default().to_owned();
                self.pass_over(newline + 1);
                if found {
                    self.noise.clear();
                    return Ok(machine);
                }
                continue;
            }
            if rest.len() > LONGEST_LINE {
                self.pass_over(rest.len());
            }
            self.read().await?;
        }
    }

    fn pass_over(&mut self, count: usize) {
        let passed = &self.decoder.rest()[..count];
        let passed = &passed[passed.len().saturating_sub(LONGEST_LINE)..];
        let excess = (self.noise.len() + passed.len()).saturating_sub(LONGEST_LINE);
        self.noise.drain(..excess);
        self.noise.extend_from_slice(passed);
        self.decoder.skip(count);
    }

    /// Whether the helper that was sent runs. If it does not, the guest answers `refused`.
    async fn runs(&mut self) -> Result<bool, String> {
        const REFUSED: &[u8] = b"refused\n";
        loop {
            let rest = self.decoder.rest();
            if rest.starts_with(REFUSED) {
                self.decoder.skip(REFUSED.len());
                return Ok(false);
            }
            if !REFUSED.starts_with(rest) {
                return Ok(true);
            }
            self.read().await?;
        }
    }

    async fn hello(&mut self) -> Result<Way, String> {
        loop {
            if let Some(frame) = self.decoder.next().map_err(|malformed| malformed.to_string())? {
                if frame.kind == b'H' {
                    return hello(frame.payload);
                }
                continue;
            }
            self.read().await?;
        }
    }

    async fn send(&mut self, kind: &str, nonce: &str, program: &[u8]) -> Result<(), String> {
        let mut bytes = format!("\n{kind} {} {nonce}\n", program.len()).into_bytes();
        bytes.extend_from_slice(program);
        let written = async {
            self.writer.write_all(&bytes).await?;
            self.writer.flush().await
        };
        written.await.map_err(|error| format!("it can't be written to: {error}"))
    }

    async fn read(&mut self) -> Result<(), String> {
        match self.reader.read(self.decoder.room()).await {
            Ok(0) => Err("it was closed".to_owned()),
            Ok(count) => {
                self.decoder.filled(count);
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Parses the guest's hello.
fn hello(payload: &[u8]) -> Result<Way, String> {
    let (mut version, mut way) = (None, None);
    let text = String::from_utf8_lossy(payload);
    for (key, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        match key {
            "version" => version = Some(value),
            "way" => way = Some(value),
            _ => {}
        }
    }
    if version != Some("1") {
        return Err(format!("the guest speaks version {:?} of the protocol, not 1", version.unwrap_or("")));
    }
    match way {
        Some("helper") => Ok(Way::Helper),
        Some("shell") => Ok(Way::Shell),
        other => Err(format!("the guest serves it by {:?}, which is unknown", other.unwrap_or(""))),
    }
}
