//! How a console is attached: what is watched, where what it says goes, how much of it is kept.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use tokio::sync::watch;

use super::watch::Watch;
use crate::{Error, Events, Speed};

/// Resolves when the other end of the line has ended, with what is known of it: exit status, the
/// last of QEMU's stderr.
pub type Closed = Pin<Box<dyn Future<Output = String> + Send>>;

/// How a console is attached.
pub struct ConsoleOptions {
    /// The machine's name, for errors. Default: `console`.
    pub name: String,
    /// Where the transcript goes; beside it, `FILE.times` says when the bytes came. Both are started
    /// anew. Default: no transcript.
    pub transcript: Option<PathBuf>,
    /// Resolves when QEMU has ended. Default: only the line itself tells.
    pub closed: Option<Closed>,
    /// Holds why the guest is stopped, as long as it is: every wait fails with that. Default: nobody tells.
    pub halted: Option<watch::Receiver<Option<Error>>>,
    /// What is watched for from the start. Default: [`Watch::Boot`].
    pub watch: Watch,
    /// How fast guests run here; scales the limits of the console itself. Default: as fast as can be.
    pub speed: Speed,
    /// Where a full disk is reported. Default: nowhere.
    pub events: Events,
    /// What the console said before, when the machine goes on from a saved moment: it begins the transcript,
    /// and counts as passed over. Default: nothing.
    pub past: Vec<u8>,
    /// How many bytes of text, and of raw bytes, are kept to match on; at least 4 KiB. Up to twice
    /// as much is held of each. Default: 1 MiB.
    pub window: usize,
}

impl Default for ConsoleOptions {
    fn default() -> Self {
        Self {
            name: "console".to_owned(),
            transcript: None,
            closed: None,
            halted: None,
            watch: Watch::Boot,
            speed: Speed::new(1.0),
            events: Events::none(),
            past: Vec::new(),
            window: 1 << 20,
        }
    }
}
